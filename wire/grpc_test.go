package wire_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"golang.org/x/net/http2"

	"trace/flow"
)

// msg makes a message of gRPC.
func msg(flags byte, payload string) string {
	return string(binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(payload)))) + payload
}

const (
	hello      = "\x0a\x05hello" // field 1
	helloShown = `|{"1":"hello"}`
)

func TestGRPC(t *testing.T) {
	h := newH2()
	h.client(post(1, "/pkg.Greeter/SayHello", "content-type: application/grpc", "te: trailers"), data(1, msg(0, hello)[:3]))
	h.client(data(1, msg(0, hello)[3:]+msg(0, "")), lastData(1, msg(0, hello)))
	h.server(head(1, ":status: 200", "content-type: application/grpc+proto"), data(1, msg(0, hello)+msg(0, hello)))
	h.server(last(1, "grpc-status: 5", "grpc-message: no%20such %zz thing"))
	h.close().expect(t,
		`#1 client Request POST "/pkg.Greeter/SayHello" https://h.test:443/pkg.Greeter/SayHello HTTP/2 stream=1 authority="h.test" streaming "content-type"="application/grpc" "te"="trailers"`,
		`#1 client StreamEvent "\x00\x00\x00\x00\a\n\x05hello"`,
		`#1 client StreamEvent "\x00\x00\x00\x00\x00"`,
		`#1 client StreamEvent "\x00\x00\x00\x00\a\n\x05hello"`,
		`#1 client BodyEnd size=29 events=3`,
		`#1 server Response 200 "" HTTP/2 stream=1 streaming "content-type"="application/grpc+proto"`,
		`#1 server StreamEvent "\x00\x00\x00\x00\a\n\x05hello"`,
		`#1 server StreamEvent "\x00\x00\x00\x00\a\n\x05hello"`,
		`#1 server Mark upstream grpc_status: gRPC status 5 NOT_FOUND: no%20such %zz thing (NOT_FOUND)`,
		`#1 server BodyEnd size=24 events=2 "grpc-status"="5" "grpc-message"="no%20such %zz thing"`,
		`#1 server End`)
}

