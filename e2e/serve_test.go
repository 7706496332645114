package e2e

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestServe has a hundred clients at once call a serve, each under a name of its own,
// and finds what each sent in a session of its own.
func TestServe(t *testing.T) {
	const clients, requests = 100, 4
	ca := newAuthority(t, "serve")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{"api.anthropic.com"}, nil)}}, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Write(bytes.ToUpper(b))
	})
	j := newJob(t, both()[0])
	s := j.serving("--listen", "127.0.0.1:0", "--keep-secrets", "--upstream-ca", j.file("ca.pem", ca.pem()), "--connect-to", "::"+o.addr)
	base := s.url("reverse proxy")
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			for n := range requests {
				body := strings.Repeat(fmt.Sprintf("client %d request %d\n", c, n), 1000)
				res, err := (&http.Client{Transport: tr}).Post(fmt.Sprintf("%s/@c%d/anthropic/v1/things/%d", base, c, n), "text/plain", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || string(got) != strings.ToUpper(body) {
					t.Errorf("client %d: %s, %d bytes, %v", c, res.Status, len(got), err)
				}
			}
		})
	}
	wg.Wait()
	if code := s.stop(); code != 0 {
		t.Errorf("exit %d after SIGTERM\n%s", code, s.said())
	}
	sessions := map[string]string{}
	for _, line := range j.sessions() {
		sessions[line.ID] = line.Name
		if line.State != "ended" {
			t.Errorf("session %s is %s", line.Name, line.State)
		}
	}
	seen := map[string]int{}
	for _, r := range j.flows("--all") {
		var c, n int
		if _, err := fmt.Sscanf(sessions[r.Session]+r.Request.Path, "c%d/v1/things/%d", &c, &n); err != nil {
			t.Fatalf("flow of %s: %s: %v", sessions[r.Session], r.Request.Path, err)
		}
		body := strings.Repeat(fmt.Sprintf("client %d request %d\n", c, n), 1000)
		sum, up := sha256.Sum256([]byte(body)), sha256.Sum256([]byte(strings.ToUpper(body)))
		if r.State != "complete" || r.Request.SHA256 != hex.EncodeToString(sum[:]) || r.Response.SHA256 != hex.EncodeToString(up[:]) {
			t.Errorf("client %d request %d: %s, %+v", c, n, r.State, r.Request)
		}
		seen[r.Session]++
	}
	if len(seen) != clients {
		t.Errorf("%d sessions, want %d", len(seen), clients)
	}
	for id, n := range seen {
		if n != requests {
			t.Errorf("session %s has %d flows, want %d", sessions[id], n, requests)
		}
	}
}

type sessionRow struct {
	ID, Name, State, Source string
	Flows                   int
}

// sessions lists the sessions of the job's account.
func (j *job) sessions() []sessionRow {
	j.t.Helper()
	var rows []sessionRow
	r := j.must(j.trace("sessions", "list", "--json"), 0)
	if err := json.Unmarshal([]byte(r.stdout), &rows); err != nil {
		j.t.Fatalf("sessions list --json: %v\n%.1000s", err, r.stdout)
	}
	return rows
}

// TestServeIdle ends the session of a client that went silent, while the serve goes on.
func TestServeIdle(t *testing.T) {
	o := serve(t, nil, nil)
	j := newJob(t, both()[0])
	s := j.serving("--listen", "127.0.0.1:0", "--idle", "50ms", "--map", "o=http://"+o.addr, "--web")
	page, token, _ := strings.Cut(s.url("live page"), "/#token=")
	ask := func() string {
		return j.must(j.run("curl", "-sS", "-w", "%{http_code}", "-H", "Authorization: Bearer "+token, page+"/api/flows"), 0).stdout
	}
	if out := ask(); !strings.HasSuffix(out, "404") {
		t.Errorf("the page, before there is a session: %s", out)
	}
	for n := range 2 {
		j.must(j.run("curl", "-sSf", s.url("reverse proxy")+"/@me/o/text"), 0)
		if !poll(func() bool {
			rows := j.sessions()
			return len(rows) > n && !slices.ContainsFunc(rows, func(r sessionRow) bool { return r.State != "ended" })
		}) {
			t.Fatalf("the session goes on: %+v", j.sessions())
		}
	}
	if out := ask(); !strings.Contains(out, `"/text"`) {
		t.Errorf("the page does not show the flow: %s", out)
	}
	if rows := j.sessions(); len(rows) != 2 || rows[0].Name != "me" || rows[1].Name != "me" {
		t.Errorf("sessions %+v, want two of me", rows)
	}
}

