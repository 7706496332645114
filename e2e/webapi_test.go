package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A watched is a command of trace that serves the page.
type watched struct {
	t        *testing.T
	c        *exec.Cmd
	page     string // URL without the token
	token    string
	out, err *bufio.Reader
}

// watch starts trace ARGS, which reads in, and returns when it has said where its
// page is.
func (j *job) watch(in io.Reader, args ...string) *watched {
	j.t.Helper()
	w := &watched{t: j.t, c: j.command(append([]string{traceBin}, args...)...)}
	w.c.Stdin = in
	out, err := w.c.StdoutPipe()
	if err != nil {
		j.t.Fatal(err)
	}
	errs, err := w.c.StderrPipe()
	if err != nil {
		j.t.Fatal(err)
	}
	if err := w.c.Start(); err != nil {
		j.t.Fatal(err)
	}
	w.out, w.err = bufio.NewReader(out), bufio.NewReader(errs)
	from := w.err
	if args[0] == "web" {
		from = w.out
	}
	line, err := from.ReadString('\n')
	_, url, _ := strings.Cut(line, "http://")
	page, token, ok := strings.Cut(strings.TrimSpace(url), "/#token=")
	if err != nil || !ok {
		rest, _ := io.ReadAll(w.err)
		j.t.Fatalf("%v: no URL but %q, %v\n%s", args, line, err, rest)
	}
	w.page, w.token = "http://"+page, token
	return w
}

// get asks by curl, with the token.
func (w *watched) get(path string, flags ...string) string {
	w.t.Helper()
	args := append([]string{"-sS", "--max-time", "20", "-H", "Authorization: Bearer " + w.token}, flags...)
	out, err := exec.Command("curl", append(args, w.page+path)...).Output()
	if err != nil {
		w.t.Fatalf("%s: %v", path, err)
	}
	return string(out)
}

// end waits for the command and returns its exit code, and what it has said
// beside the URL.
func (w *watched) end() (code int, out, errs string) {
	w.t.Helper()
	o, _ := io.ReadAll(w.out)
	e, _ := io.ReadAll(w.err)
	w.c.Wait()
	return w.c.ProcessState.ExitCode(), string(o), string(e)
}

// webScript calls a server, asks the page of its own run without the token, in all
// ways that come to mind, and waits until it is let go.
const webScript = `read page
curl -sS "$1/hello"
exec 2>/dev/null
for path in / /api/session /api/flows '/api/session?token=x' /api/stream; do curl -sS -o /dev/null -w "%{http_code}" "$page$path"; echo " $path"; done
curl -sS -o /dev/null -w "%{http_code} guessed\n" -H "Authorization: Bearer guess" "$page/api/session"
curl -sS -o /dev/null -w "%{http_code} renamed\n" -H "Host: evil.example" "$page/"
read go
exit 7
`

// TestRunWeb looks at runs by curl while they go on, and has their commands try to.
func TestRunWeb(t *testing.T) {
	need(t, "curl")
	ca := newAuthority(t, "web api")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{"api.openai.com"}, nil)}}, content)
	for _, c := range []struct {
		name  string
		flags []string
		base  string
		save  bool
	}{
		{"namespace", []string{"--inspect", "--quiet"}, "https://api.openai.com", true},
		{"base URL", nil, "$OPENAI_BASE_URL", true},
		{"kept nowhere", []string{"--no-save"}, "$OPENAI_BASE_URL", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newJob(t, both()[0])
			args := append([]string{"run", "--web", "--upstream-ca", j.file("ca.pem", ca.pem()), "--connect-to", "api.openai.com:443:" + o.addr}, c.flags...)
			args = append(args, "--", "sh", "-c", `eval "base=$0"; set -- "$base"`+"\n"+webScript, c.base)
			in, feed := io.Pipe()
			w := j.watch(in, args...)
			fmt.Fprintln(feed, w.page)
			var said []string
			for range 8 {
				line, err := w.out.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				said = append(said, strings.TrimSpace(line))
			}
			want := "200 /, 401 /api/session, 401 /api/flows, 401 /api/session?token=x, 401 /api/stream, 401 guessed, 403 renamed"
			if c.name == "namespace" { // listeners of trace itself are not mirrored
				want = "000 /, 000 /api/session, 000 /api/flows, 000 /api/session?token=x, 000 /api/stream, 000 guessed, 000 renamed"
			}
			if got := strings.Join(said[1:], ", "); got != want {
				t.Errorf("the command got %s, want %s", got, want)
			}
			checkLive(t, w)
			stream := exec.Command("curl", "-sSN", "-H", "Authorization: Bearer "+w.token, w.page+"/api/stream?after=0")
			live, err := stream.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(live)
			for lines.Scan() && !strings.Contains(lines.Text(), `"path":"/`) {
			}
			fmt.Fprintln(feed, "go")
			feed.Close()
			last := ""
			for lines.Scan() {
				if lines.Text() != "" {
					last = lines.Text()
				}
			}
			stream.Wait()
			code, _, errs := w.end()
			if code != 7 || !strings.Contains(last, `"exit":7`) || strings.Contains(last, "trace web") != c.save {
				t.Errorf("exit %d, the last word was %q, trace said %q", code, last, errs)
			}
			if quiet := c.name == "namespace"; quiet != (errs == "") {
				t.Errorf("after the URL: %q", errs)
			}
			if _, err := http.Get(w.page); err == nil {
				t.Error("the page is served after the run")
			}
		})
	}
}

