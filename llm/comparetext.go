package llm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// exact adds a block as the provider reads it: all of it but marks for the
// cache. A bare string and a block of text that says no more are the same.
func (d digest) exact(b *Block) digest {
	switch {
	case b.Kind == Text && plain(b.Raw):
		return d.add('t').text(b.Text)
	case b.Kind == ToolResult && !b.Server && b.Raw != nil:
		d = d.add('r').text(b.ID)
		if b.IsError {
			d = d.add('e')
		}
		return d.text(b.Text).exactAll(b.Content)
	case b.Raw != nil:
		return d.add('j').full(b.Raw)
	}
	return d.add('b').text(b.Kind).text(b.ID).text(b.Name).text(b.Text).json(b.Input).text(b.URL).exactAll(b.Content)
}

func (d digest) exactAll(list []Block) digest {
	for i := range list {
		d = d.exact(&list[i])
	}
	return d.add('.')
}

// full adds an object without the members that are null: answers have them,
// clients leave them out.
func (d digest) full(raw json.RawMessage) digest {
	o := members(raw)
	if o == nil {
		return d.json(raw)
	}
	for _, m := range o {
		if !absent(m.Value) && m.Name != "cache_control" && m.Name != "prompt_cache_breakpoint" {
			d = d.text(m.Name).json(m.Value)
		}
	}
	return d
}

// plain reports whether a block of text says nothing but the text.
func plain(raw json.RawMessage) bool {
	for _, m := range members(raw) {
		switch m.Name {
		case "type", "text", "cache_control", "prompt_cache_breakpoint":
		default:
			if !absent(m.Value) && string(m.Value) != "[]" {
				return false
			}
		}
	}
	return true
}

func blockDigests(list []Block) []digest {
	ds := make([]digest, len(list))
	for i := range list {
		ds[i] = none.exact(&list[i])
	}
	return ds
}

func messageDigests(list []Message) []digest {
	ds := make([]digest, len(list))
	for i := range list {
		ds[i] = none.text(list[i].Role).exactAll(list[i].Blocks)
		for _, p := range list[i].Extra {
			ds[i] = ds[i].text(p.Name).json(p.Value)
		}
	}
	return ds
}

func (t *Tool) digest() digest {
	if t.Raw != nil {
		return none.full(t.Raw)
	}
	return none.text(t.Name).text(t.Type).text(t.Description).json(t.Schema)
}

// text returns what a definition says.
func (t *Tool) text() string {
	if t.Raw == nil {
		return t.Description + "\n" + pretty(t.Schema)
	}
	if o := members(t.Raw); o != nil {
		return pretty(object(o.without("cache_control")).raw())
	}
	return pretty(t.Raw)
}

// text returns what a block says, for a comparison.
func (b *Block) text() string {
	switch b.Kind {
	case Text, Refusal:
		return b.Text
	case Thinking:
		if b.Text == "" {
			return "[hidden thinking]"
		}
		return b.Text
	case ToolCall:
		if b.Input == nil {
			return b.Name + " " + b.Text
		}
		return b.Name + " " + pretty(b.Input)
	case ToolResult:
		var s []string
		if b.Text != "" {
			s = append(s, b.Text)
		}
		for i := range b.Content {
			s = append(s, b.Content[i].text())
		}
		return strings.Join(s, "\n")
	case Image, Audio, Document:
		s := "[" + b.Kind
		for _, part := range []string{b.Media, b.Name, b.URL} {
			if part != "" {
				s += " " + part
			}
		}
		if b.Size > 0 {
			s += fmt.Sprintf(" %d bytes", b.Size)
		}
		s += "]"
		for i := range b.Content {
			s += "\n" + b.Content[i].text()
		}
		return s
	}
	if b.Raw != nil {
		return pretty(b.Raw)
	}
	return b.Text
}

func messageText(m *Message) string {
	var s []string
	for i := range m.Blocks {
		s = append(s, m.Blocks[i].text())
	}
	return strings.Join(s, "\n")
}

// maxPretty bounds the JSON that is indented.
const maxPretty = 1 << 20

// pretty indents JSON, so that it can be compared line by line.
func pretty(raw json.RawMessage) string {
	var b bytes.Buffer
	if len(raw) > maxPretty || json.Indent(&b, raw, "", "  ") != nil {
		return string(raw)
	}
	return b.String()
}

// maxBrief bounds the text of a change that stands for the whole.
const maxBrief = 120

// brief returns the beginning of s.
func brief(s string) string {
	if len(s) <= maxBrief {
		return s
	}
	first, _ := cutText(s, maxBrief, 0)
	return first + "…"
}

// around returns what stands in both texts where they begin to differ.
func around(a, b string) (x, y string) {
	const before = 30
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	for i = max(0, i-before); i > 0 && (i >= len(a) || !utf8.RuneStart(a[i])); i-- {
	}
	lead := ""
	if i > 0 {
		lead = "…"
	}
	return lead + brief(a[i:]), lead + brief(b[min(i, len(b)):])
}
