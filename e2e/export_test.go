package e2e

import (
	"crypto/tls"
	"encoding/json"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestExport: of a call that a real client made, the command of `flows dump
// --format curl`, run with the key in its variable, sends what was sent; the HAR
// has what the server saw and no key, and imports as it was.
func TestExport(t *testing.T) {
	need(t, "curl", "sh")
	ca := newAuthority(t, "Corp Root")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{"api.anthropic.com"}, nil)}, NextProtos: []string{"h2", "http/1.1"}}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Write([]byte("event: ping\ndata: {\"type\":\"ping\"}\n\n"))
	})
	j := newJob(t, both()[0])
	key := "sk-ant-api03-" + strings.Repeat("Aa0-", 12)
	body := j.file("body.json", `{"model":"m","messages":[{"role":"user","content":"it's \"quoted\" $HOME é"}]}`)
	// curl finds the server, and what to trust, in its configuration: also the
	// command that is printed, which says nothing of it.
	j.file(".curlrc", "connect-to = \"api.anthropic.com:443:127.0.0.1:"+o.port+"\"\ncacert = \""+j.file("ca.pem", ca.pem())+"\"\n")
	j.must(j.inspect([]string{"--connect-to", "api.anthropic.com:443:127.0.0.1:" + o.port, "--upstream-ca", filepath.Join(j.home, "ca.pem")},
		"curl", "-q", "-sS", "--http2", "-H", "x-api-key: "+key, "-H", "content-type: application/json", "--data-binary", "@"+body, "https://api.anthropic.com/v1/messages?beta=true"), 0)
	r := j.must(j.trace("flows", "dump", "--format", "curl", "--kind", "http"), 0)
	if strings.Contains(r.stdout, key) || !strings.Contains(r.stdout, `"$ANTHROPIC_API_KEY"`) {
		t.Errorf("the command: %s", r.stdout)
	}
	j.env = append(j.env, "ANTHROPIC_API_KEY="+key)
	j.must(j.run("sh", j.file("command", r.stdout)), 0)
	log := o.entries()
	if len(log) != 2 {
		t.Fatalf("%d requests arrived", len(log))
	}
	if a, b := log[0], log[1]; a.method != b.method || a.path != b.path || a.proto != b.proto || a.reqHash != b.reqHash || !maps.EqualFunc(a.headers, b.headers, slices.Equal) {
		t.Errorf("it sent %+v, want %+v", b, a)
	}
	har := j.must(j.trace("flows", "dump", "--kind", "http"), 0).stdout
	var file struct {
		Log struct {
			Entries []struct {
				Request struct {
					URL    string
					SHA256 string `json:"_bodySha256"`
				}
				Response struct{ Content struct{ Text string } }
				Events   []struct{ EventName string } `json:"_eventSourceMessages"`
			}
		}
	}
	if err := json.Unmarshal([]byte(har), &file); err != nil || len(file.Log.Entries) != 1 || strings.Contains(har, key) {
		t.Fatalf("HAR: %v, %s", err, har)
	}
	e := file.Log.Entries[0]
	if e.Request.URL != "https://api.anthropic.com/v1/messages?beta=true" || e.Request.SHA256 != log[0].reqHash || len(e.Events) != 1 || !strings.Contains(e.Response.Content.Text, "ping") {
		t.Errorf("%+v", e)
	}
	before := j.flows("--kind", "http")[0]
	j.must(j.trace("import", j.file("run.har", har)), 0)
	after := j.flows()
	if len(after) != 1 || after[0].Started != before.Started || after[0].Duration != before.Duration || after[0].Request.SHA256 != before.Request.SHA256 || after[0].Response.Events != before.Response.Events {
		t.Errorf("imported %+v, want %+v", after, before)
	}
}
