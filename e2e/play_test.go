package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"
)

// exchanges returns what a session says of its exchanges, whatever their order.
func (j *job) exchanges(session string) []string {
	j.t.Helper()
	var all []string
	for _, r := range j.flows("--session", session) {
		if r.Request == nil || r.Response == nil {
			continue
		}
		all = append(all, fmt.Sprintf("%s %s %s → HTTP/%s %d %s %d events, trailers %v, %s %d %s", r.Kind, r.Request.Method, r.Request.Path, r.Response.Version, r.Response.Status, r.Response.ContentType,
			r.Response.Events, r.Response.Trailers, r.Conn.ALPN, r.Response.Size, r.Response.SHA256))
	}
	sort.Strings(all)
	return all
}

// sorted returns text with its lines in order.
func sorted(text string) string {
	lines := strings.Split(text, "\n")
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// decoded returns the answers of a session's flows, decoded, by their requests.
func (j *job) decoded(session string) []string {
	j.t.Helper()
	var all []string
	for _, r := range j.flows("--session", session) {
		if r.Request != nil && r.Response != nil && r.Kind == "http" {
			all = append(all, r.Request.Method+" "+r.Request.Path+" "+j.must(j.trace("flows", "show", "--session", session, r.ID, "--response-body"), 0).stdout)
		}
	}
	sort.Strings(all)
	return all
}

// TestPlayClients records real clients, and runs them again with nothing but the
// record: they see the same, and the record of that is the same, hash for hash.
func TestPlayClients(t *testing.T) {
	ca := newAuthority(t, "e2e authority")
	for i, c := range modernClients("") {
		if !slices.Contains([]string{"curl --http2", "python httpx", "python grpc", "python websockets"}, c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			need(t, c.needs...)
			if m := modules[c.name]; m != nil && exec.Command(m[0], m[1:]...).Run() != nil {
				t.Skipf("needs what %s asks for", m[len(m)-1])
			}
			o, clear := serveModern(t, ca, false)
			j := newJob(t, both()[i%len(both())])
			root := j.file("root.pem", ca.pem())
			argv := c.argv(j, "https://"+host, "http://"+host)
			rec := j.must(j.inspect([]string{"--output", "rec.db", "--keep-secrets", "--upstream-ca", root, "--connect-to", host + ":443:127.0.0.1:" + o.port, "--connect-to", host + ":80:127.0.0.1:" + clear}, argv...), 0)
			o.mu.Lock()
			seen := len(o.log)
			o.mu.Unlock()
			play := j.inspect([]string{"--output", "play.db", "--play", "./rec.db", "--fast"}, argv...)
			if play.code != 0 || sorted(play.stdout) != sorted(rec.stdout) { // fields of HTTP/2 have no order
				t.Errorf("played: exit %d\n%.600s\n%.600s\nrecorded\n%.600s", play.code, play.stdout, play.stderr, rec.stdout)
			}
			if !strings.Contains(play.stderr, "none unmatched") {
				t.Errorf("%s", play.stderr)
			}
			if a, b := j.exchanges("./rec.db"), j.exchanges("./play.db"); !slices.Equal(a, b) {
				t.Errorf("recorded\n%s\nplayed\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			if len(o.log) != seen {
				t.Errorf("the server was asked %d times more", len(o.log)-seen)
			}
		})
	}
}

// TestPlayAgent: an agent's run becomes a test. Its events are the recorded
// ones, and what it has not asked before is answered with what is nearest.
func TestPlayAgent(t *testing.T) {
	need(t, "python3")
	script, err := os.ReadFile("testdata/agent/agent.py")
	if err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t, "models")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{modelHost}, nil)}}, model)
	j := newJob(t, both()[0])
	agent := []string{"python3", j.file("agent.py", string(script)), "https://" + modelHost}
	rec := j.must(j.inspect([]string{"--output", "rec.db", "--upstream-ca", j.file("ca.pem", ca.pem()), "--connect-to", modelHost + ":443:127.0.0.1:" + o.port}, agent...), 0)
	play := j.must(j.inspect([]string{"--output", "play.db", "--play", "./rec.db", "--fast", "--exact"}, agent...), 0)
	if play.stdout != rec.stdout || !strings.Contains(play.stderr, "none unmatched") {
		t.Errorf("the agent says %q, then %q\n%s", rec.stdout, play.stdout, play.stderr)
	}
	if a, b := j.decoded("./rec.db"), j.decoded("./play.db"); len(a) == 0 || !slices.Equal(a, b) {
		t.Errorf("recorded\n%s\nplayed\n%s", a, b)
	}
	bad := j.must(j.inspect([]string{"--play", "./rec.db"}, "curl", "-sS", "-d", "{}", "https://"+modelHost+"/v1/other", "https://unknown.test/"), 0)
	var fault struct {
		Error struct{ Type, Message, Difference string }
	}
	if err := json.NewDecoder(strings.NewReader(bad.stdout)).Decode(&fault); err != nil || fault.Error.Type != "trace_play_unmatched" || fault.Error.Difference != "path is /v1/other, recorded /v1/messages" {
		t.Errorf("%v %s", err, bad.stdout)
	}
	if !strings.Contains(bad.stderr, "0 requests answered, 2 unmatched") || !strings.Contains(bad.stderr, "POST https://unknown.test/: nothing like it was recorded") {
		t.Errorf("%s", bad.stderr)
	}
	if rows := j.flows("--status", "502"); len(rows) != 2 {
		t.Errorf("%d rows of status 502", len(rows))
	}
	for args, code := range map[string]int{"--play nosuch": 125, "--fast": 2, "--play ./rec.db --connect-to x": 2} {
		r := j.must(j.inspect(strings.Fields(args), "echo", "started"), code)
		if r.stdout != "" {
			t.Errorf("%s: the command was started", args)
		}
	}
}

// TestPlayTiming: events come when they came.
func TestPlayTiming(t *testing.T) {
	o := serve(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			if i > 0 {
				time.Sleep(150 * time.Millisecond) // the server's own pace
			}
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
		}
	})
	j := newJob(t, both()[0])
	curl := []string{"curl", "-sSN", "http://" + host + "/s"}
	j.must(j.inspect([]string{"--output", "rec.db", "--connect-to", host + ":80:127.0.0.1:" + o.port}, curl...), 0)
	for _, fast := range []bool{false, true} {
		flags := []string{"--play", "./rec.db"}
		if fast {
			flags = append(flags, "--fast")
		}
		r := j.must(j.inspect(flags, curl...), 0)
		took := j.flows()[0].Duration
		for _, row := range j.flows("--kind", "http") {
			took = row.Duration
		}
		if r.stdout != "data: 0\n\ndata: 1\n\ndata: 2\n\n" || fast && took >= 290 || !fast && took < 290 {
			t.Errorf("fast %v: %vms, %q", fast, took, r.stdout)
		}
	}
}
