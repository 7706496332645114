package wire_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"trace/flow"
	"trace/wire"
)

var update = flag.Bool("update", false, "rewrite the wanted events of testdata")

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// A step is one call on a decoder.
type step struct {
	side flow.Side
	at   time.Duration
	data []byte   // Data
	end  flow.How // End; Open: Data
}

// A script is what happens on one connection.
type script struct {
	conn  flow.Conn
	limit func(side flow.Side, req, resp *flow.Head) int64
	steps []step
	// careful has the record hold no secrets, and so nothing raw.
	careful bool
}

func newScript() *script {
	return &script{conn: flow.Conn{
		ID: 7, Host: "name.test", Decrypted: true,
		Dst: netip.MustParseAddrPort("192.0.2.1:443"),
	}}
}

func (s *script) client(p string) { s.data(flow.Client, p) }
func (s *script) server(p string) { s.data(flow.Server, p) }

func (s *script) data(side flow.Side, p string) {
	s.steps = append(s.steps, step{side: side, at: time.Duration(len(s.steps)) * time.Millisecond, data: []byte(p)})
}

func (s *script) end(side flow.Side, how flow.How) {
	s.steps = append(s.steps, step{side: side, at: time.Duration(len(s.steps)) * time.Millisecond, end: how})
}

// A split says how many of the next n bytes are pushed at once.
type split func(n int) int