// TestGRPCTrailersOnly: the only head of an answer tells the status.
func TestGRPCTrailersOnly(t *testing.T) {
	h := newH2()
	h.client(post(1, "/pkg.Greeter/SayHello", "content-type: application/grpc"), lastData(1, msg(0, hello)))
	h.server(last(1, ":status: 200", "content-type: application/grpc", "grpc-status: 12", "grpc-message: not%20here"))
	h.client(post(3, "/pkg.Greeter/SayHello", "content-type: application/grpc"), lastData(3, ""))
	h.server(last(3, ":status: 200", "content-type: application/grpc", "grpc-status: 0"))
	h.client(post(5, "/pkg.Greeter/SayHello", "content-type: application/grpc"), lastData(5, ""))
	h.server(last(5, ":status: 503", "content-type: text/plain"))
	var got []string
	for _, e := range h.close().run(whole) {
		if e.Kind == flow.Mark {
			got = append(got, fmt.Sprintf("%d %s %s: %s", e.Flow, e.Error.Code, e.Error.Detail, e.Error.Message))
		}
		if e.Kind == flow.End && e.Error != nil {
			t.Errorf("flow %d: %v", e.Flow, e.Error)
		}
	}
	if want := []string{"1 grpc_status UNIMPLEMENTED: gRPC status 12 UNIMPLEMENTED: not here"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// grpcCalls returns a connection with calls of each kind.
func grpcCalls() *script {
	packed := msg(1, string(encode("gzip", []byte(hello))))
	h := newH2()
	h.client(post(1, "/S/M", "content-type: application/grpc", "grpc-encoding: gzip"), data(1, packed[:9]), post(3, "/S/N", "content-type: application/grpc"), lastData(3, msg(0, hello)))
	h.server(last(3, ":status: 200", "content-type: application/grpc", "grpc-status: 12"))
	h.server(head(1, ":status: 200", "content-type: application/grpc", "grpc-encoding: gzip"), data(1, packed+msg(0, hello)[:4]))
	h.client(lastData(1, packed[9:]))
	h.server(data(1, msg(0, hello)[4:]), last(1, "grpc-status: 0"))
	h.client(post(5, "/S/O", "content-type: application/grpc"))
	h.server(head(5, ":status: 200", "content-type: application/grpc"), data(5, msg(0, hello)[:7]), reset(5, http2.ErrCodeCancel))
	return h.close().script
}

// pack compresses a message in one of the codings of gRPC.
func pack(coding string, p []byte) []byte {
	switch coding {
	case "snappy":
		var b bytes.Buffer
		w := snappy.NewBufferedWriter(&b)
		if _, err := w.Write(p); err != nil {
			panic(err)
		}
		if err := w.Close(); err != nil {
			panic(err)
		}
		return b.Bytes()
	case "snappy block":
		return snappy.Encode(nil, p)
	}
	return encode(coding, p)
}

// TestGRPCCompressed: compressed messages are handed over as what they say,
// size and hash stay those of the bytes that passed.
func TestGRPCCompressed(t *testing.T) {
	long := string(text(50_000))
	message := "\x0a\xd0\x86\x03" + long
	for _, coding := range []string{"gzip", "deflate", "br", "zstd", "snappy", "snappy block"} {
		name, _, _ := strings.Cut(coding, " ")
		body := msg(1, string(pack(coding, []byte(message)))) + msg(0, hello) + msg(1, "")
		s := streamed("/", "application/grpc", body, "Grpc-Encoding: "+name)
		events := s.run(whole)
		check(t, s, events)
		splits(t, s, show(events))
		got, e, marks := decoded(events, flow.Server)
		if want := msg(0, message) + msg(0, hello) + msg(0, ""); string(got) != want || e.Encoding != "grpc:"+name || e.Decoded != int64(len(want)) ||
			e.Kept != e.Decoded || e.Size != int64(len(body)) || e.Events != 3 || e.Truncated || len(marks) > 0 {
			t.Errorf("%s: %d bytes, %+v, %q", coding, len(got), e, marks)
		}
	}
	// What cannot be undone stays as it is.
	body := msg(1, "abc") + msg(1, "abc") + msg(0, hello)
	for _, coding := range []string{"gzip", "lz4", "identity", ""} {
		s := streamed("/", "application/grpc", body, "Grpc-Encoding: "+coding)
		events := s.run(whole)
		splits(t, s, show(events))
		got, e, marks := decoded(events, flow.Server)
		if string(got) != body || e.Events != 3 || e.Encoding != "" || len(marks) != 1 || !strings.HasPrefix(marks[0], "malformed: a compressed message") {
			t.Errorf("%q: %q, %+v, %q", coding, got, e, marks)
		}
	}
}

func TestGRPCWeb(t *testing.T) {
	trailers := "grpc-status: 7\r\ngrpc-message: no\r\nx-a: b\r\n"
	body := msg(0, hello) + msg(0x80, trailers)
	wants(t, streamed("/", "application/grpc-web+proto", body), helloShown, "."+msg(0x80, trailers), "!grpc_status")
	text := base64.StdEncoding.EncodeToString([]byte(msg(0, hello))) + base64.StdEncoding.EncodeToString([]byte(msg(0x80, trailers)))
	s := streamed("/", "application/grpc-web-text", text[:7]+"\r\n"+text[7:])
	wants(t, s, helloShown, "."+msg(0x80, trailers), "!grpc_status")
	_, e, _ := decoded(s.run(whole), flow.Server)
	if e.Encoding != "base64" || e.Size != int64(len(text)+2) || e.Decoded != int64(len(body)) || fmt.Sprint(e.Trailers) != "[{grpc-status 7} {grpc-message no} {x-a b}]" {
		t.Errorf("%+v", e)
	}
	packed := string(encode("gzip", []byte(trailers)))
	wants(t, streamed("/", "application/grpc-web", msg(0x81, packed), "Grpc-Encoding: gzip"), "."+msg(0x80, trailers), "!grpc_status")
	wants(t, streamed("/", "application/grpc-web-text", text[:16]+"~~~~"+text), helloShown, "!malformed", ".~~~~"+text)
	wants(t, streamed("/", "application/grpc-web-text", text[:18]), helloShown, "."+text[16:18], "!truncated")
	wants(t, streamed("/", "application/grpc-web-text", text[:18]+"\r\n"+text[18:22]), helloShown, ".\x80\x00\x00"+text[20:22], "!truncated")
	wants(t, streamed("/", "application/grpc-web", "", "Grpc-Status: 16"), "!grpc_status")

	// Only the first trailers count, and none without measure.
	s = streamed("/", "application/grpc-web", strings.Repeat(msg(0x80, "grpc-status: 5\r\n"), 3))
	if _, e, _ = decoded(s.run(whole), flow.Server); len(e.Trailers) != 1 {
		t.Errorf("%+v", e)
	}
	s = streamed("/", "application/grpc-web", msg(0x80, strings.Repeat("grpc-status: 5\r\n", 100_000)))
	if _, e, _ = decoded(s.run(whole), flow.Server); len(e.Trailers) != 0 {
		t.Errorf("%d trailers", len(e.Trailers))
	}
}

func TestConnect(t *testing.T) {
	end := `{"error":{"code":"not_found","message":"gone"},"metadata":{"b":["2","3"],"A":["1"]}}`
	s := streamed("/", "application/connect+json", msg(0, `{"text":"hi"}`)+msg(2, end))
	wants(t, s, `|{"text":"hi"}`, "."+msg(2, end), "!grpc_status")
	_, e, marks := decoded(s.run(whole), flow.Server)
	if fmt.Sprint(e.Trailers) != "[{A 1} {b 2} {b 3}]" || marks[0] != "grpc_status: gRPC status 5 NOT_FOUND: gone" {
		t.Errorf("%+v, %q", e, marks)
	}
	packed := string(encode("gzip", []byte(`{"error":{"code":"canceled"}}`)))
	s = streamed("/", "application/connect+proto", msg(1, string(encode("gzip", []byte(hello))))+msg(3, packed), "Connect-Content-Encoding: gzip")
	wants(t, s, helloShown, "."+msg(2, `{"error":{"code":"canceled"}}`), "!grpc_status")
	if _, _, marks := decoded(s.run(whole), flow.Server); marks[0] != "grpc_status: gRPC status 1 CANCELLED" {
		t.Errorf("%q", marks)
	}
	wants(t, streamed("/", "application/connect+proto", msg(0, hello)+msg(2, "{}")), helloShown, "."+msg(2, "{}"))
}

// TestGRPCHostile: lengths and flags that lie, and messages that are bombs.
func TestGRPCHostile(t *testing.T) {
	huge := "\x00\xff\xff\xff\xffabc"
	wants(t, streamed("/", "application/grpc", msg(0, hello)+huge), helloShown, "!limit", "."+huge, "!truncated")
	wants(t, streamed("/", "application/grpc", msg(0, hello)+msg(2, hello)+msg(0, hello)), helloShown, "!malformed", "."+msg(2, hello)+msg(0, hello))
	wants(t, streamed("/", "application/grpc", msg(0, hello)+"\x00\x00"), helloShown, ".\x00\x00", "!truncated")
	one := msg(1, string(bomb(t, "gzip", zeros(64<<20))))
	s := streamed("/", "application/grpc", one, "Grpc-Encoding: gzip")
	got, e, marks := decoded(s.run(whole), flow.Server)
	if string(got) != one || e.Truncated || len(marks) != 1 || !strings.HasPrefix(marks[0], "limit: ") {
		t.Errorf("kept %d, %+v, %q", len(got), e, marks)
	}
	many := strings.Repeat(msg(1, string(bomb(t, "gzip", zeros(16<<20)))), 10)
	s = streamed("/", "application/grpc", many, "Grpc-Encoding: gzip")
	got, e, marks = decoded(s.run(whole), flow.Server)
	if len(got) > 100<<20 || !e.Truncated || e.Kept != int64(len(got)) || len(marks) != 1 || !strings.HasPrefix(marks[0], "limit: the body grows") {
		t.Errorf("kept %d, %+v, %q", len(got), e, marks)
	}
}

// TestGRPCLimit: a limit of the caller's holds for what is handed over.
func TestGRPCLimit(t *testing.T) {
	message := string(bytes.Repeat([]byte("x"), 100))
	body := msg(1, string(encode("gzip", []byte(message)))) + msg(0, message) + msg(0, message)
	s := streamed("/", "application/grpc", body, "Grpc-Encoding: gzip")
	s.limit = func(flow.Side, *flow.Head, *flow.Head) int64 { return 200 }
	events := s.run(whole)
	check(t, s, events)
	splits(t, s, show(events))
	got, e, marks := decoded(events, flow.Server)
	if string(got) != (msg(0, message) + msg(0, message))[:200] || !e.Truncated || e.Kept != 200 || e.Decoded != 315 || e.Events != 1 || len(marks) > 0 {
		t.Errorf("kept %d, %+v, %q", len(got), e, marks)
	}
}