// checkLive asks for the one call of webScript.
func checkLive(t *testing.T, w *watched) {
	t.Helper()
	var page struct {
		Flows []struct{ ID, Path, Host, State string }
	}
	for until := time.Now().Add(10 * time.Second); ; {
		if err := json.Unmarshal([]byte(w.get("/api/flows?q=host:openai")), &page); err != nil {
			t.Fatal(err)
		}
		if len(page.Flows) > 0 && page.Flows[0].State == "complete" || time.Now().After(until) {
			break
		}
	}
	if len(page.Flows) != 1 || !strings.HasSuffix(page.Flows[0].Path, "/hello") || page.Flows[0].Host != "api.openai.com" || page.Flows[0].State != "complete" {
		t.Errorf("%+v", page)
		return
	}
	var session struct {
		State string
		Live  bool
	}
	if err := json.Unmarshal([]byte(w.get("/api/session")), &session); err != nil || !session.Live || session.State != "running" {
		t.Errorf("%+v %v", session, err)
	}
	if shown := w.get("/api/flows/" + page.Flows[0].ID); !strings.Contains(shown, `"request":{"method":"GET"`) {
		t.Errorf("%.500s", shown)
	}
}

// TestRunWebUsage: what is wrong with --web keeps the command from starting.
func TestRunWebUsage(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, how := range [][]string{nil, {"--inspect"}} {
		for addr, code := range map[string]int{"0.0.0.0:0": 2, "[::]:0": 2, "192.0.2.1:80": 2, "example.com:80": 2, "8080": 2, taken.Addr().String(): 125} {
			j := newJob(t, both()[0])
			r := j.must(j.trace(append(append([]string{"run"}, how...), "--web="+addr, "--", "echo", "started")...), code)
			if strings.Contains(r.stdout, "started") || !strings.Contains(r.stderr, "trace: --web: ") || strings.Contains(r.stderr, "token") {
				t.Errorf("%v %s: %q %q", how, addr, r.stdout, r.stderr)
			}
		}
	}
}

// TestWebOfSession: trace web, of a session that has ended and of none.
func TestWebOfSession(t *testing.T) {
	need(t, "curl")
	j := newJob(t, both()[0])
	if r := j.must(j.trace("web"), 1); !strings.Contains(r.stderr, "no sessions yet") || r.stdout != "" {
		t.Errorf("%q %q", r.stdout, r.stderr)
	}
	j.must(j.trace("run", "--session", "over", "--", "true"), 0)
	w := j.watch(nil, "web", "over")
	var session struct {
		Name, State string
		Live        bool
	}
	if err := json.Unmarshal([]byte(w.get("/api/session")), &session); err != nil || session.Name != "over" || session.State != "ended" || session.Live {
		t.Errorf("%+v %v", session, err)
	}
	if page := w.get("/", "-D", "-"); !strings.Contains(page, "Content-Security-Policy: default-src 'none'") || !strings.Contains(strings.ToLower(page), "<!doctype html>") {
		t.Errorf("%s", page)
	}
	if got := w.get("/api/session", "-X", "OPTIONS", "-o", "/dev/null", "-w", "%{http_code}"); got != "405" {
		t.Errorf("OPTIONS: %s", got)
	}
	w.c.Process.Signal(syscall.SIGINT)
	if code, out, errs := w.end(); code != 0 || out+errs != "" {
		t.Errorf("exit %d, %q %q", code, out, errs)
	}
}
