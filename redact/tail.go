package redact

import "slices"

// Limits of what is held back.
const (
	maxHold    = maxKnown // bytes of a secret whose end is not in sight
	maxHoldPEM = 64 << 10
	maxContext = 256 // bytes that were given out and may hold a name

	// minBegun is how much of a literal is held back: ordinary words begin
	// with the first letters of some literal (a number with the 1 of 1//, "AI"
	// with that of AIza), and must stay live. A secret that goes on
	// after such letters is replaced from there on: they are public.
	minBegun = 3
)

// A tail is the end of a text that comes in pieces: what is not decided yet,
// behind as much of what went before as names and word boundaries need.
type tail struct {
	known  *known
	scan   *scanner
	buf    []byte // context, then what is not decided
	from   int    // in buf: what is not decided begins
	lo     int    // in buf: the latest secret ends
	cut    bool   // buf does not begin where the text does
	blob   bool   // only remembered values are looked for
	starts []int  // in buf: pieces that begin a text of their own
	within *cont  // in a secret that is too long to hold: swallow
	soft   bool   // unless another text begins
}

// feed adds a piece of the text, or with final its last one. The spans that
// it returns lie in buf from t.from to safe; what is before safe is decided,
// and advance must be called with safe before the next feed.
func (t *tail) feed(p []byte, own, final bool) (spans []span, safe int) {
	if own && len(t.buf) > 0 {
		t.starts = append(t.starts, len(t.buf))
	}
	t.buf = append(t.buf, p...)
	if t.within != nil {
		n, done := t.within.swallow(t.buf[t.from:])
		if final && !done {
			n = len(t.buf) - t.from
		}
		t.lo = t.from + n
		if n > 0 {
			spans = append(spans, span{start: t.from, end: t.lo, drop: true})
		}
		if !done {
			return spans, t.lo
		}
		t.within = nil
	}
	s := t.scanner(final)
	s.closed = own
	found, hold := s.scan()
	spans = append(spans, found...)
	limit := maxHold
	if s.by.pem {
		limit = maxHoldPEM
	}
	if len(t.buf)-hold > limit {
		by := s.by
		t.within = &by
		spans = append(spans, span{start: hold, end: len(t.buf), kind: by.kind})
		hold = len(t.buf)
	}
	if len(spans) > 0 {
		t.lo = spans[len(spans)-1].end
	}
	return spans, hold
}

// scanner returns the scanner of what is not decided.
func (t *tail) scanner(final bool) *scanner {
	s := t.scan.reset(t.known, t.buf)
	s.lo, s.cut, s.final, s.blob, s.starts = max(t.lo, t.from), t.cut, final, t.blob, t.starts
	return s
}

// settle decides on all that is held back, as feed does with final, but the
// text goes on: what is given out stays its context, and the rest of a secret
// that was found is swallowed.
func (t *tail) settle() (spans []span, safe int) {
	safe = len(t.buf)
	if t.within != nil { // what is held may be the beginning of its end
		t.lo = safe
		return []span{{start: t.from, end: safe, drop: true}}, safe
	}
	s := t.scanner(false)
	s.scan()
	by := s.by
	spans, _ = t.scanner(true).scan()
	if n := len(spans); n > 0 {
		if t.lo = spans[n-1].end; t.lo == safe {
			t.within = &by
		}
	}
	return spans, safe
}

// complete reports whether what is held back is one secret that began in the
// last n bytes, a text of its own, and that is long enough to be one: most
// likely it ends with that text.
func (t *tail) complete(n int) bool {
	if t.within != nil || t.from == len(t.buf) || t.from < len(t.buf)-n {
		return false
	}
	s := t.scanner(false)
	s.scan()
	if s.by.kind == "" || s.by.pem || s.by.quoted {
		return false
	}
	spans, _ := t.scanner(true).scan()
	return len(spans) == 1 && spans[0].start == t.from && spans[0].end == len(t.buf)
}

// part forgets what was before p, a text of its own, if it does not look like
// the rest of the secret that the text before it ended with.
func (t *tail) part(p []byte) {
	if n, _ := t.within.swallow(p); !isRest(p[:n]) {
		*t = tail{known: t.known, scan: t.scan, blob: t.blob, buf: t.buf[:0]}
	}
}

// isRest reports whether the first word of a text looks like part of a secret:
// it is long, has all kinds of characters, or is hexadecimal.
func isRest(p []byte) bool {
	var has [3]bool
	for _, c := range p {
		for i, k := range []class{digit, upLetter, hexLetter | lowLetter} {
			has[i] = has[i] || k.has(c)
		}
	}
	return len(p) >= 16 || has[0] && has[1] && has[2] || len(p) >= 4 && has[0] && hexLower.all(p)
}

// advance says that everything before safe was given out.
func (t *tail) advance(safe int) {
	t.from = safe
	cut := safe - maxContext
	if cut < maxContext {
		return // moving the rest is worth it only from time to time
	}
	if rest := len(t.buf) - cut; cap(t.buf) > maxHoldPEM && rest < cap(t.buf)/4 {
		t.buf = slices.Clone(t.buf[cut:]) // one long piece does not keep its room
	} else {
		t.buf = t.buf[:copy(t.buf, t.buf[cut:])]
	}
	t.from -= cut
	t.lo = max(t.lo-cut, 0)
	t.cut = true
	t.starts = slices.DeleteFunc(t.starts, func(p int) bool { return p < cut })
	for i := range t.starts {
		t.starts[i] -= cut
	}
}

// swallow returns how many bytes of b still belong to the secret, and whether
// it ends there.
func (c *cont) swallow(b []byte) (n int, done bool) {
	switch {
	case c.pem:
		if e := findPEMEnd(b, 0); e > 0 {
			return e, true
		}
		return max(0, len(b)-maxName), false // the end line may have begun
	case c.quoted:
		n, done = findQuote(b, 0, c.q, c.level)
		for !done && n > 0 && b[n-1] == '\\' {
			n-- // it may escape what comes
		}
		return n, done
	}
	for n < len(b) && c.c.has(b[n]) {
		n++
	}
	return n, n < len(b)
}

// Stream is text that comes in pieces and is too big to hold.
type Stream struct {
	r     *Redactor
	tail  tail
	given int // in tail.buf: up to where it was given out by the last Write
	bad   bool
}

// Stream returns the state for one body or direction. Nothing is known of its
// structure: contentType only tells pictures, sound and the like, in which
// patterns would be found by chance.
func (r *Redactor) Stream(contentType string) *Stream {
	mediaType, _ := r.typeOf(contentType)
	return &Stream{r: r, tail: tail{known: &r.known, scan: &r.scan, blob: isMedia(mediaType)}}
}

// Write adds p and returns what can be given out now, and how many secrets
// were replaced in it. safe is valid until the next call.
func (s *Stream) Write(p []byte) (safe []byte, n int) { return s.write(p, false) }

// Close returns what was still held back.
func (s *Stream) Close() (rest []byte, n int) { return s.write(nil, true) }

func (s *Stream) write(p []byte, final bool) (out []byte, n int) {
	if s.bad {
		return nil, 0
	}
	defer s.r.fail(func() { s.bad, out, n = true, []byte(Withheld), 1 })
	if s.given > 0 { // only now: what was given out lies in the buffer
		s.tail.advance(s.given)
	}
	spans, safe := s.tail.feed(p, false, final)
	from := s.tail.from
	for i := range spans {
		spans[i].start -= from
		spans[i].end -= from
	}
	s.given = safe
	return apply(s.tail.buf[from:safe], spans)
}
