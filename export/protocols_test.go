package export

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

// socket returns a websocket over HTTP/1.1.
func socket(id int64) *flow.Exchange {
	x := call(id)
	x.Kind, x.FirstEvent, x.Redacted = flow.KindWebSocket, time.Time{}, 0
	x.Request.Head.Method, x.Request.Head.Path, x.Request.Head.Target = "GET", "/chat", "/chat"
	x.Request.Head.Fields = fields("Host", "api.anthropic.com", "Upgrade", "websocket")
	x.Request.Body = &flow.Ended{SHA256: sha256.Sum256(nil)}
	x.Response.Head = &flow.Head{Status: 101, Version: "1.1", Streaming: true, Protocol: "websocket", Fields: fields(
		"Upgrade", "websocket", "Sec-WebSocket-Protocol", "chat.v2", "Sec-WebSocket-Extensions", "permessage-deflate; client_no_context_takeover")}
	x.Response.Body = &flow.Ended{SHA256: sha256.Sum256(nil)}
	return x
}

func message(index int, side flow.Side, opcode uint8, data string) flow.Piece {
	return flow.Piece{Index: index, At: after(500 + float64(index)), Side: side, Opcode: opcode, Data: []byte(data), Size: int64(len(data)), SHA256: sha256.Sum256([]byte(data)), HasSum: true}
}

// secure returns an HTTP/2 exchange over TLS, of which all is known.
func secure(id int64) *flow.Exchange {
	x := plain(id)
	x.Conn.Protocol = "http2"
	x.Conn.Child = flow.TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", ALPN: "h2", Offered: []string{"h2", "http/1.1"}, SNI: "api.anthropic.com", ECH: true, JA3: "e7d705a3286e19ea42f587b344ee6865", JA4: "t13d1516h2_8daaf6152771_b186095e22b6"}
	x.Conn.Upstream = flow.TLS{Version: "1.2", Cipher: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", ALPN: "h2", Verdict: "ok"}
	for _, part := range []*flow.Part{x.Request, x.Response} {
		part.Head.Version, part.Head.Stream = "2", 5
	}
	x.Request.Head.Authority = "api.anthropic.com:443"
	x.Request.Head.Fields = fields("accept", "*/*")
	return x
}

// rpc returns a gRPC call that found nothing.
func rpc(id int64) *flow.Exchange {
	x := secure(id)
	x.Request.Head.Method, x.Request.Head.Path, x.Request.Head.Framing, x.Request.Head.Streaming = "POST", "/shop.Shop/Find", flow.FramingGRPC, true
	x.Request.Head.Fields = fields("content-type", "application/grpc", "te", "trailers")
	x.Request.Body = &flow.Ended{Size: 12, Decoded: 12, Events: 1}
	x.Response.Head = &flow.Head{Status: 200, Version: "2", Stream: 5, Framing: flow.FramingGRPC, Streaming: true, Fields: fields("content-type", "application/grpc")}
	x.Response.Body = &flow.Ended{Size: 12, Decoded: 12, Events: 1, Trailers: fields("grpc-status", "5", "grpc-message", "no%20such%20thing")}
	return x
}

// frame is a message of gRPC.
func frame(index int, side flow.Side, message string) flow.Piece {
	return flow.Piece{Index: index, At: after(1 + float64(index)), Side: side, Data: append([]byte{0, 0, 0, 0, byte(len(message))}, message...)}
}

// protocols writes the sessions of testdata/protocols.jsonl.
func protocols(l *JSONL) error {
	x := socket(1)
	l.Opened(x)
	l.Requested(x)
	l.Responded(x)
	deflated := message(0, flow.Client, flow.OpText, `{"type":"hello","n":12345678901234567890}`)
	deflated.Compressed = true
	l.Streamed(x, deflated)
	l.Streamed(x, message(1, flow.Server, flow.OpText, "hi <there>"))
	l.Streamed(x, message(2, flow.Server, flow.OpBinary, "\x00\xff{}"))
	l.Streamed(x, message(3, flow.Server, flow.OpPing, "p1"))
	l.Streamed(x, message(4, flow.Client, flow.OpPong, "p\xff"))
	l.Streamed(x, message(5, flow.Server, flow.OpClose, "\x03\xe8bye"))
	l.Streamed(x, message(6, flow.Client, flow.OpClose, ""))
	l.Done(x)
	g := rpc(3)
	l.Opened(g)
	l.Streamed(g, frame(0, flow.Client, "\x0a\x02hi\x10\x96\x01"))
	l.Requested(g)
	l.Responded(g)
	l.Streamed(g, frame(1, flow.Server, "\x0a\x05there"))
	l.Done(g)
	y := secure(2)
	y.State = flow.StateFailed
	y.Error = &flow.Error{Where: flow.AtUpstream, Code: flow.CodeReset, Message: "the server reset the stream", Detail: "ENHANCE_YOUR_CALM"}
	l.Opened(y)
	return l.Done(y)
}

func TestProtocolsGolden(t *testing.T) { golden(t, "protocols.jsonl", protocols) }

// golden compares the log that f writes with a file of testdata; UPDATE=1
// writes it.
func golden(t *testing.T, name string, f func(l *JSONL) error) {
	t.Helper()
	var out bytes.Buffer
	l := &JSONL{W: &out, Body: bodies}
	l.Meta(flow.Session{ID: "01KDY", Version: "0.1.0", Started: t0})
	if err := f(l); err != nil {
		t.Fatal(err)
	}
	parse(t, out.Bytes())
	name = filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("the log changed; if that is meant, run with UPDATE=1:\n%s", out.Bytes())
	}
}

