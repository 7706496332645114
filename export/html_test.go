package export

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"trace/flow"
)

const hostile = "</div><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x1b[31m"

const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

// turnOf makes a call of the Messages API with these messages, which are JSON,
// and the answer to it, which is its content.
func turnOf(m *memory, id int64, messages, content, stop string) *flow.Exchange {
	x := plain(id)
	x.Started, x.Ended = after(float64(id)*1000), after(float64(id)*1000+500)
	x.Request.Head.Method, x.Request.Head.Path, x.Request.Head.Target = "POST", "/v1/messages", "/v1/messages"
	x.Request.Head.Fields = fields("content-type", "application/json", "anthropic-version", "2023-06-01", "x-api-key", "[REDACTED:anthropic]")
	x.Request.ContentType = "application/json"
	x.Response.Head = &flow.Head{Status: 200, Version: "1.1", Fields: fields("content-type", "application/json")}
	x.Response.ContentType = "application/json"
	request := fmt.Sprintf(`{"model":"claude-x","max_tokens":99,"system":[{"type":"text","text":%q,"cache_control":{"type":"ephemeral"}}],"tools":[{"name":"Bash","description":"runs <b>it</b>","input_schema":{"type":"object"}}],"messages":[%s]}`, "Be brief. "+strings.ReplaceAll(hostile, "\x1b", ""), messages)
	answer := fmt.Sprintf(`{"id":"msg_%d","type":"message","role":"assistant","model":"claude-x","content":[%s],"stop_reason":%q,"usage":{"input_tokens":12,"cache_read_input_tokens":4800,"cache_creation_input_tokens":100,"output_tokens":7}}`, id, content, stop)
	m.bodies[id] = [2]string{request, answer}
	x.Request.Body = &flow.Ended{Size: int64(len(request)), Decoded: int64(len(request)), Kept: int64(len(request))}
	x.Response.Body = &flow.Ended{Size: int64(len(answer)), Decoded: int64(len(answer)), Kept: int64(len(answer))}
	return x
}

// conversationOf is one of two turns and a call by itself.
func conversationOf() ([]*flow.Exchange, *memory) {
	m := &memory{bodies: map[int64][2]string{}, pieces: map[int64][]flow.Piece{}}
	quoted := func(s string) string {
		return strings.ReplaceAll(strings.ReplaceAll(fmt.Sprintf("%q", s), `\x1b`, `\u001b`), `\u202e`, "\u202e")
	}
	first := `{"role":"user","content":[{"type":"text","text":` + quoted("List the files "+hostile) + `},{"type":"image","source":{"type":"base64","media_type":"image/svg+xml","data":"` + png + `"}}]}`
	call := `{"type":"thinking","thinking":"hm <i>","signature":"x"},{"type":"text","text":"I will."},{"type":"tool_use","id":"toolu_1","name":"Bash","input":{"command":"ls </pre>"}}`
	result := `{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","is_error":true,"content":[{"type":"text","text":` + quoted("no such file "+hostile) + `}]}]}`
	return []*flow.Exchange{
		turnOf(m, 1, first, call, "tool_use"),
		turnOf(m, 2, `{"role":"user","content":"Title this"}`, `{"type":"text","text":"A title"}`, "end_turn"),
		turnOf(m, 3, first+`,{"role":"assistant","content":[`+call+`]},`+result, `{"type":"text","text":"Done."}`, "end_turn"),
	}, m
}

