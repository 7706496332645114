package flow

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// eventMessage makes a message of an AWS event stream, without checksums, of
// headers in their wire form.
func eventMessage(payload string, headers ...string) []byte {
	h := strings.Join(headers, "")
	b := binary.BigEndian.AppendUint32(nil, uint32(16+len(h)+len(payload)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(h)))
	return append(append(b, "\x00\x00\x00\x00"+h+payload...), "\x00\x00\x00\x00"...)
}

// text makes a header of type string.
func text(name, value string) string {
	return string(byte(len(name))) + name + "\x07\x00" + string(byte(len(value))) + value
}

func wrapped(event string) string {
	return `{"bytes":"` + base64.StdEncoding.EncodeToString([]byte(event)) + `","p":"abcdefgh"}`
}

func TestParseEvent(t *testing.T) {
	types := "\x01a\x00\x01b\x01\x01c\x02\xff\x01d\x03\x80\x00\x01e\x04\x00\x00\x00\x07\x01f\x05\x7f\xff\xff\xff\xff\xff\xff\xff" +
		"\x01g\x06\x00\x02\x00\xff\x01h\x07\x00\x01x\x01i\x08\x00\x00\x01\x9b\x7c\xdc\x0d\x88" + "\x01j\x09\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"
	chunk := text(":event-type", "chunk")
	for _, c := range []struct {
		framing, block, want string
	}{
		{FramingSSE, "event: a\nid: 1\ndata: x\n\n", `"a" "x" id=1`},
		{"", "data: x\n\n", `"" "x"`},
		{FramingSSE, ": comment\n\n", `"" "" none`},
		{FramingNDJSON, "\ufeff{\"a\":1}\r\n", `"" "{\"a\":1}"`},
		{FramingNDJSON, "\x1e[1,\n2]\n", `"" "[1,\n2]"`},
		{FramingNDJSON, "\r\n", `"" "" none`},
		{FramingNDJSON, "\xff\n", `"" "/w==" binary`},
		{FramingJSONArray, `{"a":[]}`, `"" "{\"a\":[]}"`},

		{FramingEventStream, string(eventMessage(wrapped(`{"type":"ping","x":1}`), chunk)), `"ping" "{\"type\":\"ping\",\"x\":1}" :event-type=chunk`},
		{FramingEventStream, string(eventMessage(wrapped(`{"outputText":"hi"}`), chunk)), `"chunk" "{\"outputText\":\"hi\"}" :event-type=chunk`},
		{FramingEventStream, string(eventMessage(wrapped("\xff"), chunk)), `"chunk" "/w==" binary :event-type=chunk`},
		{FramingEventStream, string(eventMessage(`{"bytes":"aGk="}`, text(":event-type", "x"))), `"x" "{\"bytes\":\"aGk=\"}" :event-type=x`},
		{FramingEventStream, string(eventMessage(`{"delta":{"text":"hi"}}`, text(":event-type", "contentBlockDelta"))), `"contentBlockDelta" "{\"delta\":{\"text\":\"hi\"}}" :event-type=contentBlockDelta`},
		{FramingEventStream, string(eventMessage(`{"type":"t","message":"m"}`, text(":exception-type", "throttlingException"))), `"throttlingException" "{\"type\":\"t\",\"message\":\"m\"}" :exception-type=throttlingException`},
		{FramingEventStream, string(eventMessage("", text(":message-type", "error"), text(":error-code", "500"))), `"error" "" :message-type=error :error-code=500`},
		{FramingEventStream, string(eventMessage("x", types)), `"" "x" a=true b=false c=-1 d=-32768 e=7 f=9223372036854775807 g=AP8= h=x i=2026-01-02T03:59:14.824Z j=00010203-0405-0607-0809-0a0b0c0d0e0f`},
		{FramingEventStream, string(eventMessage("", "\x01a\x0a")), `"" "AAAAEwAAAAMAAAAAAWEKAAAAAA==" binary`},
		{FramingEventStream, "\x00\x00\x00\x10\xff\xff\xff\xff\x00\x00\x00\x00", `"" "AAAAEP////8AAAAA" binary`},
		{FramingEventStream, "abc", `"" "abc"`},

		{FramingMultipart, "--b\r\nContent-Type: text/plain\r\nX:a\r\n  b\r\n\r\none\r\n\r\n", `"" "one\r\n" Content-Type=text/plain X=a b`},
		{FramingMultipart, "--b\n\n\xff\n", `"" "/w==" binary`},
		{FramingMultipart, "--b\r\ncontent-length: 2\r\n\r\n\r\n", `"" "\r\n" content-length=2`},
		{FramingMultipart, "--b\r\nContent-Length: 99\r\n\r\nx\r\n", `"" "x" Content-Length=99`},
		{FramingMultipart, "--b\r\nX: y", `"" ""`},
		{FramingMultipart, "--b", `"" "--b"`},

		{FramingGRPC, "\x00\x00\x00\x00\x02\x08\x01", `"" "{\"1\":1}"`},
		{FramingGRPC, "\x00\x00\x00\x00\x00", `"" "{}"`},
		{FramingGRPC, "\x00\x00\x00\x00\x09 {\"a\":1}\n", `"" "{\"a\":1}"`},
		{FramingGRPC, "\x01\x00\x00\x00\x02\x08\x01", `"" "CAE=" binary`},
		{FramingGRPC, "\x00\x00\x00\x00\x01\xff", `"" "/w==" binary`},
		{FramingGRPC, "\x00\x00\x00\x00\x05hello", `"" "hello"`},
		{FramingGRPC, "abc", `"" "abc"`},
	} {
		e := ParseEvent(c.framing, []byte(c.block))
		got := fmt.Sprintf("%q %q", e.Event, e.Data)
		if e.ID != "" {
			got += " id=" + e.ID
		}
		if e.Binary {
			got += " binary"
		}
		if !e.Dispatched {
			got += " none"
		}
		for _, f := range e.Headers {
			got += " " + f.Name + "=" + f.Value
		}
		if got != c.want {
			t.Errorf("%s %q:\ngot  %s\nwant %s", c.framing, c.block, got, c.want)
		}
	}
}

