package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"trace/flow"
	"trace/testcert"
)

const playedHost = "api.example.test"

// A tape makes the flows of a session.
type tape struct {
	t    *testing.T
	all  []*flow.Detail
	at   time.Time
	alpn string
}

func newTape(t *testing.T) *tape {
	return &tape{t: t, at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), alpn: "h2"}
}

// exchange adds a request and its answer.
func (tp *tape) exchange(method, path, body string, status int, answer string, fields ...flow.Field) *flow.Detail {
	tp.at = tp.at.Add(time.Second)
	d := &flow.Detail{RequestBody: []byte(body), ResponseBody: []byte(answer)}
	d.ID, d.Kind, d.State, d.Session = int64(len(tp.all)+1), flow.KindHTTP, flow.StateComplete, "S"
	d.Started, d.RequestEnded, d.Responded, d.Ended = tp.at, tp.at, tp.at, tp.at.Add(time.Millisecond)
	d.Conn = flow.Conn{Host: playedHost, Source: flow.SourceNamespace, Upstream: flow.TLS{ALPN: tp.alpn, Version: "1.3"}}
	d.Request = &flow.Part{Head: &flow.Head{Method: method, Target: path, Path: path, Scheme: "https", Host: playedHost, Port: 443, Version: "2",
		Fields: []flow.Field{{Name: "content-type", Value: "application/json"}}}, Body: &flow.Ended{Size: int64(len(body))}}
	d.Response = &flow.Part{Head: &flow.Head{Status: status, Version: "2", Fields: fields}, Body: &flow.Ended{Size: int64(len(answer))}}
	tp.all = append(tp.all, d)
	return d
}

// play makes a player, and an HTTP client whose every connection is its.
func (tp *tape) play(o PlayOptions) (*Player, *http.Client) {
	tp.t.Helper()
	o.Load = func(id int64) (*flow.Detail, error) {
		c := *tp.all[id-1]
		return &c, nil
	}
	var xs []*flow.Exchange
	for _, d := range tp.all {
		xs = append(xs, &d.Exchange)
	}
	p, err := NewPlayer("S", xs, o)
	if err != nil {
		tp.t.Fatal(err)
	}
	root, leaf, err := testcert.New(playedHost)
	if err != nil {
		tp.t.Fatal(err)
	}
	p.Answer(func(string, *x509.Certificate, bool, *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &leaf, nil
	})
	tr := &http.Transport{DialContext: p.Dial, TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}, ForceAttemptHTTP2: true, DisableCompression: true}
	tr.TLSClientConfig.RootCAs.AppendCertsFromPEM(root)
	tp.t.Cleanup(func() {
		tr.CloseIdleConnections()
		p.Close()
	})
	return p, &http.Client{Transport: tr}
}

// ask returns status and body of an answer.
func ask(t *testing.T, c *http.Client, method, url, body string, fields ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp, string(p)
}

const base = "https://" + playedHost

// TestPlayMatches: once each and in order, what is volatile ignored, the nearest
// else, the last again for GET.
func TestPlayMatches(t *testing.T) {
	tp := newTape(t)
	tp.exchange("POST", "/v1/messages?beta=true&ts=1", `{"model":"a","metadata":{"user_id":"x"},"messages":[{"role":"user","content":"one"}]}`, 200, "first")
	tp.exchange("POST", "/v1/messages?beta=true&ts=2", `{"model":"a","messages":[{"role":"user","content":"two at 2026-01-02 by msg_abcdef01"},{"k":"[REDACTED:anthropic] x"}]}`, 200, "second")
	tp.exchange("POST", "/v1/messages?beta=true", `{"model":"a","messages":[{"role":"user","content":"one"}]}`, 529, "third")
	tp.exchange("GET", "/item?id=1", "", 200, "old")
	tp.exchange("GET", "/item?id=1", "", 200, "new")
	tp.exchange("GET", "/runs/run_12345678/steps", "", 200, "steps")
	p, c := tp.play(PlayOptions{})
	for i, q := range []struct{ method, path, body, want string }{
		{"POST", "/v1/messages?beta=true", `{"messages":[{"role":"user","content":[{"cache_control":{},"t":1}]}],"model":"other"}`, "first"}, // the nearest: nothing is the same, and it is the first
		{"POST", "/v1/messages?ts=9&beta=true", `{"messages":[{"content":"two at 2027-11-12 by msg_99999999","role":"user"},{"k":"sk-ant-live x"}],"model":"a"}`, "second"},
		{"POST", "/v1/messages?beta=true", `{"model":"a","metadata":{"user_id":"y"},"messages":[{"role":"user","content":"one","cache_control":{"type":"ephemeral"}}],"metadata":{"user_id":"z"}}`, "third"},
		{"GET", "/item?id=1", "", "old"}, {"GET", "/item?id=1&_=77", "", "new"}, {"GET", "/item?id=1", "", "new"},
		{"GET", "/runs/run_aaaaaaaa/steps", "", "steps"},
	} {
		_, got := ask(t, c, q.method, base+q.path, q.body)
		if got != q.want {
			t.Errorf("request %d: %q, want %q", i+1, got, q.want)
		}
	}
	if r := p.Report(); r.Answered != 7 || r.Missed != 0 {
		t.Errorf("%+v", r)
	}
}

