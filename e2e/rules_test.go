package e2e

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const (
	alteredHost  = "altered.test"
	verbatimHost = "verbatim.test"
)

const theRules = `{"rules": [
  // two refusals, then the server
  {"name": "busy", "match": {"host": "altered.*", "path": "/busy"}, "first": 2,
   "answer": {"status": 529, "header": {"retry-after": "1"}, "body": {"type": "error"}}},
  {"name": "edit", "match": {"host": "altered.*", "path": "/edit*", "method": "POST", "process": "curl"},
   "request": {"set_header": {"X-Set": "yes"}, "remove_header": "X-Gone", "set_json": {"model": "other", "list[0].a": null}},
   "response": {"set_header": {"X-Answer": "mine"}, "remove_header": ["X-Server"], "set_json": {"path": "/elsewhere"}}},
  {"name": "cut", "match": {"host": "altered.*", "path": "/events"}, "cut_after_events": 2},
  {"name": "file", "match": {"host": "altered.*", "path": "/file"}, "answer": {"file": "answer.json"}},
  {"name": "slow", "match": {"host": "altered.*", "path": "/slow"}, "delay": "50ms", "throttle": "100K"},
]}`

// altering is what the server does.
func altering(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Server", "real")
	switch r.URL.Path {
	case "/events":
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 5 {
			fmt.Fprintf(w, ": comment\n\ndata: %d\n\n", i)
			w.(http.Flusher).Flush()
		}
	case "/raw", "/slow":
		w.Write(body)
	default:
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"path": r.URL.Path, "set": r.Header.Get("X-Set"), "gone": r.Header.Get("X-Gone"), "body": string(body)})
	}
}

// rulesScript asks for all of it; $how and $base are set.
const rulesScript = `
c() { curl -sS $how "$@"; }
c -o /dev/null -o /dev/null -o /dev/null -w '%{http_code} ' $base/busy $base/busy $base/busy; echo
c -D heads $base/edit -H 'X-Gone: x' -H 'Accept-Encoding: gzip' -d '{"model": "one", "list": [{"a": 1}], "n": 1.50}'
grep -ic '^x-answer: mine' heads; grep -ic '^x-server' heads
c -N $base/events; echo "events $?"
c $base/file; echo
c $base/raw --data-binary @up | cmp - up && echo same
c $base/slow --data-binary @small | cmp - small && echo same
c -X PUT $base/edit -d put
python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())' $base/file
`

// rulesAnswers is what the script prints, but for how a stream was cut.
const rulesAnswers = `529 529 200 
{"body":"{\"model\": \"other\", \"list\": [{\"a\": null}], \"n\": 1.50}","gone":"","path":"/elsewhere","set":"yes"}
1
0
: comment

data: 0

: comment

data: 1

events CODE
{"from": "file"}
same
same
{"body":"put","gone":"","path":"/edit","set":""}
{"from": "file"}
`

// TestRules: each action over HTTP/1.1 and HTTP/2, in each mode; what no rule is for is the
// sender's to the byte, and a host that none names is not touched.
func TestRules(t *testing.T) {
	need(t, "curl", "cmp", "python3")
	ca := newAuthority(t, "rules")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{alteredHost, verbatimHost}, nil)}, NextProtos: []string{"h2", "http/1.1"}}, altering)
	for _, how := range []struct{ name, flags, mode, code string }{
		{"inspect HTTP/1.1", "--http1.1", "--inspect", "18"}, {"inspect HTTP/2", "--http2", "--inspect", "92"},
		{"proxy HTTP/1.1", "--http1.1", "--proxy", "18"}, {"proxy HTTP/2", "--http2", "--proxy", "92"}, {"base URL", "--http1.1", "", "18"},
	} {
		t.Run(how.name, func(t *testing.T) {
			j := newJob(t, both()[0])
			up := bytes.Repeat([]byte("0123456789abcde\n"), 200_000)
			j.file("up", string(up))
			j.file("small", string(up[:20_000]))
			j.file("answer.json", `{"from": "file"}`)
			args := []string{"run", "--upstream-ca", j.file("ca.pem", ca.pem()), "--connect-to", alteredHost + "::" + o.addr, "--connect-to", verbatimHost + "::" + o.addr, "--rules", j.file("rules.json", theRules)}
			base, other := "https://"+alteredHost, "https://"+verbatimHost
			if how.mode == "" {
				args = append(args, "--map", "own=https://"+alteredHost, "--map", "other=https://"+verbatimHost)
				base, other = "${TRACE_BASE_URL}/own", "${TRACE_BASE_URL}/other"
			} else {
				args = append(args, how.mode)
			}
			script := "cd " + j.home + "\nhow=" + how.flags + "\nbase=" + base + rulesScript + "curl -sS " + how.flags + " " + other + "/edit -d '{}'\n"
			from := len(o.entries())
			r := j.must(j.trace(append(args, "--", "sh", "-c", script)...), 0)
			want := strings.Replace(rulesAnswers, "CODE", how.code, 1) + `{"body":"{}","gone":"","path":"/edit","set":""}` + "\n"
			if r.stdout != want {
				t.Errorf("printed\n%s\nwant\n%s\n%s", r.stdout, want, r.stderr)
			}
			checkAltered(t, j, o.entries()[from:], how.flags == "--http2", up)
		})
	}
}