// TestEventsJSON: the events of `flows show --json` in their framings.
func TestEventsJSON(t *testing.T) {
	d := &Detail{Exchange: *sample()}
	d.Request.Head.Framing, d.Response.Head.Framing = FramingGRPC, FramingGRPC
	d.Events = []Piece{
		{Side: Client, At: start.Add(time.Millisecond), Data: []byte("\x00\x00\x00\x00\x04\x0a\x02hi")},
		{Side: Server, At: start.Add(2 * time.Millisecond), Data: []byte("\x01\x00\x00\x00\x01x")},
	}
	wantEvents(t, d, `[{"at_ms":1,"dir":"sent","framing":"grpc","event":"message","data":{"1":"hi"}},`+
		`{"at_ms":2,"dir":"received","framing":"grpc","event":"message","data":{"base64":"eA=="}}]`)
	d.Response.Head.Framing = FramingEventStream
	d.Events = []Piece{{Side: Server, At: start, Data: eventMessage(wrapped(`{"type":"ping"}`), text(":event-type", "chunk"))}}
	wantEvents(t, d, `[{"at_ms":0,"framing":"aws-eventstream","event":"ping","frame_headers":{":event-type":"chunk"},"data":{"type":"ping"}}]`)
	d.Response.Head.Framing = FramingNDJSON
	d.Events = []Piece{{Side: Server, At: start, Data: []byte("{\"n\":12345678901234567890}\n")}}
	wantEvents(t, d, `[{"at_ms":0,"framing":"ndjson","event":"message","data":{"n":12345678901234567890}}]`)
	d.Response.Head.Framing = FramingSSE
	d.Events = []Piece{{Side: Server, At: start, Data: []byte("data: 1\n\n")}}
	wantEvents(t, d, `[{"at_ms":0,"event":"message","data":1}]`)
}

func wantEvents(t *testing.T, d *Detail, want string) {
	t.Helper()
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Events json.RawMessage }
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	if string(m.Events) != want {
		t.Errorf("got\n%s\nwant\n%s", m.Events, want)
	}
}

// FuzzParseEvent: whatever the bytes are, there is something to show, and it
// stands in JSON.
func FuzzParseEvent(f *testing.F) {
	framings := []string{FramingSSE, FramingNDJSON, FramingJSONArray, FramingEventStream, FramingMultipart, FramingGRPC, ""}
	f.Add(uint8(0), []byte("data: x\n\n"))
	f.Add(uint8(1), []byte("\x1e{}\n"))
	f.Add(uint8(3), eventMessage(wrapped(`{"type":"ping"}`), text(":event-type", "chunk")))
	f.Add(uint8(3), eventMessage("", "\x01a\x08\x7f\xff\xff\xff\xff\xff\xff\xff"))
	f.Add(uint8(4), []byte("--b\r\nContent-Length: -1\r\n x\r\n\r\none\r\n"))
	f.Add(uint8(5), []byte("\x00\x00\x00\x00\x09\x0b\x0d\x00\x00\x80\x7f\x0c\x10\x01"))
	f.Fuzz(func(t *testing.T, framing uint8, block []byte) {
		e := ParseEvent(framings[int(framing)%len(framings)], block)
		switch {
		case e.Binary:
			if _, err := base64.StdEncoding.DecodeString(e.Data); err != nil {
				t.Fatal(err)
			}
		case framings[int(framing)%len(framings)] != FramingSSE && framings[int(framing)%len(framings)] != "" && !utf8.ValidString(e.Data):
			t.Fatalf("%q is no text", e.Data)
		}
		if _, err := MarshalJSON(e.Value()); err != nil {
			t.Fatal(err)
		}
		if _, err := MarshalJSON(e.HeaderMap()); err != nil {
			t.Fatal(err)
		}
	})
}
