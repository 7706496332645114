package wire_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"trace/flow"
)

// said returns what the events of the server's body say: per StreamEvent its
// name and data, and behind a dot what stood between.
func said(events []flow.Event) (parts []string) {
	framing := ""
	for _, e := range events {
		switch {
		case e.Kind == flow.Response:
			framing = e.Head.Framing
		case e.Side != flow.Server:
		case e.Kind == flow.StreamEvent:
			x := flow.ParseEvent(framing, e.Data)
			parts = append(parts, x.Event+"|"+x.Data)
		case e.Kind == flow.Body:
			parts = append(parts, "."+string(e.Data))
		case e.Kind == flow.Mark:
			parts = append(parts, "!"+e.Error.Code)
		}
	}
	return parts
}

// streamed makes the script of an answer of a media type to a request of path.
func streamed(path, contentType, body string, fields ...string) *script {
	s := newScript()
	s.client("GET " + path + " HTTP/1.1\r\nHost: h.test\r\n\r\n")
	s.server("HTTP/1.1 200 OK\r\nContent-Type: " + contentType + "\r\n" + strings.Join(append(fields, ""), "\r\n") + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)))
	s.server(body)
	s.end(flow.Server, flow.FIN)
	s.end(flow.Client, flow.FIN)
	return s
}

// wants runs s in several splits and compares what its events say.
func wants(t *testing.T, s *script, want ...string) {
	t.Helper()
	events := s.run(whole)
	if got := said(events); !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	check(t, s, events)
	splits(t, s, show(events))
}

// message makes a message of an AWS event stream of headers, in pairs, and a payload.
func message(payload string, headers ...string) string {
	var h []byte
	for i := 0; i < len(headers); i += 2 {
		h = append(append(h, byte(len(headers[i]))), headers[i]...)
		h = binary.BigEndian.AppendUint16(append(h, 7), uint16(len(headers[i+1])))
		h = append(h, headers[i+1]...)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(16+len(h)+len(payload)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(h)))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	b = append(append(b, h...), payload...)
	return string(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)))
}

// bedrock makes a message of Bedrock's stream with one event inside.
func bedrock(event string) string {
	return message(`{"bytes":"`+base64.StdEncoding.EncodeToString([]byte(event))+`","p":"abcd"}`,
		":event-type", "chunk", ":content-type", "application/json", ":message-type", "event")
}

// forever begins a message of an AWS event stream of 4 GiB.
func forever() string {
	b := append(binary.BigEndian.AppendUint32(nil, 4<<30-1), 0, 0, 0, 1)
	return string(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)))
}

func TestNDJSON(t *testing.T) {
	for _, c := range []struct {
		body string
		want []string
	}{
		{"", nil},
		{"{\"a\":1}\n{\"b\":2}\r\n", []string{`|{"a":1}`, `|{"b":2}`}},
		{"\n \n{\"a\":\"\\n\\\"}{\"}\n\r\n[1]", []string{".\n \n", `|{"a":"\n\"}{"}`, ".\r\n", "|[1]"}},
		{`{"a":{}}{"b":[2]}  {"c":3}` + "\n1\n", []string{`|{"a":{}}`, `|{"b":[2]}`, `|{"c":3}`, "|1"}},
		{"\x1e{\"a\":\n1}\n\x1e\x1e[1,\n\x1e2\n", []string{"|{\"a\":\n1}", ".\x1e", "|[1,", "|2"}},
		{"no json {\n\"\n}{\n", []string{"|no json {", `|"`, "|}{"}},
		{"\xff\xfe\n", []string{"|//4="}},
	} {
		wants(t, streamed("/", "application/x-ndjson; charset=utf-8", c.body), c.want...)
	}
}

func TestJSONArray(t *testing.T) {
	const path = "/v1beta/models/m:streamGenerateContent?key=x"
	for _, c := range []struct {
		body string
		want []string
	}{
		{"", nil},
		{"[]", []string{".[]"}},
		{"[{\n  \"a\": \"]\\\"\"\n}\n,\r\n{\"b\":[{}]}\n]\n", []string{".[", "|{\n  \"a\": \"]\\\"\"\n}", ".\n,\r\n", `|{"b":[{}]}`, ".\n]\n"}},
		{"\ufeff [1,true,\"a,b\",null ]x", []string{".\ufeff [", "|1", ".,", "|true", ".,", `|"a,b"`, ".,", "|null", ". ]x"}},
		{"{\"error\":{\"code\":400}}", []string{`.{"error":{"code":400}}`}},
		{"[{\"a\":1},{\"b\":", []string{".[", `|{"a":1}`, `.,{"b":`, "!truncated"}},
		{"[1 } 2]", []string{".[", "|1", ". ", "!malformed", ".} 2]"}},
	} {
		wants(t, streamed(path, "application/json; charset=UTF-8", c.body), c.want...)
	}
}

