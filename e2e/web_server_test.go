package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The hosts that the agent of the page's test speaks to.
const (
	filesHost    = "files.example.com"
	strangeHost  = "strange.example.net"
	internalHost = "internal.example.org"
)

// A stage answers the agent, and waits where the test wants to look: who drives
// the page releases it.
type stage struct {
	mu    sync.Mutex
	gates map[string]chan struct{}
	cache map[bool]cached // by whether it is the sub-agent's
}

type cached struct {
	system string
	tokens int
}

func newStage() *stage {
	return &stage{gates: map[string]chan struct{}{}, cache: map[bool]cached{}}
}

// gate is closed when it is released.
func (s *stage) gate(name string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gates[name] == nil {
		s.gates[name] = make(chan struct{})
	}
	return s.gates[name]
}

// release serves POST /NAME, of which the driver knows.
func (s *stage) release(_ http.ResponseWriter, r *http.Request) {
	g := s.gate(strings.TrimPrefix(r.URL.Path, "/"))
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-g:
	default:
		close(g)
	}
}

func (s *stage) wait(r *http.Request, name string) {
	select {
	case <-s.gate(name):
	case <-r.Context().Done():
	}
}

// A said is one answer of the model.
type said struct {
	think, text, tool, input, gate string
}

var agentTurns = []said{
	{"The failing test is the place to begin: read it, then what it tests.", "I look at the test first.", "Read", `{"file_path":"/src/clock/clock_test.go"}`, ""},
	{"It asks for noon in Oslo and gets eleven. So an offset is missing.", "The test wants **12:00** and gets `11:00`. Let me see how the offset is worked out.", "Read", `{"file_path":"/src/clock/clock.go"}`, "live"},
	{"", "`Offset` forgets summer time. Before I change it, a sub-agent looks for other callers.", "Task", `{"description":"Find callers of Offset","prompt":"Which files call clock.Offset, and do any of them rely on it being without summer time?"}`, ""},
	{"No caller relies on it. A small change.", "Nobody relies on it. I change one line.", "Edit", `{"file_path":"/src/clock/clock.go","old_string":"return z.base","new_string":"return z.base + z.dst(t)"}`, ""},
	{"", "Now the tests.", "Bash", `{"command":"go test ./..."}`, ""},
	{"One more failure: the table of zones has no dst for Bergen.", "One test is left: Bergen has no rule. I add it.", "Edit", `{"file_path":"/src/clock/zones.go","old_string":"\"Bergen\": {base: 1}","new_string":"\"Bergen\": {base: 1, dst: europe}"}`, ""},
	{"", "Once more.", "Bash", `{"command":"go test ./... # again"}`, ""},
	{"", "The clock is right again:\n\n1. `Offset` adds summer time, which it forgot.\n2. Bergen has a rule now.\n\n```go\nreturn z.base + z.dst(t)\n```\n\nAll tests pass.", "", "", "end"},
}

var subTurns = []said{
	{"Search all of it.", "I search the repository.", "Bash", `{"command":"grep -rn 'clock.Offset' /src"}`, ""},
	{"", "Three files call `clock.Offset`: `api.go`, `cron.go`, `report.go`. None relies on it being without summer time.", "", "", ""},
}

var toolResults = map[string]string{
	"clock_test.go": "func TestNoon(t *testing.T) {\n\tif got := Noon(\"Oslo\"); got != \"12:00\" {\n\t\tt.Errorf(\"Noon is %s, want 12:00\", got)\n\t}\n}\n" + strings.Repeat("// A line of the file that the agent reads and every later turn carries.\n", 60),
	"clock.go":      "func (z zone) Offset(t time.Time) int {\n\treturn z.base\n}\n" + strings.Repeat("// Another line of a file that is carried along.\n", 120),
	"# again":       "ok  \tclock\t0.041s\nok  \tclock/api\t0.120s",
	"go test":       "--- FAIL: TestBergen (0.00s)\n    clock_test.go:31: Noon is 11:00, want 12:00\nFAIL\nFAIL\tclock\t0.039s",
	"grep":          "/src/api/api.go:41: off := clock.Offset(now)\n/src/cron/cron.go:12: clock.Offset(t)\n/src/report/report.go:88: clock.Offset(day)",
	"old_string":    "The file was changed.",
}

