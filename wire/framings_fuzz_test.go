package wire_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"mime/multipart"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"trace/flow"
)

// invariant tests what holds for every framing: the pieces are the body, each
// event can be read, and any split gives the same. It returns the events' data.
func invariant(t *testing.T, s *script, seed uint64) (blocks []string, events []flow.Event) {
	t.Helper()
	events = s.run(whole)
	check(t, s, events)
	want := show(events)
	for _, cut := range []split{bytewise, random(seed)} {
		if got := show(s.run(cut)); got != want {
			t.Fatalf("%s\ngot\n%s\nwant\n%s", s, got, want)
		}
	}
	for _, e := range events {
		if e.Kind == flow.StreamEvent && e.Side == flow.Server {
			blocks = append(blocks, string(e.Data))
		}
	}
	return blocks, events
}

// contents returns what the events of one framing say.
func contents(framing string, blocks []string) (all []string) {
	for _, b := range blocks {
		all = append(all, flow.ParseEvent(framing, []byte(b)).Data)
	}
	return all
}

// FuzzNDJSON: lines of JSON are events, one each.
func FuzzNDJSON(f *testing.F) {
	f.Add("{\"a\":1}\n{\"b\":[\"\\\"\"]}\r\n\n1\n", uint64(1))
	f.Add("\x1e{\"a\":\n1}\n\x1e[\x1e\n", uint64(2))
	f.Add("{}{}[] {}\"\n\\\"{", uint64(3))
	f.Fuzz(func(t *testing.T, body string, seed uint64) {
		blocks, _ := invariant(t, streamed("/", "application/x-ndjson", body), seed)
		if strings.Contains(body, "\x1e") || !utf8.ValidString(body) {
			return
		}
		var want []string
		for line := range strings.SplitSeq(body, "\n") {
			line = strings.Trim(line, " \t\r\n")
			if line == "" {
				continue
			}
			if !json.Valid([]byte(line)) {
				return
			}
			want = append(want, line)
		}
		if got := contents(flow.FramingNDJSON, blocks); !slices.Equal(got, want) {
			t.Fatalf("%q: got %q", body, got)
		}
	})
}

// FuzzJSONArray: the elements of an array are events, one each; what is no
// array has none.
func FuzzJSONArray(f *testing.F) {
	f.Add("[{\"a\":1}\n,\r\n[\"]\"], \"\\\"\" ,1, null]\n", uint64(1))
	f.Add("{\"error\":[1]}", uint64(2))
	f.Add("[[[[", uint64(3))
	f.Add("[1}", uint64(4))
	f.Fuzz(func(t *testing.T, body string, seed uint64) {
		blocks, _ := invariant(t, streamed("/m:streamGenerateContent", "application/json", body), seed)
		if !json.Valid([]byte(body)) {
			return
		}
		var elements []json.RawMessage
		if json.Unmarshal([]byte(body), &elements) != nil {
			elements = nil
		}
		if len(elements) != len(blocks) {
			t.Fatalf("%q: %d events, want %d", body, len(blocks), len(elements))
		}
		for i, e := range elements {
			if blocks[i] != string(e) {
				t.Fatalf("%q: event %d is %q, want %q", body, i, blocks[i], e)
			}
		}
	})
}

// FuzzEventStream: messages whose lengths and checksums fit are events.
func FuzzEventStream(f *testing.F) {
	stop := bedrock(`{"type":"message_stop"}`)
	f.Add([]byte(stop+message("")+stop), uint64(1), true)
	f.Add([]byte(stop[:100]), uint64(2), false)
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), uint64(3), true)
	f.Fuzz(func(t *testing.T, body []byte, seed uint64, mend bool) {
		if mend {
			body = bytes.Clone(body)
			mendSums(body)
		}
		blocks, _ := invariant(t, streamed("/", "application/vnd.amazon.eventstream", string(body)), seed)
		rest := body
		for i := 0; ; i++ {
			n := messageSize(rest)
			if (n == 0) != (i >= len(blocks)) {
				t.Fatalf("%x: %d events", body, len(blocks))
			}
			if n == 0 {
				return
			}
			if blocks[i] != string(rest[:n]) {
				t.Fatalf("%x: event %d is %x", body, i, blocks[i])
			}
			rest = rest[n:]
		}
	})
}

