package wire_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"trace/flow"
)

// frame builds a WebSocket frame of side with the first byte b0, its length in
// the shortest form and masked as side must.
func frame(side flow.Side, b0 byte, payload string) string {
	p := []byte{b0, 0}
	switch n := len(payload); {
	case n < 126:
		p[1] = byte(n)
	case n < 1<<16:
		p[1] = 126
		p = binary.BigEndian.AppendUint16(p, uint16(n))
	default:
		p[1] = 127
		p = binary.BigEndian.AppendUint64(p, uint64(n))
	}
	if side == flow.Client {
		p[1] |= 0x80
		key := [4]byte{0x37, 0xfa, 0x21, byte(len(payload))}
		p = append(p, key[:]...)
		return string(p) + masked(payload, key)
	}
	return string(p) + payload
}

func masked(payload string, key [4]byte) string {
	b := []byte(payload)
	for i := range b {
		b[i] ^= key[i%4]
	}
	return string(b)
}

// socket begins a script with the handshake of a WebSocket.
func socket(offer, answer string) *script {
	s := newScript()
	field := func(v string) string {
		if v == "" {
			return ""
		}
		return "Sec-WebSocket-Extensions: " + v + "\r\n"
	}
	s.client("GET /ws HTTP/1.1\r\nHost: h.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" + field(offer) + "\r\n")
	s.server("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" + field(answer) + "\r\n")
	return s
}

func (s *script) frame(side flow.Side, b0 byte, payload string) {
	s.data(side, frame(side, b0, payload))
}

// closing ends a WebSocket as it should end.
func (s *script) closing() {
	s.frame(flow.Client, 0x88, "\x03\xe8bye")
	s.frame(flow.Server, 0x88, "\x03\xe8bye")
	s.end(flow.Server, flow.FIN)
	s.end(flow.Client, flow.FIN)
}

// lines returns a line for each event of the messages of a WebSocket.
func lines(events []flow.Event) []string {
	var list []string
	for _, e := range events {
		switch e.Kind {
		case flow.Message:
			data := fmt.Sprintf("%q", e.Data)
			if len(e.Data) > 100 {
				data = fmt.Sprintf("%d bytes %x", len(e.Data), sha256.Sum256(e.Data))
			}
			line := fmt.Sprintf("%s %d %s", e.Side, e.Opcode, data)
			if e.Size != int64(len(e.Data)) {
				line += fmt.Sprintf(" of %d", e.Size)
			}
			if e.Compressed {
				line += " deflated"
			}
			if !e.HasSum {
				line += " no sum"
			}
			list = append(list, line)
		case flow.Mark:
			list = append(list, fmt.Sprintf("mark %s %s: %s", e.Error.Where, e.Error.Code, e.Error.Message))
		case flow.End:
			if e.Error != nil {
				list = append(list, fmt.Sprintf("end %s %s: %s", e.Error.Where, e.Error.Code, e.Error.Message))
			} else {
				list = append(list, "end")
			}
		case flow.Opaque:
			list = append(list, "opaque "+e.Reason)
		}
	}
	return list
}

const closed = "client 8 \"\\x03\\xe8bye\"\nserver 8 \"\\x03\\xe8bye\"\nend"

