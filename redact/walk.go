package redact

import "bytes"

const (
	maxNest  = 4    // JSON in JSON strings is followed that far down
	maxDepth = 1000 // of one JSON text: beyond, it is scanned as text
	minBlob  = 1024 // from here on a string of nothing but base64 is data
	minText  = 6    // the shortest text that can hold a secret
)

// A walker goes through one JSON text and collects the spans of its secrets.
type walker struct {
	lexer
	r      *Redactor
	depth  int // how many JSON strings this text is in
	spans  []span
	frames []frame
	held   []heldValue
	key    view
	dec    view

	// For events: strings that no name gives away are not judged but listed.
	list   bool
	nodes  []node
	leaves []leaf
	root   [2]int // the value of the outermost member "type"
}

// A frame is an object or array that is open.
type frame struct {
	array    bool
	wantKey  bool
	from, to int // the latest key
	flags    keyFlags
	pos      int // of the element, in an array
	node     int
	under    container
	held     int // held values of this frame begin here
	mcp      bool
	grant    bool
	pair     bool
}

// container tells objects apart whose members are judged by another measure.
type container uint8

const (
	plain   container = iota
	headers           // members are header fields
	secret            // the member "value" is the secret
)

// A heldValue is a string that may turn out to be secret once its object has
// been read.
type heldValue struct {
	from, to int
	escaped  bool
	cond     condition
}

type condition uint8

const (
	ifMCP   condition = iota // a header of a tool of type mcp
	ifGrant                  // a parameter of a token request
	ifPair                   // the value beside a name
)

// json returns the spans of a JSON text, or of a sequence of them. Where it
// turns out to be none, it is scanned as text as well.
func (r *Redactor) json(b []byte) []span {
	if r.depth > maxNest {
		return r.text(b, false)
	}
	for len(r.scratch) <= r.depth {
		r.scratch = append(r.scratch, &walker{r: r, depth: len(r.scratch)})
	}
	w := r.scratch[r.depth]
	r.depth++
	ok := w.walk(b)
	r.depth--
	if !ok {
		w.spans = append(w.spans, r.text(b, false)...)
	}
	return normalize(w.spans)
}

// walk reads b and reports whether it is JSON, perhaps cut short.
func (w *walker) walk(b []byte) bool {
	w.lexer = lexer{b: b}
	w.spans, w.held = w.spans[:0], w.held[:0]
	w.nodes, w.leaves, w.root = w.nodes[:0], w.leaves[:0], [2]int{}
	w.frames = append(w.frames[:0], frame{array: true, node: -1})
	for {
		top := &w.frames[len(w.frames)-1]
		switch w.next() {
		case tokenEnd:
			w.unwind()
			return true
		case tokenBad:
			w.unwind()
			return false
		case tokenPunct:
			if !w.punct(top, b[w.from]) {
				w.unwind()
				return false
			}
		case tokenString:
			if !top.array && top.wantKey {
				w.member(top)
				continue
			}
			w.str(top, w.from, w.to, w.escaped)
		case tokenCut:
			w.str(top, w.from, w.to, w.escaped)
		case tokenLiteral:
			if !w.literal(top) {
				w.unwind()
				return false
			}
		}
	}
}

// member takes in the key that was read.
func (w *walker) member(top *frame) {
	top.from, top.to = w.from, w.to
	k := w.keyOf(top)
	e := w.r.key(k)
	top.flags = e.flags
	if learnt := w.r.known.learnt; e.clean != learnt {
		found := len(w.spans)
		w.judge(w.from, w.to, w.escaped)
		// The memory is shared with what this key itself may hold.
		if e = w.r.key(w.keyOf(top)); found == len(w.spans) && learnt == w.r.known.learnt && !looksJSON(w.keyOf(top)) {
			e.clean = learnt
		}
	}
}

func (w *walker) punct(top *frame, c byte) bool {
	switch c {
	case '{', '[':
		if len(w.frames) == maxDepth {
			return false
		}
		w.push(top, c == '[')
	case '}', ']':
		if len(w.frames) == 1 {
			return false
		}
		w.pop()
	case ',':
		top.wantKey = !top.array
		top.pos++
	case ':':
		top.wantKey = false
	}
	return true
}

func (w *walker) push(top *frame, array bool) {
	f := frame{array: array, wantKey: !array, held: len(w.held), node: -1, under: plain}
	if !top.array {
		switch {
		case top.flags&keyHeaders != 0:
			f.under = headers
		case top.flags&keyClientSecret != 0:
			f.under = secret
		}
	}
	if w.list {
		f.node = len(w.nodes)
		w.nodes = append(w.nodes, node{parent: top.node, elem: top.array, pos: top.pos, from: top.from, to: top.to})
	}
	w.frames = append(w.frames, f)
}

func (w *walker) unwind() {
	for len(w.frames) > 1 {
		w.pop()
	}
}

// pop closes the top frame and decides on what it held.
func (w *walker) pop() {
	f := w.frames[len(w.frames)-1]
	w.frames = w.frames[:len(w.frames)-1]
	kept := w.held[:f.held]
	for _, h := range w.held[f.held:] {
		switch {
		case h.cond == ifMCP && f.mcp, h.cond == ifGrant && f.grant, h.cond == ifPair && f.pair:
			w.caught(h.from, h.to, h.escaped, false, kindJSON)
		case h.cond == ifMCP && f.under == headers:
			kept = append(kept, h) // the object around it has the type
		}
	}
	w.held = kept
}

