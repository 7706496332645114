package e2e

import (
	"crypto/tls"
	"strings"
	"testing"
)

// TestCorporate: the host's HTTPS_PROXY is used by trace when it dials, also
// for a name that the host cannot resolve; the command sees no proxy.
func TestCorporate(t *testing.T) {
	need(t, "curl")
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, nil)
	port := connectProxy(t, o)
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			j.env = append(j.env, "HTTPS_PROXY=http://me:secret@127.0.0.1:"+port, "https_proxy=http://me:secret@127.0.0.1:"+port)
			before := len(o.entries())
			r := j.must(j.inspect([]string{"--upstream-ca", j.file("root.pem", ca.pem())},
				"sh", "-c", "env | grep -i https_proxy; curl -sS https://"+host+"/echo -d question"), 0)
			if r.stdout != "question" {
				t.Errorf("the command printed %q: it sees the proxy, or not the answer; %s", r.stdout, r.stderr)
			}
			rows, log := j.flows("--kind", "http"), o.entries()[before:]
			if len(rows) != 1 || len(log) != 1 {
				t.Fatalf("%d rows for %d requests", len(rows), len(log))
			}
			checkRow(t, rows[0], log[0])
		})
	}
}

// TestPrivilegedPort: whether a command may listen on port 80 is as on the
// host.
func TestPrivilegedPort(t *testing.T) {
	need(t, "/usr/bin/python3")
	const py = `import socket
s=socket.socket()
try: s.bind(("127.0.0.1",80)); s.listen(); print("listens")
except OSError as e: print(e.errno)`
	for _, w := range both() {
		j := newJob(t, w)
		plain := j.must(j.run("/usr/bin/python3", "-c", py), 0)
		traced := j.must(j.inspect(nil, "/usr/bin/python3", "-c", py), 0)
		if plain.stdout != traced.stdout || strings.TrimSpace(plain.stdout) == "" {
			t.Errorf("%s: %q without trace, %q with it", w, plain.stdout, traced.stdout)
		}
	}
}