func TestWebSocketOrder(t *testing.T) {
	broken := func(x *flow.Exchange, where flow.Where, code string) *flow.Exchange {
		x.State, x.Error = flow.StateFailed, &flow.Error{Where: where, Code: code, Message: "m", Detail: "1006"}
		return x
	}
	fin := socket(1)
	fin.Marks = []flow.Note{{At: after(600), Error: &flow.Error{Where: flow.AtUpstream, Code: flow.CodeTruncated, Message: "no Close frame", Detail: "1006"}}}
	refused := socket(1)
	refused.Kind, refused.Response.Head = flow.KindHTTP, plain(1).Response.Head
	for _, c := range []struct {
		name, want string
		close      map[string]any
		do         func(l *JSONL) error
	}{
		{"closed", "request:1 response_headers:1 ws_open:1 ws_message:1 ws_message:1 ws_close:1 stream_end:1", map[string]any{"code": 1001.0, "reason": "going", "by": "client"}, func(l *JSONL) error {
			l.Streamed(socket(1), message(0, flow.Client, flow.OpClose, "\x03\xe9going"))
			l.Streamed(socket(1), message(1, flow.Server, flow.OpClose, "\x03\xe8"))
			return l.Done(socket(1))
		}},
		{"closed without a code", "request:1 response_headers:1 ws_open:1 ws_message:1 ws_close:1 stream_end:1", map[string]any{"code": 1005.0, "reason": "", "by": "server"}, func(l *JSONL) error {
			l.Streamed(socket(1), message(0, flow.Server, flow.OpClose, ""))
			return l.Done(socket(1))
		}},
		{"reset", "request:1 response_headers:1 ws_open:1 error:1 ws_close:1 stream_end:1", map[string]any{"code": 1006.0, "reason": "", "by": "client"}, func(l *JSONL) error {
			return l.Done(broken(socket(1), flow.AtClient, flow.CodeReset))
		}},
		{"ended without a frame", "request:1 response_headers:1 ws_open:1 error:1 ws_close:1 stream_end:1", map[string]any{"code": 1006.0, "by": "server"}, func(l *JSONL) error { return l.Done(fin) }},
		{"killed", "request:1 response_headers:1 ws_open:1 ws_message:1 error:1 stream_end:1", nil, func(l *JSONL) error {
			l.Streamed(socket(1), message(0, flow.Client, flow.OpText, "x"))
			return l.Done(broken(socket(1), flow.AtCapture, flow.CodeTruncated))
		}},
		{"refused", "request:1 response_headers:1 response:1", nil, func(l *JSONL) error { return l.Done(refused) }},
		{"a held message holds those behind it", "request:1 response_headers:1 ws_open:1 ws_message:1 ws_message:1 ws_close:1 stream_end:1", nil, func(l *JSONL) error {
			p := message(0, flow.Client, flow.OpText, "s")
			p.Partial = true
			l.Streamed(socket(1), p)
			l.Streamed(socket(1), message(1, flow.Server, flow.OpText, "b"))
			l.Streamed(socket(1), message(0, flow.Client, flow.OpText, "sk"))
			return l.Done(socket(1))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := script(t, bodies, c.do)
			if got, want := kinds(lines), "meta connection_open "+c.want; got != want {
				t.Fatalf("\ngot  %s\nwant %s", got, want)
			}
			if c.close != nil {
				same(t, find(t, lines, "ws_close"), c.close)
			}
		})
	}
}

