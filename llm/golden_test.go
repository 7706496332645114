package llm

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"trace/flow"
)

var update = flag.Bool("update", false, "rewrite what testdata wants")

// The scripts of testdata have a file "request" (request line, fields, empty
// line, body), "response" (status, fields, empty line, body) and "want". A body
// whose type is a stream's is cut into events, 10 ms apart. The field Framing
// says how, where the type does not; that of an AWS event stream is written as
// SSE, an event "exception:NAME" or "error:CODE" is one of those, and one
// "plain:NAME" is not wrapped. A file
// "messages" has the messages of a WebSocket, "> " sent and "< " received. The
// field State of the response is that of the exchange if it is not complete.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{}
			for _, f := range a.Files {
				files[f.Name] = string(f.Data)
			}
			got := dump(Read(script(t, files)))
			if *update {
				want := txtar.File{Name: "want", Data: []byte(got)}
				if n := len(a.Files); a.Files[n-1].Name == "want" {
					a.Files[n-1] = want
				} else {
					a.Files = append(a.Files, want)
				}
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != files["want"] {
				t.Errorf("got\n%s\nwant\n%s", got, files["want"])
			}
		})
	}
}

// began is when the exchanges of scripts began.
var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func script(t *testing.T, files map[string]string) *flow.Detail {
	t.Helper()
	d := &flow.Detail{Exchange: flow.Exchange{ID: 1, Kind: flow.KindHTTP, State: flow.StateComplete, Started: began}}
	line, fields, body := scriptPart(files["request"])
	method, rest, _ := strings.Cut(line, " ")
	host := (&flow.Head{Fields: fields}).Get("Host")
	host, port, _ := strings.Cut(host, ":")
	n, _ := strconv.Atoi(port)
	d.Request = &flow.Part{Head: &flow.Head{Method: method, Target: rest, Path: rest, Scheme: "https", Host: host, Port: n, Fields: fields}, Body: &flow.Ended{}}
	d.RequestBody = []byte(strings.TrimSuffix(body, "\n"))
	for i, m := range strings.Split(strings.TrimSuffix(files["messages"], "\n"), "\n") {
		if len(m) > 2 {
			p := flow.Piece{Index: i, At: began.Add(time.Duration(i+1) * 10 * time.Millisecond), Opcode: flow.OpText, Data: []byte(m[2:]), Size: int64(len(m) - 2)}
			if m[0] == '<' {
				p.Side = flow.Server
			}
			d.Kind, d.Messages = flow.KindWebSocket, append(d.Messages, p)
		}
	}
	if files["response"] == "" {
		d.State = flow.StateFailed
		return d
	}
	line, fields, body = scriptPart(files["response"])
	h := &flow.Head{Fields: fields}
	h.Status, _ = strconv.Atoi(line)
	if s := h.Get("State"); s != "" {
		d.State = s
	}
	d.Response = &flow.Part{Head: h, ContentType: h.Get("Content-Type"), Body: &flow.Ended{Cut: d.State == flow.StateFailed}}
	scriptBody(d, h, body)
	return d
}

func scriptBody(d *flow.Detail, h *flow.Head, body string) {
	var blocks []string
	switch h.Framing = h.Get("Framing"); {
	case strings.Contains(d.Response.ContentType, "text/event-stream"):
		h.Framing, blocks = flow.FramingSSE, splitSSE(body)
	case strings.Contains(d.Response.ContentType, "amazon.eventstream"):
		h.Framing = flow.FramingEventStream
		for _, block := range splitSSE(body) {
			if e := flow.ParseEvent(flow.FramingSSE, []byte(block)); e.Dispatched {
				blocks = append(blocks, amazonFrame(e.Event, e.Data))
			}
		}
	case strings.Contains(d.Response.ContentType, "ndjson"):
		h.Framing, blocks = flow.FramingNDJSON, strings.SplitAfter(body, "\n")
	case h.Framing == flow.FramingJSONArray:
		var list []json.RawMessage
		if json.Unmarshal([]byte(body), &list) == nil {
			for _, raw := range list {
				blocks = append(blocks, string(raw))
			}
		}
	default:
		body = strings.TrimSuffix(body, "\n")
	}
	d.ResponseBody = []byte(body)
	for i, block := range blocks {
		if block != "" {
			at := began.Add(time.Duration(i+1) * 10 * time.Millisecond)
			d.Events = append(d.Events, flow.Piece{Index: i, At: at, Side: flow.Server, Data: []byte(block), Size: int64(len(block))})
		}
	}
	h.Streaming = blocks != nil
}

