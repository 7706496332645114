package redact

import (
	"bytes"
	"slices"
	"strings"
)

// Limits of one stream. Beyond, what is held back is decided as it stands.
const (
	maxChannels = 1024
	maxPartial  = 1024 // events that are partial
	maxFrags    = 1024 // pieces of one text that are held back
)

// Out is one event as it may be kept.
type Out struct {
	Index   int    // of the event, from 0, in the order of the calls of Event
	Raw     []byte // its bytes; not changed later
	N       int    // places replaced that no earlier Out of this Index counted
	Partial bool   // its end is held back; a later Out of the same Index has all
	Changed bool   // it is not what was handed over, apart from what is held back
}

// Events is the state of one stream of events.
type Events struct {
	r        *Redactor
	framing  framing
	walk     walker
	channels map[string]*channel
	order    []*channel
	key      []byte
	next     int
	partial  []*record // given out as Partial
}

// Events returns the state for one stream of server-sent events.
func (r *Redactor) Events() *Events { return r.events(block) }

func (r *Redactor) events(f framing) *Events {
	return &Events{r: r, framing: f, walk: walker{r: r, list: true}, channels: map[string]*channel{}}
}

// A record is an event some of whose strings may not be decided yet.
type record struct {
	index   int
	raw     []byte
	data    *view // of the data lines, if there are several
	base    int   // where the data stand in raw, otherwise
	edits   []span
	texts   []*text
	pending int // strings that are not decided
	told    int // placeholders counted so far

	tree  *protoNode // of raw, if it is a protobuf message
	outer envelope   // what raw was taken out of, nil: nothing
	whole []byte     // with it
}

// A text is one string of a record.
type text struct {
	from, n int   // in the data; decoded length
	esc     *view // if it has escapes
	held    int   // from here on it is held back, -1: nothing is
}

// place returns the range of the raw block for a range of a text.
func (r *record) place(t *text, from, to int) (int, int) {
	if t.esc != nil {
		from, to = t.esc.start(from), t.esc.end(to)
	} else {
		from, to = from+t.from, to+t.from
	}
	if r.data != nil {
		return r.data.start(from), r.data.end(to)
	}
	return from + r.base, to + r.base
}

// edit replaces a range of a text by what s says.
func (r *record) edit(t *text, from, to int, s span) {
	s.start, s.end = r.place(t, from, to)
	r.edits = append(r.edits, s)
}

// out returns the block as far as it is decided.
func (r *record) out() Out {
	spans := r.edits
	if r.pending > 0 {
		spans = slices.Clone(spans)
		for _, t := range r.texts {
			if t.held >= 0 {
				from, to := r.place(t, t.held, t.n)
				spans = append(spans, span{start: from, end: to, drop: true})
			}
		}
	}
	raw, n := r.build(normalize(spans))
	o := Out{Index: r.index, Raw: raw, N: max(0, n-r.told), Partial: r.pending > 0, Changed: len(r.edits) > 0}
	if r.outer != nil {
		o.Changed = o.Changed || r.outer.edited()
	}
	r.told = max(n, r.told)
	return o
}

// Event adds one event as it was on the wire, without or with what delimits
// it. It returns this event, and earlier ones that it completes. raw may be
// reused; events without a secret are returned as they are.
func (e *Events) Event(raw []byte) (outs []Out) {
	rec := &record{index: e.next, raw: raw}
	e.next++
	defer e.r.fail(func() {
		next := e.next
		*e = *e.r.events(e.framing)
		e.next = next
		outs = []Out{{Index: rec.index, Raw: e.framing.withheld(), N: 1, Changed: true}}
	})
	e.read(rec)
	return e.emit(rec)
}

// emit returns what is ready, and rec.
func (e *Events) emit(rec *record) []Out {
	outs := e.complete()
	if rec.pending > 0 {
		rec.raw, rec.whole = bytes.Clone(rec.raw), bytes.Clone(rec.whole)
		e.partial = append(e.partial, rec)
	}
	outs = append(outs, rec.out())
	if len(e.partial) > maxPartial {
		outs = append(outs, e.settle()...)
	}
	return outs
}

