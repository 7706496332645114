package otel

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"trace/llm"
)

// The most bytes of an attribute of content, and of one text in it.
const (
	maxContent = 512 << 10
	maxPart    = 64 << 10
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// cutContent bounds a text of content.
func cutContent(s string) string {
	if len(s) > maxPart {
		return cutText(s, maxPart)
	}
	return s
}

// sortedRefs are the keys of m in order.
func sortedRefs[V any](m map[llm.Ref]V) []llm.Ref {
	refs := make([]llm.Ref, 0, len(m))
	for r := range m {
		refs = append(refs, r)
	}
	slices.SortFunc(refs, func(a, b llm.Ref) int { return cmp.Or(cmp.Compare(a.Flow, b.Flow), cmp.Compare(a.Call, b.Call)) })
	return refs
}

// A message is one as the conventions have it.
type message struct {
	Role   string `json:"role"`
	Parts  []part `json:"parts"`
	Finish string `json:"finish_reason,omitempty"`
}

// A part is a part of a message.
type part struct {
	Type      string          `json:"type"`
	Content   *string         `json:"content,omitempty"`
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
	Response  json.RawMessage `json:"response,omitempty"`
	Modality  string          `json:"modality,omitempty"`
	MIME      string          `json:"mime_type,omitempty"`
	URI       string          `json:"uri,omitempty"`
	Size      int64           `json:"size,omitempty"` // of a blob, which itself is left out
}

// A definition is that of a tool.
type definition struct {
	Type        string          `json:"type"`
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
}

// content tells the messages of a call.
func (t *Teller) content(c *llm.Call, a *attributes) {
	a.long("gen_ai.system_instructions", encode(parts(c.System)))
	in := make([]message, 0, len(c.Messages))
	for i := range c.Messages {
		in = append(in, newMessage(&c.Messages[i], ""))
	}
	list, omitted := newest(in)
	a.long("gen_ai.input.messages", list)
	a.nonzero("trace.input.messages.omitted", int64(omitted))
	var out []message
	for i := range c.Answer {
		out = append(out, newMessage(&c.Answer[i], cmp.Or(c.Answer[i].Stop, c.Stop)))
	}
	list, _ = newest(out)
	a.long("gen_ai.output.messages", list)
	var tools []definition
	for _, u := range c.Tools {
		tools = append(tools, definition{"function", u.Name, cutContent(u.Description), object(u.Schema)})
	}
	if list := encode(tools); len(list) <= maxContent {
		a.long("gen_ai.tool.definitions", list)
	}
}

// encode writes a list as JSON; "" if it is empty.
func encode[E any](list []E) string {
	if len(list) == 0 {
		return ""
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(list) != nil {
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// newest writes as many of the last messages as there is place for, and counts
// the others.
func newest(list []message) (text string, omitted int) {
	size, from := 0, len(list)
	for from > 0 {
		n := len(encode(list[from-1 : from]))
		if size += n; size > maxContent {
			break
		}
		from--
	}
	return encode(list[from:]), from
}

func newMessage(m *llm.Message, finish string) message {
	role := m.Role
	switch role {
	case "developer":
		role = "system"
	case "function":
		role = "tool"
	}
	ps := parts(m.Blocks)
	if role == "user" && len(ps) > 0 && !slices.ContainsFunc(ps, func(p part) bool { return p.Type != "tool_call_response" }) {
		role = "tool" // as all others send it
	}
	return message{Role: role, Parts: ps, Finish: finish}
}

func parts(bs []llm.Block) []part {
	ps := make([]part, 0, len(bs))
	for i := range bs {
		ps = append(ps, newPart(&bs[i]))
	}
	return ps
}

func newPart(b *llm.Block) part {
	said := func(s string) *string {
		s = cutContent(s)
		return &s
	}
	switch b.Kind {
	case llm.Text, llm.Refusal:
		return part{Type: "text", Content: said(b.Text)}
	case llm.Thinking:
		return part{Type: "reasoning", Content: said(b.Text)}
	case llm.ToolCall:
		p := part{Type: "tool_call", ID: b.ID, Name: b.Name, Arguments: object(b.Input)}
		if b.Server {
			p.Type = "server_tool_call"
		}
		if p.Arguments == nil && b.Text != "" {
			p.Arguments = object([]byte(b.Text))
		}
		return p
	case llm.ToolResult:
		return part{Type: "tool_call_response", ID: b.ID, Response: object([]byte(resultText(b)))}
	case llm.Image, llm.Audio, llm.Document:
		p := part{Type: "blob", Modality: b.Kind, MIME: b.Media, Size: b.Size}
		if b.URL != "" {
			p.Type, p.URI, p.Size = "uri", b.URL, 0
		}
		return p
	}
	return part{Type: cmp.Or(b.Type, "other"), Content: said(b.Text)}
}

// object returns raw if it is JSON that has a reasonable size, else its text as a
// string.
func object(raw []byte) json.RawMessage {
	if len(raw) == 0 {
		return nil
	}
	if len(raw) <= maxPart && json.Valid(raw) {
		return raw
	}
	text, _ := json.Marshal(cutContent(clean(string(raw))))
	return text
}

// resultText is the text of a tool's result.
func resultText(b *llm.Block) string {
	var words []string
	if b.Text != "" {
		words = append(words, b.Text)
	}
	for i := range b.Content {
		in := &b.Content[i]
		switch in.Kind {
		case llm.Image, llm.Audio, llm.Document:
			words = append(words, "["+strings.TrimSpace(in.Kind+" "+in.Media)+"]")
		default:
			if text := resultText(in); text != "" {
				words = append(words, text)
			}
		}
	}
	if len(words) == 0 {
		return string(b.Input)
	}
	return strings.Join(words, "\n")
}
