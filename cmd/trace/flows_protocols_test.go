package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

// evil is text that a terminal must not get as it is.
const evil = "\x1b[2J\u202egnp\r\n\x07"

// socketWire is what the child sent to open a websocket, and what it got.
const (
	socketRequest = "GET /chat HTTP/1.1\r\nHost: ws.example\r\nUpgrade: websocket\r\n\r\n"
	socketAnswer  = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
	socketFrames  = "\x81\x02hi\x88\x00"
)

// raw records bytes of the exchange as they were on the wire.
func (on emit) raw(ordinal int64, side flow.Side, data string) {
	on(flow.Raw, ordinal, func(e *flow.Event) { e.Side, e.Data = side, []byte(data) })
}

func (on emit) message(ordinal int64, side flow.Side, opcode uint8, data string) {
	on(flow.Message, ordinal, func(e *flow.Event) {
		e.Side, e.Opcode, e.Data, e.Size = side, opcode, []byte(data), int64(len(data))
		e.SHA256, e.HasSum = sha256.Sum256(e.Data), true
	})
}

// openSocket records the heads of a websocket.
func (on emit) openSocket(ordinal int64) {
	on(flow.Request, ordinal, func(e *flow.Event) {
		e.Head = &flow.Head{Method: "GET", Target: "/chat", Path: "/chat", Scheme: "https", Host: "ws.example", Port: 443, Version: "1.1", Fields: []flow.Field{{Name: "Host", Value: "ws.example"}, {Name: "Upgrade", Value: "websocket"}}}
	})
	on.raw(ordinal, flow.Client, socketRequest)
	on.body(ordinal, flow.Client, "")
	on(flow.Response, ordinal, func(e *flow.Event) {
		e.Side = flow.Server
		e.Head = &flow.Head{Status: 101, Reason: "Switching Protocols", Version: "1.1", Streaming: true, Protocol: "websocket", Fields: []flow.Field{{Name: "Upgrade", Value: "websocket"}, {Name: "Sec-WebSocket-Protocol", Value: "chat" + evil}}}
	})
	on.raw(ordinal, flow.Server, socketAnswer)
	on.body(ordinal, flow.Server, "")
}

// certificate returns a certificate with these names, the same in each run.
func certificate(t *testing.T, subject string, names ...string) []byte {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: subject}, NotBefore: epoch.Truncate(time.Second),
		NotAfter: epoch.Truncate(time.Second).AddDate(0, 0, 90), DNSNames: names, IPAddresses: []net.IP{net.IPv4(203, 0, 113, 7)},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// protocolSession records a flow of each protocol: 1 a websocket, 2 a stream of
// HTTP/2 that was reset, 3 SSH.
func protocolSession(t *testing.T) *script {
	r := scripted(t, "protocols")
	on := emit(r.open("ws.example", 443, nil))
	on.openSocket(1)
	on.message(1, flow.Client, flow.OpText, `{"hello":"`+"\u202e"+`"}`)
	on.message(1, flow.Server, flow.OpBinary, "\x00\xff"+evil)
	on.message(1, flow.Server, flow.OpPing, "p")
	on.message(1, flow.Client, flow.OpPong, "p")
	on.message(1, flow.Server, flow.OpClose, "\x03\xe9going"+evil)
	on.message(1, flow.Client, flow.OpClose, "\x03\xe9")
	on.raw(1, flow.Server, socketFrames)
	on(flow.End, 1, nil)
	on(flow.ConnEnd, 0, nil)
	der := certificate(t, "h2.example", "h2.example", "www.h2.example")
	h2 := emit(r.open("h2.example", 443, func(c *flow.Conn) {
		c.Protocol = "http2"
		c.Child = flow.TLS{Version: "1.3", ALPN: "h2", Offered: []string{"h2", "http/1.1"}, SNI: "h2.example", JA3: "e7d705a3286e19ea42f587b344ee6865", JA4: "t13d1516h2_8daaf6152771_b186095e22b6", ECH: true}
		c.Upstream = flow.TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", ALPN: "h2", Verdict: "ok", Chain: [][]byte{der, []byte("no certificate")}}
	}))
	h2(flow.Request, 1, func(e *flow.Event) {
		e.Head = &flow.Head{Method: "POST", Target: "/up", Path: "/up", Scheme: "https", Host: "h2.example", Port: 443, Authority: "h2.example:443", Version: "2", Stream: 7}
	})
	h2.raw(1, flow.Client, "\x00\x00\x01\x01\x05\x00\x00\x00\x07\x82")
	h2.body(1, flow.Client, strings.Repeat("u", 100)) // more than was kept of its frames
	h2(flow.End, 1, func(e *flow.Event) {
		e.Error = &flow.Error{Where: flow.AtUpstream, Code: flow.CodeReset, Message: "the server reset the stream", Detail: "REFUSED_STREAM"}
	})
	h2(flow.ConnEnd, 0, nil)
	ssh := emit(r.open("ssh.example", 22, func(c *flow.Conn) { c.Decrypted, c.Opaque, c.Protocol, c.Child = false, "not_http", "ssh", flow.TLS{} }))
	ssh(flow.Opaque, 1, func(e *flow.Event) { e.Reason = "not_http" })
	ssh.message(1, flow.Server, 0, "SSH-2.0-server\r\n")
	ssh.message(1, flow.Client, 0, "SSH-2.0-client"+evil)
	ssh(flow.End, 1, nil)
	ssh(flow.ConnEnd, 0, func(e *flow.Event) { e.Facts.Received = 100 })
	r.flush()
	return r
}