// complete returns events that were partial and no longer are.
func (e *Events) complete() []Out {
	var outs []Out
	kept := e.partial[:0]
	for _, r := range e.partial {
		if r.pending > 0 {
			kept = append(kept, r)
		} else {
			outs = append(outs, r.out())
		}
	}
	clear(e.partial[len(kept):])
	e.partial = kept
	return outs
}

// Settle decides on all that is held back as it stands and returns the events
// that were partial. The stream goes on: the rest of a secret that was found
// is left out when it comes, that of one too short to be found begins a secret
// of its own.
func (e *Events) Settle() (outs []Out) {
	defer e.r.fail(func() { outs = nil }) // they stay as they are: safe
	return e.settle()
}

func (e *Events) settle() []Out {
	for _, c := range e.order {
		c.settle()
	}
	return e.complete()
}

// Close ends the stream and returns the events that were partial.
func (e *Events) Close() (outs []Out) {
	defer e.r.fail(func() { outs = nil }) // they stay as they are: safe
	e.flush("")
	return e.complete()
}

// flush decides on all that the channels of a scope hold back.
func (e *Events) flush(scope string) {
	for _, c := range e.order {
		if strings.HasPrefix(c.name, scope) {
			c.feed(nil, false, true)
		}
	}
}

// lines reads the lines of a block, judges those that carry no data and
// returns the data (HTML standard, section 9.2.6).
func (e *Events) lines(rec *record) []byte {
	var joined view
	var data []byte
	n, last := 0, 0
	b := rec.raw
	for at := 0; at < len(b); {
		end := bytes.IndexAny(b[at:], "\r\n")
		if end < 0 {
			end = len(b)
		} else {
			end += at
		}
		line := b[at:end]
		skip := 0
		if at == 0 && hasPrefix(line, "\ufeff") {
			skip = 3
		}
		switch {
		case hasPrefix(line[skip:], "data:"):
			from := at + skip + len("data:")
			if from < end && b[from] == ' ' {
				from++
			}
			if n++; n == 1 {
				rec.base, data = from, b[from:end]
			} else {
				if n == 2 {
					joined.copy(data, rec.base)
				}
				joined.escape(last, '\n')
				joined.copy(b[from:end], from)
			}
			last = end
		case len(line) >= minText:
			for _, s := range e.r.text(line, false) {
				s.start, s.end = s.start+at, s.end+at
				rec.edits = append(rec.edits, s)
			}
		}
		at = end + 1
	}
	if n < 2 {
		return data
	}
	joined.close(last)
	rec.data = &joined
	return joined.text
}

// data judges the data of an event.
func (e *Events) data(rec *record, data []byte) {
	w := &e.walk
	root := &text{n: len(data), held: -1}
	if !looksJSON(data) {
		e.add(rec, nil, data, root, true)
		return
	}
	ok := w.walk(data)
	e.judged(rec, root, w.spans)
	if !ok {
		e.add(rec, nil, data, root, true)
		return
	}
	for i := range w.leaves {
		e.leaf(rec, &w.leaves[i])
	}
	e.ends(w.b[w.root[0]:w.root[1]])
}

// leaf judges one string of an event.
func (e *Events) leaf(rec *record, l *leaf) {
	w := &e.walk
	if l.from == l.to {
		return
	}
	t := &text{from: l.from, n: l.to - l.from, held: -1}
	v := w.b[l.from:l.to]
	if l.escaped {
		t.esc = &view{}
		t.esc.unescape(v, l.from)
		v, t.n = t.esc.text, len(t.esc.text)
	}
	key, kind := w.channelOf(e.key[:0], l)
	e.key = key
	switch {
	case isBlob(v):
		e.judged(rec, t, e.r.blob(v))
		return
	case kind != continued && looksJSON(v):
		// A text of its own. Numbers in it need quotes of the next depth.
		e.r.depth++
		e.judged(rec, t, e.r.json(v))
		e.r.depth--
	case kind == whole && len(v) >= minText:
		e.judged(rec, t, e.r.text(v, false))
	}
	if kind != whole {
		e.add(rec, key, v, t, kind == eitherWay)
	}
}

