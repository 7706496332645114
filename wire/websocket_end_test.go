package wire_test

import (
	"strings"
	"testing"

	"trace/flow"
)

// TestWebSocketEnds: how a WebSocket ended.
func TestWebSocketEnds(t *testing.T) {
	client, server := flow.Client, flow.Server
	const noClose = "mark client truncated: the client closed the connection without a Close frame"
	both := func(s *script, first flow.Side, how, then flow.How) {
		s.end(first, how)
		s.end(first.Other(), then)
	}
	for name, c := range map[string]struct {
		play func(s *script)
		want []string
	}{
		"no Close": {func(s *script) { both(s, client, flow.FIN, flow.FIN) }, []string{noClose, "end"}},
		"no Close of TLS": {func(s *script) { both(s, server, flow.CloseNotify, flow.FIN) },
			[]string{"mark upstream truncated: the server closed the connection without a Close frame", "end"}},
		"no Close, server's": {func(s *script) { s.frame(server, 0x81, "a"); both(s, server, flow.FIN, flow.FIN) },
			[]string{`server 1 "a"`, "mark upstream truncated: the server closed the connection without a Close frame", "end"}},
		"Close without code": {func(s *script) { s.frame(client, 0x88, ""); both(s, client, flow.FIN, flow.FIN) }, []string{`client 8 ""`, "end"}},
		"Close, then reset":  {func(s *script) { s.frame(server, 0x88, "\x03\xe9"); both(s, client, flow.Reset, flow.Reset) }, []string{`server 8 "\x03\xe9"`, "end"}},
		"Close with an error": {func(s *script) { s.frame(server, 0x88, "\x03\xf3oops"); both(s, client, flow.FIN, flow.FIN) },
			[]string{`server 8 "\x03\xf3oops"`, "end"}},
		"bad Close": {func(s *script) { s.frame(client, 0x88, "\x03"); both(s, client, flow.FIN, flow.FIN) },
			[]string{`client 8 "\x03"`, "mark client malformed: the payload of a Close frame is not valid", "end"}},
		"bad code": {func(s *script) { s.frame(client, 0x88, "\x03\xee"); both(s, client, flow.FIN, flow.FIN) },
			[]string{`client 8 "\x03\xee"`, "mark client malformed: the payload of a Close frame is not valid", "end"}},
		"bad reason": {func(s *script) { s.frame(client, 0x88, "\x03\xe8\xff"); both(s, client, flow.FIN, flow.FIN) },
			[]string{`client 8 "\x03\xe8\xff"`, "mark client malformed: the payload of a Close frame is not valid", "end"}},
		"own code": {func(s *script) { s.frame(client, 0x88, "\x0f\xa0"); both(s, client, flow.FIN, flow.FIN) }, []string{`client 8 "\x0f\xa0"`, "end"}},
		"after Close": {func(s *script) {
			s.frame(client, 0x88, "\x03\xe8")
			s.frame(client, 0x81, "a")
			both(s, client, flow.FIN, flow.FIN)
		}, []string{`client 8 "\x03\xe8"`, "mark client malformed: frames follow the Close frame", `client 1 "a"`, "end"}},
		"reset": {func(s *script) { s.frame(client, 0x81, "a"); both(s, server, flow.Reset, flow.Reset) },
			[]string{`client 1 "a"`, "end upstream reset: the connection was reset by the server before the WebSocket was closed"}},
		"reset in answer to FIN": {func(s *script) { both(s, client, flow.FIN, flow.Reset) },
			[]string{noClose, "end"}},
		"cut by the FIN of the other side": {func(s *script) { s.server("\x81\x05Hel"); both(s, client, flow.FIN, flow.Reset) },
			[]string{`server 1 "Hel" no sum`, "mark client truncated: the server's last message is incomplete",
				"end client truncated: the server's last message is incomplete"}},
		"bytes after the end": {func(s *script) { both(s, client, flow.FIN, flow.FIN); s.client("\x81"); s.frame(server, 0x81, "a") },
			[]string{noClose, "end"}},
		"failed": {func(s *script) { both(s, server, flow.Failed, flow.FIN) },
			[]string{"end upstream truncated: the connection to the server failed before the WebSocket was closed"}},
		"stopped": {func(s *script) { s.frame(client, 0x81, "a") },
			[]string{`client 1 "a"`, "end capture truncated: recording ended before the WebSocket was closed"}},
		"cut fragments": {func(s *script) { s.frame(client, 0x01, "ab"); both(s, client, flow.FIN, flow.FIN) },
			[]string{`client 1 "ab" no sum`, "mark client truncated: the client's last message is incomplete",
				"end client truncated: the client's last message is incomplete"}},
		"cut payload": {func(s *script) { s.server("\x81\x05Hel"); both(s, server, flow.Reset, flow.FIN) },
			[]string{`server 1 "Hel" no sum`, "mark upstream truncated: the server's last message is incomplete",
				"end upstream reset: the connection was reset by the server before the WebSocket was closed"}},
		"cut header": {func(s *script) { s.server("\x81\x7f\x00"); both(s, server, flow.FIN, flow.FIN) },
			[]string{"mark upstream truncated: the server's last message is incomplete", "end upstream truncated: the server's last message is incomplete"}},
		"cut control in a message": {func(s *script) { s.server("\x01\x01a\x89\x04pi"); both(s, server, flow.FIN, flow.FIN) },
			[]string{`server 1 "a" no sum`, `server 9 "pi" no sum`, "mark upstream truncated: the server's last message is incomplete",
				"end upstream truncated: the server's last message is incomplete"}},
		"cut after Close of the other side": {func(s *script) {
			s.frame(client, 0x88, "")
			s.server("\x81\x05Hel")
			both(s, server, flow.FIN, flow.FIN)
		},
			[]string{`client 8 ""`, `server 1 "Hel" no sum`, "mark upstream truncated: the server's last message is incomplete", "end"}},
		"cut by the other side": {func(s *script) { s.server("\x81\x05Hel"); both(s, client, flow.Reset, flow.Reset) },
			[]string{`server 1 "Hel" no sum`, "mark client truncated: the server's last message is incomplete",
				"end client reset: the connection was reset by the client before the WebSocket was closed"}},
		"impossible length": {func(s *script) {
			s.server("\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00abc")
			s.server("def")
			s.frame(client, 0x81, "still read")
			both(s, server, flow.FIN, flow.FIN)
		}, []string{"mark upstream malformed: the length of a WebSocket frame is impossible", `client 1 "still read"`,
			"end upstream malformed: the length of a WebSocket frame is impossible; 6 bytes that follow were not decoded"}},
		"impossible length in a message": {func(s *script) {
			s.frame(client, 0x01, "a")
			s.client("\x80\xff\xff\xff\xff\xff\xff\xff\xff\xffmask")
			both(s, client, flow.Reset, flow.FIN)
		}, []string{"mark client malformed: the length of a WebSocket frame is impossible", `client 1 "a" no sum`,
			"end client malformed: the length of a WebSocket frame is impossible"}},
		"endless length": {func(s *script) {
			s.server("\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xffabc")
			both(s, server, flow.FIN, flow.FIN)
		},
			[]string{`server 2 "abc" no sum`, "mark upstream truncated: the server's last message is incomplete", "end upstream truncated: the server's last message is incomplete"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := socket("", "")
			c.play(s)
			expect(t, s, c.want...)
		})
	}
}

