package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestLocalhost: services of the host are reachable from the command's first
// instruction, what it listens on is reachable from the host, and a dead port
// is refused.
func TestLocalhost(t *testing.T) {
	need(t, "curl", "/usr/bin/python3")
	o := serve(t, nil, nil)
	dead := closedPort(t, nil, nil)
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			before := len(o.entries())
			r := j.must(j.inspect(nil, "curl", "-sS", "http://127.0.0.1:"+o.port+"/bytes/50000", "-o", "/dev/null"), 0)
			rows := j.flows("--kind", "http")
			log := o.entries()[before:]
			if len(rows) != 1 || len(log) != 1 || rows[0].Response.SHA256 != log[0].respHash || rows[0].Request.Host != "127.0.0.1" || rows[0].Process == nil {
				t.Errorf("%+v, served %+v, %s", rows, log, r.stderr)
			}
			j.must(j.inspect(nil, "curl", "-sS", "http://127.0.0.1:"+dead+"/"), 7)
			j.must(j.inspect([]string{"--no-localhost"}, "curl", "-sS", "http://127.0.0.1:"+o.port+"/text"), 7)
			hostReaches(t, j)
		})
	}
}

// hostReaches asks a server inside from the host.
func hostReaches(t *testing.T, j *job) {
	port := closedPort(t, nil, nil)
	c := j.command(traceBin, "run", "--inspect", "--quiet", "--", "/usr/bin/python3", "-c", fmt.Sprintf(`import http.server
class H(http.server.BaseHTTPRequestHandler):
  def do_GET(s):
    s.send_response(200); s.end_headers(); s.wfile.write(b"inside"); raise SystemExit
  def log_message(s,*a): pass
http.server.HTTPServer(("127.0.0.1",%s),H).handle_request()`, port))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	for deadline := time.Now().Add(30 * time.Second); ; {
		resp, err := http.Get("http://127.0.0.1:" + port + "/")
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the server inside is not reached: %v", err)
			c.Process.Kill()
			return
		}
		if !strings.Contains(err.Error(), "refused") && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
			t.Error(err)
			return
		}
	}
}
