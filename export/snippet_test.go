package export

import (
	"bytes"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"trace/flow"
)

// arrived is a request as the server saw it.
type arrived struct {
	method, target, version, body string
	header                        http.Header
}

// A target is a server that notes what arrives.
type target struct {
	*httptest.Server
	got []arrived
	ca  string // file with its certificate
}

func newTarget(t *testing.T, secure bool) *target {
	t.Helper()
	s := &target{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		h := r.Header.Clone()
		h.Set("Host", r.Host)
		h.Del("Content-Length")
		s.got = append(s.got, arrived{r.Method, r.RequestURI, strconv.Itoa(r.ProtoMajor), string(body), h})
		io.WriteString(w, "answer")
	}))
	s.Server.Config.DisableGeneralOptionsHandler = true
	s.EnableHTTP2 = true
	if s.Start(); !secure {
		t.Cleanup(s.Close)
		return s
	}
	s.Server.Close()
	s.Server = httptest.NewUnstartedServer(s.Server.Config.Handler)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	s.ca = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(s.ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// sample is a request, and the same with its secrets.
type sample struct {
	name, method, target, body string
	fields, want               []flow.Field // as recorded, and as they shall arrive
	wantTarget, wantBody       string       // "": as recorded
	version                    string       // "1.1" if ""
	inPython, inNode           bool         // they can send it too
}

const (
	keyText = `sk-ant-api03-it's "x" $HOME \n`
	catText = "github_pat_11AA'\"$"
)

var environment = []string{"ANTHROPIC_API_KEY=" + keyText, "GITHUB_TOKEN=" + catText, "COOKIE_SID=c'1", "KEY=k+1/2", "TOKEN=tok"}

func samples() []sample {
	lines := strings.Repeat("it's \"quoted\" $HOME `x` \\n \u00a0\u2603\t!\n", 9000)
	binary := "\x00\x01\r\n'\"\xff\xfe" + strings.Repeat("\x00z", 70000)
	return []sample{
		{name: "get", method: "GET", target: "/a/b?x=1&y=%20", fields: fields("Host", "", "Accept", "*/*", "User-Agent", "it's me"), inPython: true, inNode: true},
		{name: "bare", method: "GET", target: "/", fields: fields("Host", ""), inPython: true},
		{name: "secrets", method: "POST", target: "/v1?key=[REDACTED:query]", wantTarget: "/v1?key=k+1/2",
			body: `{"token":"[REDACTED:github]","again":"[REDACTED:github]!","m":"it's"}`, wantBody: `{"token":"` + catText + `","again":"` + catText + `!","m":"it's"}`,
			fields: fields("Host", "", "Content-Type", "application/json", "X-Api-Key", "[REDACTED:anthropic:0a1b2c3d]", "Authorization", "Bearer [REDACTED:header]", "Cookie", "theme=dark; sid=[REDACTED:cookie]"),
			want:   fields("Host", "", "Content-Type", "application/json", "X-Api-Key", keyText, "Authorization", "Bearer tok", "Cookie", "theme=dark; sid=c'1"), inPython: true, inNode: true},
		{name: "quotes", method: "POST", target: "/q", body: "@it's \"x\" $HOME `id` \\\n\t!! %s\n", fields: fields("Host", "", "Content-Type", "text/plain", "Accept", "a"), inPython: true, inNode: true},
		{name: "large", method: "POST", target: "/large", body: lines, fields: fields("Host", "", "content-type", "text/plain"), inPython: true, inNode: true},
		{name: "binary", method: "PUT", target: "/binary", body: binary, fields: fields("Host", "", "Content-Type", "application/octet-stream"), inPython: true, inNode: true},
		{name: "empty", method: "POST", target: "/empty", fields: fields("Host", "", "Content-Length", "0", "Accept", "x"), inPython: true, inNode: true},
		{name: "head", method: "HEAD", target: "/head", fields: fields("Host", "", "Accept", "x"), inPython: true, inNode: true},
		{name: "delete", method: "DELETE", target: "/d/1", fields: fields("Host", "", "X-Empty", "", "X-Two", "1", "X-Two", "2"), inPython: true},
		{name: "coded", method: "GET", target: "/c", fields: fields("Host", "", "Accept-Encoding", "gzip, deflate, br, zstd", "Accept", "*/*"), inPython: true, inNode: true},
		{name: "latin", method: "GET", target: "/l", fields: fields("Host", "", "X-Latin", "caf\xe9", "Accept", "*/*"), inPython: true, inNode: true},
		{name: "odd path", method: "GET", target: "/a/../b/./[c]{d}", fields: fields("Host", "")},
		{name: "fragment", method: "GET", target: "/f#gh", fields: fields("Host", "")},
		{name: "asterisk", method: "OPTIONS", target: "*", fields: fields("Host", "")},
		{name: "other host", method: "GET", target: "/h", fields: fields("Host", "other.example:81", "Accept", "*/*"), inPython: true},
		{name: "patch", method: "PATCH", target: "/p", body: "a=1&b=2", fields: fields("Host", "", "Expect", "100-continue"), inPython: true},
		{name: "http2", method: "POST", target: "/two", version: "2", body: `{"é":1}`, fields: fields("content-type", "application/json", "x-api-key", "[REDACTED:anthropic]", "te", "trailers", "cookie", "a=1", "cookie", "b=2"),
			want: fields("content-type", "application/json", "x-api-key", keyText, "te", "trailers", "cookie", "a=1; b=2"), inPython: true},
		{name: "http2 get", method: "GET", target: "/two?x=y", version: "2", fields: fields("accept", "*/*"), inPython: true},
		{name: "http2 binary", method: "POST", target: "/two", version: "2", body: binary, fields: fields("accept", "*/*"), inPython: true},
	}
}

// recorded is the sample as a flow to s.
func (c *sample) recorded(t *testing.T, id int64, s *target) *flow.Exchange {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, _ := strconv.Atoi(u.Port())
	x := plain(id)
	version := c.version
	if version == "" {
		version = "1.1"
	}
	h := &flow.Head{Method: c.method, Target: c.target, Path: c.target, Scheme: u.Scheme, Host: u.Hostname(), Port: port, Version: version}
	for _, f := range c.fields {
		if f.Name == "Host" && f.Value == "" {
			f.Value = u.Host
		}
		h.Fields = append(h.Fields, f)
	}
	x.Request = &flow.Part{Head: h, Body: &flow.Ended{Size: int64(len(c.body))}}
	return x
}

// same compares what arrived with what was recorded. more: fields may have
// been added.
func (c *sample) same(t *testing.T, s *target, got arrived, more bool) {
	t.Helper()
	want := http.Header{"Host": {strings.TrimPrefix(strings.TrimPrefix(s.URL, "http://"), "https://")}}
	list := c.want
	if list == nil {
		list = c.fields
	}
	for _, f := range list {
		switch {
		case f.Name == "Content-Length", f.Name == "Host" && f.Value == "":
		case f.Name == "Host":
			want.Set("Host", f.Value)
		default:
			want.Add(f.Name, f.Value)
		}
	}
	if c := got.header["Cookie"]; len(c) > 1 { // HTTP/2 may cut it
		got.header["Cookie"] = []string{strings.Join(c, "; ")}
	}
	if more {
		for name := range got.header {
			if want[name] == nil {
				delete(got.header, name)
			}
		}
	}
	target, body := c.target, c.body
	if c.wantTarget != "" {
		target = c.wantTarget
	}
	if c.wantBody != "" {
		body = c.wantBody
	}
	if got.method != c.method || got.target != target || !more && c.version != "" && got.version != c.version {
		t.Errorf("%s: %s %s over %s", c.name, got.method, got.target, got.version)
	}
	if got.body != body {
		t.Errorf("%s: a body of %d bytes arrived, want %d: %.60q", c.name, len(got.body), len(body), got.body)
	}
	if !reflect.DeepEqual(got.header, want) {
		t.Errorf("%s: fields %v, want %v", c.name, got.header, want)
	}
}

// replayed writes each sample by itself, runs what was written, and compares.
func replayed(t *testing.T, which func(sample) bool, more bool, writer func(io.Writer) Writer, run func(program string, env []string) *exec.Cmd) {
	t.Helper()
	clear, secure := newTarget(t, false), newTarget(t, true)
	env := append(os.Environ(), append(environment, "CURL_CA_BUNDLE="+secure.ca, "SSL_CERT_FILE="+secure.ca, "NODE_EXTRA_CA_CERTS="+secure.ca)...)
	var all bytes.Buffer
	var w Writer
	src := &memory{bodies: map[int64][2]string{}}
	var chosen []sample
	var targets []*target
	for i, c := range samples() {
		if which != nil && !which(c) {
			continue
		}
		s := clear
		if c.version == "2" {
			s = secure
		}
		if w == nil {
			w = writer(&all)
			w.From(flow.Session{ID: "01KDY"}, src)
		}
		id := int64(i + 1)
		src.bodies[id] = [2]string{c.body, ""}
		if err := w.Flow(c.recorded(t, id, s)); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		chosen, targets = append(chosen, c), append(targets, s)
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(all.String(), "sk-ant") || strings.Contains(all.String(), "[REDACTED") {
		t.Error("a secret or its placeholder is in the program")
	}
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, all.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(file, env).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %.2000s", err, out)
	}
	if n := len(clear.got) + len(secure.got); n != len(chosen) {
		for _, s := range []*target{clear, secure} {
			for _, got := range s.got {
				t.Log(got.method, got.target)
			}
		}
		t.Fatalf("%d requests arrived of %d: %.2000s", n, len(chosen), out)
	}
	for i, c := range chosen {
		got := targets[i].got[0]
		targets[i].got = targets[i].got[1:]
		c.same(t, targets[i], got, more)
	}
}

func tool(t *testing.T, paths ...string) string {
	t.Helper()
	for _, p := range paths {
		if found, err := exec.LookPath(p); err == nil {
			return found
		}
	}
	missing(t, paths[0]+" is not installed")
	return ""
}

func command(env []string, name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Env = env
	return c
}

// TestCurl: what is printed, run by sh, sends what was recorded.
func TestCurl(t *testing.T) {
	tool(t, "curl")
	for _, terminal := range []bool{false, true} {
		replayed(t, nil, false, func(w io.Writer) Writer { return &Curl{W: w, Terminal: terminal} },
			func(file string, env []string) *exec.Cmd { return command(env, tool(t, "sh"), "-e", file) })
	}
}

func TestPython(t *testing.T) {
	replayed(t, func(c sample) bool { return c.inPython }, false, func(w io.Writer) Writer { return &Python{W: w} },
		func(file string, env []string) *exec.Cmd {
			return command(env, tool(t, "/usr/bin/python3", "python3"), file)
		})
}

func TestNode(t *testing.T) {
	replayed(t, func(c sample) bool { return c.inNode }, true, func(w io.Writer) Writer { return &Node{W: w} },
		func(file string, env []string) *exec.Cmd { return command(env, tool(t, "node"), file) })
}