func TestEventStream(t *testing.T) {
	stop := bedrock(`{"type":"message_stop"}`)
	if reference := "\x00\x00\x00\x92\x00\x00\x00\x4b\x2f\xea\x33\x01"; stop[:12] != reference || stop[142:] != "\x42\xb7\x24\x80" {
		t.Fatalf("%x is not the message of the reference", stop)
	}
	exception := message(`{"message":"slow down"}`, ":exception-type", "throttlingException", ":content-type", "application/json", ":message-type", "exception")
	other := message("", ":event-type", "metadata", ":message-type", "event")
	broken := []byte(stop)
	broken[100] ^= 1
	header := []byte(stop)
	header[3] ^= 1
	huge := forever()
	zero := "\x00\x00\x00\x00\x00\x00\x00\x00" + string(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(make([]byte, 8))))
	const m = "application/vnd.amazon.eventstream"
	wants(t, streamed("/", m, ""))
	wants(t, streamed("/", m, stop+exception+other), `message_stop|{"type":"message_stop"}`, `throttlingException|{"message":"slow down"}`, "metadata|")
	wants(t, streamed("/", m, stop+string(broken)+stop), `message_stop|{"type":"message_stop"}`, "!malformed", "."+string(broken)+stop)
	wants(t, streamed("/", m, string(header)+stop), "!malformed", "."+string(header)+stop)
	wants(t, streamed("/", m, zero+stop), "!malformed", "."+zero+stop)
	wants(t, streamed("/", m, huge+"abc"), "."+huge+"abc", "!truncated")
	both := newScript()
	both.client("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Type: " + m + "\r\nContent-Length: 146\r\n\r\n" + stop)
	if got := summary(both.run(whole)); got != "1Request 1StreamEvent 1BodyEnd 1End:truncated" {
		t.Error(got)
	}
	wants(t, streamed("/", m, stop+stop[:50]), `message_stop|{"type":"message_stop"}`, "."+stop[:50], "!truncated")
}

func TestMultipart(t *testing.T) {
	const mixed = "multipart/mixed; charset=x; boundary=\"a b\""
	wants(t, streamed("/", mixed, ""))
	wants(t, streamed("/", mixed, "preamble\r\n--a b\r\nContent-Type: text/plain\r\n\r\none\r\n--a bc\r\n--a b-\r\n--a b \t\r\n\r\n\r\n--a b--\r\nepilogue"),
		".preamble\r\n", "|one\r\n--a bc\r\n--a b-", "|", ".--a b--\r\nepilogue")
	wants(t, streamed("/", mixed, "--a b\n\n\xff\n--a b\nX: y\n--a b\n\nlast"), "|/w==", "|", "|last")
	wants(t, streamed("/", mixed, "--a b\r\nX: y"), ".--a b\r\nX: y", "!truncated")
	wants(t, streamed("/", mixed, "--a b\r\n\r\nx\r\n--a b"), "|x", ".--a b")
	const image = "multipart/x-mixed-replace;boundary=b"
	wants(t, streamed("/", image, "--b\r\nContent-Length: 3\r\n\r\nabc\r\n--b\r\nContent-Length: 0\r\n\r\n\r\n--b\r\nContent-Length: 9\r\n\r\n\n--c--\n--b\r\nContent-Length: 9\r\n\r\nx"),
		"|abc", ".\r\n", "|", ".\r\n", "|\n--c--", ".--b\r\nContent-Length: 9\r\n\r\nx", "!truncated")
	wants(t, streamed("/", image, "--b\r\nContent-Length: 9\r\n\r\nshort\r\n--b--"), "|short", ".--b--")
	wants(t, streamed("/", "multipart/mixed", "--b\r\n\r\nx"), ".--b\r\n\r\nx")

	// Each image is there with its last byte.
	s := streamed("/", image, "--b\r\nContent-Type: image/jpeg\r\nContent-Length: 4\r\n\r\nabc\n")
	events := s.run(whole)
	if got := said(events); !slices.Equal(got, []string{"|abc\n"}) {
		t.Errorf("got %q", got)
	}
}

