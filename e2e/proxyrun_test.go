package e2e

import (
	"bufio"
	"crypto/tls"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestProxyChain: the host's own proxy is used by trace, and the command is told of
// trace's: as the user's settings have it, and no password gets into the record.
func TestProxyChain(t *testing.T) {
	need(t, "curl")
	ca := newAuthority(t, "chain")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, nil)
	own := "http://me:pass-of-the-host@127.0.0.1:" + connectProxy(t, o)
	for _, w := range both() {
		j := newJob(t, w)
		j.env = []string{"HTTPS_PROXY=" + own, "https_proxy=" + own, "NO_PROXY=*", "no_proxy=.corp.example", "npm_config_proxy=" + own, "YARN_HTTP_PROXY=" + own}
		before := len(o.entries())
		r := j.must(j.behind([]string{"--upstream-ca", j.file("root.pem", ca.pem()), "--connect-to", "plain.example:80:" + host + ":443"},
			"sh", "-c", "env; echo; curl -sS https://"+host+"/echo -d question; curl -sS http://none.invalid/ ; curl -sSx http://trace:wrong-one@${HTTPS_PROXY#*@} https://"+host), 56)
		env, rest, _ := strings.Cut(r.stdout, "\n\n")
		if !strings.HasPrefix(rest, "question") || strings.Contains(env, own) {
			t.Errorf("the command printed %s; %s", r.stdout, r.stderr)
		}
		settings := strings.Split(env, "\n")
		var at string
		for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "npm_config_proxy", "npm_config_https_proxy", "YARN_HTTP_PROXY"} {
			i := slices.IndexFunc(settings, func(s string) bool { return strings.HasPrefix(s, name+"=http://trace:") })
			if i < 0 {
				t.Errorf("%s does not name trace's proxy: %s", name, env)
				continue
			}
			at = settings[i]
		}
		for _, s := range []string{"NO_PROXY=.corp.example,127.0.0.1,localhost,::1", "no_proxy=.corp.example,127.0.0.1,localhost,::1", "NODE_USE_ENV_PROXY=1"} {
			if !slices.Contains(settings, s) {
				t.Errorf("%s is not set: %s", s, env)
			}
		}
		rows, log := j.flows(), o.entries()[before:]
		if len(log) != 1 || len(rows) != 3 {
			t.Fatalf("%d requests, rows %+v", len(log), rows)
		}
		checkRow(t, rows[0], log[0])
		if rows[2].Error == nil || rows[2].Error.Code != "proxy_auth" || rows[2].Conn.Host != host {
			t.Errorf("after a wrong password: %+v", rows[2])
		}
		password := at[strings.LastIndexByte(at[:strings.LastIndexByte(at, '@')], ':')+1 : strings.LastIndexByte(at, '@')]
		filepath.WalkDir(j.home, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(p)
			for _, secret := range []string{password, "wrong-one", "pass-of-the-host"} {
				if strings.Contains(string(b), secret) {
					t.Errorf("%s holds the password %q", p, secret)
				}
			}
			return err
		})
	}
}

// TestProxyRefusals: what cannot be served is answered in the client's own protocol,
// and is a row.
func TestProxyRefusals(t *testing.T) {
	need(t, "curl", "/usr/bin/python3")
	const py = `import os,socket,urllib.parse
p=urllib.parse.urlparse(os.environ["HTTP_PROXY"])
for say in (b"SSH-2.0-x\r\n", b"\x05\x01\x00", b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"):
    s=socket.create_connection((p.hostname,p.port)); s.sendall(say); s.shutdown(1)
    print(s.makefile("rb").read()[:12])`
	for _, w := range both() {
		j := newJob(t, w)
		r := j.must(j.behind(nil, "sh", "-c", `
curl -sS http://127.0.0.1:1/ --noproxy x
curl -sS https://127.0.0.1:1/ --noproxy x
curl -sSx "socks5h://${ALL_PROXY#http://}" http://127.0.0.1:1/ --noproxy x
curl -sSx "socks5h://me:wrong@${ALL_PROXY#*@}" http://127.0.0.1:1/ --noproxy x
/usr/bin/python3 -c "$0"`, py), 0)
		for _, want := range []string{"trace: connect to 127.0.0.1:1: ", "b'HTTP/1.1 400'\n" + `b'\x05\xff'`, `b'\x00]\x00\x00\x00\x00\x00\x00'` + "\nb'HTTP/1.1 400'\n" + `b'\x15\x03\x01\x00\x02\x02F'`} {
			if !strings.Contains(r.stdout, want) {
				t.Errorf("%q is not in the answers: %s", want, r.stdout)
			}
		}
		for _, want := range []string{"response 502", "(5)", "(1 1)"} {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("curl does not say %q: %s", want, r.stderr)
			}
		}
		var codes []string
		for _, row := range j.flows() {
			if row.Error == nil || row.State != "failed" || row.Process == nil {
				t.Errorf("%+v", row)
				continue
			}
			codes = append(codes, row.Error.Code)
		}
		if want := []string{"refused", "refused", "refused", "proxy_auth", "malformed", "proxy_auth", "proxy_auth", "malformed", "malformed"}; !slices.Equal(codes, want) {
			t.Errorf("codes %v, want %v", codes, want)
		}
	}
}