// TestServeRefuses meets what a serve does not do: each is answered, and stands in
// the record.
func TestServeRefuses(t *testing.T) {
	need(t, "curl", "openssl")
	j := newJob(t, both()[0])
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--listen", "0.0.0.0:0"}, 2, "--expose"},
		{[]string{"--listen", "localhost.example:0"}, 2, "--expose"},
		{[]string{"--listen", "0.0.0.0:0", "--expose"}, 2, "--token-file"},
		{[]string{"--listen", "[::]:0", "--expose", "--token-file", j.file("short", "abc")}, 2, "16"},
		{[]string{"--listen", "4000"}, 2, "ADDR:PORT"},
		{[]string{"--listen", "none"}, 2, "nothing to serve"},
		{[]string{"--listen", busy.Addr().String()}, 125, "has it"},
	} {
		s := j.tryServing(c.args...)
		if code := s.stop(); code != c.code || !strings.Contains(s.said(), c.want) {
			t.Errorf("serve %q: exit %d, %s; want %d, %s", c.args, code, s.said(), c.code, c.want)
		}
	}
	s := j.serving("--listen", "0.0.0.0:0", "--expose", "--token-file", j.file("token", "0123456789abcdef\n"), "--map", "down=http://127.0.0.1:1")
	base := strings.Replace(s.url("reverse proxy"), "0.0.0.0", "127.0.0.1", 1)
	if again := j.tryServing("--listen", "127.0.0.1:0"); again.stop() != 125 || !strings.Contains(again.said(), fmt.Sprint(s.pid())) {
		t.Errorf("a second serve says %s", again.said())
	}
	for _, c := range []struct{ path, status, want string }{
		{"/down/a", "403", "wants a token"},
		{"/@x:wrong-wrong-wrong/down/b", "403", "wrong token"},
		{"/@x:0123456789abcdef/down/c", "502", "refused"},
		{"/@x:0123456789abcdef/nowhere", "404", "no route"},
	} {
		for _, version := range []string{"--http1.1", "--http2-prior-knowledge"} {
			r := j.run("curl", "-sS", version, "-w", "%{http_code}", base+c.path)
			if !strings.HasSuffix(r.stdout, c.status) || !strings.Contains(r.stdout, c.want) {
				t.Errorf("%s %s: %s%s", version, c.path, r.stdout, r.stderr)
			}
		}
	}
	if r := j.run("curl", "-sSk", strings.Replace(base, "http:", "https:", 1)); r.code != 35 {
		t.Errorf("TLS to the plain port: curl exits %d: %s", r.code, r.stderr)
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit %d\n%s", code, s.said())
	}
	codes := map[string]int{}
	for _, r := range j.flows("--all") {
		if r.Error == nil {
			t.Errorf("flow without an error: %+v", r)
			continue
		}
		codes[r.Error.Code]++
		if r.Request != nil && strings.Contains(r.Request.Path, ":") {
			t.Errorf("a token stands in the record: %s", r.Request.Path)
		}
	}
	if want := map[string]int{"denied": 4, "refused": 2, "no_route": 2, "malformed": 1}; fmt.Sprint(codes) != fmt.Sprint(want) {
		t.Errorf("codes of the record: %v, want %v", codes, want)
	}
	if r := j.trace("flows", "search", "--all", "0123456789abcdef"); strings.Contains(r.stdout, "x") {
		t.Errorf("the token is found in the record:\n%s", r.stdout)
	}
}

// TestServeActivated hands the serve a socket, as systemd does.
func TestServeActivated(t *testing.T) {
	need(t, "curl")
	o := serve(t, nil, nil)
	j := newJob(t, both()[0])
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := j.command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh", traceBin, "serve", "--map", "o=http://"+o.addr)
	c.ExtraFiles = []*os.File{f}
	s := &serving{t: t, cmd: c}
	s.prints()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop() })
	j.must(j.run("curl", "-sSf", "http://"+l.Addr().String()+"/o/text"), 0) // the socket waits for the serve
	if code := s.stop(); code != 0 {
		t.Errorf("exit %d\n%s", code, s.said())
	}
	if rows := j.flows(); len(rows) != 1 || rows[0].Conn.Dst != l.Addr().String() {
		t.Errorf("recorded: %+v", rows)
	}
}

// TestServeProxy has users of the explicit proxy, each recorded in his own session and
// with the program that he is, and one that is not let in.
func TestServeProxy(t *testing.T) {
	need(t, "curl")
	ca := newAuthority(t, "serve")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{"api.example.test"}, nil)}, NextProtos: []string{"h2", "http/1.1"}}, nil)
	j := newJob(t, both()[0])
	const token = "0123456789abcdef"
	s := j.serving("--listen", "none", "--proxy", "127.0.0.1:0", "--token-file", j.file("token", token), "--keep-secrets",
		"--upstream-ca", j.file("ca.pem", ca.pem()), "--connect-to", "::"+o.addr)
	addr := strings.TrimPrefix(s.url("proxy"), "http://")
	j.file("lasting.pem", j.must(j.trace("ca", "export"), 0).stdout)
	for i, scheme := range []string{"http", "socks5h", "socks5h", "http"} {
		url := fmt.Sprintf("https://api.example.test/bytes/%d", 1000+i)
		j.must(j.run("curl", "-sSf", "--cacert", "lasting.pem", "-o", "out", "-x", fmt.Sprintf("%s://user%d:%s@%s", scheme, i, token, addr), url), 0)
	}
	if r := j.run("curl", "-sS", "-x", "http://user9:wrong@"+addr, "https://api.example.test/x"); r.code != 56 || !strings.Contains(r.stderr, "407") {
		t.Errorf("a wrong password: curl exits %d, %s", r.code, r.stderr)
	}
	if r := j.run("curl", "-sS", "-x", "socks5h://user9:wrong@"+addr, "https://api.example.test/x"); r.code != 97 {
		t.Errorf("a wrong password: curl exits %d, %s", r.code, r.stderr)
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit %d\n%s", code, s.said())
	}
	log := o.entries()
	if len(log) != 4 {
		t.Fatalf("the server saw %d requests", len(log))
	}
	names := map[string]string{}
	for _, r := range j.sessions() {
		names[r.ID] = r.Name
	}
	for _, r := range j.flows("--all") {
		if r.Error != nil {
			continue
		}
		var i int
		fmt.Sscanf(names[r.Session], "user%d", &i)
		e := log[i]
		if r.Request.Path != e.path || r.Response.SHA256 != e.respHash || r.Conn.ALPN != "h2" || r.Process == nil || !strings.Contains(r.Process.Exe, "curl") {
			t.Errorf("%s: %+v, process %+v; the server saw %+v", names[r.Session], r.Request, r.Process, e)
		}
	}
	if n := len(j.flows("--all")); n != 6 {
		t.Errorf("%d flows, want 6", n)
	}
}