// splitSSE cuts at empty lines, whatever ends lines.
func splitSSE(body string) []string {
	if strings.Contains(body, "\r\n\r\n") {
		return strings.SplitAfter(body, "\r\n\r\n")
	}
	return strings.SplitAfter(body, "\n\n")
}

func scriptPart(s string) (line string, fields []flow.Field, body string) {
	head, body, _ := strings.Cut(s, "\n\n")
	line, head, _ = strings.Cut(head, "\n")
	for l := range strings.SplitSeq(head, "\n") {
		if name, value, ok := strings.Cut(l, ": "); ok {
			fields = append(fields, flow.Field{Name: name, Value: value})
		}
	}
	return line, fields, body
}

// amazonFrame writes a message of an AWS event stream as Bedrock does.
func amazonFrame(name, data string) string {
	headers := [][2]string{{":event-type", "chunk"}, {":content-type", "application/json"}, {":message-type", "event"}}
	payload := data
	switch kind, rest, _ := strings.Cut(name, ":"); kind {
	case "plain":
		headers[0][1] = rest
	case "exception":
		headers = [][2]string{{":exception-type", rest}, {":content-type", "application/json"}, {":message-type", "exception"}}
	case "error":
		if rest != "" {
			headers = [][2]string{{":error-code", rest}, {":error-message", data}, {":message-type", "error"}}
			payload = ""
			break
		}
		fallthrough
	default:
		payload = `{"bytes":"` + base64.StdEncoding.EncodeToString([]byte(data)) + `","p":"abcd"}`
	}
	var h []byte
	for _, f := range headers {
		h = append(append(h, byte(len(f[0]))), f[0]...)
		h = append(binary.BigEndian.AppendUint16(append(h, 7), uint16(len(f[1]))), f[1]...)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(h)+len(payload)+16))
	b = binary.BigEndian.AppendUint32(b, uint32(len(h)))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	b = append(append(b, h...), payload...)
	return string(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)))
}

// dump writes what is set of v, a field a line; a call that began with its
// exchange does not say so.
func dump(v any) string {
	var b bytes.Buffer
	dumpValue(&b, reflect.ValueOf(v), "")
	return b.String()
}

func dumpValue(b *bytes.Buffer, v reflect.Value, indent string) {
	switch x := v.Interface().(type) {
	case time.Time:
		fmt.Fprintf(b, " +%s\n", x.Sub(began))
		return
	case json.RawMessage:
		fmt.Fprintf(b, " %s\n", x)
		return
	case Param:
		fmt.Fprintf(b, " %s = %s\n", x.Name, x.Value)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		dumpValue(b, v.Elem(), indent)
	case reflect.Slice:
		fmt.Fprintf(b, " %d\n", v.Len())
		for i := range v.Len() {
			fmt.Fprintf(b, "%s-", indent)
			dumpValue(b, v.Index(i), indent+"  ")
		}
	case reflect.Struct:
		b.WriteByte('\n')
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() && f.Interface() != began {
				fmt.Fprintf(b, "%s%s:", indent, v.Type().Field(i).Name)
				dumpValue(b, f, indent+"  ")
			}
		}
	case reflect.String:
		fmt.Fprintf(b, " %q\n", v.String())
	default:
		fmt.Fprintf(b, " %v\n", v)
	}
}
