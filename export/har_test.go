package export

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

// memory is a Source.
type memory struct {
	bodies map[int64][2]string
	pieces map[int64][]flow.Piece
	fail   error
}

func (m *memory) WriteBody(w io.Writer, id int64, side flow.Side) (int64, error) {
	if m.fail != nil {
		return 0, m.fail
	}
	body := m.bodies[id][side]
	for i := 0; i < len(body); i += 7 { // in pieces that cut characters
		if _, err := io.WriteString(w, body[i:min(i+7, len(body))]); err != nil {
			return 0, err
		}
	}
	return int64(len(body)), nil
}

func (m *memory) Pieces(id int64, fn func(flow.Piece) error) error {
	for _, p := range m.pieces[id] {
		if err := fn(p); err != nil {
			return err
		}
	}
	return m.fail
}

const binaryBody = "\xff\x00\x1b[31m\r\n<&>"

// odd returns one exchange of each sort, with ids from 1, and what they hold.
func odd() ([]*flow.Exchange, *memory) {
	m := &memory{bodies: map[int64][2]string{}, pieces: map[int64][]flow.Piece{}}
	stream := call(1)
	stream.Response.Head.Framing = flow.FramingSSE
	m.pieces[1] = []flow.Piece{delta(0, "Hello"), {Index: 1, At: after(550), Side: flow.Server, Data: []byte(": still here\n\n")}, delta(1, "!\u2028\"\\")}
	m.bodies[1] = [2]string{callBody, string(m.pieces[1][0].Data) + string(m.pieces[1][1].Data) + string(m.pieces[1][2].Data)}
	ws := socket(2)
	m.pieces[2] = []flow.Piece{message(0, flow.Client, flow.OpText, `{"type":"hello"}`), message(1, flow.Server, flow.OpBinary, "\x00\xff{}"),
		message(2, flow.Server, flow.OpText, "bro\xff"), message(3, flow.Client, flow.OpPong, "p\xff"), message(4, flow.Server, flow.OpClose, "\x03\xe8bye")}
	h2 := secure(3)
	h2.Request.Head.Method, h2.Request.Head.Path, h2.Request.Head.Target = "PUT", "/a b?q=ü&key=[REDACTED:query]#x", "/a b?q=ü&key=[REDACTED:query]#x"
	h2.Request.Head.Fields = fields("cookie", "a=1; b=[REDACTED:cookie]", "content-type", "application/x-protobuf", "x-latin", "caf\xe9")
	h2.Response.Informational = []*flow.Head{{Status: 103, Version: "2", Fields: fields("link", "</style.css>")}}
	h2.Response.Head.Fields = fields("content-encoding", "gzip", "set-cookie", "a=b; Path=/; Domain=x.example; HttpOnly; Secure; SameSite=Lax; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "set-cookie", "c=[REDACTED:cookie]; expires=never", "location", "/next")
	h2.Response.Body = &flow.Ended{Size: 5, Encoding: "gzip", Decoded: 9, Kept: 9, Trailers: fields("x-end", "1")}
	m.bodies[3] = [2]string{binaryBody, "naïve \u2603\n"}
	failed := plain(4)
	failed.State, failed.Error, failed.Response, failed.RequestEnded = flow.StateFailed, &flow.Error{Where: flow.AtUpstream, Code: flow.CodeReset, Message: "the server reset"}, nil, time.Time{}
	failed.Request.Head.Host, failed.Request.Head.Port, failed.Request.Head.Scheme = "fd00::1", 8080, "http"
	running := plain(5)
	running.State, running.Ended, running.Response, running.Conn.ID = flow.StateOpen, time.Time{}, nil, 0
	running.Ordinal, running.Conn.Connect, running.Conn.SSL = 1, 30*time.Millisecond, 20*time.Millisecond
	grpc := rpc(6)
	m.pieces[6] = []flow.Piece{frame(0, flow.Client, "\x0a\x02hi"), frame(1, flow.Server, "\x0a\x05there")}
	m.bodies[6] = [2]string{string(m.pieces[6][0].Data), string(m.pieces[6][1].Data)}
	cut := plain(7)
	cut.Response.Body = &flow.Ended{Size: 100, Decoded: 100, Kept: 4, Truncated: true}
	cut.Request.Head = &flow.Head{Method: "OPTIONS", Target: "*", Path: "*", Scheme: "http", Host: "a.example", Port: 80, Version: "1.0"}
	m.bodies[7] = [2]string{"", "gone"}
	return []*flow.Exchange{stream, ws, h2, failed, running, grpc, cut}, m
}

func harOf(t *testing.T, xs []*flow.Exchange, src Source) []byte {
	t.Helper()
	var out bytes.Buffer
	h := &HAR{W: &out, Version: "0.1.0"}
	if err := h.From(flow.Session{ID: "01KDY", Name: "demo"}, src); err != nil {
		t.Fatal(err)
	}
	for _, x := range xs {
		if err := h.Flow(x); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.End(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// value follows keys and list positions.
func value(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			list, _ := v.([]any)
			if p >= len(list) {
				return nil
			}
			v = list[p]
		}
	}
	return v
}

func TestHAR(t *testing.T) {
	xs, m := odd()
	text := harOf(t, xs, m)
	entries := checkHAR(t, text)
	if len(entries) != len(xs) {
		t.Fatalf("%d entries of %d flows", len(entries), len(xs))
	}
	importHAR(t, text)
	for _, c := range []struct {
		want any
		path []any
	}{
		{"2026-01-02T03:04:05.000Z", []any{0, "startedDateTime"}},
		{699.9, []any{0, "time"}},
		{"https://api.anthropic.com/v1/messages", []any{0, "request", "url"}},
		{callBody, []any{0, "request", "postData", "text"}},
		{m.bodies[1][1], []any{0, "response", "content", "text"}},
		{nil, []any{0, "response", "content", "encoding"}},
		{"content_block_delta", []any{0, "_eventSourceMessages", 0, "eventName"}},
		{"", []any{0, "_eventSourceMessages", 1, "eventId"}},
		{1767323045.6, []any{0, "_eventSourceMessages", 1, "time"}},
		{nil, []any{0, "_eventSourceMessages", 2}},
		{"203.0.113.7", []any{0, "serverIPAddress"}},
		{"443", []any{0, "connection"}},
		{1.0, []any{0, "_redacted"}},
		{"01KDY/1", []any{0, "_id"}},
		{"websocket", []any{1, "_resourceType"}},
		{101.0, []any{1, "response", "status"}},
		{"send", []any{1, "_webSocketMessages", 0, "type"}},
		{`{"type":"hello"}`, []any{1, "_webSocketMessages", 0, "data"}},
		{"AP97fQ==", []any{1, "_webSocketMessages", 1, "data"}},
		{2.0, []any{1, "_webSocketMessages", 1, "opcode"}},
		{"bro\ufffd", []any{1, "_webSocketMessages", 2, "data"}},
		{"YnJv/w==", []any{1, "_webSocketMessages", 2, "_base64"}},
		{"A+hieWU=", []any{1, "_webSocketMessages", 4, "data"}},
		{"https://api.anthropic.com/a%20b?q=%C3%BC&key=[REDACTED:query]%23x", []any{2, "request", "url"}},
		{"[REDACTED:query]#x", []any{2, "request", "queryString", 1, "value"}},
		{"/a b?q=ü&key=[REDACTED:query]#x", []any{2, "request", "_target"}},
		{"http/2.0", []any{2, "request", "httpVersion"}},
		{"[REDACTED:cookie]", []any{2, "request", "cookies", 1, "value"}},
		{"café", []any{2, "request", "headers", 2, "value"}},
		{base64.StdEncoding.EncodeToString([]byte(binaryBody)), []any{2, "request", "postData", "text"}},
		{"base64", []any{2, "request", "postData", "_encoding"}},
		{"naïve \u2603\n", []any{2, "response", "content", "text"}},
		{9.0, []any{2, "response", "content", "size"}},
		{4.0, []any{2, "response", "content", "compression"}},
		{5.0, []any{2, "response", "bodySize"}},
		{"2026-10-21T07:28:00.000Z", []any{2, "response", "cookies", 0, "expires"}},
		{nil, []any{2, "response", "cookies", 1, "expires"}},
		{"/next", []any{2, "response", "redirectURL"}},
		{103.0, []any{2, "response", "_informational", 0, "status"}},
		{"x-end", []any{2, "response", "_trailers", 0, "name"}},
		{0.0, []any{3, "response", "status"}},
		{"", []any{3, "response", "httpVersion"}},
		{"the server reset", []any{3, "response", "_error"}},
		{"x-unknown", []any{3, "response", "content", "mimeType"}},
		{-1.0, []any{3, "response", "bodySize"}},
		{0.0, []any{3, "response", "_transferSize"}},
		{"http://[fd00::1]:8080/x?y=1", []any{3, "request", "url"}},
		{"reset", []any{3, "_failure", "code"}},
		{"no answer yet", []any{4, "response", "_error"}},
		{"open", []any{4, "_state"}},
		{30.0, []any{4, "timings", "connect"}},
		{20.0, []any{4, "timings", "ssl"}},
		{-1.0, []any{4, "timings", "dns"}},
		{"2026-01-02T03:04:04.970Z", []any{4, "startedDateTime"}},
		{"2026-01-02T03:04:05.000100Z", []any{4, "_started"}},
		{"base64", []any{5, "_streamEvents", 0, "encoding"}},
		{"receive", []any{5, "_streamEvents", 1, "type"}},
		{5.0, []any{5, "response", "_grpc", "status"}},
		{"http://a.example/", []any{6, "request", "url"}},
		{"*", []any{6, "request", "_target"}},
		{4.0, []any{6, "response", "content", "_truncated"}},
		{100.0, []any{6, "response", "content", "size"}},
	} {
		if got := value(entries[c.path[0].(int)], c.path[1:]...); got != c.want {
			t.Errorf("%v = %#v, want %#v", c.path, got, c.want)
		}
	}
}

func TestHAREmpty(t *testing.T) {
	text := harOf(t, nil, &memory{})
	if entries := checkHAR(t, text); len(entries) != 0 {
		t.Errorf("%d entries", len(entries))
	}
	importHAR(t, text)
}

// TestHARNoPlace: what is no HTTP leaves nothing in the file.
func TestHARNoPlace(t *testing.T) {
	var out bytes.Buffer
	h := &HAR{W: &out}
	h.From(flow.Session{}, &memory{})
	before := out.Len()
	if err := h.Flow(&flow.Exchange{ID: 1, Kind: flow.KindDNS, DNS: &flow.DNS{Name: "a"}}); !errors.Is(err, ErrNoPlace) || out.Len() != before {
		t.Errorf("%v, %q", err, out.Bytes()[before:])
	}
}

// TestHARUnreadable: an entry whose body cannot be read stands without it, and
// the file stays whole.
func TestHARUnreadable(t *testing.T) {
	var out bytes.Buffer
	h := &HAR{W: &out}
	h.From(flow.Session{}, &memory{fail: errors.New("chunk 3 is damaged")})
	var body *BodyError
	if err := h.Flow(call(1)); !errors.As(err, &body) || body.ID != 1 {
		t.Errorf("%v", err)
	}
	if err := h.Flow(plain(2)); !errors.As(err, &body) {
		t.Errorf("%v", err)
	}
	h.End()
	if entries := checkHAR(t, out.Bytes()); len(entries) != 2 {
		t.Errorf("%d entries", len(entries))
	}
}

// endless is a Source of one body larger than anybody may hold.
type endless struct{ memory }

func (endless) WriteBody(w io.Writer, _ int64, side flow.Side) (n int64, err error) {
	if side == flow.Client {
		return 0, nil
	}
	p := []byte(strings.Repeat("0123456789abcde\n", 1<<12))
	for range 1 << 10 {
		k, err := w.Write(p)
		if n += int64(k); err != nil {
			return n, err
		}
	}
	return n, nil
}

// TestHARLarge: a body of 64 MB passes without being held.
func TestHARLarge(t *testing.T) {
	var n counter
	h := &HAR{W: &n}
	h.From(flow.Session{}, &endless{})
	if err := h.Flow(plain(1)); err != nil {
		t.Fatal(err)
	}
	if n.total < 64<<20 || n.largest > 1<<20 {
		t.Errorf("%d bytes written, %d at once", n.total, n.largest)
	}
}

type counter struct{ total, largest int }

func (c *counter) Write(p []byte) (int, error) {
	c.total += len(p)
	c.largest = max(c.largest, len(p))
	return len(p), nil
}