func pageOf(t *testing.T, h *HTML, s flow.Session, xs []*flow.Exchange, src Source) string {
	t.Helper()
	var out bytes.Buffer
	h.W = &out
	if err := h.From(s, src); err != nil {
		t.Fatal(err)
	}
	for _, x := range xs {
		if err := h.Flow(x); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.End(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// allowed are the elements of a page and their attributes: none runs anything,
// none loads anything.
var allowed = map[string]string{
	"html": "lang", "head": "", "meta": "charset http-equiv content name", "title": "", "style": "", "body": "", "h1": "", "h2": "", "p": "class id",
	"nav": "", "ol": "", "li": "", "a": "href", "span": "class", "section": "id", "div": "class", "pre": "", "details": "class open", "summary": "class", "img": "alt src",
}

// inspect walks a page and returns its text.
func inspect(t *testing.T, page string) string {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	var walk func(n *html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.TextNode {
			text.WriteString(n.Data)
		}
		if n.Type == html.ElementNode {
			attributes, ok := allowed[n.Data]
			if !ok {
				t.Errorf("element %s", n.Data)
			}
			for _, a := range n.Attr {
				if !strings.Contains(" "+attributes+" ", " "+a.Key+" ") {
					t.Errorf("attribute %s of %s", a.Key, n.Data)
				}
				if a.Key == "href" && !strings.HasPrefix(a.Val, "#") || a.Key == "src" && !strings.HasPrefix(a.Val, "data:image/png;base64,") {
					t.Errorf("%s=%q", a.Key, a.Val)
				}
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(root)
	return text.String()
}

func TestHTML(t *testing.T) {
	xs, m := conversationOf()
	page := pageOf(t, &HTML{}, flow.Session{ID: "01KDY"}, xs, m)
	text := inspect(t, page)
	for want, n := range map[string]int{
		"<script>alert(1)</script>": 5, // title, navigation, prompt and result; the system prompt is one for both conversations
		"⟨U+202E⟩":                  -1, "⟨U+001B⟩": -1, "I will.": 1, "hm <i>": 1, `"command": "ls </pre>"`: 1, "Done.": 1, "A title": 1, "runs <b>it</b>": 2,
		"in 12 + 4800 cached + 100 written to the cache, out 7 tokens": -1, "in 24 + 9600 cached": -1, "Result, an error": 1, "cached up to here": 2, "tool_use": -1, "2 calls": -1,
	} {
		if got := strings.Count(text, want); n >= 0 && got != n && want != "<script>alert(1)</script>" || got == 0 {
			t.Errorf("%q is there %d times, want %d", want, got, n)
		}
	}
	if strings.ContainsAny(page, "\x1b\u202e") || strings.Contains(page, "<script") {
		t.Error("something captured can act")
	}
	if !strings.Contains(page, "default-src &#39;none&#39;") && !strings.Contains(page, "default-src 'none'") {
		t.Errorf("no policy in %.600s", page)
	}
	only := inspect(t, pageOf(t, &HTML{Only: []int64{3}}, flow.Session{ID: "01KDY"}, xs, m))
	if strings.Contains(only, "A title") || !strings.Contains(only, "I will.") {
		t.Errorf("the conversation of flow 3: %s", only)
	}
}

// TestHTMLSecrets: a session recorded with its secrets makes a page without.
func TestHTMLSecrets(t *testing.T) {
	xs, m := conversationOf()
	secret := "sk-ant-api03-" + strings.Repeat("Aa0", 20)
	b := m.bodies[3]
	m.bodies[3] = [2]string{strings.Replace(b[0], "no such file", secret, 1), strings.Replace(b[1], "Done.", "it is "+secret, 1)}
	page := pageOf(t, &HTML{}, flow.Session{ID: "01KDY", Secrets: true}, xs, m)
	if strings.Contains(page, secret) || strings.Count(page, "[REDACTED:anthropic]") != 2 {
		t.Errorf("the secret is in the page: %t, %d times replaced", strings.Contains(page, secret), strings.Count(page, "[REDACTED:anthropic]"))
	}
}

func TestHTMLNothing(t *testing.T) {
	h := &HTML{W: new(bytes.Buffer)}
	h.From(flow.Session{}, &memory{})
	if err := h.Flow(plain(1)); !errors.Is(err, ErrNoPlace) {
		t.Errorf("%v", err)
	}
	if err := h.End(); !errors.Is(err, ErrNoCalls) {
		t.Errorf("%v", err)
	}
}