func TestMessages(t *testing.T) {
	cut := message(0, flow.Client, flow.OpText, "123")
	cut.Size = 9
	redacted := message(0, flow.Server, flow.OpText, `{"key":"[REDACTED:literal]"}`)
	redacted.HasSum = false
	for name, c := range map[string]struct {
		piece flow.Piece
		want  map[string]any
	}{
		"json":     {message(0, flow.Client, flow.OpText, `{"a":[1]}`), map[string]any{"dir": "c2s", "opcode": 1.0, "kind": "text", "data": map[string]any{"a": []any{1.0}}, "size": 9.0, "encoding": nil, "index": 0.0, "offset_ms": 499.9, "compressed": nil}},
		"text":     {message(0, flow.Server, flow.OpText, "a\nb"), map[string]any{"dir": "s2c", "data": "a\nb"}},
		"empty":    {message(0, flow.Server, flow.OpText, ""), map[string]any{"data": "", "size": 0.0, "encoding": nil}},
		"no utf-8": {message(0, flow.Server, flow.OpText, "a\xff"), map[string]any{"kind": "text", "data": "Yf8=", "encoding": "base64"}},
		"binary":   {message(0, flow.Server, flow.OpBinary, "{}"), map[string]any{"kind": "binary", "data": "e30=", "encoding": "base64"}},
		"cut":      {cut, map[string]any{"data": "123", "size": 9.0, "data_truncated": 3.0}},
		"redacted": {redacted, map[string]any{"data": map[string]any{"key": "[REDACTED:literal]"}, "sha256": nil, "data_truncated": nil}},
		"close":    {message(0, flow.Server, flow.OpClose, "\x0f\xa0why"), map[string]any{"kind": "close", "code": 4000.0, "reason": "why", "data": "D6B3aHk=", "encoding": "base64"}},
		"unknown":  {message(0, flow.Server, 11, "x"), map[string]any{"kind": "11", "opcode": 11.0, "data": "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			lines := script(t, bodies, func(l *JSONL) error { return l.Streamed(socket(1), c.piece) })
			same(t, find(t, lines, "ws_message"), c.want)
		})
	}
}

func TestHTTP2Fields(t *testing.T) {
	lines := script(t, bodies, protocols)
	same(t, find(t, lines, "ws_open"), map[string]any{"subprotocol": "chat.v2", "extensions": "permessage-deflate; client_no_context_takeover"})
	same(t, find(t, lines, "stream_end"), map[string]any{"ws_count": 7.0, "sse_count": 0.0, "complete": true})
	same(t, find(t, lines, "error"), map[string]any{"detail": "ENHANCE_YOUR_CALM", "code": "reset", "where": "upstream", "fatal": true, "flow_id": "01KDY/2"})
	end := find(t, lines, "response")
	same(t, end, map[string]any{"complete": false, "reason": "reset"})
	same(t, end["error"].(map[string]any), map[string]any{"detail": "ENHANCE_YOUR_CALM", "hint": nil})
	for _, l := range lines {
		switch {
		case l["conn_id"] != "2":
		case l["type"] == "request":
			same(t, l, map[string]any{"authority": "api.anthropic.com:443", "host": "api.anthropic.com", "http_version": "2", "stream_id": 5.0})
		case l["type"] == "connection_open":
			same(t, l, map[string]any{"protocol": "http2"})
			same(t, l["tls"].(map[string]any), map[string]any{
				"ja3": "e7d705a3286e19ea42f587b344ee6865", "ja4": "t13d1516h2_8daaf6152771_b186095e22b6", "ech": true, "alpn": "h2", "alpn_offered": []any{"h2", "http/1.1"},
				"upstream": map[string]any{"version": "1.2", "cipher": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "alpn": "h2", "verdict": "ok"},
			})
		}
	}
}