// TestPlayUnmatched: what is not in the record is a 502 that names the nearest.
func TestPlayUnmatched(t *testing.T) {
	tp := newTape(t)
	tp.exchange("POST", "/v1/messages", `{"model":"a","messages":[{"content":"one"},{"content":"two"}]}`, 200, "first")
	tp.exchange("GET", "/item?id=1", "", 200, "item")
	tp.all[1].Response.Body.Truncated, tp.all[1].Response.Body.Size, tp.all[1].Response.Body.Kept = true, 9, 4
	p, c := tp.play(PlayOptions{Exact: true})
	for _, q := range []struct{ method, url, body, says, nearest, difference string }{
		{"POST", base + "/v1/messages", `{"model":"a","messages":[{"content":"one"},{"content":"three"}]}`, "no recorded request is the same", "S/1", `body messages[1].content is "three", recorded "two"`},
		{"POST", base + "/v1/other", `{}`, "nothing like it", "S/1", "path is /v1/other, recorded /v1/messages"},
		{"PUT", base + "/v1/messages", `{}`, "nothing like it", "S/1", "method is PUT, recorded POST"},
		{"GET", base + "/item?id=2", "", "nothing like it", "S/2", "query id is 2, recorded 1"},
		{"GET", "https://elsewhere.test/item?id=1", "", "nothing like it", "S/2", "host is elsewhere.test"},
		{"GET", base + "/item?id=1", "", "4 of the 9 bytes", "S/2", ""},
	} {
		if strings.Contains(q.url, "elsewhere") {
			c.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true // its leaf is of another name
		}
		resp, got := ask(t, c, q.method, q.url, q.body)
		var fault struct {
			Error struct{ Type, Message, Nearest, Difference string }
		}
		if err := json.Unmarshal([]byte(got), &fault); err != nil || resp.StatusCode != 502 || resp.Header.Get("X-Trace-Play") != "unmatched" || fault.Error.Type != "trace_play_unmatched" ||
			!strings.Contains(fault.Error.Message, q.says) || fault.Error.Nearest != q.nearest || !strings.HasPrefix(fault.Error.Difference, q.difference) {
			t.Errorf("%s %s: %d %v %s", q.method, q.url, resp.StatusCode, err, got)
		}
	}
	if _, got := ask(t, c, "POST", base+"/v1/messages", `{"messages":[{"content":"one"},{"content":"two"}],"model":"a"}`); got != "first" {
		t.Errorf("the same: %s", got)
	}
	if _, got := ask(t, c, "POST", base+"/v1/messages", `{"model":"a","messages":[{"content":"one"},{"content":"two"}]}`); !strings.Contains(got, "were all given already") {
		t.Errorf("once more: %s", got)
	}
	if r := p.Report(); r.Answered != 1 || r.Missed != 7 || len(r.Unmatched) != 7 || !strings.Contains(r.Unmatched[0], "nearest is flow S/1") {
		t.Errorf("%+v", r)
	}
}

