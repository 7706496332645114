package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"trace/flow"
)

// A carrier puts a piece of text into one event of a framing, and reads it
// back from an event that is all that its framing demands.
type carrier struct {
	name    string
	framing string // "": messages of a websocket
	media   string
	wrap    func(piece string) []byte
	unwrap  func(t *testing.T, raw []byte) string
	loose   bool // its texts need not be one
}

func (c carrier) events(r *Redactor) *Events {
	if c.framing == "" {
		return r.Messages()
	}
	return r.EventsOf(c.framing, c.media)
}

// member reads a JSON value at a path of member names; lists stand for their
// first element.
func member(t *testing.T, p []byte, path ...string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(p, &v); err != nil {
		t.Fatalf("%q: %v", p, err)
	}
	for _, k := range path {
		if l, ok := v.([]any); ok {
			v = l[0]
		}
		v = v.(map[string]any)[k]
	}
	return v.(string)
}

// amazonEvent writes a message as AWS does.
func amazonEvent(kind string, payload []byte) []byte {
	var h []byte
	for _, kv := range [][2]string{{":event-type", kind}, {":content-type", "application/json"}, {":message-type", "event"}} {
		h = append(append(h, byte(len(kv[0]))), kv[0]...)
		h = append(binary.BigEndian.AppendUint16(append(h, 7), uint16(len(kv[1]))), kv[1]...)
	}
	return frameEvent(h, payload)
}

// amazonPayload reads one, checksums and all.
func amazonPayload(t *testing.T, b []byte) []byte {
	t.Helper()
	n := len(b)
	if int(binary.BigEndian.Uint32(b)) != n || crc32.ChecksumIEEE(b[:8]) != binary.BigEndian.Uint32(b[8:]) ||
		crc32.ChecksumIEEE(b[:n-4]) != binary.BigEndian.Uint32(b[n-4:]) {
		t.Fatalf("no message of an event stream: %q", b)
	}
	return b[12+binary.BigEndian.Uint32(b[4:]) : n-4]
}

// grpcPayload reads a message of gRPC.
func grpcPayload(t *testing.T, b []byte) []byte {
	t.Helper()
	if len(b) < 5 || b[0] != 0 || int(binary.BigEndian.Uint32(b[1:])) != len(b)-5 {
		t.Fatalf("no message of gRPC: %q", b)
	}
	return b[5:]
}

