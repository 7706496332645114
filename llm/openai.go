package llm

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"trace/flow"
)

// This file has what the APIs of OpenAI share, and those who imitate them:
// parts of messages, calls of tools, usage, errors.

// part reads an element of a content array: of Chat Completions or of
// Responses, which say the same with other words.
func part(raw json.RawMessage) Block {
	o := members(raw)
	if kind(raw) == '"' {
		return Block{Kind: Text, Text: text(raw)}
	}
	b := Block{Kind: Other, Type: o.text("type"), Raw: raw}
	b.Cache = o.mark("cache_control")
	if b.Cache == nil {
		b.Cache = o.mark("prompt_cache_breakpoint")
	}
	switch b.Type {
	case "text", "input_text", "output_text", "summary_text", "reasoning_text":
		b.Kind, b.Text = Text, o.text("text")
	case "refusal":
		b.Kind, b.Text = Refusal, o.text("refusal")
	case "thinking": // of Mistral: a string, or parts
		b.Kind, b.Text = Thinking, joined(o.get("thinking"), "")
	case "image_url", "input_image", "computer_screenshot", "output_image", "video_url", "input_video":
		if !strings.Contains(b.Type, "video") {
			b.Kind = Image
		}
		b.locate(o, "image_url", "video_url", "file_id")
	case "input_audio", "output_audio", "audio":
		b.Kind = Audio
		b.audio(o)
	case "file", "input_file":
		b.Kind = Document
		if f := o.object("file"); f != nil {
			o = f
		}
		b.Name = o.text("filename")
		b.locate(o, "file_data", "file_url", "file_id")
	case "":
		if kind(o.get("text")) == '"' {
			b.Kind, b.Text = Text, o.text("text")
		}
	}
	return b
}

// locate says where the content of b lies: the first of the names that o has,
// which is a URL, an id, or the data itself.
func (b *Block) locate(o object, names ...string) {
	for _, name := range names {
		raw := o.get(name)
		if inner := members(raw); inner != nil {
			raw = inner.get("url")
		}
		s := text(raw)
		if s == "" {
			continue
		}
		if name == "file_data" && !strings.HasPrefix(s, "data:") {
			b.Size = base64Length(s)
			return
		}
		b.place(s)
		return
	}
}

// place takes a URL apart that may hold the data.
func (b *Block) place(url string) {
	rest, inline := strings.CutPrefix(url, "data:")
	if !inline {
		b.URL = url
		return
	}
	media, data, _ := strings.Cut(rest, ",")
	media, encoded := strings.CutSuffix(media, ";base64")
	b.Media = media
	if encoded {
		b.Size = base64Length(data)
	} else {
		b.Size = int64(len(data))
	}
}

// audio reads {input_audio: {data, format}}, or the same without a wrapper.
func (b *Block) audio(o object) {
	for _, name := range []string{"input_audio", "output_audio", "audio"} {
		if inner := o.object(name); inner != nil {
			o = inner
			break
		}
	}
	if format := o.text("format"); format != "" {
		b.Media = "audio/" + format
	}
	b.Size = base64Length(o.text("data") + o.text("audio"))
	b.Text = o.text("transcript")
	if b.Size == 0 {
		b.URL = o.text("id") // of one that was said before
	}
}

// base64Size returns how many bytes s stands for.
func base64Length(s string) int64 {
	s = strings.TrimRight(s, "= \r\n")
	n := int64(len(s) - strings.Count(s, "\n") - strings.Count(s, "\r"))
	return n * 3 / 4
}

// content reads what stands under "content": a string, parts, or something
// else.
func content(raw json.RawMessage) []Block {
	switch kind(raw) {
	case 0, 'n':
		return nil
	case '"':
		if s := text(raw); s != "" {
			return []Block{{Kind: Text, Text: s}}
		}
		return nil
	case '[':
		var blocks []Block
		for _, p := range elements(raw) {
			blocks = append(blocks, part(p))
		}
		return blocks
	case '{':
		return []Block{part(raw)}
	}
	return []Block{{Kind: Other, Raw: raw}}
}

