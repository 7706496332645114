package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// reverseScript calls the base URLs of its variables: a text, an upload of
// ten megabytes, and a stream whose second event comes once /go was called.
const reverseScript = `set -e
head -c 10000000 /dev/zero | tr '\0' x > up
curl -sS -H 'X-Odd-CASE: one' -H 'X-Odd-CASE: two' "$ANTHROPIC_BASE_URL/v1/messages?beta=true" -d '{"a":1}'
curl -sS --data-binary @up "$OPENAI_BASE_URL/echo" | cmp - up
curl -sS --http2-prior-knowledge --data-binary @up "$OPENAI_BASE_URL/echo" | cmp - up
curl -sS --http2-prior-knowledge "$GOOGLE_GEMINI_BASE_URL/v1beta/models"
curl -sS "$TRACE_BASE_URL/own/x" "$ANTHROPIC_BASE_URL/v1/models"
for how in --http1.1 --http2-prior-knowledge; do
	curl -sSN $how "$ANTHROPIC_BASE_URL/hold" | while read line; do case $line in *first*) curl -sS "$ANTHROPIC_BASE_URL/go";; esac; done
done
python3 -c 'import os, urllib.request; urllib.request.urlopen(os.environ["OPENAI_API_BASE"] + "/python", b"p" * 70000).read()'
node -e 'fetch(process.env.ANTHROPIC_BASE_URL + "/node", {method: "POST", body: "n".repeat(70000)}).then(r => r.text())'
`

// TestReverse holds the record of base-URL mode against the log of the server.
func TestReverse(t *testing.T) {
	need(t, "curl", "python3", "node")
	names := []string{"api.anthropic.com", "api.openai.com", "generativelanguage.googleapis.com", "own.test"}
	for _, protocols := range [][]string{{"http/1.1"}, {"h2", "http/1.1"}} {
		t.Run(protocols[0], func(t *testing.T) {
			ca := newAuthority(t, "reverse")
			release := make(chan struct{}, 1)
			o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, names, nil)}, NextProtos: protocols}, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/hold":
					w.Header().Set("Content-Type", "text/event-stream")
					fmt.Fprint(w, "data: first\n\n")
					w.(http.Flusher).Flush()
					<-release
					fmt.Fprint(w, "data: second\n\n")
				case "/go":
					release <- struct{}{}
				case "/v1/echo":
					io.Copy(w, r.Body)
				default:
					content(w, r)
				}
			})
			j := newJob(t, both()[0])
			args := []string{"run", "--keep-secrets", "--upstream-ca", j.file("ca.pem", ca.pem()), "--connect-to", "::" + o.addr, "--map", "own=https://own.test/base", "--",
				"sh", "-c", "cd " + j.home + "\n" + reverseScript}
			j.must(j.trace(args...), 0)
			checkReverse(t, j, o.entries())
		})
	}
}

func checkReverse(t *testing.T, j *job, log []entry) {
	t.Helper()
	rows := j.flows()
	if len(rows) != len(log) {
		t.Errorf("%d flows recorded, the server saw %d", len(rows), len(log))
	}
	for _, r := range rows {
		i := slices.IndexFunc(log, func(e entry) bool {
			return e.method == r.Request.Method && e.path == r.Request.Path && e.reqHash == r.Request.SHA256 && e.respHash == r.Response.SHA256
		})
		if i < 0 {
			t.Errorf("flow %s, %s %s: the server's log has none such", r.ID, r.Request.Method, r.Request.Path)
			continue
		}
		if r.Process == nil || r.Process.Exe == "" {
			t.Errorf("flow %s: no process is named", r.ID)
		}
		if r.Request.Scheme != "https" || r.Request.Port != 443 || r.State != "complete" {
			t.Errorf("flow %s: %+v, %s", r.ID, r.Request, r.State)
		}
		checkForwarded(t, j, r, log[i])
		log = slices.Delete(log, i, i+1)
	}
}

// checkForwarded holds what is said to have left against what came, and against
// what the child sent.
func checkForwarded(t *testing.T, j *job, r row, e entry) {
	t.Helper()
	var shown struct{ Forwarded *part }
	text := j.must(j.trace("flows", "show", r.ID, "--json"), 0).stdout
	if err := json.Unmarshal([]byte(text), &shown); err != nil || shown.Forwarded == nil {
		t.Errorf("flow %s: nothing forwarded (%v)", r.ID, err)
		return
	}
	f := shown.Forwarded
	if f.SHA256 != e.reqHash || f.Path != e.path {
		t.Errorf("flow %s: forwarded %s %s, want %s %s", r.ID, f.Path, f.SHA256, e.path, e.reqHash)
	}
	got := http.Header{}
	for _, h := range f.Headers {
		got.Add(h[0], h[1])
	}
	got.Del("Host")
	want := e.headers.Clone()
	want.Del("Host")
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("flow %s: forwarded %v, the server saw %v", r.ID, got, want)
	}
	checkDifferences(t, j, r.ID)
}

// checkDifferences wants a request to differ, as it left, in nothing but the server.
func checkDifferences(t *testing.T, j *job, id string) {
	t.Helper()
	var c struct {
		Identical   *bool
		Differences []struct{ Field string }
	}
	if err := json.Unmarshal([]byte(j.must(j.trace("flows", "compare", id, "--json"), 0).stdout), &c); err != nil || c.Identical == nil || *c.Identical {
		t.Fatalf("flow %s: compare: %+v, %v", id, c, err)
	}
	for _, d := range c.Differences {
		if d.Field != "path" && d.Field != "host" && d.Field != ":authority" {
			t.Errorf("flow %s: %s differs", id, d.Field)
		}
	}
}

// TestReverseAnswers: what cannot be carried is answered in the client's protocol
// and recorded.
func TestReverseAnswers(t *testing.T) {
	need(t, "curl")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	j := newJob(t, both()[0])
	r := j.must(j.trace("run", "--map", "dead=http://"+closed, "--", "sh", "-c",
		`curl -sS "$TRACE_BASE_URL/nowhere"; curl -sS "$TRACE_BASE_URL/dead/x"; curl -sS --http2-prior-knowledge "$TRACE_BASE_URL/dead/y"; curl -sS "https${TRACE_BASE_URL#http}"; kill -TERM $$`), 128+15)
	for _, want := range []string{`no route for "/nowhere"`, "connect to " + closed} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%q is not in the answers: %s", want, r.stdout)
		}
	}
	var codes []string
	for _, row := range j.flows() {
		if row.Error == nil {
			t.Errorf("flow %s has no error", row.ID)
			continue
		}
		codes = append(codes, row.Error.Code)
	}
	if want := []string{"no_route", "refused", "refused", "malformed"}; !slices.Equal(codes, want) {
		t.Errorf("codes %v, want %v", codes, want)
	}
	j.must(j.trace("run", "--", "/no/such/command"), 127)
	j.must(j.trace("run", "--", "/etc/passwd"), 126)
	j.must(j.trace("run", "--map", "nonsense", "--", "true"), 2)
}