// keyOf returns the latest key of f, decoded.
func (w *walker) keyOf(f *frame) []byte {
	k := w.b[f.from:f.to]
	if bytes.IndexByte(k, '\\') < 0 {
		return k
	}
	w.key.unescape(k, f.from)
	return w.key.text
}

// str judges a string that is a value.
func (w *walker) str(top *frame, from, to int, escaped bool) {
	if from == to {
		return
	}
	if !top.array {
		if w.list {
			w.index(top, w.keyOf(top), from, to)
		}
		if (top.flags != 0 || top.under != plain) && w.named(top, from, to, escaped) {
			return
		}
		if top.flags&keyOpaque != 0 && to-from >= 64 && (wordDash | base64Body | equals).all(w.b[from:to]) && w.r.kindOf(w.b[from:to], "") == "" {
			w.take(w.r.blob(w.b[from:to]), from, false)
			return
		}
	}
	if w.list {
		w.leaf(top, from, to, escaped)
		return
	}
	w.judge(from, to, escaped)
}

// named judges a string by its key and reports whether it was caught.
func (w *walker) named(top *frame, from, to int, escaped bool) bool {
	v, flags := w.b[from:to], top.flags
	switch {
	case flags&keySecret != 0:
		return w.caught(from, to, escaped, flags&keyAuth != 0, kindJSON)
	case flags&keySuspect != 0 && isCredential(v):
		return w.caught(from, to, escaped, false, kindJSON)
	case top.under == secret && flags&keyValue != 0:
		return w.caught(from, to, escaped, false, kindJSON)
	case top.under == headers:
		k := w.keyOf(top)
		switch classify(string(k)) {
		case fieldAuth:
			return w.caught(from, to, escaped, true, kindHeader)
		case fieldSecret, fieldCookie, fieldSet:
			return w.caught(from, to, escaped, false, kindHeader)
		case fieldSuspect:
			if !isID(string(k), string(v)) {
				return w.caught(from, to, escaped, false, kindHeader)
			}
		}
		w.held = append(w.held, heldValue{from, to, escaped, ifMCP})
	case w.r.Personal && flags&keyPersonal != 0:
		return w.caught(from, to, escaped, false, kindPersonal)
	case flags&keyType != 0:
		top.mcp = top.mcp || string(v) == "mcp"
	case flags&keyGrantType != 0:
		top.grant = true
	case flags&keyName != 0:
		top.pair = inFold(secretFields, v) || isSecretKey(v)
	case flags&keyValue != 0:
		w.held = append(w.held, heldValue{from, to, escaped, ifPair})
	case flags&keyGrant != 0:
		w.held = append(w.held, heldValue{from, to, escaped, ifGrant})
	}
	return false
}

// caught records a value that its key gave away, and remembers it.
func (w *walker) caught(from, to int, escaped, auth bool, kind string) bool {
	v := w.b[from:to]
	if escaped {
		w.dec.unescape(v, from)
		v = w.dec.text
	}
	n := 0
	if auth {
		n = schemeLen(v)
	}
	if v = v[n:]; len(v) == 0 || isPlaceholder(v) {
		return true
	}
	if n > 0 {
		if escaped {
			from = w.dec.start(n)
		} else {
			from += n
		}
	}
	w.spans = append(w.spans, span{start: from, end: to, kind: w.r.value(v, kind)})
	return true
}

// literal judges a number, true, false or null and reports whether it is one.
func (w *walker) literal(top *frame) bool {
	v := w.b[w.from:w.to]
	switch string(v) {
	case "true", "false", "null":
		return true
	}
	for i, c := range v {
		if !(digit|dash|plus|dot).has(c) && c|0x20 != 'e' || i == 0 && !(digit|dash).has(c) {
			return false
		}
	}
	kind := ""
	if w.list && !top.array {
		w.index(top, w.keyOf(top), w.from, w.to)
	}
	if !top.array && top.flags&(keySecret|keyCredential) == keySecret {
		kind = w.r.value(v, kindJSON)
	} else if w.r.known.values[string(v)] {
		kind = kindJSON
	}
	if kind != "" {
		w.spans = append(w.spans, span{start: w.from, end: w.to, kind: kind, quote: w.depth + 1})
	}
	return true
}

// judge looks for secrets in a string that no name gave away.
func (w *walker) judge(from, to int, escaped bool) {
	if to-from < minText {
		return
	}
	v := w.b[from:to]
	if isBlob(v) {
		w.take(w.r.blob(v), from, false)
		return
	}
	if escaped {
		w.dec.unescape(v, from)
		v = w.dec.text
	}
	if looksJSON(v) {
		w.take(w.r.json(v), from, escaped)
	} else {
		w.take(w.r.text(v, false), from, escaped)
	}
}

// take adds spans of the string that begins at from, or of what was decoded
// from it last.
func (w *walker) take(spans []span, from int, escaped bool) {
	at := len(w.spans)
	w.spans = append(w.spans, spans...)
	if escaped {
		w.dec.back(w.spans[at:])
		return
	}
	for i := range w.spans[at:] {
		w.spans[at+i].start += from
		w.spans[at+i].end += from
	}
}

// isBlob reports whether v is data in base64, in which patterns would only be
// found by chance.
func isBlob(v []byte) bool {
	if len(v) < minBlob {
		return false
	}
	if hasPrefix(v, "data:") {
		i := bytes.Index(v[:256], []byte(";base64,"))
		return i > 0 && (base64Body | equals).all(v[i+8:])
	}
	c := base64Body | equals
	return c.all(v[:256]) && c.all(v)
}