func TestCertificatesAreAskedOnce(t *testing.T) {
	var asked []int64
	l := &JSONL{W: &bytes.Buffer{}, Body: bodies, Certificates: func(id int64) ([][]byte, error) {
		asked = append(asked, id)
		return nil, nil
	}}
	x, y := plain(1), plain(2)
	x.Conn.Upstream.Version = "1.3"
	y.Conn = x.Conn
	l.Opened(x)
	l.Done(y)
	if err := l.Done(x); err != nil || len(asked) != 1 || asked[0] != 1 {
		t.Errorf("asked for %v, %v, want flow 1 once", asked, err)
	}
	l = &JSONL{W: &bytes.Buffer{}, Body: bodies, Certificates: func(int64) ([][]byte, error) { return nil, os.ErrNotExist }}
	x.ID = 7
	if err := l.Done(x); err == nil || !strings.Contains(err.Error(), "certificates of flow 7") {
		t.Errorf("Done = %v", err)
	}
}

func TestEventsOfTheRequestWait(t *testing.T) {
	x := call(1)
	x.Response = nil
	lines := script(t, bodies, func(l *JSONL) error {
		p := delta(0, "a")
		p.Side = flow.Client
		l.Streamed(x, p)
		l.Responded(call(1))
		l.Streamed(call(1), delta(1, "b"))
		return l.Done(call(1))
	})
	if got, want := kinds(lines), "meta connection_open request:1 response_headers:1 sse:1 sse:1 stream_end:1"; got != want {
		t.Errorf("\ngot  %s\nwant %s", got, want)
	}
	same(t, lines[4], map[string]any{"dir": "c2s", "index": 0.0})
	same(t, lines[5], map[string]any{"dir": nil, "index": 1.0})
	var out bytes.Buffer
	l := &JSONL{W: &out, Body: bodies}
	for i := range 12 { // more than may be held
		p := flow.Piece{Index: i, Side: flow.Client, Data: []byte("data: " + strings.Repeat("x", maxHeld/10) + "\n\n")}
		if err := l.Streamed(x, p); err != nil {
			t.Fatal(err)
		}
	}
	if n := bytes.Count(out.Bytes(), []byte(`"type":"sse"`)); n < 10 || !bytes.Contains(out.Bytes(), []byte(`"type":"request"`)) {
		t.Errorf("%d events were written, the rest is held", n)
	}
}

// TestHostileText: what was captured cannot break a line, whatever it holds.
func TestHostileText(t *testing.T) {
	evil := "\x1b[2J\u202e\u2028\n\r\"\\</script>\x00"
	x := socket(1)
	x.Response.Head.Fields = fields("Sec-WebSocket-Protocol", evil)
	lines := script(t, bodies, func(l *JSONL) error {
		l.Streamed(x, message(0, flow.Server, flow.OpText, evil))
		l.Streamed(x, message(1, flow.Server, flow.OpClose, "\x03\xe8"+evil))
		return l.Done(x)
	})
	same(t, find(t, lines, "ws_open"), map[string]any{"subprotocol": evil})
	same(t, find(t, lines, "ws_message"), map[string]any{"data": evil})
	same(t, find(t, lines, "ws_close"), map[string]any{"reason": evil})
	if got := base64.StdEncoding.EncodeToString([]byte("\x03\xe8" + evil)); lines[6]["data"] != got {
		t.Errorf("close frame: %v", lines[6])
	}
}

