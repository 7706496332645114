package redact

import (
	"bytes"
	"slices"
	"strconv"
)

// A node is one object or array of an event: its place is part of the path
// that names a channel.
type node struct {
	parent   int
	elem     bool // of an array, at pos; otherwise the member named by from, to
	pos      int
	from, to int
	index    [len(indexKeys)][2]int // where the values of these members stand
}

// indexKeys are members that tell parallel texts of one stream apart.
var indexKeys = [...]string{"index", "output_index", "content_index", "summary_index", "contentBlockIndex"}

// A leaf is one string of an event.
type leaf struct {
	node     int
	elem     bool
	pos      int
	key      [2]int
	from, to int
	escaped  bool
}

// index notes members that are part of the channel's name.
func (w *walker) index(top *frame, key []byte, from, to int) {
	if top.node < 0 {
		return
	}
	for i, k := range indexKeys {
		if string(key) == k {
			w.nodes[top.node].index[i] = [2]int{from, to}
		}
	}
	if w.nodes[top.node].parent < 0 && string(key) == "type" {
		w.root = [2]int{from, to}
	}
}

// leaf lists a string.
func (w *walker) leaf(top *frame, from, to int, escaped bool) {
	w.leaves = append(w.leaves, leaf{
		node: top.node, elem: top.array, pos: top.pos, key: [2]int{top.from, top.to},
		from: from, to: to, escaped: escaped,
	})
}

// kindOfLeaf says how the strings of one path follow one another.
type kindOfLeaf uint8

const (
	whole     kindOfLeaf = iota // each stands for itself
	continued                   // they are one text
	eitherWay                   // one text, or each its own: not known
)

// wholeKeys are members that never carry a text in pieces.
var wholeKeys = set(`type id object model role name item_id response_id call_id tool_call_id finish_reason
	stop_reason status system_fingerprint service_tier obfuscation signature encrypted_content event_id responseId
	modelVersion finishReason thoughtSignature created_at jsonrpc method provider request_id previous_response_id`)

// channelOf appends the name of the channel of l to key: the type of the
// event, the indexes of its root, and the path.
func (w *walker) channelOf(key []byte, l *leaf) ([]byte, kindOfLeaf) {
	name := w.b[l.key[0]:l.key[1]]
	if !l.elem && wholeKeys[string(name)] {
		return key, whole
	}
	kind := eitherWay
	event := w.b[w.root[0]:w.root[1]]
	switch {
	case hasPrefix(event, "content_block_"):
		kind = continued
	case isWholeEvent(event):
		return key, whole
	case bytes.Contains(event, []byte("delta")):
		kind = continued
	}
	key = w.scope(key, event)
	if l.elem {
		key = strconv.AppendInt(key, int64(l.pos), 10)
	} else {
		key = append(key, name...)
	}
	for i := l.node; i >= 0; i = w.nodes[i].parent {
		n := &w.nodes[i]
		key = append(key, '<')
		if !n.elem {
			part := w.b[n.from:n.to]
			switch string(part) {
			case "delta", "choices", "candidates":
				kind = continued
			case "content_block": // its first piece, of which the rest are deltas
				part = []byte("delta")
			}
			key = append(key, part...)
			continue
		}
		if v := n.index[0]; v[1] > 0 {
			key = append(key, '#')
			key = append(key, w.b[v[0]:v[1]]...)
		} else if !w.joins(n.parent) {
			key = strconv.AppendInt(key, int64(n.pos), 10)
		}
	}
	return key, kind
}

// scope appends the part of a channel's name that all channels of one block
// have in common.
func (w *walker) scope(key, event []byte) []byte {
	switch {
	case hasPrefix(event, "content_block_"):
		event = []byte("content_block")
	case hasSuffix(event, ".done"):
		event = append(slices.Clone(event[:len(event)-len("done")]), "delta"...)
	}
	key = append(key, event...)
	if len(w.nodes) > 0 {
		for _, v := range w.nodes[0].index {
			key = append(key, '|')
			key = append(key, w.b[v[0]:v[1]]...)
		}
	}
	return append(key, '|')
}

// joins reports whether the elements of array i are pieces of one text.
func (w *walker) joins(i int) bool {
	if i < 0 || w.nodes[i].elem {
		return false
	}
	n := &w.nodes[i]
	if string(w.b[n.from:n.to]) == "parts" {
		return true
	}
	p := n.parent
	return p >= 0 && !w.nodes[p].elem && string(w.b[w.nodes[p].from:w.nodes[p].to]) == "logprobs"
}

// isWholeEvent reports whether an event of that type repeats what came in
// pieces, or never has any.
func isWholeEvent(event []byte) bool {
	switch string(event) {
	case "message_start", "message_stop", "ping", "error":
		return true
	}
	for _, s := range []string{
		".done", ".completed", ".created", ".added", ".in_progress", ".failed", ".incomplete", // answers
		".create", ".update", ".updated", ".delete", ".deleted", ".cancel", ".commit", ".committed", ".started", ".stopped", // what a client says, and is told
	} {
		if hasSuffix(event, s) {
			return true
		}
	}
	return false
}

// A channel is one text that the events of a stream carry in pieces.
type channel struct {
	name  string
	tail  tail
	frags []frag
}

// A frag is the piece that one event carries and that is not decided as a
// whole. Its positions count from what is decided.
type frag struct {
	rec  *record
	text *text
	at   int // begins there, negative if part of it is decided
	n    int
}

// feed adds a piece, or with final ends the text.
func (c *channel) feed(p []byte, own, final bool) {
	if c.tail.soft && own {
		c.tail.part(p)
	}
	from := c.tail.from
	spans, safe := c.tail.feed(p, own, final)
	c.tail.soft = c.tail.soft && own && c.tail.within != nil
	c.decide(from, spans, safe)
	switch {
	case own && !final && c.tail.complete(len(p)):
		c.settle()
		c.tail.soft = true
	case len(c.frags) > maxFrags:
		c.settle()
	}
	if final {
		c.tail = tail{known: c.tail.known, scan: c.tail.scan}
	}
}

// settle decides on all that is held back.
func (c *channel) settle() {
	if len(c.frags) > 0 {
		from := c.tail.from
		spans, safe := c.tail.settle()
		c.decide(from, spans, safe)
	}
}

// decide carries spans of the text from on back to the pieces that it came in,
// and gives out what stands before safe.
func (c *channel) decide(from int, spans []span, safe int) {
	for i := range spans {
		s := &spans[i]
		for j := range c.frags {
			f := &c.frags[j]
			lo, hi := max(s.start-from, f.at), min(s.end-from, f.at+f.n)
			if lo < hi {
				f.rec.edit(f.text, lo-f.at, hi-f.at, *s)
				s.drop = true // the others of this span
			}
		}
	}
	c.tail.advance(safe)
	kept := c.frags[:0]
	for _, f := range c.frags {
		f.at -= safe - from
		if f.at+f.n <= 0 {
			f.text.held = -1
			f.rec.pending--
			continue
		}
		f.text.held = max(0, -f.at)
		kept = append(kept, f)
	}
	clear(c.frags[len(kept):])
	c.frags = kept
}
