package e2e

import (
	"crypto/tls"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// host is a name that no resolver knows: only --connect-to leads there.
const host = "api.origin.example"

// A client is a program that people run under trace.
type client struct {
	name  string
	needs string
	argv  func(j *job, base string) []string
	// want lists what the server must see: method and path.
	want []string
}

func clients() []client {
	const py = `import sys,urllib.request as u
b=sys.argv[1]
assert u.urlopen(b+"/bytes/70000").read(70001).__len__()==70000
u.urlopen(u.Request(b+"/echo",data=b"x=%s" % (b"y"*3000),method="POST")).read()`
	const requests = `import sys,requests
b=sys.argv[1]; s=requests.Session()
assert len(s.get(b+"/bytes/70000").content)==70000
assert s.post(b+"/echo",json={"a":["b"]*500}).json()["a"][0]=="b"
assert "fox" in s.get(b+"/gzip").text`
	const fetch = `(async()=>{const b=process.argv[1];
let r=await fetch(b+"/bytes/70000"); if((await r.arrayBuffer()).byteLength!==70000) process.exit(3);
r=await fetch(b+"/echo",{method:"POST",body:"z".repeat(5000)}); if((await r.text()).length!==5000) process.exit(4);
r=await fetch(b+"/sse/5"); await r.text();})().catch(e=>{console.error(e);process.exit(1)})`
	const nodeHTTPS = `const https=require("https");const b=process.argv[1];
https.get(b+"/bytes/70000",r=>{let n=0;r.on("data",d=>n+=d.length);r.on("end",()=>{if(n!==70000)process.exit(3)})}).on("error",e=>{console.error(e);process.exit(1)})`
	return []client{
		{"curl", "curl", func(_ *job, b string) []string {
			return []string{"curl", "-sS", "--fail", b + "/text", "-o", "/dev/null", "--next", "-sS", "-d", "a=b", b + "/echo", "-o", "/dev/null",
				"--next", "-sS", "--compressed", b + "/gzip", "-o", "/dev/null", "--next", "-sSI", b + "/text"}
		}, []string{"GET /text", "POST /echo", "GET /gzip", "HEAD /text"}},
		{"wget", "wget", func(_ *job, b string) []string { return []string{"wget", "-q", "-O", "/dev/null", b + "/bytes/70000"} }, []string{"GET /bytes/70000"}},
		{"git", "git", func(_ *job, b string) []string { return []string{"git", "ls-remote", b + "/repo.git"} }, []string{"GET /repo.git/info/refs?service=git-upload-pack"}},
		{"python urllib", "/usr/bin/python3", func(_ *job, b string) []string { return []string{"/usr/bin/python3", "-c", py, b} }, []string{"GET /bytes/70000", "POST /echo"}},
		{"python requests", "/usr/bin/python3", func(_ *job, b string) []string { return []string{"/usr/bin/python3", "-c", requests, b} }, []string{"GET /bytes/70000", "POST /echo", "GET /gzip"}},
		{"node fetch", "node", func(_ *job, b string) []string { return []string{"node", "-e", fetch, b} }, []string{"GET /bytes/70000", "POST /echo", "GET /sse/5"}},
		{"node https", "node", func(_ *job, b string) []string { return []string{"node", "-e", nodeHTTPS, b} }, []string{"GET /bytes/70000"}},
		{"static Go", "sh", func(_ *job, b string) []string {
			return []string{goClient, "POST", b + "/echo", strings.Repeat("q", 4000)}
		}, []string{"POST /echo"}},
		{"openssl s_client", "openssl", func(j *job, _ string) []string {
			return []string{"sh", "-c", fmt.Sprintf(`printf 'GET /text HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' | openssl s_client -quiet -verify_return_error -connect %s:443 -servername %s`, host, host, host)}
		}, []string{"GET /text"}},
	}
}

// TestClients runs each client in each world and holds the record against
// the server's own log: sizes and hashes.
func TestClients(t *testing.T) {
	ca := newAuthority(t, "e2e authority")
	cert := ca.leaf(t, []string{host}, nil)
	for _, w := range worlds(t) {
		t.Run(w.String(), func(t *testing.T) {
			for _, c := range clients() {
				t.Run(c.name, func(t *testing.T) {
					need(t, c.needs)
					if c.name == "python requests" && exec.Command("/usr/bin/python3", "-c", "import requests").Run() != nil {
						t.Skip("needs python3-requests")
					}
					o := serve(t, &tls.Config{Certificates: []tls.Certificate{cert}}, nil)
					j := newJob(t, w)
					root := j.file("root.pem", ca.pem())
					r := j.inspect([]string{"--upstream-ca", root, "--connect-to", host + ":443:127.0.0.1:" + o.port}, c.argv(j, "https://"+host)...)
					j.must(r, 0)
					checkRecord(t, j.flows("--kind", "http"), o, c.want)
				})
			}
		})
	}
}

// checkRecord compares the rows with what the server saw, exchange by
// exchange.
func checkRecord(t *testing.T, rows []row, o *origin, want []string) {
	t.Helper()
	log := o.entries()
	var saw []string
	for _, e := range log {
		saw = append(saw, e.method+" "+e.path)
	}
	for _, w := range want {
		if !slices.Contains(saw, w) {
			t.Errorf("the server did not see %s, only %q", w, saw)
		}
	}
	if len(rows) != len(log) {
		t.Errorf("%d rows for %d requests: %+v", len(rows), len(log), rows)
	}
	for _, e := range log {
		i := slices.IndexFunc(rows, func(r row) bool { return r.Request != nil && r.Request.Method == e.method && r.Request.Path == e.path })
		if i < 0 {
			t.Errorf("%s %s is not in the record", e.method, e.path)
			continue
		}
		checkRow(t, rows[i], e)
		rows = slices.Delete(slices.Clone(rows), i, i+1)
	}
}

func checkRow(t *testing.T, r row, e entry) {
	t.Helper()
	name := e.method + " " + e.path
	if r.State != "complete" || r.Error != nil {
		t.Errorf("%s: state %q, error %+v", name, r.State, r.Error)
	}
	if r.Response == nil {
		t.Errorf("%s: no response recorded", name)
		return
	}
	if r.Request.Size != e.reqSize || r.Request.SHA256 != e.reqHash {
		t.Errorf("%s: request recorded as %d bytes %s, the server read %d bytes %s", name, r.Request.Size, r.Request.SHA256, e.reqSize, e.reqHash)
	}
	if e.method != "HEAD" && (r.Response.Size != e.respSize || r.Response.SHA256 != e.respHash) {
		t.Errorf("%s: response recorded as %d bytes %s, the server wrote %d bytes %s", name, r.Response.Size, r.Response.SHA256, e.respSize, e.respHash)
	}
	if p := r.Process; p == nil || len(p.Argv) == 0 || p.Exe == "" {
		t.Errorf("%s: no process is named: %+v", name, p)
	}
	if r.Source == "reverse" {
		return // which has no connection to the server to speak of
	}
	scheme, port := "http", 80
	if e.secure {
		scheme, port = "https", 443
	}
	if r.Conn.Decrypted != e.secure || r.Request.Scheme != scheme || r.Request.Host != host || r.Request.Port != port {
		t.Errorf("%s: conn %+v, request %s://%s:%d", name, r.Conn, r.Request.Scheme, r.Request.Host, r.Request.Port)
	}
	version := strings.TrimSuffix(strings.TrimPrefix(e.proto, "HTTP/"), ".0")
	upgraded := r.Request.Version == "1.1" && slices.ContainsFunc(r.Request.Headers, func(h [2]string) bool { return h == [2]string{"Upgrade", "h2c"} })
	if r.Response.Version != version || r.Request.Version != version && !upgraded {
		t.Errorf("%s: recorded as HTTP/%s and HTTP/%s, served as %s", name, r.Request.Version, r.Response.Version, e.proto)
	}
}
