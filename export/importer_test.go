package export

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"trace/flow"
)

// readFlows is what mitmproxy understands of a file.
const readFlows = `import json, sys
from mitmproxy import io
for f in io.FlowReader(open(sys.argv[1], "rb")).stream():
    if f.type != "http":
        continue
    q, r = f.request, f.response
    print(json.dumps({"method": q.method, "sent": (q.get_content(strict=False) or b"").hex(),
        "status": r.status_code if r else 0, "received": (r.get_content(strict=False) or b"").hex() if r else "",
        "messages": len(f.websocket.messages) if f.websocket else 0}))
`

// A readFlow is one line of its output.
type readFlow struct {
	Method, Sent, Received string
	Status, Messages       int
}

// mitmproxy reads a file by the code of mitmproxy itself.
func mitmproxy(t *testing.T, text []byte) (all []readFlow) {
	t.Helper()
	program, err := exec.LookPath("mitmdump")
	if err != nil {
		missing(t, "mitmproxy is not installed")
	}
	if program, err = filepath.Abs(program); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "flows")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(filepath.Dir(program), "python3"), "-c", readFlows, file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		var f readFlow
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		all = append(all, f)
	}
	return all
}

// TestImporter has another program open what is written: each exchange is
// there, with its bodies.
func TestImporter(t *testing.T) {
	xs, src := odd()
	var flows bytes.Buffer
	w := &Mitmproxy{W: &flows}
	if err := w.From(flow.Session{ID: "01KDY", Name: "demo"}, src); err != nil {
		t.Fatal(err)
	}
	for _, x := range xs {
		if err := w.Flow(x); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string][]byte{"har": harOf(t, xs, src), "mitmproxy": flows.Bytes()} {
		got := mitmproxy(t, text)
		if len(got) != len(xs) {
			t.Fatalf("%s: %d flows of %d: %+v", name, len(got), len(xs), got)
		}
		for i, x := range xs {
			f := got[i]
			status := 0
			if x.Response != nil {
				status = x.Response.Head.Status
			}
			if f.Method != x.Request.Head.Method || x.Response != nil && f.Status != status {
				t.Errorf("%s, flow %d: %+v, want %s and %d", name, x.ID, f, x.Request.Head.Method, status)
			}
			if x.Kind == flow.KindWebSocket || x.Response == nil || status == 0 {
				continue
			}
			// HAR has no base64 for the body of a request.
			sent := src.bodies[x.ID][flow.Client]
			text := utf8.ValidString(sent) && !strings.Contains(sent, "\x00")
			if (text || name == "mitmproxy") && f.Sent != hex.EncodeToString([]byte(sent)) {
				t.Errorf("%s, flow %d: sent %s, want %q", name, x.ID, f.Sent, sent)
			}
			if want := hex.EncodeToString([]byte(src.bodies[x.ID][flow.Server])); f.Received != want {
				t.Errorf("%s, flow %d: received %s, want %s", name, x.ID, f.Received, want)
			}
		}
		if name == "mitmproxy" && got[1].Messages == 0 {
			t.Error("the WebSocket has no messages")
		}
	}
}