func TestFramings(t *testing.T) {
	amazon := "\x00\x00\x00\x4a\x00\x00\x00\x2aXXXX" +
		"\x0b:event-type\x07\x00\x05chunk\x0d:message-type\x07\x00\x05event" + `{"a":[1]}` + "    " + "XXXX"
	for _, c := range []struct {
		name, framing, block string
		side                 flow.Side
		want                 map[string]any
	}{
		{"ndjson", flow.FramingNDJSON, "{\"done\":false,\"n\":1}\n", flow.Server, map[string]any{"framing": "ndjson", "event": "message", "data": map[string]any{"done": false, "n": 1.0}, "dir": nil, "raw": nil, "encoding": nil}},
		{"no json", flow.FramingNDJSON, "oops\n", flow.Server, map[string]any{"framing": "ndjson", "data": "oops"}},
		{"no text", flow.FramingNDJSON, "\xff\x00\n", flow.Server, map[string]any{"data": "/wA=", "encoding": "base64", "raw": nil}},
		{"json-array", flow.FramingJSONArray, "{\"a\":1}", flow.Server, map[string]any{"framing": "json-array", "data": map[string]any{"a": 1.0}}},
		{"aws-eventstream", flow.FramingEventStream, amazon, flow.Server, map[string]any{"framing": "aws-eventstream", "event": "chunk", "data": map[string]any{"a": []any{1.0}}, "frame_headers": map[string]any{":event-type": "chunk", ":message-type": "event"}}},
		{"multipart", flow.FramingMultipart, "--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n", flow.Server, map[string]any{"framing": "multipart", "data": "hello", "frame_headers": map[string]any{"content-type": "text/plain"}}},
		{"grpc", flow.FramingGRPC, "\x00\x00\x00\x00\x02\x08\x07", flow.Server, map[string]any{"framing": "grpc", "dir": "s2c", "data": map[string]any{"1": 7.0}, "raw": "AAAAAAIIBw=="}},
		{"grpc json", flow.FramingGRPC, "\x00\x00\x00\x00\x07{\"a\":1}", flow.Client, map[string]any{"framing": "grpc", "dir": "c2s", "data": map[string]any{"a": 1.0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := rpc(1)
			x.Request.Head.Framing, x.Response.Head.Framing = c.framing, c.framing
			lines := script(t, bodies, func(l *JSONL) error {
				return l.Streamed(x, flow.Piece{Side: c.side, At: after(600), Data: []byte(c.block)})
			})
			same(t, find(t, lines, "sse"), c.want)
			same(t, find(t, lines, "response_headers"), map[string]any{"framing": c.framing, "streaming": true})
		})
	}
}

func TestGRPCFields(t *testing.T) {
	lines := script(t, bodies, func(l *JSONL) error { return l.Done(rpc(1)) })
	same(t, find(t, lines, "stream_end"), map[string]any{"grpc_status": 5.0, "grpc_message": "no such thing", "complete": true, "trailers": map[string]any{"grpc-status": "5", "grpc-message": "no%20such%20thing"}})
	x := rpc(1)
	x.Response.Body.Trailers = nil
	same(t, find(t, script(t, bodies, func(l *JSONL) error { return l.Done(x) }), "stream_end"), map[string]any{"grpc_status": nil, "grpc_message": nil})
}

// TestLateHandshake: the handshake of a connection that is read along comes
// after the connection was introduced.
func TestLateHandshake(t *testing.T) {
	hello := flow.TLS{SNI: "h", JA4: "t13"}
	x := &flow.Exchange{
		ID: 3, Kind: flow.KindTCP, State: flow.StateOpen, Ordinal: 1, Started: t0,
		Conn: flow.Conn{ID: 5, Transport: "tcp", Opaque: "bypass", Child: hello},
	}
	var out bytes.Buffer
	l := &JSONL{W: &out, Body: bodies, Certificates: func(id int64) ([][]byte, error) { return [][]byte{{byte(id)}}, nil }}
	l.Meta(flow.Session{ID: "01KDY"})
	l.Opened(x)
	c := x.Conn
	c.Protocol, c.Ended = "postgres", after(9)
	c.Child.Version, c.Upstream = "1.2", flow.TLS{Version: "1.2", Verdict: "ok"}
	if err := l.ConnClosed(&c); err != nil {
		t.Fatal(err)
	}
	lines := parse(t, out.Bytes())
	same(t, find(t, lines, "connection_open"), map[string]any{"protocol": nil, "tls": map[string]any{"sni": "h", "ja4": "t13", "intercepted": false}})
	end := find(t, lines, "connection_close")
	same(t, end, map[string]any{"protocol": "postgres"})
	tls := end["tls"].(map[string]any)
	same(t, tls, map[string]any{"version": "1.2", "ja4": "t13", "upstream": map[string]any{"version": "1.2", "verdict": "ok"}, "cert": nil})
	if chain, _ := tls["chain"].([]any); len(chain) != 1 {
		t.Errorf("chain %v", tls["chain"])
	}
	lines = script(t, bodies, func(l *JSONL) error {
		y := secure(1)
		y.Conn.Ended = after(700)
		return l.Done(y)
	})
	same(t, find(t, lines, "connection_close"), map[string]any{"protocol": nil, "tls": nil})
}