func randOf(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func whole(n int) int  { return n }
func bytewise(int) int { return 1 }

func random(seed uint64) split {
	r := rand.New(rand.NewPCG(seed, 1))
	return func(n int) int {
		if r.IntN(4) == 0 {
			return n
		}
		return 1 + r.IntN(min(n, 1<<r.IntN(14)))
	}
}

// run plays s and returns the events with their data copied, neighbouring
// pieces of one body joined.
func (s *script) run(cut split) []flow.Event {
	var r recorder
	conn := s.conn
	d := &wire.Decoder{Conn: &conn, Emit: r.add, Limit: s.limit, Secrets: !s.careful}
	var last time.Duration
	for _, st := range s.steps {
		last = st.at
		if st.end != flow.Open {
			d.End(st.side, epoch.Add(st.at), st.end)
			continue
		}
		for p := st.data; len(p) > 0; {
			n := cut(len(p))
			piece := bytes.Clone(p[:n])
			d.Data(st.side, epoch.Add(st.at), piece)
			clear(piece) // the decoder must not have kept it
			p = p[n:]
		}
	}
	d.Close(epoch.Add(last))
	return r.events
}

// A recorder keeps events, with neighbouring pieces joined.
type recorder struct{ events []flow.Event }

func (r *recorder) add(e flow.Event) {
	e.Data = bytes.Clone(e.Data)
	n := len(r.events)
	for n > 0 && r.events[n-1].Kind == flow.Raw && e.Kind != flow.Raw {
		n-- // the wire form stands between the pieces that it carries
	}
	if n > 0 && (e.Kind == flow.Body || e.Kind == flow.Raw || e.Kind == flow.Message && e.Opcode == 0) {
		p := &r.events[n-1]
		if p.Kind == e.Kind && p.Flow == e.Flow && p.Side == e.Side {
			p.Data = append(p.Data, e.Data...)
			p.Size += e.Size
			return
		}
	}
	r.events = append(r.events, e)
}

// show prints events as they stand in testdata.
func show(events []flow.Event) string {
	var b strings.Builder
	for _, e := range events {
		if e.Kind == flow.Raw {
			continue // rawOf tests them
		}
		fmt.Fprintf(&b, "%dms #%d %s %s", e.At.Sub(epoch).Milliseconds(), e.Flow, e.Side, kinds[e.Kind])
		if h := e.Head; h != nil {
			if h.Method != "" {
				fmt.Fprintf(&b, " %s %q %s://%s:%d%s", h.Method, h.Target, h.Scheme, h.Host, h.Port, h.Path)
			} else {
				fmt.Fprintf(&b, " %d %q", h.Status, h.Reason)
			}
			fmt.Fprintf(&b, " HTTP/%s", h.Version)
			if h.Stream != 0 {
				fmt.Fprintf(&b, " stream=%d", h.Stream)
			}
			if h.Authority != "" {
				fmt.Fprintf(&b, " authority=%q", h.Authority)
			}
			if h.Protocol != "" {
				fmt.Fprintf(&b, " protocol=%q", h.Protocol)
			}
			if h.Streaming {
				b.WriteString(" streaming")
			}
			showFields(&b, h.Fields)
		}
		switch n := len(e.Data); {
		case n > 200:
			fmt.Fprintf(&b, " %q… sha256=%x", e.Data[:20], sha256.Sum256(e.Data))
		case n > 0:
			fmt.Fprintf(&b, " %q", e.Data)
		}
		if e.Kind == flow.Message {
			showMessage(&b, e)
		}
		if x := e.Ended; x != nil {
			fmt.Fprintf(&b, " size=%d sha256=%x decoded=%d kept=%d", x.Size, x.SHA256[:4], x.Decoded, x.Kept)
			if x.Encoding != "" {
				fmt.Fprintf(&b, " encoding=%q", x.Encoding)
			}
			if x.Truncated {
				b.WriteString(" truncated")
			}
			if x.Cut {
				b.WriteString(" cut")
			}
			if x.Events > 0 {
				fmt.Fprintf(&b, " events=%d", x.Events)
			}
			showFields(&b, x.Trailers)
		}
		if e.Reason != "" {
			fmt.Fprintf(&b, " %s", e.Reason)
		}
		if e.Error != nil {
			fmt.Fprintf(&b, " %s %s: %s", e.Error.Where, e.Error.Code, e.Error.Message)
			if e.Error.Detail != "" {
				fmt.Fprintf(&b, " (%s)", e.Error.Detail)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func showMessage(b *strings.Builder, e flow.Event) {
	fmt.Fprintf(b, " size=%d", e.Size)
	if e.Opcode != 0 {
		fmt.Fprintf(b, " opcode=%d", e.Opcode)
	}
	if e.Compressed {
		b.WriteString(" deflated")
	}
	if e.HasSum {
		fmt.Fprintf(b, " sha256=%x", e.SHA256[:4])
	}
}

// rawOf returns what events say of the wire form of each flow.
func rawOf(events []flow.Event) string {
	raw := map[string][]byte{}
	for _, e := range events {
		if e.Kind == flow.Raw {
			key := fmt.Sprintf("#%d %s", e.Flow, e.Side)
			raw[key] = append(raw[key], e.Data...)
		}
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		fmt.Fprintf(&b, "%s %q\n", key, raw[key])
	}
	return b.String()
}

func showFields(b *strings.Builder, fs []flow.Field) {
	for _, f := range fs {
		fmt.Fprintf(b, " %q=%q", f.Name, f.Value)
	}
}

var kinds = map[flow.Kind]string{
	flow.Request: "Request", flow.Response: "Response", flow.Informational: "Informational",
	flow.Body: "Body", flow.StreamEvent: "StreamEvent", flow.BodyEnd: "BodyEnd",
	flow.Opaque: "Opaque", flow.Message: "Message", flow.End: "End", flow.Mark: "Mark",
}

var ends = map[string]flow.How{
	"fin": flow.FIN, "close_notify": flow.CloseNotify, "reset": flow.Reset,
	"failed": flow.Failed, "stopped": flow.Stopped,
}

// parse reads a script: sections "client AT" and "server AT" hold what is sent,
// in Go's escapes and without the line ends of the file; "end SIDE HOW AT" ends
// a side; "conn" holds facts of the connection; "want" the events.
func parse(t testing.TB, a *txtar.Archive) (s *script, want *txtar.File) {
	t.Helper()
	s = newScript()
	for i, f := range a.Files {
		w := strings.Fields(f.Name)
		at := func() time.Duration {
			d, err := time.ParseDuration(w[len(w)-1])
			if err != nil {
				t.Fatalf("section %q: %v", f.Name, err)
			}
			return d
		}
		side := func(word string) flow.Side {
			return map[string]flow.Side{"client": flow.Client, "server": flow.Server}[word]
		}
		switch w[0] {
		case "conn":
			facts(t, &s.conn, string(f.Data))
		case "client", "server":
			text, err := strconv.Unquote(`"` + strings.ReplaceAll(string(f.Data), "\n", "") + `"`)
			if err != nil {
				t.Fatalf("section %q: %v", f.Name, err)
			}
			s.steps = append(s.steps, step{side: side(w[0]), at: at(), data: []byte(text)})
		case "end":
			s.steps = append(s.steps, step{side: side(w[1]), at: at(), end: ends[w[2]]})
		case "want":
			want = &a.Files[i]
		default:
			t.Fatalf("unknown section %q", f.Name)
		}
	}
	return s, want
}

func facts(t testing.TB, c *flow.Conn, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "opaque":
			c.Opaque = value
		case "alpn":
			c.Child.ALPN = value
		case "decrypted":
			c.Decrypted = value == "true"
		case "host":
			c.Host = value
		case "dst":
			c.Dst = netip.MustParseAddrPort(value)
		default:
			t.Fatalf("unknown fact %q", key)
		}
	}
}

// TestScripts plays every script of testdata whole, byte by byte and in random
// splits: the events are the same.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			s, want := parse(t, a)
			events := s.run(whole)
			check(t, s, events)
			got := show(events)
			if *update {
				if want == nil {
					a.Files = append(a.Files, txtar.File{Name: "want"})
					want = &a.Files[len(a.Files)-1]
				}
				want.Data = []byte(got)
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want == nil || got != string(want.Data) {
				t.Errorf("whole: got\n%s", got)
			}
			splits(t, s, got)
		})
	}
}

// splits plays s in other splits and compares.
func splits(t *testing.T, s *script, want string) {
	t.Helper()
	if got := show(s.run(bytewise)); got != want {
		t.Errorf("byte by byte: got\n%s\nwant\n%s", got, want)
	}
	for seed := range uint64(20) {
		if got := show(s.run(random(seed))); got != want {
			t.Fatalf("split %d: got\n%s\nwant\n%s", seed, got, want)
		}
	}
}