// expect plays s whole and in splits and compares with the wanted lines.
func expect(t *testing.T, s *script, want ...string) {
	t.Helper()
	events := s.run(whole)
	check(t, s, events)
	if got, want := strings.Join(lines(events), "\n"), strings.Join(want, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	splits(t, s, show(events))
	if got, want := rawOf(s.run(random(5))), rawOf(events); got != want {
		t.Errorf("raw: got\n%s\nwant\n%s", got, want)
	}
}

// TestWebSocketFrames: what RFC 6455 section 5.7 shows, and the three lengths.
func TestWebSocketFrames(t *testing.T) {
	s := socket("", "")
	s.server("\x81\x05Hello")
	s.client("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")
	s.server("\x01\x03Hel")
	s.server("\x89\x05Hello")
	s.client("\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")
	s.server("\x80\x02lo")
	big := map[int]string{}
	for _, n := range []int{0, 125, 126, 256, 65535, 65536, 200_000} {
		big[n] = string(text(n))
		s.frame(flow.Server, 0x82, big[n])
		s.frame(flow.Client, 0x82, big[n])
	}
	s.closing()
	want := []string{`server 1 "Hello"`, `client 1 "Hello"`, `server 9 "Hello"`, `client 10 "Hello"`, `server 1 "Hello"`,
		`server 2 ""`, `client 2 ""`}
	for _, n := range []int{125, 126, 256, 65535, 65536, 200_000} {
		line := fmt.Sprintf("2 %d bytes %x", n, sha256.Sum256([]byte(big[n])))
		want = append(want, "server "+line, "client "+line)
	}
	expect(t, s, append(want, closed)...)
}

// TestWebSocketHeads: the answer says what the connection speaks from there,
// and the wire form of both directions is the bytes that passed.
func TestWebSocketHeads(t *testing.T) {
	s := socket("", "")
	s.frame(flow.Client, 0x81, "question")
	s.frame(flow.Server, 0x81, "answer")
	s.closing()
	events := s.run(whole)
	var passed, raw [2][]byte
	for _, st := range s.steps {
		passed[st.side] = append(passed[st.side], st.data...)
	}
	for _, e := range events {
		switch {
		case e.Flow != 1:
			t.Errorf("event %s of flow %d", kinds[e.Kind], e.Flow)
		case e.Kind == flow.Response && (e.Head.Protocol != "websocket" || !e.Head.Streaming || e.Head.Framing != ""):
			t.Errorf("head of the answer %+v", e.Head)
		case e.Kind == flow.Raw:
			raw[e.Side] = append(raw[e.Side], e.Data...)
		}
	}
	for side := range passed {
		if !bytes.Equal(passed[side], raw[side]) {
			t.Errorf("%s: %q passed, raw is %q", flow.Side(side), passed[side], raw[side])
		}
	}
}

// TestWebSocketOddities: what departs from the RFC is said, once, and read all
// the same.
func TestWebSocketOddities(t *testing.T) {
	client, server := flow.Client, flow.Server
	for name, c := range map[string]struct {
		send func(s *script)
		want []string
	}{
		"unmasked client": {func(s *script) { s.client("\x81\x02hi\x81\x02ho") },
			[]string{"mark client malformed: a frame of the client is not masked", `client 1 "hi"`, `client 1 "ho"`}},
		"masked server": {func(s *script) { s.server(frame(client, 0x81, "hi") + frame(client, 0x82, "ho")) },
			[]string{"mark upstream malformed: a frame of the server is masked", `server 1 "hi"`, `server 2 "ho"`}},
		"long length": {func(s *script) { s.server("\x81\x7e\x00\x02hi\x81\x7f\x00\x00\x00\x00\x00\x00\x00\x02ho") },
			[]string{"mark upstream malformed: the length of a frame is not written in the shortest way", `server 1 "hi"`, `server 1 "ho"`}},
		"longer length": {func(s *script) { s.server("\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x80" + strings.Repeat("a", 128)) },
			[]string{"mark upstream malformed: the length of a frame is not written in the shortest way", fmt.Sprintf("server 2 128 bytes %x", sha256.Sum256(bytes.Repeat([]byte("a"), 128)))}},
		"reserved bits": {func(s *script) { s.frame(client, 0xc1, "hi"); s.frame(client, 0xa1, "ho") },
			[]string{"mark client malformed: a frame has a reserved bit set that no extension explains", `client 1 "hi"`, `client 1 "ho"`}},
		"reserved opcodes": {func(s *script) {
			s.frame(server, 0x03, "h")
			s.frame(server, 0x80, "i")
			s.frame(server, 0x8b, "ho")
		}, []string{"mark upstream malformed: a frame has a reserved opcode", `server 3 "hi"`, `server 11 "ho"`}},
		"fragmented control": {func(s *script) { s.frame(server, 0x01, "h"); s.frame(server, 0x09, "ping"); s.frame(server, 0x80, "i") },
			[]string{"mark upstream malformed: a control frame is fragmented or longer than 125 bytes", `server 9 "ping"`, `server 1 "hi"`}},
		"long control": {func(s *script) { s.frame(server, 0x8a, strings.Repeat("a", 126)) },
			[]string{"mark upstream malformed: a control frame is fragmented or longer than 125 bytes",
				fmt.Sprintf("server 10 126 bytes %x", sha256.Sum256(bytes.Repeat([]byte("a"), 126)))}},
		"continuation of nothing": {func(s *script) { s.frame(client, 0x00, "h"); s.frame(client, 0x80, "i") },
			[]string{"mark client malformed: a continuation frame continues no message", `client 2 "hi"`}},
		"interleaved": {func(s *script) { s.frame(client, 0x01, "h"); s.frame(client, 0x82, "ho"); s.frame(client, 0x80, "i") },
			[]string{"mark client malformed: a message begins before the one before it is complete", `client 1 "h" no sum`, `client 2 "ho"`,
				"mark client malformed: a continuation frame continues no message", `client 2 "i"`}},
		"not UTF-8": {func(s *script) {
			s.frame(client, 0x81, "ok \u00e9\u20ac\U0001f600")
			s.frame(client, 0x81, "\xe9")
			s.frame(client, 0x82, "\xe9")
			s.frame(client, 0x81, "\xe2\x82")
		}, []string{`client 1 "ok é€😀"`, `client 1 "\xe9"`, "mark client malformed: a text message is not UTF-8", `client 2 "\xe9"`, `client 1 "\xe2\x82"`}},
		"UTF-8 across fragments": {func(s *script) {
			for i, p := range []string{"\xf0", "\x9f", "\x98", "\x80\xe2", "", "\x82\xac\xc3", "\xa9"} {
				b0 := byte(0)
				switch i {
				case 0:
					b0 = 0x01
				case 6:
					b0 = 0x80
				}
				s.frame(client, b0, p)
			}
		}, []string{`client 1 "😀€é"`}},
		"surrogate": {func(s *script) { s.frame(client, 0x01, "a\xed\xa0"); s.frame(client, 0x80, "\x80") },
			[]string{`client 1 "a\xed\xa0\x80"`, "mark client malformed: a text message is not UTF-8"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := socket("", "")
			c.send(s)
			s.closing()
			expect(t, s, append(slices.Clone(c.want), closed)...)
		})
	}
}
