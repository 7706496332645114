package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"trace/llm"
)

// On a terminal this much of a block is shown, unless all is asked for; what is
// piped is whole.
const (
	maxTextLines     = 60
	maxResultLines   = 16
	maxThinkingLines = 16
	maxAddedLines    = 4 // of what a client adds to a prompt
)

// blocks prints the blocks of a message.
func (p *callPrinter) blocks(blocks []llm.Block, role string) {
	for i := range blocks {
		b := &blocks[i]
		switch b.Kind {
		case llm.Text, llm.Refusal:
			p.text(b, role)
		case llm.Thinking:
			p.thinking(b)
		case llm.ToolCall:
			p.toolCall(b)
		case llm.ToolResult:
			p.toolResult(b)
		case llm.Image, llm.Audio, llm.Document:
			p.line("    %s", p.w.paint(cyan, "["+w1(p.w, mediaText(b))+"]"))
			p.inner(b.Content, "      ", maxResultLines)
		default:
			p.line("    %s", p.w.paint(cyan, "["+w1(p.w, cmp.Or(b.Type, b.Kind))+"]"))
			p.indented(compact(b.Raw), "      ", faint, maxAddedLines)
		}
		if len(b.Cache) > 0 {
			p.line("    %s", p.w.paint(faint, "── cache up to here "+w1(p.w, compact(b.Cache))))
		}
	}
}

// text prints text. What a client added to a prompt is marked.
func (p *callPrinter) text(b *llm.Block, role string) {
	switch {
	case b.Kind == llm.Refusal:
		p.line("    %s", p.w.paint(yellow, "[refusal]"))
		p.indented(b.Text, "    ", plain, maxTextLines)
	case role != "user":
		p.indented(b.Text, "    ", plain, maxTextLines)
	default:
		for _, part := range promptParts(b.Text) {
			switch part.tag {
			case "":
				p.indented(strings.Trim(part.text, "\n"), "    ", plain, maxTextLines)
			case slashCommand:
				p.line("    %s %s", p.w.paint(yellow, "["+part.tag+"]"), w1(p.w, part.text))
			default:
				p.line("    %s", p.w.paint(yellow, "["+part.tag+"]"))
				p.indented(part.text, "      ", faint, maxAddedLines)
			}
		}
	}
}

func (p *callPrinter) thinking(b *llm.Block) {
	if b.Text == "" {
		p.line("    %s", p.w.paint(faint, "[thinking, not shown by the provider]"))
		return
	}
	p.line("    %s", p.w.paint(faint, "[thinking]"))
	p.indented(b.Text, "      ", faint, maxThinkingLines)
}

func (p *callPrinter) toolCall(b *llm.Block) {
	line := p.w.paint(cyan, "→ "+w1(p.w, cmp.Or(b.Name, b.Type)))
	if b.ID != "" {
		line += " " + p.w.paint(faint, w1(p.w, b.ID))
	}
	if b.Server {
		line += " " + p.w.paint(faint, "(run by the provider)")
	}
	p.line("    %s", line)
	if len(b.Input) == 0 {
		p.indented(b.Text, "        ", plain, maxResultLines)
		return
	}
	p.input(b.Input)
}

// input prints the input of a tool: the members of an object a line each, text
// of several lines as such.
func (p *callPrinter) input(raw json.RawMessage) {
	members, ok := orderedMembers(raw)
	if !ok {
		p.indented(pretty(raw), "        ", plain, maxResultLines)
		return
	}
	for _, m := range members {
		var s string
		switch {
		case json.Unmarshal(m.Value, &s) != nil:
			s = pretty(m.Value)
		case s == "":
			s = `""`
		}
		if !strings.Contains(s, "\n") {
			p.indented(m.Name+": "+s, "        ", plain, maxResultLines)
			continue
		}
		p.line("        %s:", w1(p.w, m.Name))
		p.indented(s, "          ", plain, maxResultLines)
	}
}