func TestShowRaw(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	protocolSession(t)
	frame := "\x00\x00\x01\x01\x05\x00\x00\x00\x07\x82"
	for args, want := range map[string]string{
		"1 --raw": socketRequest + socketAnswer + socketFrames, "1 --raw=request": socketRequest, "1 --raw=response": socketAnswer + socketFrames, "1 --raw=both": socketRequest + socketAnswer + socketFrames,
		"2 --raw": frame, "2 --raw=request": frame, "3 --raw": "SSH-2.0-client" + evil + "SSH-2.0-server\r\n", "3 --raw=response": "SSH-2.0-server\r\n",
	} {
		stdout, stderr, code := runCLI(t, strings.Fields("flows show "+args)...)
		if stdout != want || code != 0 || (stderr != "") != !strings.HasPrefix(args, "1") {
			t.Errorf("flows show %s: %q, exit %d, %s, want %q", args, stdout, code, stderr, want)
		}
	}
	for _, args := range []string{"1 --raw --json", "1 --raw=request --request-body", "1 --raw=both --response-body", "1 --raw=nosuch", "1 --raw request"} {
		if stdout, stderr, code := runCLI(t, strings.Fields("flows show "+args)...); stdout != "" || code != 2 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("flows show %s: %q, exit %d, %s, want exit 2", args, stdout, code, stderr)
		}
	}
}

func TestShowRawOnTerminals(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	protocolSession(t)
	for _, id := range []string{"1", "2", "3"} {
		w, out := screen(80, false)
		var stderr strings.Builder
		if err := (&showOptions{raw: rawBoth}).run(id, w, &stderr); err != nil {
			t.Fatal(err)
		}
		if out.Len() == 0 || strings.ContainsAny(out.String(), "\x1b\u202e\r\x07\x00") {
			t.Errorf("flow %s reached the terminal unescaped: %q", id, out)
		}
	}
}