// stream makes an event stream whose events come 60 ms apart.
func stream(d *flow.Detail, head string, n int) {
	d.Response.Head.Streaming, d.Response.Head.Framing = true, flow.FramingSSE
	d.ResponseBody = []byte(head)
	for i := range n {
		e := fmt.Sprintf("event: e\ndata: %d\n\n", i)
		d.ResponseBody = append(d.ResponseBody, e...)
		d.Events = append(d.Events, flow.Piece{Index: i, Side: flow.Server, At: d.Responded.Add(time.Duration(i) * 60 * time.Millisecond), Data: []byte(e)})
	}
}

// TestPlayStream: events come when they came, or at once; over HTTP/2 and
// HTTP/1, plain and coded.
func TestPlayStream(t *testing.T) {
	for _, alpn := range []string{"h2", "http/1.1"} {
		for _, coding := range []string{"", "gzip", "br"} {
			for _, fast := range []bool{false, true} {
				tp := newTape(t)
				tp.alpn = alpn
				d := tp.exchange("GET", "/s", "", 200, "", flow.Field{Name: "content-type", Value: "text/event-stream"})
				stream(d, ": hello\n\n", 3)
				if coding != "" {
					d.Response.Head.Fields = append(d.Response.Head.Fields, flow.Field{Name: "content-encoding", Value: coding})
					d.Response.Body.Encoding = coding
				}
				_, c := tp.play(PlayOptions{Fast: fast})
				resp, err := c.Get(base + "/s")
				if err != nil {
					t.Fatal(err)
				}
				var in io.Reader = resp.Body
				if coding != "" {
					if resp.Header.Get("Content-Encoding") != coding {
						t.Errorf("%s: coded %q", coding, resp.Header.Get("Content-Encoding"))
					}
					in = decoding(t, coding, resp.Body)
				}
				var came []time.Time
				var got bytes.Buffer
				lines := bufio.NewReader(in)
				for {
					line, err := lines.ReadString('\n')
					got.WriteString(line)
					if strings.HasPrefix(line, "data:") {
						came = append(came, time.Now())
					}
					if err != nil {
						break
					}
				}
				resp.Body.Close()
				if got.String() != string(d.ResponseBody) || len(came) != 3 {
					t.Fatalf("%s %s: %q", alpn, coding, got.String())
				}
				switch gap := came[2].Sub(came[0]); {
				case !fast && gap < 60*time.Millisecond: // of 100, less what the first was late
					t.Errorf("%s %q: three events within %v", alpn, coding, gap)
				case fast && gap >= 100*time.Millisecond: // as recorded
					t.Errorf("%s %q: fast, and yet %v", alpn, coding, gap)
				}
			}
		}
	}
}

func decoding(t *testing.T, coding string, r io.Reader) io.Reader {
	t.Helper()
	if coding == "br" {
		return brotliReader(r)
	}
	return gzipReader(t, r)
}