// protoField writes a field behind its length; protoAt reads those at a path.
func protoField(number int, v []byte) []byte {
	b := binary.AppendUvarint(nil, uint64(number<<3|2))
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func protoAt(t *testing.T, b []byte, path ...int) string {
	t.Helper()
	for _, want := range path {
		tree, ok := parseProto(b)
		if !ok {
			t.Fatalf("no protobuf: %q", b)
		}
		found := false
		for _, k := range tree.kids {
			if k.field == want && !found {
				b, found = b[k.from:k.to], true
			}
		}
		if !found {
			t.Fatalf("no field %d in %q", want, b)
		}
	}
	return string(b)
}

func delta(p string) string {
	return `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":` + quoteJSON(p) + `}}`
}

var carriers = []carrier{
	{"responses over websocket", "", "", func(p string) []byte {
		return []byte(`{"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,"delta":` + quoteJSON(p) + `}`)
	}, func(t *testing.T, raw []byte) string { return member(t, raw, "delta") }, false},
	{"text over websocket", "", "", func(p string) []byte { return []byte(p) },
		func(t *testing.T, raw []byte) string { return string(raw) }, true},
	{"ollama", flow.FramingNDJSON, "application/x-ndjson", func(p string) []byte {
		return []byte(`{"model":"m","message":{"role":"assistant","content":` + quoteJSON(p) + `},"done":false}` + "\n")
	}, func(t *testing.T, raw []byte) string {
		if !bytes.HasSuffix(raw, []byte("}\n")) {
			t.Fatalf("no line: %q", raw)
		}
		return member(t, raw, "message", "content")
	}, true},
	{"gemini", flow.FramingJSONArray, "application/json", func(p string) []byte {
		return []byte(`{"candidates":[{"content":{"parts":[{"text":` + quoteJSON(p) + `}],"role":"model"},"index":0}]}`)
	}, func(t *testing.T, raw []byte) string { return member(t, raw, "candidates", "content", "parts", "text") }, false},
	{"converse", flow.FramingEventStream, "application/vnd.amazon.eventstream", func(p string) []byte {
		return amazonEvent("contentBlockDelta", []byte(`{"contentBlockIndex":0,"delta":{"text":`+quoteJSON(p)+`},"p":"abcdefgh"}`))
	}, func(t *testing.T, raw []byte) string { return member(t, amazonPayload(t, raw), "delta", "text") }, false},
	{"invoke", flow.FramingEventStream, "application/vnd.amazon.eventstream", func(p string) []byte {
		return amazonEvent("chunk", []byte(`{"bytes":"`+base64.StdEncoding.EncodeToString([]byte(delta(p)))+`","p":"abcdefgh"}`))
	}, func(t *testing.T, raw []byte) string {
		p, err := base64.StdEncoding.DecodeString(member(t, amazonPayload(t, raw), "bytes"))
		if err != nil {
			t.Fatal(err)
		}
		return member(t, p, "delta", "text")
	}, false},
	{"protobuf", flow.FramingGRPC, "application/grpc+proto", func(p string) []byte {
		b := protoField(1, append(protoField(2, []byte(p)), 0x18, 7))
		return frameMessage(0, append(b, 0x25, 1, 2, 3, 4))
	}, func(t *testing.T, raw []byte) string { return protoAt(t, grpcPayload(t, raw), 1, 2) }, true},
	{"connect", flow.FramingGRPC, "application/connect+json", func(p string) []byte { return frameMessage(0, []byte(delta(p))) },
		func(t *testing.T, raw []byte) string { return member(t, grpcPayload(t, raw), "delta", "text") }, false},
	{"multipart", flow.FramingMultipart, "multipart/mixed; boundary=b", func(p string) []byte {
		return []byte("--b\r\nContent-Type: application/json\r\n\r\n" + delta(p) + "\r\n")
	}, func(t *testing.T, raw []byte) string {
		_, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
		if !ok || !bytes.HasSuffix(body, []byte("}\r\n")) {
			t.Fatalf("no part: %q", raw)
		}
		return member(t, body, "delta", "text")
	}, false},
}

// carry sends pieces and returns the text as it comes back, and whether each
// event says rightly that it was changed.
func (c carrier) carry(t *testing.T, pieces ...string) string {
	t.Helper()
	e := c.events(New(testKey))
	got, last := make([]string, len(pieces)), make([]Out, len(pieces))
	take := func(outs []Out) {
		for _, o := range outs {
			o.Raw = bytes.Clone(o.Raw)
			got[o.Index], last[o.Index] = c.unwrap(t, o.Raw), o
		}
	}
	for i, p := range pieces {
		raw := c.wrap(p)
		take(e.Event(raw))
		if last[i].Raw == nil {
			t.Fatalf("%s: event %d did not come at once", c.name, i)
		}
		clear(raw)
	}
	take(e.Close())
	for i, o := range last {
		if o.Partial || o.Changed == bytes.Equal(o.Raw, c.wrap(pieces[i])) {
			t.Errorf("%s: event %d: partial %v, changed %v: %q of %q", c.name, i, o.Partial, o.Changed, o.Raw, pieces[i])
		}
	}
	if e.r.Failures() != 0 {
		t.Errorf("%s: the gate failed", c.name)
	}
	return strings.Join(got, "")
}

// TestSplitCarriers cuts each secret at every other byte over two events of
// every framing.
func TestSplitCarriers(t *testing.T) {
	for _, s := range samples() {
		if strings.Contains(s.text, "\n") {
			continue // long: TestSplitSmallCarriers
		}
		text := "It is " + s.text + " so."
		whole, _ := New(testKey).String(text)
		for k, c := range carriers {
			if c.loose && strings.HasPrefix(s.kind, "private") {
				continue
			}
			for i := 1 + k%2; i < len(text); i += 2 { // TestSplit has all
				all := c.carry(t, text[:i], text[i:])
				if strings.Contains(all, s.secret) || !c.loose && s.kind != "azure-ad" && s.kind != "hf" && !alike(all, whole) {
					t.Errorf("%s: %s cut at %d (%q):\n got %q\nwant %q", c.name, s.kind, i, text[max(0, i-8):i], all, whole)
					break
				}
			}
		}
	}
}

// TestSplitSmallCarriers sends each secret a few bytes at a time.
func TestSplitSmallCarriers(t *testing.T) {
	for _, s := range samples() {
		text := "It is\n" + s.text + "\nso."
		whole, _ := New(testKey).String(text)
		for _, c := range carriers {
			for _, size := range []int{1, 7} {
				var pieces []string
				for rest := text; rest != ""; {
					n := min(size, len(rest))
					pieces = append(pieces, rest[:n])
					rest = rest[n:]
				}
				all := c.carry(t, pieces...)
				if c.loose && strings.Contains(all, s.secret) || !c.loose && !alike(all, whole) && s.kind != "azure-ad" && s.kind != "hf" {
					t.Errorf("%s: %s by %d:\n got %q\nwant %q", c.name, s.kind, size, all, whole)
				}
			}
		}
	}
}

// TestCarriersKeep: what holds no secret comes back byte for byte, whatever
// it looks like.
func TestCarriersKeep(t *testing.T) {
	for _, c := range carriers {
		for _, s := range negatives {
			if all := c.carry(t, s, s); all != s+s && s != "Bearer token" {
				t.Errorf("%s: %q became %q", c.name, s, all)
			}
		}
	}
}

// TestAround: secrets beside the text of an event.
func TestAround(t *testing.T) {
	secret := "gh" + "p_" + chars(b62, 36)
	one := func(framing, media string, raw []byte) Out {
		e := New(testKey).EventsOf(framing, media)
		outs := e.Event(raw)
		outs = append(outs, e.Close()...)
		outs = outs[len(outs)-1:]
		if outs[0].N == 0 || bytes.Contains(outs[0].Raw, []byte(secret)) || !outs[0].Changed {
			t.Errorf("%s: %+v", framing, outs)
			return Out{}
		}
		return outs[0]
	}
	b64 := base64.StdEncoding.EncodeToString([]byte(`{"x":1}`))
	o := one(flow.FramingEventStream, "", amazonEvent("chunk", []byte(`{"password":"hunter2hunter2","bytes":"`+b64+`","note":"`+secret+`"}`)))
	if got := string(amazonPayload(t, o.Raw)); got != `{"password":"[REDACTED:json]","bytes":"`+b64+`","note":"[REDACTED:github]"}` {
		t.Error(got)
	}
	o = one(flow.FramingEventStream, "", amazonEvent("the "+secret+" of it", []byte(`{"x":1}`)))
	if p := amazonPayload(t, o.Raw); string(p) != `{"x":1}` || !bytes.Contains(o.Raw, []byte("the [REDACTED:github] of it")) {
		t.Errorf("%q", o.Raw)
	}
	o = one(flow.FramingGRPC, "application/grpc", frameMessage(0, protoField(3, append(protoField(1, []byte("client_secret")), protoField(2, []byte(secret))...))))
	if got := protoAt(t, grpcPayload(t, o.Raw), 3, 2); got != "[REDACTED:github]" {
		t.Error(got)
	}
	o = one(flow.FramingGRPC, "application/grpc", frameMessage(0, protoField(3, append(protoField(1, []byte("password")), protoField(2, protoField(3, []byte("pass "+secret)))...))))
	if got := protoAt(t, grpcPayload(t, o.Raw), 3, 2, 3); got != "[REDACTED:json]" {
		t.Error(got)
	}
	o = one(flow.FramingGRPC, "application/grpc", frameMessage(0, protoField(1, protoField(1, protoField(9, []byte(`{"a":"`+secret+`"}`))))))
	if got := protoAt(t, grpcPayload(t, o.Raw), 1, 1, 9); got != `{"a":"[REDACTED:github]"}` {
		t.Error(got)
	}
	for _, part := range []string{
		"--b\r\nAuthorization: " + secret + "\r\n\r\nx\r\n",
		"--b\r\nContent-Disposition: form-data; name=\"api_key\"\r\n\r\n" + secret + "\r\n",
		"--b\nContent-Type: text/plain\n\nit is " + secret + "\n",
		"--b\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\nkey=" + secret + "&x=1\r\n",
		"the " + secret + " of no part",
		"\r\n--b--\r\nbehind the last: " + secret,
		"--b--\r\n" + secret + "\r\n",
		"--b\r\nno field " + secret + "\r\nX: " + secret + "\r\n\r\nx",
		"--b--" + secret,
	} {
		one(flow.FramingMultipart, "multipart/mixed", []byte(part))
	}
	one(flow.FramingNDJSON, "", []byte("\x1e{\"a\":\""+secret+"\"}\n"))
	one(flow.FramingJSONArray, "", []byte(",\""+secret+"\""))
	one(flow.FramingGRPC, "application/grpc-web", frameMessage(0x80, []byte("grpc-message: "+secret+"\r\n")))
	one(flow.FramingGRPC, "application/grpc", []byte("\x00\x00\x00\x01 part of one: "+secret))
}

// TestBinary: the length of a text in binary data may be a letter, which no
// longer stands before a word.
func TestBinary(t *testing.T) {
	key := "sk-" + "ant-api03-" + chars(b62, 98) // 111 bytes: an o
	for _, p := range [][]byte{
		protoField(1, []byte(key)), protoField(1, protoField(1, []byte(key))), append(protoField(2, []byte(key)), 0x18, 7),
		append([]byte("\x01\xff\x04o"), key...), append([]byte("\x82\xa1k\xd9o"), key...), []byte(key + "\x00"),
	} {
		for name, redact := range map[string]func() ([]byte, int){
			"binary":   func() ([]byte, int) { return New(testKey).Binary(p) },
			"protobuf": func() ([]byte, int) { return New(testKey).Body("application/x-protobuf", p) },
		} {
			out, n := redact()
			if n != 1 || bytes.Contains(out, []byte(key[20:])) || !bytes.Contains(out, []byte("[REDACTED:anthropic]")) {
				t.Errorf("%s: %q: %q, %d", name, p, out, n)
			}
			_, was := parseProto(p)
			if _, is := parseProto(out); was && !is {
				t.Errorf("%s: no protobuf any more: %q", name, out)
			}
		}
	}
	text := "\nask-me-anything-about-the-things-that-you-like"
	if out, n := New(testKey).Binary([]byte(text)); n != 0 {
		t.Errorf("%q became %q", text, out)
	}
}

// TestSettle decides on what is held and goes on: the rest of a secret is left
// out when it comes.
func TestSettle(t *testing.T) {
	key := "sk-" + "ant-api03-" + chars(b62, 93)
	for _, c := range carriers {
		for _, at := range []int{3, 7, 12, 40, 80} {
			e := c.events(New(testKey))
			var got [3]string
			take := func(outs []Out) {
				for _, o := range outs {
					got[o.Index] = c.unwrap(t, o.Raw)
					if o.Partial {
						got[o.Index] += "…"
					}
				}
			}
			take(e.Event(c.wrap("so " + key[:at])))
			if held := strings.HasSuffix(got[0], "…"); held == (c.loose && at >= 40) { // then it is long enough to be one
				t.Errorf("%s: cut at %d: held %v: %q", c.name, at, held, got[0])
			}
			take(e.Settle())
			if strings.HasSuffix(got[0], "…") {
				t.Errorf("%s: cut at %d: not decided: %q", c.name, at, got[0])
			}
			take(e.Event(c.wrap(key[at:])))
			take(e.Event(c.wrap(" and on")))
			take(e.Close())
			all := strings.Join(got[:], "")
			if strings.Contains(all, key[max(at, 20):]) || strings.Contains(all, key[20:80]) || !strings.HasSuffix(all, " and on") {
				t.Errorf("%s: cut at %d: %q", c.name, at, all)
			}
		}
	}
}

// TestSecretAtTheEnd of a text of its own is replaced at once; only what looks
// like the rest of it goes with it.
func TestSecretAtTheEnd(t *testing.T) {
	key := "sk-" + "ant-api03-" + chars(b62, 93)
	hexKey := "sk-" + chars(hex16, 32)
	for _, c := range carriers {
		if !c.loose {
			continue
		}
		for _, next := range []string{"bye", "message-2 of them", "Hello", "42", "", " and on", "{}"} {
			for _, k := range []string{key, hexKey} {
				e := c.events(New(testKey))
				outs := e.Event(c.wrap("it is " + k))
				if len(outs) != 1 || outs[0].Partial || c.unwrap(t, outs[0].Raw) == "it is " {
					t.Fatalf("%s: %+v", c.name, outs)
				}
				outs = e.Event(c.wrap(next))
				if got := c.unwrap(t, outs[0].Raw); len(outs) != 1 || outs[0].Partial || got != next {
					t.Errorf("%s: after the end of a secret %q became %q, partial %v", c.name, next, got, outs[0].Partial)
				}
			}
		}
		for _, k := range []string{key, hexKey} {
			for at := 29; at < len(k); at++ {
				if !isRest([]byte(k[at:])) {
					continue // a word, as far as one can see
				}
				if all := c.carry(t, "it is "+k[:at], k[at:], "bye"); strings.Contains(all, k[at:]) || !strings.HasSuffix(all, "bye") {
					t.Errorf("%s: cut at %d: %q", c.name, at, all)
				}
			}
		}
	}
}

// TestFlood: a hostile stream costs no more than its length.
func TestFlood(t *testing.T) {
	e := New(testKey).Messages()
	n := 0
	for i := range 200_000 { // a secret without end, a byte at a time
		if i == 0 {
			e.Event([]byte(`{"type":"x.delta","delta":"sk-"}`))
		}
		for _, o := range e.Event([]byte(`{"type":"x.delta","delta":"` + string(b62[i%len(b62)]) + `"}`)) {
			n += o.N
		}
		if len(e.partial) > maxPartial+1 {
			t.Fatalf("%d events wait", len(e.partial))
		}
	}
	for i := range 50_000 { // and one in each of very many channels
		e.Event(fmt.Appendf(nil, `{"a%d":"it is sk-"}`, i))
		if len(e.partial) > maxPartial+1 || len(e.channels) > maxChannels {
			t.Fatalf("%d events wait in %d channels", len(e.partial), len(e.channels))
		}
	}
	if e.Close(); n == 0 || e.r.Failures() != 0 {
		t.Errorf("%d replaced, %d failures", n, e.r.Failures())
	}
}

// BenchmarkMessage is BenchmarkJSON for what comes as one message of a
// websocket.
func BenchmarkMessage(b *testing.B) {
	p := conversation(1 << 20)
	e := New(testKey).Messages()
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		e.Event(p)
	}
}