// messageSize returns the size of the message that p begins, 0 if there is none.
func messageSize(p []byte) int {
	if len(p) < 16 {
		return 0
	}
	total, headers := int64(binary.BigEndian.Uint32(p)), int64(binary.BigEndian.Uint32(p[4:]))
	if total < 16 || total > int64(len(p)) || headers > total-16 || crc32.ChecksumIEEE(p[:8]) != binary.BigEndian.Uint32(p[8:]) ||
		crc32.ChecksumIEEE(p[:total-4]) != binary.BigEndian.Uint32(p[total-4:]) {
		return 0
	}
	return int(total)
}

// mendSums writes the checksums that fit, so that the fuzzer gets past them.
func mendSums(p []byte) {
	for len(p) >= 16 {
		binary.BigEndian.PutUint32(p[8:], crc32.ChecksumIEEE(p[:8]))
		total := int64(binary.BigEndian.Uint32(p))
		if total < 16 || total > int64(len(p)) {
			return
		}
		binary.BigEndian.PutUint32(p[total-4:], crc32.ChecksumIEEE(p[:total-4]))
		p = p[total:]
	}
}

// FuzzMultipart: what another implementation writes as parts are events, one each.
func FuzzMultipart(f *testing.F) {
	f.Add("--b\r\nContent-Length: 3\r\n\r\nabc\r\n--b\r\n\r\n--b--\r\n", "one\x00two\r\n", uint64(1))
	f.Add("x\n--b\n\n--b-\n--b \nContent-Length: 9\n\n\n--b--", "--b\r\n\x00", uint64(2))
	f.Add("--b\r\n\r\nlast\r\n--b", "\x00\x00", uint64(3))
	f.Fuzz(func(t *testing.T, body, parts string, seed uint64) {
		invariant(t, streamed("/", "multipart/mixed; boundary=b", body), seed)
		if strings.Contains(parts, "--boundary") {
			return
		}
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		if err := w.SetBoundary("boundary"); err != nil {
			t.Fatal(err)
		}
		want := strings.Split(parts, "\x00")
		for i, part := range want {
			h := map[string][]string{"Content-Type": {"text/plain"}}
			if i%2 == 1 {
				h["Content-Length"] = []string{fmt.Sprint(len(part))}
			}
			p, err := w.CreatePart(h)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(p, part)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		blocks, _ := invariant(t, streamed("/", "multipart/mixed; boundary=boundary", b.String()), seed)
		var got []string
		for _, block := range blocks {
			e := flow.ParseEvent(flow.FramingMultipart, []byte(block))
			if e.Binary {
				return // of other bytes than were text
			}
			got = append(got, e.Data)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q: got %q, want %q", b.String(), got, want)
		}
	})
}

// FuzzGRPC: messages are events; bodies that hold no compressed one are handed
// over as they are.
func FuzzGRPC(f *testing.F) {
	packed := msg(1, string(encode("gzip", []byte(hello))))
	f.Add([]byte(msg(0, hello)+packed+msg(0x80, "grpc-status: 3\r\n")), uint8(0), uint64(1))
	f.Add([]byte("AAAAAAcKBWhlbGxvgAAAABBncnBjLXN0YXR1czogNQ0K"), uint8(1), uint64(2))
	f.Add([]byte(msg(2, `{"error":{"code":"internal"}}`)), uint8(2), uint64(3))
	f.Add([]byte("\x00\xff\xff\xff\xff"), uint8(3), uint64(4))
	f.Add([]byte("00M400M400M4"), uint8(1), uint64(5))
	f.Add([]byte("0\n"), uint8(1), uint64(6))
	kinds := []string{"application/grpc-web", "application/grpc-web-text", "application/connect+proto", "application/grpc"}
	codings := []string{"gzip", "deflate", "zstd", "snappy", "br"}
	f.Fuzz(func(t *testing.T, body []byte, kind uint8, seed uint64) {
		coding := codings[int(kind>>2)%len(codings)]
		s := streamed("/", kinds[kind&3], string(body), "Grpc-Encoding: "+coding, "Connect-Content-Encoding: "+coding)
		blocks, events := invariant(t, s, seed)
		got, e, _ := decoded(events, flow.Server)
		if e.Encoding == "" && !bytes.Equal(got, body) {
			t.Fatalf("%q became %q", body, got)
		}
		for _, b := range blocks {
			if len(b) < 5 || len(b)-5 != int(binary.BigEndian.Uint32([]byte(b[1:]))) {
				t.Fatalf("%q: %q is no message", body, b)
			}
		}
	})
}