// TestChoice: the heads decide which framing a body has.
func TestChoice(t *testing.T) {
	for _, c := range []struct{ path, fields, want string }{
		{"/", "Content-Type: Text/Event-Stream ; charset=utf-8", flow.FramingSSE},
		{"/", "Content-Type: application/json-seq", flow.FramingNDJSON},
		{"/", "Content-Type: application/jsonl", flow.FramingNDJSON},
		{"/", "Content-Type: application/stream+json", flow.FramingNDJSON},
		{"/", "Content-Type: application/json", ""},
		{"/a:stream/b", "Content-Type: application/json", ""},
		{"/v1internal:streamGenerateContent?x=/y", "Content-Type: application/json", flow.FramingJSONArray},
		{"/m/x:streamGenerateContent?alt=sse", "Content-Type: text/event-stream", flow.FramingSSE},
		{"/m/x:executeStreamingSql", "Content-Type: application/json", flow.FramingJSONArray},
		{"/m/x%3AstreamGenerateContent", "Content-Type: application/json", flow.FramingJSONArray},
		{"/m/x:generateContent", "Content-Type: application/json", ""},
		{"/api/v1/pods?a=b&watch=true", "Content-Type: application/json", flow.FramingNDJSON},
		{"/api/v1/pods?watch=1", "Content-Type: application/json;stream=watch", flow.FramingNDJSON},
		{"/api/v1/pods?watch=0", "Content-Type: application/json", ""},
		{"/", "Content-Type: application/vnd.amazon.eventstream", flow.FramingEventStream},
		{"/", "Content-Type: multipart/byteranges; a=\"\\\";boundary=x\"; Boundary = y", flow.FramingMultipart},
		{"/", "Content-Type: multipart/mixed; boundary=", ""},
		{"/", "Content-Type: multipart/mixed; boundary=" + strings.Repeat("x", 300), ""},
		{"/", "Content-Type: application/grpc", flow.FramingGRPC},
		{"/", "Content-Type: application/grpc-web-text+proto", flow.FramingGRPC},
		{"/", "Content-Type: application/connect+json", flow.FramingGRPC},
		{"/", "Content-Type: application/grpcish", ""},
		{"/", "Content-Type: text/event-stream\r\nContent-Encoding: gzip", flow.FramingSSE},
		{"/", "Content-Type: text/event-stream\r\nContent-Encoding: compress", ""},
		{"/", "Content-Type: text/event-stream\r\nContent-Encoding: identity", flow.FramingSSE},
		{"/", "X: y", ""},
	} {
		s := newScript()
		s.client("GET " + c.path + " HTTP/1.1\r\nHost: h.test\r\n\r\n")
		s.server("HTTP/1.1 200 OK\r\n" + c.fields + "\r\n\r\n")
		for _, e := range s.run(whole) {
			if e.Kind == flow.Response && (e.Head.Framing != c.want || e.Head.Streaming != (c.want != "")) {
				t.Errorf("%s %q: %q, want %q", c.path, c.fields, e.Head.Framing, c.want)
			}
		}
	}
	s := newScript()
	s.client("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n")
	s.server("HTTP/1.1 206 Partial\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n")
	wants(t, s, ".data: x\n\n")
	s = newScript()
	s.client("GET /m:streamGenerateContent HTTP/1.1\r\nHost: h.test\r\n\r\n")
	s.server("HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\n\r\n[{}]")
	wants(t, s, ".[{}]")
}

// TestFramingsLive: an event is there with its last byte, or as soon as the
// content coding gives that, in both versions of HTTP.
func TestFramingsLive(t *testing.T) {
	const image = "\r\n--b\r\nContent-Length: 2\r\n\r\nhi"
	for _, c := range []struct{ path, contentType, event string }{
		{"/", "text/event-stream", "data: x\n\n"},
		{"/", "text/event-stream", "data: x\r\r"},
		{"/", "text/event-stream", "event: a\r\ndata: x\r\n\r\n"},
		{"/", "application/x-ndjson", "{\"n\":1}\n"},
		{"/", "application/json-seq", "\x1e{\"n\":\n1}\n"},
		{"/m:stream", "application/json", "[{\"n\":1}"},
		{"/", "application/vnd.amazon.eventstream", message("{}")},
		{"/", "multipart/x-mixed-replace; boundary=b", image},
		{"/", "application/grpc", msg(0, hello)},
	} {
		for _, coding := range []string{"", "gzip", "deflate", "raw", "br", "zstd"} {
			for _, version := range []string{"1.1", "2"} {
				s := streamOf(c.path, c.contentType, coding, version, c.event)
				n := 0
				for _, e := range s.run(whole) {
					if e.Kind != flow.StreamEvent {
						continue
					}
					n++
					if at := e.At.Sub(epoch).Milliseconds(); at != int64(len(s.steps)-4+n) {
						t.Errorf("%s %s HTTP/%s: event %d at %dms of %d", c.contentType, coding, version, n, at, len(s.steps))
					}
					if c.path != "/" {
						break // the array has one only
					}
				}
				if n != 3 && c.path == "/" || n == 0 {
					t.Errorf("%s %s HTTP/%s: %d events", c.contentType, coding, version, n)
				}
			}
		}
	}
}

// streamOf makes a script whose last three steps bring an event each.
func streamOf(path, contentType, coding, version, event string) *script {
	h := newH2()
	s := h.script
	name := headerName(coding)
	if version == "2" {
		h.client(get(1, path))
		h.server(head(1, ":status: 200", "content-type: "+contentType, "content-encoding: "+name))
	} else {
		s = newScript()
		s.client("GET " + path + " HTTP/1.1\r\nHost: h.test\r\n\r\n")
		s.server("HTTP/1.1 200 OK\r\nContent-Type: " + contentType + "\r\nContent-Encoding: " + name + "\r\nTransfer-Encoding: chunked\r\n\r\n")
	}
	var b bytes.Buffer
	var w flusher
	if coding != "" {
		w = encoders[coding](&b)
	}
	for range 3 {
		if w == nil {
			b.WriteString(event)
		} else {
			fmt.Fprint(w, event)
			if err := w.Flush(); err != nil {
				panic(err)
			}
		}
		if version == "2" {
			h.server(data(1, b.String()))
		} else {
			s.server(fmt.Sprintf("%x\r\n%s\r\n", b.Len(), b.String()))
		}
		b.Reset()
	}
	return s
}