// TestPlayHead: over HTTP/1 fields keep order and case, framing fits.
func TestPlayHead(t *testing.T) {
	tp := newTape(t)
	tp.alpn = "http/1.1"
	d := tp.exchange("GET", "/h", "", 404, "body", flow.Field{Name: "zeta", Value: "1"}, flow.Field{Name: "ALPHA", Value: "2"}, flow.Field{Name: "content-LENGTH", Value: "99"}, flow.Field{Name: "zeta", Value: "3"})
	d.Response.Head.Version, d.Response.Head.Reason = "1.1", "Very Gone"
	tp.exchange("HEAD", "/h", "", 200, "", flow.Field{Name: "Content-Length", Value: "99"})
	p, _ := tp.play(PlayOptions{})
	conn, err := p.Dial(t.Context(), "tcp", playedHost+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for _, q := range []struct{ method, want string }{
		{"GET", "HTTP/1.1 404 Very Gone\r\nzeta: 1\r\nALPHA: 2\r\ncontent-LENGTH: 4\r\nzeta: 3\r\n\r\nbody"},
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"},
	} {
		fmt.Fprintf(conn, "%s /h HTTP/1.1\r\nHost: %s\r\n\r\n", q.method, playedHost)
		got := make([]byte, len(q.want))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != q.want {
			t.Errorf("%s: %v %q, want %q", q.method, err, got, q.want)
		}
	}
}

// TestPlayWireForm: a coded answer is given in the bytes in which it came, where
// these were kept.
func TestPlayWireForm(t *testing.T) {
	const plain = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Name = "as nobody here would"
	io.WriteString(z, plain)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	coded := b.Bytes()
	for kept, size := range map[string]int{"all": len(coded), "some": len(coded) + 1} {
		tp := newTape(t)
		d := tp.exchange("GET", "/z", "", 200, plain, flow.Field{Name: "Content-Encoding", Value: "gzip"}, flow.Field{Name: "Content-Length", Value: itoa(len(coded))})
		d.Response.Head.Version, d.Response.Body.Encoding, d.Response.Body.Size = "1.1", "gzip", int64(size)
		d.Response.Informational = []*flow.Head{{Status: 103, Version: "1.1"}}
		wire := append([]byte("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), coded...)
		_, c := tp.play(PlayOptions{Raw: func(int64) ([]byte, error) { return wire, nil }})
		resp, got := ask(t, c, "GET", base+"/z", "")
		if (got == string(coded)) != (kept == "all") || string(DecodeBody("gzip", []byte(got))) != plain || resp.ContentLength != int64(len(got)) {
			t.Errorf("%s kept: %q", kept, got)
		}
	}
}

// TestPlayTrailers: a gRPC answer ends with its trailers.
func TestPlayTrailers(t *testing.T) {
	tp := newTape(t)
	d := tp.exchange("POST", "/pkg.S/M", "", 200, "\x00\x00\x00\x00\x01x", flow.Field{Name: "content-type", Value: "application/grpc"})
	d.Response.Body.Trailers = []flow.Field{{Name: "grpc-status", Value: "0"}}
	_, c := tp.play(PlayOptions{})
	resp, got := ask(t, c, "POST", base+"/pkg.S/M", "")
	if got != string(d.ResponseBody) || resp.Trailer.Get("grpc-status") != "0" || resp.Header.Get("Date") != "" {
		t.Errorf("%q %v %v", got, resp.Trailer, resp.Header)
	}
}

// TestPlayCut: an answer that was cut off is cut off again, and a server that was
// not there is not.
func TestPlayCut(t *testing.T) {
	for _, alpn := range []string{"h2", "http/1.1"} {
		tp := newTape(t)
		tp.alpn = alpn
		d := tp.exchange("GET", "/half", "", 200, "half", flow.Field{Name: "content-length", Value: "10"})
		d.State, d.Error = flow.StateFailed, &flow.Error{Where: flow.AtUpstream, Code: flow.CodeReset}
		none := tp.exchange("GET", "/none", "", 200, "")
		none.Response, none.State, none.Error = nil, flow.StateFailed, d.Error
		gone := &flow.Detail{}
		gone.ID, gone.Kind = 3, flow.KindTCP
		gone.Conn = flow.Conn{Host: "dead.test", Dst: netip.MustParseAddrPort("203.0.113.1:443"), Opaque: "not_connected", Error: &flow.Error{Code: flow.CodeRefused}}
		lost := &flow.Detail{}
		lost.ID, lost.Kind, lost.DNS = 4, flow.KindDNS, &flow.DNS{Name: "nx.test", Rcode: "NXDOMAIN"}
		tp.all = append(tp.all, gone, lost)
		p, c := tp.play(PlayOptions{})
		resp, err := c.Get(base + "/half")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(resp.Body); string(got) != "half" || err == nil {
			t.Errorf("%s: %q %v", alpn, got, err)
		}
		if _, err := c.Get(base + "/none"); err == nil {
			t.Errorf("%s: an answer where there was none", alpn)
		}
		if _, err := p.Dial(t.Context(), "tcp", "dead.test:443"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dead: %v", err)
		}
		if p.Exists("nx.test") || !p.Exists("other.test") || strings.Join(p.Names(), " ") != playedHost+" dead.test" {
			t.Errorf("names: %v", p.Names())
		}
	}
}

// TestPlayConnect: a proxy is played as well.
func TestPlayConnect(t *testing.T) {
	tp := newTape(t)
	tp.exchange("GET", "/x", "", 200, "inside")
	p, c := tp.play(PlayOptions{})
	tr := c.Transport.(*http.Transport).Clone()
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := p.Dial(ctx, network, "proxy.test:3128")
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(conn, "CONNECT %s:443 HTTP/1.1\r\nHost: %[1]s:443\r\n\r\n", playedHost)
		resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "CONNECT"})
		if err != nil || resp.StatusCode != 200 {
			return nil, fmt.Errorf("CONNECT: %v %v", resp, err)
		}
		return conn, nil
	}
	defer tr.CloseIdleConnections()
	if _, got := ask(t, &http.Client{Transport: tr}, "GET", base+"/x", ""); got != "inside" {
		t.Errorf("%q", got)
	}
}

