package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"trace/flow"
)

// grpcFrame is a message of gRPC with its prefix.
func grpcFrame(message string) string {
	return string([]byte{0, 0, 0, 0, byte(len(message))}) + message
}

// streamed records an event of side.
func (on emit) streamed(ordinal int64, side flow.Side, data string) {
	on(flow.StreamEvent, ordinal, func(e *flow.Event) { e.Side, e.Data = side, []byte(data) })
}

// heads records a request and an answer whose bodies are events in a framing.
// Where the request's are too, it goes on after the answer has begun.
func (on emit) heads(ordinal int64, path, framing, contentType string, both bool) {
	on(flow.Request, ordinal, func(e *flow.Event) {
		e.Head = &flow.Head{Method: "POST", Target: path, Path: path, Scheme: "https", Host: "f.example", Port: 443, Authority: "f.example", Version: "2", Stream: 2*ordinal - 1, Fields: []flow.Field{{Name: "content-type", Value: contentType}}}
		if both {
			e.Head.Framing, e.Head.Streaming = framing, true
		}
	})
	if !both {
		on.body(ordinal, flow.Client, "")
	}
	on(flow.Response, ordinal, func(e *flow.Event) {
		e.Side = flow.Server
		e.Head = &flow.Head{Status: 200, Version: "2", Stream: 2*ordinal - 1, Framing: framing, Streaming: true, Fields: []flow.Field{{Name: "content-type", Value: contentType}}}
	})
}

func (on emit) bodyEnd(ordinal int64, side flow.Side, events int64, trailers ...flow.Field) {
	on(flow.BodyEnd, ordinal, func(e *flow.Event) {
		e.Side, e.Ended = side, &flow.Ended{Size: 9, Decoded: 9, Kept: 9, Events: events, Trailers: trailers}
	})
}

// framingSession records a conversation in each framing: 1 gRPC, 2 multipart,
// 3 NDJSON.
func framingSession(t *testing.T) *script {
	r := scripted(t, "framings")
	on := emit(r.open("f.example", 443, func(c *flow.Conn) { c.Protocol = "http2" }))
	on.heads(1, "/Shop/Talk", flow.FramingGRPC, "application/grpc", true)
	on.streamed(1, flow.Client, grpcFrame("\x0a\x02hi"))
	on.streamed(1, flow.Server, grpcFrame("\x0a\x05there"))
	on.streamed(1, flow.Client, grpcFrame("\x0a\x04\xe2\x80\xae!"))
	on.streamed(1, flow.Server, grpcFrame(`{"text":"`+"\u202e"+`"}`))
	on.bodyEnd(1, flow.Client, 2)
	on.bodyEnd(1, flow.Server, 2, flow.Field{Name: "grpc-status", Value: "7"}, flow.Field{Name: "grpc-message", Value: "not%20you%1b"})
	on(flow.End, 1, nil)
	on.heads(2, "/parts", flow.FramingMultipart, "multipart/mixed; boundary=b", false)
	on.streamed(2, flow.Server, "--b\r\nContent-Type: text/plain\r\nX-Evil: \x1b[2J\r\n\r\nhello"+evil+"\r\n")
	on.streamed(2, flow.Server, "--b\r\n\r\n\xff\x00\r\n")
	on.bodyEnd(2, flow.Server, 2)
	on(flow.End, 2, nil)
	on.heads(3, "/lines", flow.FramingNDJSON, "application/x-ndjson", false)
	on.streamed(3, flow.Server, "{\"n\":1}\n")
	on.bodyEnd(3, flow.Server, 1)
	on(flow.End, 3, nil)
	on(flow.ConnEnd, 0, nil)
	r.flush()
	return r
}

