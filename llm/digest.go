package llm

import (
	"bytes"
	"encoding/json"
	"hash/maphash"
	"strings"
)

// A digest stands for content: equal content has equal digests, whatever cache
// marks it bears, however its JSON is spaced and escaped. It is good for this
// process only.
type digest uint64

var digestSeed = maphash.MakeSeed()

// none is the digest that others begin with.
const none digest = 0

// text adds a string.
func (d digest) text(s string) digest { return d.add(digest(maphash.String(digestSeed, s))) }

// bytes adds bytes.
func (d digest) bytes(p []byte) digest { return d.add(digest(maphash.Bytes(digestSeed, p))) }

// add adds another digest; the order counts. The constants are those of
// splitmix64.
func (d digest) add(e digest) digest {
	x := uint64(d)*0x9e3779b97f4a7c15 + uint64(e) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return digest(x ^ x>>31)
}

// json adds a JSON value: white space between tokens and escapes in strings do
// not count, cache marks neither.
func (d digest) json(raw json.RawMessage) digest {
	return d.value(raw, 0)
}

func (d digest) value(raw json.RawMessage, depth int) digest {
	switch k := kind(raw); {
	case depth > maxContent:
		return d.bytes(raw)
	case k == '{':
		d = d.add('{')
		for _, m := range members(raw) {
			if m.Name != "cache_control" && m.Name != "prompt_cache_breakpoint" {
				d = d.text(m.Name).value(m.Value, depth+1)
			}
		}
		return d.add('}')
	case k == '[':
		d = d.add('[')
		for _, e := range elements(raw) {
			d = d.value(e, depth+1)
		}
		return d.add(']')
	case k == '"':
		if bytes.IndexByte(raw, '\\') < 0 {
			raw = bytes.TrimSpace(raw)
			return d.add('"').bytes(raw[1 : len(raw)-1])
		}
		return d.add('"').text(text(raw))
	}
	return d.bytes(bytes.TrimSpace(raw))
}

// block adds a block as the other side will read it. Thinking is nothing: it
// is left out of a later request without the conversation being another one.
// Neither is empty text.
func (d digest) block(b *Block) digest {
	switch b.Kind {
	case Thinking:
	case Text, Refusal:
		if s := strings.TrimSpace(b.Text); s != "" {
			d = d.text(s)
		}
	case ToolCall:
		d = d.add('c').text(b.ID).text(b.Name)
		if b.Input != nil {
			d = d.json(b.Input)
		} else {
			d = d.text(b.Text)
		}
	case ToolResult:
		d = d.add('r').text(b.ID)
		if b.Content == nil && b.Text == "" && b.Raw != nil {
			return d.json(b.Raw)
		}
		d = d.text(b.Text)
		for i := range b.Content {
			d = d.block(&b.Content[i])
		}
		if b.IsError {
			d = d.add('e')
		}
	default:
		d = d.text(b.Kind).text(b.Type)
		if b.Raw != nil {
			d = d.json(b.Raw)
		} else {
			d = d.text(b.Text).text(b.URL)
		}
	}
	return d
}

// blocks adds blocks, for instance a system prompt.
func (d digest) blocks(list []Block) digest {
	for i := range list {
		d = d.block(&list[i])
	}
	return d
}

// A chain is a conversation block by block: each element is the digest of all
// blocks up to it. So two conversations have the same beginning as far as their
// chains are equal, however the blocks are grouped into messages.
type chain []digest

// follow appends the blocks of messages to the chain, from is the digest that
// comes before the first. ends says after how many blocks each message ends.
func (c chain) follow(from digest, messages []Message) (longer chain, ends []int) {
	last := from
	if len(c) > 0 {
		last = c[len(c)-1]
	}
	ends = make([]int, len(messages))
	for i := range messages {
		m := &messages[i]
		role := none.text(m.Role)
		for j := range m.Blocks {
			if d := role.block(&m.Blocks[j]); d != role {
				last = last.add(d)
				c = append(c, last)
			}
		}
		ends[i] = len(c)
	}
	return c, ends
}

// common returns how many blocks c and o begin with in common.
func (c chain) common(o chain) int {
	low, high := 0, min(len(c), len(o))
	for low < high { // equal up to low, unknown up to high
		if mid := (low + high + 1) / 2; c[mid-1] == o[mid-1] {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low
}

// lines adds the digests of the lines of a text that are long enough to be
// told from others. Of one that has none, the text itself is the line.
func lines(to []digest, s string) []digest {
	before := len(to)
	for l := range strings.SplitSeq(s, "\n") {
		if l = strings.TrimSpace(l); len(l) >= minLine {
			to = append(to, none.text(l))
		}
	}
	if s = strings.TrimSpace(s); len(to) == before && s != "" {
		to = append(to, none.text(s))
	}
	return to
}

// minLine is the length from which on a line says enough to be looked for.
const minLine = 24