// TestPlayWebSocket: messages follow those of the client as they did, also where
// they were recorded over HTTP/2.
func TestPlayWebSocket(t *testing.T) {
	for _, over2 := range []bool{false, true} {
		playWebSocket(t, over2)
	}
}

func playWebSocket(t *testing.T, over2 bool) {
	tp := newTape(t)
	tp.alpn = "http/1.1"
	d := tp.exchange("GET", "/ws", "", 101, "", flow.Field{Name: "Upgrade", Value: "websocket"}, flow.Field{Name: "Connection", Value: "Upgrade"},
		flow.Field{Name: "Sec-WebSocket-Accept", Value: "old"}, flow.Field{Name: "Sec-WebSocket-Extensions", Value: "permessage-deflate"})
	d.Kind, d.Response.Head.Protocol, d.Response.Head.Version = flow.KindWebSocket, "websocket", "1.1"
	if over2 { // RFC 8441
		d.Request.Head.Method, d.Request.Head.Protocol = "CONNECT", "websocket"
		d.Response.Head.Status, d.Response.Head.Fields = 200, nil
	}
	say := func(side flow.Side, op uint8, text string) {
		d.Messages = append(d.Messages, flow.Piece{Side: side, Opcode: op, Data: []byte(text), At: d.Responded})
	}
	long := strings.Repeat("l", 70000)
	say(flow.Server, flow.OpText, "welcome")
	say(flow.Client, flow.OpText, "q1")
	say(flow.Server, flow.OpText, "a1")
	say(flow.Server, flow.OpBinary, long)
	say(flow.Client, flow.OpText, "q2")
	say(flow.Server, flow.OpText, strings.Repeat("m", 200))
	p, _ := tp.play(PlayOptions{})
	conn, err := p.Dial(t.Context(), "tcp", playedHost+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: "+playedHost+"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || resp.Header.Get("Sec-WebSocket-Extensions") != "" || resp.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("%+v %v", resp, err)
	}
	send := func(op byte, text string) {
		conn.Write(append([]byte{0x80 | op, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...))
	}
	hear := func(op uint8, want string) {
		t.Helper()
		if _, got, p, err := readFrame(r); err != nil || got != op || string(p) != want {
			t.Errorf("heard %d %.20q %v, want %d %.20q", got, p, err, op, want)
		}
	}
	hear(flow.OpText, "welcome")
	send(flow.OpPing, "p")
	hear(flow.OpPong, "p")
	send(flow.OpText, "q1")
	hear(flow.OpText, "a1")
	hear(flow.OpBinary, long)
	send(flow.OpText, "q2")
	hear(flow.OpText, strings.Repeat("m", 200))
	send(flow.OpText, "q3")
	if _, op, p, err := readFrame(r); err != nil || op != flow.OpClose || len(p) < 2 || p[1] != 1011&0xff {
		t.Errorf("beyond the record: %d %q %v", op, p, err)
	}
	if rep := p.Report(); rep.Missed != 1 || rep.Answered != 1 {
		t.Errorf("%+v", rep)
	}
}

// TestNothingToPlay is an error at the start.
func TestNothingToPlay(t *testing.T) {
	if _, err := NewPlayer("S", nil, PlayOptions{}); err == nil || !strings.Contains(err.Error(), "no HTTP answers") {
		t.Errorf("%v", err)
	}
}