func TestShowFramings(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	framingSession(t)
	for id, wants := range map[string][]string{
		"1": {
			"200 grpc 7, complete", `HTTP/2, stream 1, grpc, status 7 PERMISSION_DENIED: not you\x1b`, "grpc-status: 7 (trailer)",
			`sent     message  {"1":"hi"}`, `received message  {"1":"there"}`, `sent     message  {"1":"\u202e!"}`, `received message  {"text":"\u202e"}`,
		},
		"2": {"stream 3, multipart", `message  Content-Type: text/plain  X-Evil: \x1b[2J  hello\x1b[2J\u202egnp\r\n\x07`, "message  base64 /wA="},
		"3": {"ndjson", `message  {"n":1}`},
	} {
		w, out := screen(200, false)
		var stderr strings.Builder
		if err := (&showOptions{}).run(id, w, &stderr); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(out.String(), "\x1b\u202e\r\x07\x00") || !utf8.ValidString(out.String()) {
			t.Errorf("flow %s reached the terminal unescaped:\n%s", id, out)
		}
		at := 0
		for _, want := range wants {
			i := strings.Index(out.String()[at:], want)
			if i < 0 {
				t.Fatalf("flow %s: no %q after what stands before it in\n%s", id, want, out)
			}
			at += i
		}
	}
}

func TestFramingsJSON(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	framingSession(t)
	for id, want := range map[string]string{
		"1": `[["sent","grpc",{"1":"hi"}],["received","grpc",{"1":"there"}],["sent","grpc",{"1":"\u202e!"}],["received","grpc",{"text":"\u202e"}]]`,
		"2": `[[null,"multipart","hello` + "\\u001b[2J\u202egnp\\r\\n\\u0007" + `"],[null,"multipart",{"base64":"/wA="}]]`,
		"3": `[[null,"ndjson",{"n":1}]]`,
	} {
		stdout, stderr, code := runCLI(t, "flows", "show", id, "--json")
		v, err := generic([]byte(stdout))
		if err != nil || code != 0 {
			t.Fatalf("exit %d, %v, %s", code, err, stderr)
		}
		fs, err := parseFilters([]string{`.[0].events|map([.dir,.framing,.data])`})
		if err != nil {
			t.Fatal(err)
		}
		outs, err := applyFilters(t.Context(), fs, []any{v})
		if err != nil {
			t.Fatal(err)
		}
		var got, wanted any
		text, _ := json.Marshal(outs[0])
		if json.Unmarshal(text, &got) != nil || json.Unmarshal([]byte(want), &wanted) != nil {
			t.Fatalf("%s, %s", text, want)
		}
		if a, b := printed(got), printed(wanted); a != b {
			t.Errorf("flow %s: %s, want %s", id, a, b)
		}
	}
	table, _, _ := runCLI(t, "flows", "list")
	if !strings.Contains(table, "200 grpc 7") {
		t.Errorf("no status of gRPC in\n%s", table)
	}
	if got, _, _ := runCLI(t, "flows", "list", "--jq", `map(.response|select(.grpc_status)|[.grpc_status,.grpc_message,.framing,.events])`); got != `[[7,"not you\u001b","grpc",2]]`+"\n" {
		t.Errorf("--jq: %s", got)
	}
}