// TestWebSocketHandshakes: which upgrades open a WebSocket, and which bytes
// belong to it.
func TestWebSocketHandshakes(t *testing.T) {
	client, server := flow.Client, flow.Server
	const get, upgrade = "GET / HTTP/1.1\r\nHost: h.test\r\n", "Upgrade: websocket\r\nConnection: Upgrade\r\n"
	const switched = "HTTP/1.1 101 Switching Protocols\r\n"
	for name, c := range map[string]struct {
		play func(s *script)
		want []string
	}{
		"before the answer": {func(s *script) {
			s.client(get + upgrade + "\r\n" + frame(client, 0x81, "early"))
			s.frame(client, 0x01, "ear")
			s.server(switched + upgrade + "\r\n" + frame(server, 0x81, "hi"))
			s.frame(client, 0x80, "ly")
			s.closing()
		}, []string{`client 1 "early"`, `server 1 "hi"`, `client 1 "early"`, closed}},
		"too much before the answer": {func(s *script) {
			s.client(get + upgrade + "\r\n" + strings.Repeat("a", 300<<10))
			s.server(switched + upgrade + "\r\n" + frame(server, 0x81, "hi"))
			s.end(client, flow.FIN)
			s.end(server, flow.FIN)
		}, nil},
		"ended before the answer": {func(s *script) {
			s.client(get + upgrade + "\r\n" + frame(client, 0x81, "early"))
			s.end(client, flow.FIN)
			s.server(switched + upgrade + "\r\n" + frame(server, 0x81, "hi"))
			s.end(server, flow.FIN)
		}, []string{`client 1 "early"`, `server 1 "hi"`, "mark client truncated: the client closed the connection without a Close frame", "end"}},
		"refused": {func(s *script) {
			s.client(get + upgrade + "\r\n")
			s.server("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
			s.client(get + "\r\n")
			s.server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}, []string{"end", "end"}},
		"answer without Upgrade": {func(s *script) {
			s.client(get + "Upgrade: WebSocket\r\n\r\n")
			s.server(switched + "\r\n" + frame(server, 0x81, "hi"))
			s.closing()
		}, []string{`server 1 "hi"`, closed}},
		"wrong key": {func(s *script) {
			s.client(get + upgrade + "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n")
			s.server(switched + upgrade + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n" + frame(server, 0x81, "hi"))
			s.closing()
		}, []string{"mark upstream malformed: Sec-WebSocket-Accept does not answer the client's key", `server 1 "hi"`, closed}},
		"in a tunnel": {func(s *script) {
			s.client("CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n")
			s.server("HTTP/1.1 200 OK\r\n\r\n")
			s.client(get + upgrade + "\r\n")
			s.server(switched + upgrade + "\r\n")
			s.frame(client, 0x81, "hi")
			s.closing()
		}, []string{"end", `client 1 "hi"`, closed}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			c.play(s)
			if c.want != nil {
				expect(t, s, c.want...)
				return
			}
			events := s.run(whole)
			check(t, s, events)
			if got := strings.Join(lines(events), "\n"); !strings.Contains(got, "opaque upgrade:websocket") {
				t.Errorf("got\n%s", got)
			}
			splits(t, s, show(events))
		})
	}
}