// TestProxyRun: exit codes, signals and the command line are those of a run.
func TestProxyRun(t *testing.T) {
	j := newJob(t, both()[0])
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"--", "sh", "-c", "exit 42"}, 42},
		{[]string{"--", "sh", "-c", "kill -TERM $$"}, 128 + 15},
		{[]string{"--", "no-such-command-anywhere"}, 127},
		{[]string{"--", "/"}, 126},
		{[]string{"--inspect", "--", "true"}, 2},
		{[]string{"--map", "a=http://b", "--", "true"}, 2},
		{[]string{"--pcap", "x", "--keep-secrets", "--", "true"}, 2},
		{[]string{"--wait-all", "--", "true"}, 2},
		{[]string{"--play", "x", "--", "true"}, 2},
		{[]string{"--upstream-ca", "/no/such/file", "--", "true"}, 2},
	} {
		r := j.must(j.trace(append([]string{"run", "--proxy"}, c.args...)...), c.code)
		if c.code == 2 && (strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "trace: ")) {
			t.Errorf("%v: %s", c.args, r.stderr)
		}
	}
	c := j.command(traceBin, "run", "--proxy", "--quiet", "--", "sh", "-c", `trap 'echo got; exit 7' TERM; echo ready; while :; do sleep 0.05; done`)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("%q", lines.Text())
	}
	c.Process.Signal(syscall.SIGTERM)
	if !lines.Scan() || lines.Text() != "got" {
		t.Errorf("the child did not get SIGTERM: %q", lines.Text())
	}
	c.Wait()
	if code := c.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit %d, want the child's 7", code)
	}
}

// TestProxyAgain: what went by a proxy or a base URL is sent again, and exported, as its
// server got it.
func TestProxyAgain(t *testing.T) {
	need(t, "curl")
	ca := newAuthority(t, "again")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{"api.openai.com"}, nil)}}, nil)
	clear := serve(t, nil, nil)
	j := newJob(t, both()[0])
	root := j.file("root.pem", ca.pem())
	for _, c := range []struct {
		o     *origin
		flags []string
		say   string
		path  string
	}{
		{clear, []string{"--proxy", "--connect-to", "plain.example:80:" + clear.addr}, "curl -sS -H 'X-A: b' -d question http://plain.example/echo?q", "/echo?q"},
		{o, []string{"--connect-to", "api.openai.com:443:" + o.addr, "--upstream-ca", root}, "curl -sS -H 'X-A: b' -d question $OPENAI_BASE_URL/echo?q", "/v1/echo?q"},
	} {
		j.must(j.trace(slices.Concat([]string{"run"}, c.flags, []string{"--", "sh", "-c", c.say})...), 0)
		again := j.must(j.trace(slices.Concat([]string{"flows", "replay", "1"}, slices.DeleteFunc(slices.Clone(c.flags), func(f string) bool { return f == "--proxy" }))...), 0)
		log := c.o.entries()
		if len(log) != 2 || log[1].path != c.path || log[1].reqHash != log[0].reqHash || log[1].headers.Get("Proxy-Authorization") != "" || log[1].headers.Get("X-A") != "b" {
			t.Errorf("sent again: %+v; %s", log, again.stderr)
		}
		if log[1].host != log[0].host {
			t.Errorf("Host %q, was %q", log[1].host, log[0].host)
		}
		curl := j.must(j.trace("flows", "dump", "--format", "curl"), 0).stdout
		for _, not := range []string{"127.0.0.1", "Proxy-", "--request-target"} {
			if strings.Contains(curl, not) {
				t.Errorf("%q is in %s", not, curl)
			}
		}
	}
}
