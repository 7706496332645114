package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// page fetches something by script once it is loaded, and shows it.
const page = `<!doctype html><title>e2e</title><p id=out>waiting</p>
<script>fetch("/bytes/50000").then(r=>r.arrayBuffer()).then(b=>{document.getElementById("out").textContent="fetched "+b.byteLength})</script>`

// TestChromium loads a page in a headless Chromium, as an ordinary user with
// the browser's own sandbox, after this run's authority was added to its NSS
// database.
func TestChromium(t *testing.T) {
	need(t, "chromium", "certutil")
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/page" {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, page)
			return
		}
		content(w, r)
	})
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			root := j.file("root.pem", ca.pem())
			sandbox := ""
			if w.root {
				sandbox = "--no-sandbox" // Chromium wants it of root
			}
			script := fmt.Sprintf(`mkdir -p "$HOME/.pki/nssdb" && certutil -d sql:"$HOME/.pki/nssdb" -N --empty-password && %s ca nss "$HOME/.pki/nssdb" >&2 &&
exec chromium --headless %s --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync \
 --user-data-dir=%q --virtual-time-budget=8000 --dump-dom https://%s/page`, traceBin, sandbox, filepath.Join(j.home, "profile"), host)
			r := j.must(j.inspect([]string{"--upstream-ca", root, "--connect-to", host + ":443:127.0.0.1:" + o.port}, "sh", "-c", script), 0)
			if !strings.Contains(r.stdout, "fetched 50000") {
				t.Errorf("the page: %.1000s\n%.3000s", r.stdout, r.stderr)
			}
			found := 0
			for _, row := range j.flows("--kind", "http", "--host", host) {
				if row.Conn.Decrypted && row.Response != nil && row.Response.Status == 200 && row.Process != nil {
					found++
				}
			}
			if found < 2 {
				t.Errorf("%d of the page's requests are in the record", found)
			}
		})
	}
}
