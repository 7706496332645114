package redact

import (
	"bytes"
	"slices"
	"strings"
)

// A span is a range of a text that holds a secret.
type span struct {
	start, end int
	kind       string // what stands in the placeholder
	quote      int    // the range is a JSON number: the placeholder brings quotes of this nesting depth, from 1
	named      bool   // caught by its name: the value is to be remembered
	drop       bool   // continues a secret whose placeholder stands already: leave nothing
}

const (
	opening = "[REDACTED:"
	closing = "]"
)

// Withheld stands for a body or event that the gate could not read: it panicked,
// and what it had not judged is not kept.
const Withheld = opening + "withheld" + closing

// isPlaceholder reports whether s is what an earlier pass wrote, whole.
func isPlaceholder(s []byte) bool {
	if !bytes.HasPrefix(s, []byte(opening)) || s[len(s)-1] != ']' {
		return false
	}
	for _, c := range s[len(opening) : len(s)-1] {
		if !wordDash.has(c) && c != ':' {
			return false
		}
	}
	return len(s) > len(opening)+len(closing)
}

func (s *span) text() string {
	if s.drop {
		return ""
	}
	t := opening + s.kind + closing
	if s.quote > 0 {
		q := strings.Repeat(`\`, 1<<(s.quote-1)-1) + `"`
		t = q + t + q
	}
	return t
}

// normalize sorts spans and unites those that overlap. What begins first
// names the kind; of those that begin together the later found, a pattern
// inside a value that its name had caught.
func normalize(spans []span) []span {
	if len(spans) < 2 {
		return spans
	}
	slices.SortStableFunc(spans, func(a, b span) int { return a.start - b.start })
	out := spans[:1]
	for _, s := range spans[1:] {
		last := &out[len(out)-1]
		if s.start >= last.end {
			out = append(out, s)
			continue
		}
		if s.start == last.start && last.quote == 0 && !last.drop && specific(s.kind) > specific(last.kind) {
			last.kind = s.kind
		}
		last.named = last.named || s.named
		last.drop = last.drop && s.drop
		last.end = max(last.end, s.end)
	}
	return out
}

// specific ranks kinds: what a pattern found says more than where it stood.
func specific(kind string) int {
	kind, _, _ = strings.Cut(kind, ":")
	switch kind {
	case kindHeader, kindCookie, kindQuery, kindForm, kindJSON, kindEnv, kindArgv, kindUserinfo, kindPersonal:
		return 0
	case kindBearer, kindJWT:
		return 1
	}
	return 2
}

// apply returns b with spans, which are normalized, replaced, and how many
// placeholders it wrote. Without spans it is b itself.
func apply(b []byte, spans []span) ([]byte, int) {
	if len(spans) == 0 {
		return b, 0
	}
	size := len(b)
	for i := range spans {
		size += len(opening) + 24 - min(24, spans[i].end-spans[i].start)
	}
	out := make([]byte, 0, size)
	from, n := 0, 0
	for i := range spans {
		s := &spans[i]
		out = append(out, b[from:s.start]...)
		out = append(out, s.text()...)
		from = s.end
		if !s.drop {
			n++
		}
	}
	return append(out, b[from:]...), n
}

// A view is a text that was decoded from another one, with the way back.
type view struct {
	text []byte
	pts  []point
}

// A point says that from position dec of the decoded text on, decoded and raw
// text run side by side from raw on; atomic: until the next point the decoded
// bytes are one escape of the raw text.
type point struct {
	dec, raw int
	atomic   bool
}

func (v *view) reset() { v.text, v.pts = v.text[:0], v.pts[:0] }

// copy appends raw bytes that stand for themselves.
func (v *view) copy(p []byte, raw int) {
	if len(p) == 0 {
		return
	}
	v.pts = append(v.pts, point{len(v.text), raw, false})
	v.text = append(v.text, p...)
}

// escape appends the decoded bytes of one escape that stands at raw.
func (v *view) escape(raw int, p ...byte) {
	v.pts = append(v.pts, point{len(v.text), raw, true})
	v.text = append(v.text, p...)
}

// close ends the view at the raw position after its last byte.
func (v *view) close(raw int) { v.pts = append(v.pts, point{len(v.text), raw, false}) }

// at returns the last point at or before decoded position p.
func (v *view) at(p int) point {
	i, found := slices.BinarySearchFunc(v.pts, p, func(q point, p int) int { return q.dec - p })
	if found {
		for i+1 < len(v.pts) && v.pts[i+1].dec == p {
			i++
		}
		return v.pts[i]
	}
	return v.pts[max(i-1, 0)]
}

// start returns the raw position at which decoded position p begins.
func (v *view) start(p int) int {
	q := v.at(p)
	if q.atomic {
		return q.raw
	}
	return q.raw + p - q.dec
}

// end returns the raw position after decoded position p-1.
func (v *view) end(p int) int {
	if p == 0 {
		return v.start(0)
	}
	q := v.at(p - 1)
	if !q.atomic {
		return q.raw + p - q.dec
	}
	i, _ := slices.BinarySearchFunc(v.pts, q.dec+1, func(q point, p int) int { return q.dec - p })
	return v.pts[min(i, len(v.pts)-1)].raw
}

// back translates spans of the decoded text into those of the raw text.
func (v *view) back(spans []span) {
	for i := range spans {
		spans[i].start, spans[i].end = v.start(spans[i].start), v.end(spans[i].end)
	}
}
