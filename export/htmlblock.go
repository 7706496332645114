package export

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"trace/llm"
)

// maxImage bounds the images that a page carries.
const maxImage = 4 << 20

// block makes what the page shows of a block.
func (v *conversation) block(b *llm.Block) *block {
	out := &block{Kind: b.Kind, Text: harmless(b.Text), Error: b.IsError, Cache: len(b.Cache) > 0}
	for i := range b.Content {
		out.Inner = append(out.Inner, v.block(&b.Content[i]))
	}
	switch b.Kind {
	case llm.Text, llm.Refusal:
	case llm.Thinking:
		if out.Label = "Thinking"; b.Text == "" {
			out.Label = "Thinking, not shown by the provider"
		}
	case llm.ToolCall:
		out.Label = harmless(b.Name)
		if len(b.Input) > 0 {
			out.Text = indented(b.Input)
		}
		if b.ID != "" {
			v.calls[b.ID] = out
		}
	case llm.ToolResult:
		out.Label = "Result"
		if b.Name != "" {
			out.Label += " of " + harmless(b.Name)
		}
	case llm.Image, llm.Audio, llm.Document:
		out.Label = strings.TrimSpace(harmless(b.Kind + " " + b.Media))
		if b.Size > 0 {
			out.Label += fmt.Sprintf(", %d bytes", b.Size)
		}
		if b.URL != "" {
			out.Text = harmless(b.URL)
		}
		if b.Kind == llm.Image {
			out.Image = imageOf(b)
		}
	default:
		out.Label, out.Text = harmless(b.Type), indented(b.Raw)
	}
	return out
}

// images are the formats that a page may carry, by how their bytes begin.
// Those that could hold more than pixels (SVG) are not among them.
var images = []struct{ media, magic string }{
	{"image/png", "\x89PNG\r\n\x1a\n"}, {"image/jpeg", "\xff\xd8\xff"}, {"image/gif", "GIF8"}, {"image/webp", "RIFF"},
}

// imageOf returns an inline image as a data URI, "" if it is none that can be
// shown. What it is is told by its bytes, not by what it was called.
func imageOf(b *llm.Block) string {
	for _, text := range base64Members(b.Raw) {
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(data) > maxImage {
			continue
		}
		for _, i := range images {
			if bytes.HasPrefix(data, []byte(i.magic)) {
				return "data:" + i.media + ";base64," + base64.StdEncoding.EncodeToString(data)
			}
		}
	}
	return ""
}

// base64Members returns the long strings within a block, without what a data
// URI begins with: one of them is the image.
func base64Members(raw json.RawMessage) (all []string) {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return nil
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			if i := strings.Index(v, ";base64,"); i >= 0 && strings.HasPrefix(v, "data:") {
				v = v[i+len(";base64,"):]
			}
			if len(v) > 32 {
				all = append(all, v)
			}
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(v)
	return all
}

// indented is JSON for reading, or the text itself where it is none.
func indented(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return harmless(string(raw))
	}
	return harmless(b.String())
}

// harmless makes characters visible that control how others are shown: those
// that reorder or hide text, and control characters but newline and tab.
func harmless(s string) string {
	s = valid(s)
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			fmt.Fprintf(&b, "⟨U+%04X⟩", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hidden(r rune) bool {
	switch {
	case r == '\n', r == '\t', r == '\u200d', r == '\ufe0f': // the last two join emoji
		return false
	case r == '\r':
		return true
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Co, r)
}