func TestShowRawOfRedacted(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := recordRedacted(t, "redacted")
	on := emit(r.open("ws.example", 443, nil))
	on.openSocket(1)
	on(flow.End, 1, nil)
	r.s.Append(flow.Event{Kind: flow.Query, Flow: 1, Conn: 99, At: r.at, DNS: &flow.DNS{Name: "a.example", Type: "A", Rcode: "NOERROR"}})
	r.flush()
	stdout, stderr, code := runCLI(t, "flows", "show", "1", "--raw")
	if stdout != "" || code != 1 || !strings.Contains(stderr, "'trace run --inspect --keep-secrets -- redacted -x'") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("redacted: exit %d, %q, %q", code, stdout, stderr)
	}
	if stdout, stderr, code := runCLI(t, "flows", "show", "2", "--raw"); stdout != "" || code != 1 || !strings.Contains(stderr, "DNS") {
		t.Errorf("dns: exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestClipped(t *testing.T) {
	h := &flow.Head{Version: "1.1", Fields: []flow.Field{{Name: "A", Value: "b"}}}
	for _, c := range []struct {
		part flow.Part
		size int64
		want bool
	}{
		{flow.Part{Head: h}, 0, false},
		{flow.Part{Head: h, Body: &flow.Ended{Size: 100}}, 105, false},
		{flow.Part{Head: h, Body: &flow.Ended{Size: 100}}, 104, true},
		{flow.Part{Head: &flow.Head{Version: "2", Fields: h.Fields}, Body: &flow.Ended{Size: 100, Truncated: true}}, 100, false},
		{flow.Part{Head: &flow.Head{Version: "2"}, Body: &flow.Ended{Size: 100}}, 99, true},
	} {
		if got := clipped(&c.part, c.size); got != c.want {
			t.Errorf("%d bytes of %+v: %t", c.size, c.part.Body, got)
		}
	}
}

func TestCommandText(t *testing.T) {
	for want, argv := range map[string][]string{
		"COMMAND": nil, "curl -sS https://a.example/x": {"curl", "-sS", "https://a.example/x"},
		`sh -c 'echo '\''$A'\''; exit' ''`: {"sh", "-c", "echo '$A'; exit", ""}, `'\x1b[2J'`: {"\x1b[2J"},
	} {
		if got := commandText(argv); got != want {
			t.Errorf("%q: %s, want %s", argv, got, want)
		}
	}
}

func TestListProtocols(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	protocolSession(t)
	for args, want := range map[string]string{"--kind websocket": "1", "--kind http": "2", "--kind tcp": "3", "--status 101": "1"} {
		if got := ids(t, strings.Fields(args)...); got != want {
			t.Errorf("flows list %s: %q, want %q", args, got, want)
		}
	}
	table, _, _ := runCLI(t, "flows", "list")
	for _, want := range []string{"101", "websocket", "REFUSED_STREAM", ":22 ssh"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	for filter, want := range map[string]string{
		`map(select(.kind=="websocket")|.response.protocol)`: `["websocket"]` + "\n",
		`.[1].request|[.authority,.stream_id,.http_version]`: `["h2.example:443",7,"2"]` + "\n",
		`.[1].error.detail`:            "\"REFUSED_STREAM\"\n",
		`.[0]|[.bytes,.message_count]`: `[{"received":36,"sent":18},{"received":3,"sent":3}]` + "\n",
	} {
		if got, stderr, _ := runCLI(t, "flows", "list", "--jq", filter); got != want {
			t.Errorf("--jq %s: %q, %s, want %q", filter, got, stderr, want)
		}
	}
}

func TestShowProtocolsJSON(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	protocolSession(t)
	stdout, _, _ := runCLI(t, "flows", "show", "1", "--json")
	var ws struct {
		Messages []struct {
			Dir, Type, SHA256, Reason string
			Opcode, Code, Size        int
			Data                      any
		}
	}
	if err := json.Unmarshal([]byte(stdout), &ws); err != nil || len(ws.Messages) != 6 {
		t.Fatalf("%v: %s", err, stdout)
	}
	if m := ws.Messages[0]; m.Dir != "sent" || m.Opcode != 1 || m.Type != "text" || m.Data.(map[string]any)["hello"] != "\u202e" || m.Size != 15 || len(m.SHA256) != 64 {
		t.Errorf("text: %+v", m)
	}
	if m := ws.Messages[4]; m.Dir != "received" || m.Opcode != 8 || m.Type != "close" || m.Code != 1001 || m.Reason != "going"+evil {
		t.Errorf("close: %+v", m)
	}
	stdout, _, _ = runCLI(t, "flows", "show", "2", "--json")
	var h2 struct {
		Conn struct {
			Child    flow.TLS `json:"child_tls"`
			Upstream struct {
				Certificates [][]byte
				Chain        []flow.Certificate
			} `json:"upstream_tls"`
		}
	}
	if err := json.Unmarshal([]byte(stdout), &h2); err != nil || len(h2.Conn.Upstream.Chain) != 2 || len(h2.Conn.Upstream.Certificates) != 2 {
		t.Fatalf("%v: %s", err, stdout)
	}
	if c := h2.Conn.Upstream.Chain[0]; c.Subject != "CN=h2.example" || c.NotAfter != "2026-04-02T03:04:05.000000Z" || len(c.DNSNames) != 2 {
		t.Errorf("leaf: %+v", c)
	}
	if h2.Conn.Child.JA4 == "" || !h2.Conn.Child.ECH || h2.Conn.Upstream.Chain[1].Error == "" {
		t.Errorf("%+v", h2.Conn)
	}
}

func TestTailOfProtocols(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	protocolSession(t).finish()
	if stdout, _, code := runCLI(t, "flows", "tail", "1", "--json"); code != 0 || types(t, stdout) != "meta request:1 response_headers:1 ws_open:1 ws_message:1 ws_message:1 ws_message:1 ws_message:1 ws_message:1 ws_message:1 ws_close:1 stream_end:1" {
		t.Errorf("tail 1 --json: exit %d, %s", code, types(t, stdout))
	}
	stdout, _, _ := runCLI(t, "flows", "tail", "2", "--json")
	if types(t, stdout) != "meta request:2 error:2 response:2" || !strings.Contains(stdout, `"cert":{"subject":"CN=h2.example"`) || !strings.Contains(stdout, `"detail":"REFUSED_STREAM"`) {
		t.Errorf("tail 2 --json: %s\n%s", types(t, stdout), stdout)
	}
	for id, wants := range map[string][]string{
		"1": {"> GET ws.example/chat\n", "< 101 Switching Protocols +", `sent     text       15  {"hello":"\u202e"}`, "received ping        1  p\n", `received close      20  1001 going\x1b[2J`, "3 messages sent (18 bytes), 3 received (36 bytes)\n"},
		"2": {"REFUSED_STREAM"}, "3": {`received     16  SSH-2.0-server\r\n`},
	} {
		stdout, _, code := runCLI(t, "flows", "tail", id)
		for _, want := range wants {
			if code != 0 || !strings.Contains(stdout, want) {
				t.Errorf("tail %s: exit %d, no %q in\n%s", id, code, want, stdout)
			}
		}
	}
}

func TestShowProtocols(t *testing.T) {
	inUTC(t)
	ws := sampleFlow(1, "GET", "ws.example", "/chat", 101)
	ws.Kind, ws.Response.Head.Reason, ws.Response.Head.Protocol = flow.KindWebSocket, "Switching Protocols", "websocket"
	ws.Response.Head.Fields = []flow.Field{{Name: "Sec-WebSocket-Protocol", Value: "chat" + evil}, {Name: "Sec-WebSocket-Extensions", Value: "permessage-deflate"}}
	ws.Response.Body = &flow.Ended{}
	socket := &flow.Detail{Exchange: *ws}
	for i, m := range []struct {
		side   flow.Side
		opcode uint8
		data   string
	}{
		{flow.Client, flow.OpText, `{"a":1}` + evil}, {flow.Server, flow.OpBinary, "\x00\xff\x1b"}, {flow.Server, flow.OpPing, ""}, {flow.Client, flow.OpPong, "p"},
		{flow.Server, flow.OpText, "cut"}, {flow.Server, flow.OpClose, "\x03\xe8bye" + evil}, {flow.Client, flow.OpClose, ""},
	} {
		socket.Messages = append(socket.Messages, flow.Piece{Index: i, At: later(410 + float64(i)), Side: m.side, Opcode: m.opcode, Data: []byte(m.data), Size: int64(len(m.data)), HasSum: true})
	}
	socket.Messages[4].Size = 1 << 20
	h2 := sampleFlow(2, "POST", "h2.example", "/up", 0)
	h2.State = flow.StateFailed
	h2.Request.Head.Version, h2.Request.Head.Stream, h2.Request.Head.Authority = "2", 7, "h2.example:443"
	h2.Error = &flow.Error{Where: flow.AtUpstream, Code: flow.CodeReset, Message: "the server reset the stream", Detail: "REFUSED_STREAM", Hint: "try again"}
	h2.Conn.Child = flow.TLS{Version: "1.3", ALPN: "h2", Offered: []string{"h2", "http/1.1"}, SNI: "h2.example", JA3: "e7d705a3286e19ea42f587b344ee6865", JA4: "t13d1516h2_8daaf6152771_b186095e22b6", ECH: true, Resumed: true}
	names := make([]string, maxNames+3)
	for i := range names {
		names[i] = strings.Repeat("n", i+1) + ".example"
	}
	h2.Conn.Upstream.Chain = [][]byte{certificate(t, "evil"+evil, names...), []byte("no certificate")}
	for name, d := range map[string]*flow.Detail{"websocket": socket, "h2": {Exchange: *h2}} {
		for mode, width := range map[string]int{"tty": 80, "piped": 0} {
			t.Run(name+"-"+mode, func(t *testing.T) {
				w, out := screen(width, false)
				if err := writeDetail(w, d); err != nil {
					t.Fatal(err)
				}
				golden(t, "show-"+name+"-"+mode, out.String())
				if width > 0 && strings.ContainsAny(out.String(), "\x1b\u202e\r\x07\x00") {
					t.Error("captured text reached the terminal unescaped")
				}
			})
		}
	}
}