// model streams the answer of a turn, word by word.
func (s *stage) model(w http.ResponseWriter, r *http.Request) {
	var body struct {
		System   []struct{ Text string }
		Messages []json.RawMessage
	}
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(r.Body); err != nil || json.Unmarshal(raw.Bytes(), &body) != nil || len(body.System) == 0 {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	sub := strings.Contains(body.System[0].Text, "sub-agent")
	turns, n := agentTurns, len(body.Messages)/2
	if sub {
		turns = subTurns
	}
	if n >= len(turns) {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	prompt := raw.Len() / 4
	s.mu.Lock()
	last := s.cache[sub]
	read := 0
	if last.system == body.System[1].Text {
		read = last.tokens
	}
	s.cache[sub] = cached{body.System[1].Text, prompt - 3}
	s.mu.Unlock()
	s.stream(w, r, turns[n], fmt.Sprintf("msg_%v_%d", sub, n), prompt, read)
}

// pace is the time between two pieces of an answer.
const pace = 3 * time.Millisecond

func (s *stage) stream(w http.ResponseWriter, r *http.Request, a said, id string, prompt, read int) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	say := func(event, data string) {
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data)
		w.(http.Flusher).Flush()
	}
	pieces := func(index int, kind, member, text string) {
		for i, word := range strings.SplitAfter(text, " ") {
			if a.gate != "" && kind == "text_delta" && i == 4 {
				s.wait(r, a.gate)
			}
			quoted, _ := json.Marshal(word)
			say("content_block_delta", fmt.Sprintf(`{"type":"content_block_delta","index":%d,"delta":{"type":%q,%q:%s}}`, index, kind, member, quoted))
			select {
			case <-time.After(pace):
			case <-r.Context().Done():
			}
		}
	}
	block := func(index int, start string, inside func()) {
		say("content_block_start", fmt.Sprintf(`{"type":"content_block_start","index":%d,"content_block":%s}`, index, start))
		inside()
		say("content_block_stop", fmt.Sprintf(`{"type":"content_block_stop","index":%d}`, index))
	}
	say("message_start", fmt.Sprintf(`{"type":"message_start","message":{"id":%q,"type":"message","role":"assistant","model":"claude-example-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"cache_creation_input_tokens":%d,"cache_read_input_tokens":%d,"output_tokens":1}}}`, id, prompt-3-read, read))
	i := 0
	if a.think != "" {
		block(i, `{"type":"thinking","thinking":"","signature":""}`, func() {
			pieces(i, "thinking_delta", "thinking", a.think)
			say("content_block_delta", fmt.Sprintf(`{"type":"content_block_delta","index":%d,"delta":{"type":"signature_delta","signature":"c2ln"}}`, i))
		})
		i++
	}
	block(i, `{"type":"text","text":""}`, func() { pieces(i, "text_delta", "text", a.text) })
	stop := "end_turn"
	if a.tool != "" {
		i++
		stop = "tool_use"
		block(i, fmt.Sprintf(`{"type":"tool_use","id":"toolu_%s","name":%q,"input":{}}`, id, a.tool), func() { pieces(i, "input_json_delta", "partial_json", a.input) })
	}
	say("message_delta", fmt.Sprintf(`{"type":"message_delta","delta":{"stop_reason":%q,"stop_sequence":null},"usage":{"output_tokens":%d}}`, stop, (len(a.think)+len(a.text)+len(a.input))/4))
	say("message_stop", `{"type":"message_stop"}`)
}

// files answers the rest of the agent's day.
func (s *stage) files(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/tool":
		var body bytes.Buffer
		body.ReadFrom(r.Body)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		for _, key := range []string{"old_string", "clock_test.go", "clock.go", "# again", "go test", "grep"} {
			if strings.Contains(body.String(), key) {
				fmt.Fprint(w, toolResults[key])
				return
			}
		}
	case "/logo.png":
		m := image.NewRGBA(image.Rect(0, 0, 96, 64))
		for i := range 96 * 64 {
			m.Set(i%96, i/96, color.RGBA{uint8(i % 96 * 2), 90, uint8(i / 96 * 4), 255})
		}
		w.Header().Set("Content-Type", "image/png")
		png.Encode(w, m)
	case "/missing":
		http.Error(w, `{"error":"no such file"}`, http.StatusNotFound)
	case "/broken":
		http.Error(w, "the database is away", http.StatusServiceUnavailable)
	case "/hold", "/last":
		s.wait(r, r.URL.Path[1:])
		fmt.Fprint(w, "bye")
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Served", strings.Repeat("long ", 200))
		var body bytes.Buffer
		body.ReadFrom(r.Body)
		fmt.Fprintf(w, `{"path":%q,"number":12345678901234567890,"10":"ten","2":"two","again":1,"again":2,"body":%q,"list":[1,2,{"deep":{"deeper":{"deepest":true}}}]}`, r.URL.String(), body.String())
	}
}

// longLine is the size of the body that is one line.
const longLine = 10 << 20

// strange answers what a page must not be impressed by.
func strange(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/page":
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("X-Evil", `"><img src=x onerror="document.title='owned'">`)
		fmt.Fprint(w, `<!doctype html><script>document.title='owned';fetch('https://strange.example.net/owned')</script><img src=x onerror="document.title='owned'"><svg onload="document.title='owned'">`)
	case "/names":
		fmt.Fprint(w, `{"<img src=x onerror=alert(1)>":"<script>document.title='owned'</script>","bidi":"user\u202egpj.exe","raw":"`+"user\u202etxt.exe \u2066\u200b"+`","ansi":"\u001b[2J\u001b]0;owned\u0007","null":"\u0000","tags":"`+"\U000E0041"+`","__proto__":{"owned":true},"constructor":"x"}`)
	case "/deep":
		fmt.Fprint(w, strings.Repeat("[", 100000)+"1"+strings.Repeat("]", 100000))
	case "/long":
		fmt.Fprint(w, `"`+strings.Repeat("0123456789abcdef", longLine/16)+`"`)
	case "/big":
		fmt.Fprint(w, `{"rows":[`)
		for i := range 40000 {
			if i > 0 {
				fmt.Fprint(w, ",")
			}
			fmt.Fprintf(w, `{"id":%d,"name":"row %d","tags":["a","b","c"],"nested":{"x":%d,"y":null,"text":"some text of a row"}}`, i, i, i*7)
		}
		fmt.Fprint(w, `]}`)
	}
}
