package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// page fetches, listens to an event stream and talks to a WebSocket once it is
// loaded, and shows what came of it. The image keeps it loading until then, for
// that is when Chromium dumps it.
const page = `<!doctype html><title>e2e</title><p id=out>waiting</p><img src="/hold">
<script>(async()=>{
const n=(await (await fetch("/bytes/50000")).arrayBuffer()).byteLength;
const many=(await Promise.all([1,2,3,4,5,6].map(i=>fetch("/bytes/"+i*1000).then(r=>r.arrayBuffer())))).length;
const ticks=await new Promise((ok,no)=>{let k=0;const s=new EventSource("/sse/12");s.addEventListener("tick",e=>{if(++k==12){s.close();ok(k)}});s.onerror=no});
const said=await new Promise((ok,no)=>{const w=new WebSocket("wss://"+location.host+"/ws");let k=0;w.onopen=()=>{w.send("hello");w.send("river stone ".repeat(20000))};
w.onmessage=e=>{k+=e.data.length;if(k==240005)w.close(1000,"done")};w.onclose=e=>ok(k+" "+e.code);w.onerror=no});
return ["fetched",n,many,ticks,said].join(" ")})().catch(String).then(s=>{document.getElementById("out").textContent=s;fetch("/done")})</script>`

// TestChromium loads a page in a headless Chromium, as an ordinary user with
// the browser's own sandbox, after this run's authority was added to its NSS
// database. The page speaks HTTP/2, server-sent events and a WebSocket.
func TestChromium(t *testing.T) {
	need(t, "chromium", "certutil")
	ca := newAuthority(t, "e2e authority")
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			o, _ := serveModern(t, ca, false)
			j := newJob(t, w)
			root := j.file("root.pem", ca.pem())
			sandbox := ""
			if w.root {
				sandbox = "--no-sandbox" // Chromium wants it of root
			}
			script := fmt.Sprintf(`mkdir -p "$HOME/.pki/nssdb" && certutil -d sql:"$HOME/.pki/nssdb" -N --empty-password && %s ca nss "$HOME/.pki/nssdb" >&2 &&
exec chromium --headless %s --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync \
 --user-data-dir=%q --dump-dom https://%s/page`, traceBin, sandbox, filepath.Join(j.home, "profile"), host)
			r := j.must(j.inspect([]string{"--upstream-ca", root, "--connect-to", host + ":443:127.0.0.1:" + o.port}, "sh", "-c", script), 0)
			if !strings.Contains(r.stdout, "fetched 50000 6 12 240005 1000") {
				t.Errorf("the page: %.1000s\n%.3000s", r.stdout, r.stderr)
			}
			checkPage(t, j, o)
		})
	}
}

// checkPage wants all that the page asked for in the record as the server saw
// it. Chromium may close the event stream before the server has ended it.
func checkPage(t *testing.T, j *job, o *origin) {
	t.Helper()
	rows := map[string]row{}
	for _, r := range j.flows("--host", host) {
		if r.Request != nil {
			rows[r.Request.Path] = r
		}
	}
	for _, path := range []string{"/page", "/bytes/50000", "/bytes/1000", "/bytes/6000", "/sse/12", "/ws"} {
		r, found := rows[path]
		var e *entry
		for _, x := range o.settled(10) {
			if x.path == path {
				e = &x
			}
		}
		switch {
		case !found || e == nil:
			t.Errorf("%s: in the record: %v, served: %v", path, found, e != nil)
		case path == "/sse/12":
			if r.Response == nil || r.Response.Events != 12 || r.Request.Version != "2" {
				t.Errorf("%s: %+v", path, r.Response)
			}
		default:
			checkModernRow(t, j, r, *e)
		}
	}
}

// servePage is content with the page; /hold is answered after /done was.
func servePage() http.HandlerFunc {
	done := make(chan struct{})
	once := sync.OnceFunc(func() { close(done) })
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/page":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, page)
		case "/done":
			once()
		case "/hold":
			select {
			case <-done:
			case <-r.Context().Done():
			}
		default:
			content(w, r)
		}
	}
}
