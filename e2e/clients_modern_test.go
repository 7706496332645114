package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// script returns the path of a client's script, readable by all.
func (j *job) script(name string) string {
	j.t.Helper()
	b, err := os.ReadFile("testdata/clients/" + name)
	if err != nil {
		j.t.Fatal(err)
	}
	return j.file(name, string(b))
}

// A modernClient is a client of more than HTTP/1; its argv gets the base
// URLs with TLS and without.
type modernClient struct {
	name  string
	needs []string
	argv  func(j *job, secure, clear string) []string
	// want is how many exchanges of which protocol the server sees.
	proto string
	want  int
}

func modernClients(classes string) []modernClient {
	urls := func(base string, paths ...string) (all []string) {
		for _, p := range paths {
			all = append(all, base+p)
		}
		return all
	}
	python := "/usr/bin/python3"
	ws := func(s string) string { return "wss" + strings.TrimPrefix(s, "https") }
	return []modernClient{
		{"curl --http2", []string{"curl"}, func(_ *job, s, _ string) []string {
			return []string{"curl", "-sS", "--fail", "--http2", s + "/text", "-o", "/dev/null", "--next", "-sS", "--http2", "-d", "a=b", s + "/echo", "-o", "/dev/null",
				"--next", "-sS", "--http2", "--compressed", s + "/gzip", "-o", "/dev/null", "--next", "-sSI", "--http2", s + "/text", "--next", "-sS", "--http2", s + "/sse/20", "-o", "/dev/null"}
		}, "HTTP/2.0", 5},
		{"curl --parallel", []string{"curl"}, func(_ *job, s, _ string) []string {
			return []string{"curl", "-sS", "-Z", "--http2", s + "/bytes/[10000-10030]", "-o", "/dev/null"}
		}, "HTTP/2.0", 31},
		{"curl --http2-prior-knowledge", []string{"curl"}, func(_ *job, _, c string) []string {
			return []string{"curl", "-sS", "--fail", "--http2-prior-knowledge", "-d", "a=b", c + "/echo", "-o", "/dev/null"}
		}, "HTTP/2.0", 1}, // a second one is too much for curl 7.88
		{"curl refused h2c", []string{"curl"}, func(_ *job, _, c string) []string {
			return []string{"curl", "-sS", "--fail", "--http2", c + "/bytes/70000", "-o", "/dev/null"}
		}, "HTTP/1.1", 1},
		{"nghttp", []string{"nghttp"}, func(_ *job, s, _ string) []string {
			return append([]string{"nghttp", "-ns", "-p16", "--no-verify-peer"}, urls(s, "/text", "/bytes/70000", "/gzip", "/sse/9")...)
		}, "HTTP/2.0", 4},
		{"nghttp h2c", []string{"nghttp"}, func(_ *job, _, c string) []string {
			return append([]string{"nghttp", "-n", "-m5", "--expect-continue", "--no-dep"}, urls(c, "/text", "/bytes/70000")...)
		}, "HTTP/2.0", 10},
		{"h2load", []string{"h2load"}, func(_ *job, s, _ string) []string {
			return []string{"h2load", "-n200", "-c3", "-m10", s + "/bytes/3000"}
		}, "HTTP/2.0", 200},
		{"python httpx", []string{python}, func(j *job, s, _ string) []string {
			return []string{python, j.script("httpx_h2.py"), s}
		}, "HTTP/2.0", 24},
		{"node http2", []string{"node"}, func(j *job, s, _ string) []string {
			return []string{"node", j.script("http2.js"), s}
		}, "HTTP/2.0", 14},
		{"Go", []string{"sh"}, func(j *job, s, _ string) []string {
			j.env = append(j.env, "GOCLIENT_H2=1")
			return []string{goClient, "POST", s + "/echo", strings.Repeat("q", 40000)}
		}, "HTTP/2.0", 1},
		{"Java", []string{"java"}, func(_ *job, s, _ string) []string {
			return []string{"java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", classes, "Modern", s}
		}, "HTTP/2.0", 11},
		{"Java refused h2c", []string{"java"}, func(_ *job, _, c string) []string {
			return []string{"java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", classes, "Modern", c}
		}, "HTTP/1.1", 11},
		{"Java upgrade", []string{"java"}, func(_ *job, _, c string) []string {
			return []string{"java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", classes, "Modern", c}
		}, "HTTP/2.0", 11},
		{"curl upgrade", []string{"curl"}, func(_ *job, _, c string) []string {
			return []string{"curl", "-sS", "--fail", "--http2", "-d", strings.Repeat("a=b&", 3000), c + "/echo", "-o", "/dev/null"}
		}, "HTTP/2.0", 1},
		{"python grpc", []string{python}, func(j *job, _, _ string) []string {
			return []string{python, j.script("grpc_client.py"), host + ":443"}
		}, "HTTP/2.0", 8},
		{"python websockets", []string{python}, func(j *job, s, _ string) []string {
			return []string{python, j.script("websocket.py"), ws(s)}
		}, "HTTP/1.1", 3},
		{"node ws", []string{"node"}, func(j *job, s, _ string) []string {
			j.env = append(j.env, "NODE_PATH=/usr/share/nodejs")
			return []string{"node", j.script("websocket.js"), ws(s)}
		}, "HTTP/1.1", 3},
		{"Java WebSocket", []string{"java"}, func(_ *job, s, _ string) []string {
			return []string{"java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", classes, "Modern", ws(s)}
		}, "HTTP/1.1", 1},
	}
}

// modules are what the scripts import, with how to see whether it is there.
var modules = map[string][]string{
	"python httpx":      {"/usr/bin/python3", "-c", "import httpx, h2"},
	"python grpc":       {"/usr/bin/python3", "-c", "import grpc"},
	"python websockets": {"/usr/bin/python3", "-c", "import websockets"},
	"node ws":           {"env", "NODE_PATH=/usr/share/nodejs", "node", "-e", `require("ws")`},
}