// orderedMembers returns the members of a JSON object as they come; ok is false
// if it is none.
func orderedMembers(raw json.RawMessage) (members []llm.Param, ok bool) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	for d.More() {
		t, err := d.Token()
		name, isName := t.(string)
		if err != nil || !isName {
			return nil, false
		}
		var v json.RawMessage
		if d.Decode(&v) != nil {
			return nil, false
		}
		members = append(members, llm.Param{Name: name, Value: v})
	}
	return members, true
}

func (p *callPrinter) toolResult(b *llm.Block) {
	name := cmp.Or(b.Name, p.names[b.ID], b.Type)
	line := p.w.paint(cyan, "← "+w1(p.w, name))
	if b.ID != "" {
		line += " " + p.w.paint(faint, w1(p.w, b.ID))
	}
	if b.IsError {
		line += " " + p.w.paint(red, "error")
	}
	p.line("    %s", line)
	if b.Text != "" {
		p.indented(b.Text, "        ", plain, maxResultLines)
	}
	p.inner(b.Content, "        ", maxResultLines)
	if b.Text == "" && len(b.Content) == 0 && len(b.Input) > 0 {
		p.indented(pretty(b.Input), "        ", plain, maxResultLines)
	}
}

// inner prints blocks that lie within a block.
func (p *callPrinter) inner(blocks []llm.Block, indent string, limit int) {
	for i := range blocks {
		b := &blocks[i]
		switch b.Kind {
		case llm.Text, llm.Thinking, llm.Refusal:
			p.indented(b.Text, indent, plain, limit)
		case llm.Image, llm.Audio, llm.Document:
			p.line("%s%s", indent, p.w.paint(cyan, "["+w1(p.w, mediaText(b))+"]"))
			p.inner(b.Content, indent+"  ", limit)
		default:
			p.line("%s%s", indent, p.w.paint(cyan, "["+w1(p.w, cmp.Or(b.Type, b.Kind))+"]"))
			p.indented(compact(b.Raw), indent+"  ", faint, maxAddedLines)
		}
	}
}

// indented prints text of many lines. On a terminal it ends after limit lines,
// if that is not 0, and says how many are missing.
func (p *callPrinter) indented(text, indent string, st style, limit int) {
	text = strings.TrimRight(p.w.text(text), "\n")
	if text == "" {
		return
	}
	lines := strings.Split(text, "\n")
	left := 0
	if p.w.tty && !p.full && limit > 0 && len(lines) > limit+1 {
		left = len(lines) - limit
		lines = lines[:limit]
	}
	for _, l := range lines {
		if p.w.tty && !p.full && len(l) > maxBodyBytes {
			l = shorten(l, maxBodyBytes)
		}
		p.line("%s", strings.TrimRight(indent+p.w.paint(st, l), " "))
	}
	if left > 0 {
		p.line("%s%s", indent, p.w.paint(faint, fmt.Sprintf("… %s more (--full)", count(int64(left), "line"))))
	}
}

// compact writes JSON on one line, as it is where it is none.
func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

// pretty writes JSON for reading: short values on one line.
func pretty(raw json.RawMessage) string {
	line := compact(raw)
	if len(line) <= 100 {
		return line
	}
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return line
	}
	return b.String()
}

// mediaText says what a block is that is no text: image/png 12 kB.
func mediaText(b *llm.Block) string {
	what := cmp.Or(b.Media, b.Type, b.Kind)
	switch {
	case b.Size > 0:
		return what + " " + kiloText(b.Size)
	case b.URL != "":
		return what + " " + shorten(printable(b.URL), 200)
	}
	return what
}

// kiloText writes a size as people write those of pictures.
func kiloText(n int64) string {
	if n < 1000 {
		return count(n, "byte")
	}
	f, unit := float64(n)/1000, "kB"
	if f >= 999.5 {
		f, unit = f/1000, "MB"
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f %s", f, unit)
	}
	return fmt.Sprintf("%.0f %s", f, unit)
}