// joined returns the text of a string, or of the parts of an array.
func joined(raw json.RawMessage, between string) string {
	if kind(raw) == '"' {
		return text(raw)
	}
	var all []string
	for _, p := range elements(raw) {
		if o := members(p); o != nil {
			p = o.get("text")
		}
		if s := text(p); s != "" {
			all = append(all, s)
		}
	}
	return strings.Join(all, between)
}

// arguments gives a call what it is called with: JSON in a string, as OpenAI
// has it, or JSON itself.
func (b *Block) arguments(raw json.RawMessage) {
	switch kind(raw) {
	case 0, 'n':
	case '"':
		b.argumentText(text(raw))
	default:
		b.Input = raw
	}
}

// argumentText is arguments for what was put together from pieces.
func (b *Block) argumentText(s string) {
	if b.Input = sound(s); b.Input == nil {
		b.Text = s
	}
}

// sound returns s as JSON, nil if it is none, or nested so deep that it may not
// stand within other JSON.
func sound(s string) json.RawMessage {
	if p := []byte(s); utf8.Valid(p) && json.Valid(p) && flow.Depth(p) <= maxNested {
		return p
	}
	return nil
}

// openaiTools reads the tools of Chat Completions, where what a tool is stands
// under the name of its type, and of Responses, where it stands flat.
func openaiTools(raw json.RawMessage) []Tool {
	var tools []Tool
	for _, raw := range elements(raw) {
		o := members(raw)
		t := Tool{Type: o.text("type"), Raw: raw, Cache: o.mark("cache_control")}
		def := o
		if inner := o.object(t.Type); inner != nil {
			def = inner
		} else if inner := o.object("function"); inner != nil {
			def, t.Type = inner, "function"
		}
		t.Name = def.text("name")
		if t.Name == "" {
			t.Name = o.text("server_label")
		}
		if t.Name == "" {
			t.Name = t.Type
		}
		t.Description = def.text("description")
		t.Schema = def.mark("parameters")
		if t.Schema == nil {
			t.Schema = def.mark("format") // a grammar, of custom tools
		}
		if t.Cache == nil {
			t.Cache = def.mark("cache_control")
		}
		tools = append(tools, t)
	}
	return tools
}

// openaiUsage reads usage as OpenAI and those who imitate it tell it: what was
// cached is part of the input, what was reasoned part of the output.
func openaiUsage(raw json.RawMessage) *Usage {
	o := members(raw)
	if len(o) == 0 {
		return nil
	}
	first := func(names ...string) int64 {
		for _, path := range names {
			if v := o.at(strings.Split(path, ".")...); !absent(v) {
				return max(0, integer(v))
			}
		}
		return 0
	}
	u := &Usage{
		CacheRead: first("prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens", "input_token_details.cached_tokens",
			"prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens"),
		CacheWrite: first("prompt_tokens_details.cache_write_tokens", "input_tokens_details.cache_write_tokens",
			"prompt_tokens_details.cache_creation_tokens", "cache_creation_input_tokens"),
		Output:    first("completion_tokens", "output_tokens"),
		Reasoning: first("completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens", "output_token_details.reasoning_tokens", "reasoning_tokens"),
		Raw:       raw,
	}
	prompt := first("prompt_tokens", "input_tokens")
	u.Input = max(0, prompt-u.CacheRead-u.CacheWrite)
	// Some count what was reasoned beside the completion: their total shows it.
	if total := first("total_tokens"); u.Reasoning > 0 && total == prompt+u.Output+u.Reasoning {
		u.Output += u.Reasoning
	}
	u.Output = max(u.Output, u.Reasoning)
	return u
}

// merged returns what an answer has beside what is read of it, without nulls.
func merged(extra []Param, o object, read ...string) []Param {
	var g gatherer
	g.addAll(extra, replaces)
	g.addAll(o, replaces, read...)
	return g.params()
}

// nth returns the number under name, or other if there is none.
func (o object) nth(name string, other int) int {
	raw := o.get(name)
	if n := integer(raw); !absent(raw) && n >= 0 && n < 1<<31 {
		return int(n)
	}
	return other
}