// TestModernClients runs each client of HTTP/2, gRPC and WebSocket and holds
// the record against the server's log: protocol, sizes, hashes, messages.
func TestModernClients(t *testing.T) {
	ca := newAuthority(t, "e2e authority")
	classes := compileJava(t)
	for i, c := range modernClients(classes) {
		// Each in one world; which, differs from client to client.
		w := both()[i%len(both())]
		if i%3 == 0 {
			w.link = "direct"
		}
		t.Run(c.name+"/"+w.String(), func(t *testing.T) {
			need(t, c.needs...)
			if m := modules[c.name]; m != nil && exec.Command(m[0], m[1:]...).Run() != nil {
				t.Skipf("needs what %s asks for", m[len(m)-1])
			}
			o, clear := serveModern(t, ca, strings.HasSuffix(c.name, " upgrade"))
			j := newJob(t, w)
			root := j.file("root.pem", ca.pem())
			r := j.must(j.inspect([]string{"--upstream-ca", root, "--connect-to", host + ":443:127.0.0.1:" + o.port, "--connect-to", host + ":80:127.0.0.1:" + clear},
				c.argv(j, "https://"+host, "http://"+host)...), 0)
			checkModern(t, j, c, o)
			if t.Failed() {
				t.Logf("stdout: %.1000s\nstderr: %.1000s", r.stdout, r.stderr)
			}
		})
	}
}

// checkModern holds the rows against the log.
func checkModern(t *testing.T, j *job, c modernClient, o *origin) {
	t.Helper()
	log := o.settled(c.want)
	if len(log) != c.want {
		t.Errorf("the server saw %d exchanges, want %d", len(log), c.want)
	}
	rows := slices.DeleteFunc(j.flows(), func(r row) bool { return r.Kind == "dns" || r.Kind == "udp" })
	if len(rows) != len(log) {
		t.Errorf("%d rows for %d exchanges", len(rows), len(log))
		for _, r := range rows {
			t.Logf("%s %+v %+v", r.Kind, r.Conn, r.Error)
		}
	}
	for _, e := range log {
		if e.proto != c.proto {
			t.Errorf("%s %s was served as %s", e.method, e.path, e.proto)
		}
		i := slices.IndexFunc(rows, func(r row) bool { return matches(r, e) })
		if i < 0 {
			t.Errorf("%s %s is not in the record", e.method, e.path)
			continue
		}
		checkModernRow(t, j, rows[i], e)
		rows = slices.Delete(rows, i, i+1)
	}
}

// matches tells whether r may be the row of e: of those with the same path, it
// is the one with the same bytes.
func matches(r row, e entry) bool {
	if r.Request != nil && r.Request.Method == "CONNECT" && strings.HasPrefix(e.path, "/ws") {
		e.method = "CONNECT" // which HTTP/1.1 asks for by a GET
	}
	if r.Request == nil || r.Request.Method != e.method || r.Request.Path != e.path {
		return false
	}
	many := strings.HasPrefix(e.path, "/test.Echo/") || strings.HasPrefix(e.path, "/v1/")
	return !many || r.Request.SHA256 == e.reqHash
}

func checkModernRow(t *testing.T, j *job, r row, e entry) {
	t.Helper()
	ws := strings.HasPrefix(e.path, "/ws")
	if ws {
		e.reqHash, e.respHash = sumOf(nil), sumOf(nil)
	}
	checkRow(t, r, e)
	switch {
	case ws:
		checkMessages(t, j, r, e)
	case e.received > 0:
		if r.Request.Events != int64(e.received) || r.Response.Events != int64(e.sent) {
			t.Errorf("%s: recorded %d and %d messages, the server saw %d and %d", e.path, r.Request.Events, r.Response.Events, e.received, e.sent)
		}
		if !slices.Contains(r.Response.Trailers, [2]string{"grpc-status", "0"}) {
			t.Errorf("%s: trailers %v", e.path, r.Response.Trailers)
		}
	case strings.HasPrefix(e.path, "/sse/"):
		if want := strings.TrimPrefix(e.path, "/sse/"); fmt.Sprint(r.Response.Events) != want || !r.Response.Streaming {
			t.Errorf("%s: %d events", e.path, r.Response.Events)
		}
	}
}

// checkMessages holds the messages of a WebSocket against the server's log.
func checkMessages(t *testing.T, j *job, r row, e entry) {
	t.Helper()
	if r.Kind != "websocket" {
		t.Errorf("%s is recorded as %s", e.path, r.Kind)
	}
	var d struct {
		Messages []struct {
			Dir        string
			Opcode     byte
			Size       int
			SHA256     string
			Compressed bool
		}
	}
	res := j.must(j.trace("flows", "show", r.ID, "--json"), 0)
	if err := json.Unmarshal([]byte(res.stdout), &d); err != nil {
		t.Fatal(err)
	}
	var got [2][]seenMessage
	for _, m := range d.Messages {
		side := 0
		if m.Dir == "received" {
			side = 1
		}
		got[side] = append(got[side], seenMessage{m.Opcode, m.Size, m.SHA256, m.Compressed})
	}
	for side, name := range []string{"sent", "received"} {
		if fmt.Sprint(got[side]) != fmt.Sprint(e.messages[side]) {
			t.Errorf("%s: %s recorded %+v, the server saw %+v", e.path, name, got[side], e.messages[side])
		}
	}
}

// settled returns the log once it has n entries: a handler may end after its
// client.
func (o *origin) settled(n int) []entry {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if log := o.entries(); len(log) >= n || time.Now().After(deadline) {
			return log
		}
	}
}