func printed(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

// TestFollowCall follows a gRPC call while it is open: what either side says is
// there before the other goes on.
func TestFollowCall(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	r := scripted(t, "live")
	reader, err := r.s.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	text, jsonl := follow(t, func(w io.Writer) error {
		return (&tailOptions{}).follow(context.Background(), reader, 1, &terminal{Writer: w})
	}), follow(t, func(w io.Writer) error { return followJSONL(context.Background(), reader, w) })
	on := emit(r.open("f.example", 443, nil))
	jsonl.until(`"type":"meta"`)
	on.heads(1, "/Shop/Talk", flow.FramingGRPC, "application/grpc", true)
	r.flush()
	text.start()
	text.until("< 200 application/grpc")
	for i, side := range []flow.Side{flow.Client, flow.Server, flow.Server, flow.Client} {
		say := strings.Repeat("x", i+1)
		on.streamed(1, side, grpcFrame("\x0a"+string(rune(len(say)))+say))
		text.until(pad(side.Dir(), 8, false) + ` message  {"1":"` + say + `"}`)
		jsonl.until(`"data":{"1":"` + say + `"}`)
	}
	on.bodyEnd(1, flow.Client, 2)
	on.bodyEnd(1, flow.Server, 2, flow.Field{Name: "grpc-status", Value: "0"})
	on(flow.End, 1, nil)
	text.until("= complete")
	jsonl.until(`"grpc_status":0`)
	on(flow.ConnEnd, 0, nil)
	r.finish()
	if got, want := types(t, jsonl.rest()), "meta request:1 response_headers:1 sse:1 sse:1 sse:1 sse:1 stream_end:1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	text.rest()
}

// A follower is a command that follows, and the lines that it printed.
type follower struct {
	t     *testing.T
	run   func(w io.Writer) error
	done  chan error
	lines *bufio.Reader
	all   strings.Builder
}

// follow returns a follower that starts when something is wanted of it.
func follow(t *testing.T, run func(w io.Writer) error) *follower {
	return &follower{t: t, run: run}
}

func (f *follower) start() {
	if f.done != nil {
		return
	}
	pr, pw := io.Pipe()
	f.done, f.lines = make(chan error, 1), bufio.NewReader(pr)
	go func() { f.done <- f.run(pw); pw.Close() }()
}

// until reads up to the line that holds want.
func (f *follower) until(want string) {
	f.t.Helper()
	f.start()
	for {
		line, err := f.lines.ReadString('\n')
		f.all.WriteString(line)
		if err != nil {
			f.t.Fatalf("waiting for %s: %v after\n%s", want, err, f.all.String())
		}
		if strings.Contains(line, want) {
			return
		}
	}
}

// rest reads up to the end and returns all that was printed.
func (f *follower) rest() string {
	f.t.Helper()
	if _, err := io.Copy(&f.all, f.lines); err != nil {
		f.t.Fatal(err)
	}
	if err := <-f.done; err != nil {
		f.t.Fatal(err)
	}
	return f.all.String()
}

// TestNoSecretInViews: what redaction took out of messages and events is in no
// view of them, in no encoding.
func TestNoSecretInViews(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	secret := "sk-ant-api03-" + strings.Repeat("Zq7", 30) + "AA"
	r := recordRedacted(t, "secret")
	ws := emit(r.open("ws.example", 443, nil))
	ws.openSocket(1)
	ws.message(1, flow.Client, flow.OpText, `{"token":"`+secret+`","n":1}`)
	ws.message(1, flow.Server, flow.OpText, "half "+secret[:20])
	ws.message(1, flow.Server, flow.OpText, secret[20:]+" whole")
	ws.message(1, flow.Server, flow.OpBinary, "\x01"+secret)
	ws.message(1, flow.Client, flow.OpClose, "\x03\xe8"+secret)
	ws(flow.End, 1, nil)
	ws(flow.ConnEnd, 0, nil)
	on := emit(r.open("f.example", 443, func(c *flow.Conn) { c.Protocol = "http2" }))
	on.heads(1, "/Shop/Talk", flow.FramingGRPC, "application/grpc", true)
	on.streamed(1, flow.Client, grpcFrame("\x0a"+string(rune(len(secret)))+secret))
	on.streamed(1, flow.Server, grpcFrame(`{"k":"`+secret+`"}`))
	on.bodyEnd(1, flow.Client, 1)
	on.bodyEnd(1, flow.Server, 1)
	on(flow.End, 1, nil)
	on(flow.ConnEnd, 0, nil)
	r.finish()
	core := secret[13:60]
	encoded := regexp.MustCompile(`[A-Za-z0-9+/]{40,}=*`)
	for _, args := range []string{"list --json", "show 1", "show 1 --json", "show 2", "show 2 --json", "show 2 --request-body", "tail --json", "tail 1", "tail 2"} {
		stdout, stderr, code := runCLI(t, strings.Fields("flows "+args)...)
		if code != 0 {
			t.Fatalf("flows %s: exit %d, %s", args, code, stderr)
		}
		for _, text := range append(encoded.FindAllString(stdout, -1), stdout) {
			plain, err := base64.StdEncoding.DecodeString(text)
			if strings.Contains(text, core) || err == nil && bytes.Contains(plain, []byte(core)) {
				t.Errorf("flows %s: the secret is in\n%.2000s", args, stdout)
			}
		}
		if strings.HasPrefix(args, "tail --json") && types(t, stdout) == "" {
			t.Error("nothing was logged")
		}
	}
}