// checkAltered holds the record against what the server saw.
func checkAltered(t *testing.T, j *job, log []entry, two bool, up []byte) {
	t.Helper()
	sum := sha256.Sum256(up)
	rows := j.flows()
	if len(rows) != 11 {
		t.Fatalf("%d rows: %+v", len(rows), rows)
	}
	for _, row := range rows {
		var d struct {
			Altered, Reencoded  bool
			Forwarded, Original *part
			Marks               []note
		}
		r := j.must(j.trace("flows", "show", row.ID, "--json"), 0)
		if err := json.Unmarshal([]byte(r.stdout), &d); err != nil {
			t.Fatal(err)
		}
		quiet := row.Request.Host == verbatimHost || row.Request.Path == "/raw" || row.Request.Method == "PUT" || row.Request.Path == "/busy" && row.Response.Status == 200
		if d.Altered == quiet || d.Reencoded != (two && quiet && row.Request.Host == alteredHost) {
			t.Errorf("%s %s: altered %t, reencoded %t: %+v", row.Request.Method, row.Request.Path, d.Altered, d.Reencoded, d.Marks)
		}
		switch {
		case row.Request.Host == verbatimHost && row.Source != "reverse":
			if c := j.must(j.trace("flows", "compare", row.ID), 0); !strings.Contains(c.stdout, "relayed byte for byte") {
				t.Errorf("%s", c.stdout)
			}
		case row.Request.Path == "/raw":
			if hash := hex.EncodeToString(sum[:]); row.Request.SHA256 != hash || row.Response.SHA256 != hash {
				t.Errorf("/raw: %+v", row)
			}
		case row.Request.Path == "/edit" && d.Altered:
			i := slices.IndexFunc(log, func(e entry) bool { return e.path == "/edit" && e.headers.Get("X-Set") == "yes" })
			if i < 0 || d.Forwarded == nil || d.Original == nil || d.Forwarded.Size != log[i].reqSize || d.Original.Size != log[i].respSize {
				t.Fatalf("both forms: %d %+v %+v %+v\n%+v", i, d.Forwarded, d.Original, d.Marks, log)
			}
			if !slices.ContainsFunc(d.Marks, func(n note) bool {
				return n.Code == "altered" && n.Message == `request body: model: "other", was "one"`
			}) {
				t.Errorf("marks %+v", d.Marks)
			}
		case row.Request.Path == "/events" && (d.Original == nil || row.State != "failed"):
			t.Errorf("/events: %+v %s", d, row.State)
		}
	}
	if n := len(slices.DeleteFunc(log, func(e entry) bool { return e.path != "/busy" && e.path != "/file" })); n != 1 {
		t.Errorf("the server was asked %d times for what others answered", n)
	}
}

// TestRulesServe: a serve alters what its clients send to base URLs over HTTP/1.1, and says
// where it does not.
func TestRulesServe(t *testing.T) {
	need(t, "curl")
	ca := newAuthority(t, "rules")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{alteredHost}, nil)}}, altering)
	j := newJob(t, both()[0])
	j.file("answer.json", `{"from": "file"}`)
	s := j.serving("--listen", "127.0.0.1:0", "--map", "own=https://"+alteredHost, "--upstream-ca", j.file("ca.pem", ca.pem()), "--connect-to", alteredHost+"::"+o.addr,
		"--rules", j.file("rules.json", theRules))
	base := s.url("reverse proxy")
	one := j.run("curl", "-sS", base+"/@one/own/file")
	two := j.run("curl", "-sS", "--http2-prior-knowledge", base+"/@two/own/file")
	if one.stdout != `{"from": "file"}` || !strings.Contains(two.stdout, `"path":"/file"`) {
		t.Errorf("%q, %q", one.stdout, two.stdout)
	}
	s.stop()
	for session, code := range map[string]string{"one": "altered", "two": "rule_not_applied"} {
		rows := j.flows("--session", session)
		if len(rows) != 1 || len(rows[0].Marks) != 1 || rows[0].Marks[0].Code != code {
			t.Errorf("%s: %+v", session, rows)
		}
	}
}

// TestRulesMistakes: nothing is started, and every mistake is said with its line.
func TestRulesMistakes(t *testing.T) {
	j := newJob(t, both()[0])
	file := j.file("bad.json", "{\"rules\": [\n  {\"match\": {\"hsot\": \"x\"}, \"delay\": \"soon\"},\n  // fine\n  {\"answer\": {\"status\": 99}}\n]}")
	for _, args := range [][]string{{"run", "--inspect", "--rules", file, "--", "touch", "started"}, {"run", "--rules", file, "--", "touch", "started"}, {"serve", "--rules", file}} {
		r := j.must(j.trace(args...), 2)
		for _, want := range []string{file + `:2: match has no "hsot" (did you mean "host"?)`, file + ":2: delay: want", file + ":4: status: want"} {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%q: no %q in %s", args, want, r.stderr)
			}
		}
	}
	if r := j.run("ls", j.home); strings.Contains(r.stdout, "started") {
		t.Error("the command was started")
	}
}