func (e *Events) judged(rec *record, t *text, spans []span) {
	for _, s := range spans {
		rec.edit(t, s.start, s.end, s)
	}
}

// add feeds a string to its channel.
func (e *Events) add(rec *record, name, v []byte, t *text, own bool) {
	if len(v) == 0 {
		return
	}
	c := e.channels[string(name)]
	if c == nil {
		if len(e.order) == maxChannels {
			e.flush("")
			clear(e.channels)
			e.order = e.order[:0]
		}
		c = &channel{name: string(name), tail: tail{known: &e.r.known, scan: &e.r.scan}}
		e.channels[c.name] = c
		e.order = append(e.order, c)
	}
	c.frags = append(c.frags, frag{rec: rec, text: t, at: len(c.tail.buf) - c.tail.from, n: len(v)})
	rec.texts = append(rec.texts, t)
	rec.pending++
	c.feed(v, own, false)
}

// ends flushes the channels that an event of that type ends.
func (e *Events) ends(event []byte) {
	w := &e.walk
	switch {
	case string(event) == "message_stop", string(event) == "response.completed", string(event) == "response.failed",
		string(event) == "response.incomplete", string(event) == "response.done":
		e.flush("")
	case string(event) == "content_block_stop", hasSuffix(event, ".done"):
		e.flush(string(w.scope(nil, event)))
	}
}

// eventStream is Body for a whole event stream.
func (r *Redactor) eventStream(p []byte) ([]byte, int) {
	var ends []int
	for at := 0; at < len(p); {
		at += blockEnd(p[at:])
		ends = append(ends, at)
	}
	return r.pieces(p, ends, block)
}

// pieces is Body for a stream that ends in pieces at ends.
func (r *Redactor) pieces(p []byte, ends []int, f framing) ([]byte, int) {
	e := r.events(f)
	pieces := make([][]byte, len(ends))
	n := 0
	take := func(outs []Out) {
		for _, o := range outs {
			pieces[o.Index] = o.Raw
			n += o.N
		}
	}
	at := 0
	for _, end := range ends {
		take(e.Event(p[at:end]))
		at = end
	}
	take(e.Close())
	if n == 0 {
		return p, 0
	}
	return bytes.Join(pieces, nil), n
}

// streamMarks tell a sequence of JSON values that carries an answer in pieces
// from one of other data; one stands near the beginning.
var streamMarks = [][]byte{[]byte(`"candidates"`), []byte(`"choices"`), []byte(`"delta"`), []byte(`"message"`), []byte(`"response"`)}

// jsonStream returns where the values of such a sequence end, be they lines
// (ollama) or the elements of an array (Gemini); nil if p is none.
func jsonStream(p []byte) []int {
	head := p[:min(len(p), 4<<10)]
	if !slices.ContainsFunc(streamMarks, func(m []byte) bool { return bytes.Contains(head, m) }) {
		return nil
	}
	base := 0 // depth at which the values stand
	if t := bytes.TrimLeft(p, " \t\r\n"); len(t) > 0 && t[0] == '[' {
		base = 1
	}
	var ends []int
	depth := 0
	for l := (lexer{b: p}); ; {
		switch l.next() {
		case tokenEnd, tokenCut, tokenBad:
			if len(ends) < 3 {
				return nil
			}
			return append(ends, len(p))
		case tokenPunct:
			switch p[l.from] {
			case '{', '[':
				if depth == base && l.from > 0 {
					ends = append(ends, l.from) // what stands between two
				}
				depth++
			case '}', ']':
				if depth--; depth == base {
					ends = append(ends, l.at)
				}
			}
		}
	}
}

// blockEnd returns the length of the first block of p with its blank line.
func blockEnd(p []byte) int {
	blank := true
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '\r', '\n':
			if p[i] == '\r' && i+1 < len(p) && p[i+1] == '\n' {
				i++
			}
			if blank {
				return i + 1
			}
			blank = true
		default:
			blank = false
		}
	}
	return len(p)
}
