package e2e

//lint:file-ignore SA1019 only what is deprecated in Go accepts an Upgrade: h2c

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

// A nghttpRun is a client against nghttpd, which can what Go's server cannot,
// or, without TLS, a server that lets itself be upgraded to HTTP/2.
type nghttpRun struct {
	name   string
	needs  string
	secure bool
	flags  []string // of nghttpd
	argv   []string
	rows   []nghttpRow
}

// A nghttpRow is what must be recorded of one exchange: the version of request
// and answer, and the file.
type nghttpRow struct{ path, request, response string }

func nghttpRuns() []nghttpRun {
	secure, clear := "https://"+host, "http://"+host
	return []nghttpRun{
		{"push", "nghttp", true, []string{"--push=/page.html=/style.css,/app.js"}, []string{"nghttp", "-n", "--no-verify-peer", secure + "/page.html"},
			[]nghttpRow{{"/page.html", "2", "2"}, {"/style.css", "2", "2"}, {"/app.js", "2", "2"}}},
		{"push refused", "nghttp", true, []string{"--push=/page.html=/style.css"}, []string{"nghttp", "-n", "--no-push", "--no-verify-peer", secure + "/page.html"},
			[]nghttpRow{{"/page.html", "2", "2"}}},
		{"upgrade", "nghttp", false, nil, []string{"nghttp", "-nu", clear + "/page.html"},
			[]nghttpRow{{"/page.html", "1.1", "2"}}},
		{"upgrade and more", "nghttp", false, nil, []string{"nghttp", "-nu", clear + "/page.html", clear + "/style.css", clear + "/app.js"},
			[]nghttpRow{{"/page.html", "1.1", "2"}, {"/style.css", "2", "2"}, {"/app.js", "2", "2"}}},
		{"curl upgrade", "curl", false, nil, []string{"curl", "-sS", "--http2", clear + "/app.js", "-o", "/dev/null"},
			[]nghttpRow{{"/app.js", "1.1", "2"}}},
		{"trailers and padding", "nghttp", true, []string{"--trailer", "x-sum: none", "--padding=100", "--echo-upload"},
			[]string{"nghttp", "-n", "--no-verify-peer", "--padding=200", "--trailer", "x-sent: yes", "-d", "upload", secure + "/app.js"},
			[]nghttpRow{{"/app.js", "2", "2"}}},
	}
}

// TestNghttp: pushes, Upgrade: h2c, padding and trailers are recorded as what
// they are.
func TestNghttp(t *testing.T) {
	need(t, "nghttpd")
	ca := newAuthority(t, "e2e authority")
	dir := t.TempDir()
	files := map[string][]byte{"/page.html": []byte("<!doctype html>"), "/style.css": prose(rng(1, "css"), 30000), "/app.js": prose(rng(1, "js"), 100000)}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range nghttpRuns() {
		w := both()[i%len(both())]
		t.Run(c.name+"/"+w.String(), func(t *testing.T) {
			need(t, c.needs)
			port, server := "80", ""
			if c.secure {
				port, server = "443", startNghttpd(t, ca, dir, c.flags...)
			} else {
				server = startUpgrading(t, dir)
			}
			j := newJob(t, w)
			upload := "sent " + string(prose(rng(1, "upload"), 50000))
			j.file("upload", upload)
			j.must(j.inspect([]string{"--upstream-ca", j.file("root.pem", ca.pem()), "--connect-to", host + ":" + port + ":127.0.0.1:" + server}, c.argv...), 0)
			rows := map[string]row{}
			for _, r := range j.flows() {
				switch {
				case r.Kind == "dns":
				case r.Request == nil || rows[r.Request.Path].Request != nil:
					t.Errorf("a row too many: %s %+v %+v", r.Kind, r.Conn, r.Error)
				default:
					rows[r.Request.Path] = r
				}
			}
			for _, want := range c.rows {
				file := files[want.path]
				if c.name == "trailers and padding" {
					file = []byte(upload)
				}
				checkNghttp(t, rows[want.path], want, c.secure, file)
				delete(rows, want.path)
			}
			for path := range rows {
				t.Errorf("a row of %s", path)
			}
		})
	}
}

// startUpgrading serves dir in cleartext, over HTTP/2 to whom asks for that by
// an Upgrade.
func startUpgrading(t *testing.T, dir string) (port string) {
	t.Helper()
	h := h2c.NewHandler(http.FileServer(http.Dir(dir)), &http2.Server{})
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	_, port, _ = net.SplitHostPort(s.Listener.Addr().String())
	return port
}

func checkNghttp(t *testing.T, r row, want nghttpRow, secure bool, file []byte) {
	t.Helper()
	if r.Request == nil || r.Response == nil {
		t.Errorf("%s is not in the record, or has no answer: %+v", want.path, r)
		return
	}
	scheme := map[bool]string{true: "https", false: "http"}[secure]
	if r.State != "complete" || r.Error != nil || r.Request.Version != want.request || r.Response.Version != want.response || r.Response.Status != 200 || r.Request.Host != host || r.Request.Scheme != scheme {
		t.Errorf("%s: %s error %+v, HTTP/%s %s://%s, HTTP/%s %d", want.path, r.State, r.Error, r.Request.Version, r.Request.Scheme, r.Request.Host, r.Response.Version, r.Response.Status)
	}
	if r.Response.Size != int64(len(file)) || r.Response.SHA256 != sumOf(file) {
		t.Errorf("%s: %d bytes %s, the file has %d", want.path, r.Response.Size, r.Response.SHA256, len(file))
	}
}
