package redact

import "bytes"

// maxGap is how much white space may stand between a name and its value.
const maxGap = 32

// A cont says how a secret that has begun goes on.
type cont struct {
	kind   string
	c      class // up to the first byte outside
	pem    bool  // up to the end line
	quoted bool  // up to the quote that closes it
	q      byte
	level  int // backslashes before that quote
}

// A scanner looks for secrets in one text.
type scanner struct {
	known  *known
	b      []byte
	lo     int   // no span begins before; what stands there is context
	cut    bool  // something stood before b
	final  bool  // nothing follows b
	url    bool  // b is a URL or a form: keys are certain
	blob   bool  // b is data: only remembered values are looked for
	closed bool  // b ends where a value does, though another may follow
	starts []int // positions in b at which another text begins

	spans  []span
	hold   int // from here on b is not decided
	by     cont
	memo   [slots]struct{ from, to int }
	used   uint64 // slots of memo that hold anything, as bits
	escape bool   // b has what may be an escape
	pemSet bool
	pemFrom,
	pemAt int

	view  view
	inner *scanner // for decoded text
}

// reset makes s ready for another text. It is a large struct: this costs less
// than a new one.
func (s *scanner) reset(k *known, b []byte) *scanner {
	s.known, s.b, s.lo, s.cut, s.final, s.url, s.blob, s.closed, s.starts = k, b, 0, false, true, false, false, false, nil
	s.spans, s.hold, s.by, s.used, s.pemSet = s.spans[:0], len(b), cont{}, 0, false
	return s
}

// Prefilter: for each pair of bytes the bucket of rules whose literal begins
// with it, or one of the two that look back from a separator.
const (
	bucketColon  = 255
	bucketEquals = 254
)

var (
	pairs   [1 << 16]uint8
	buckets [][]*rule
	first   [256][]*rule // rules whose literal is held back, by first byte
	longest int          // of these literals
)

func init() {
	buckets = make([][]*rule, 1, 128)
	for i := range rules {
		r := &rules[i]
		as, bs := []byte{r.text[0]}, []byte{r.text[1]}
		if r.fold {
			as, bs = append(as, as[0]-0x20), append(bs, bs[0]-0x20)
		}
		for _, a := range as {
			for _, b := range bs {
				at := &pairs[uint16(a)|uint16(b)<<8]
				if *at == 0 {
					*at = uint8(len(buckets))
					buckets = append(buckets, nil)
				}
				buckets[*at] = append(buckets[*at], r)
			}
		}
		if !r.value {
			first[r.text[0]] = append(first[r.text[0]], r)
			longest = max(longest, len(r.text))
		}
	}
	for i := range 256 {
		pairs[':'|i<<8] = bucketColon
		pairs['='|i<<8] = bucketEquals
		if isHex(byte(i)) {
			pairs['%'|i<<8] = bucketEscape
		}
	}
	pairs['\\'|'u'<<8] = bucketEscape
}

// patterns finds what the rules know.
func (s *scanner) patterns() {
	b := s.b
	for i := 0; i+1 < len(b); i++ {
		k := pairs[uint16(b[i])|uint16(b[i+1])<<8]
		if k == 0 {
			continue
		}
		switch k {
		case bucketColon:
			s.colon(i)
		case bucketEquals:
			s.equals(i)
		case bucketEscape:
			s.escape = true
		default:
			for _, r := range buckets[k] {
				if len(b)-i >= len(r.text) && r.at(b[i:i+len(r.text)]) && (!r.word || s.boundary(i)) {
					r.match(s, i, i+len(r.text))
				}
			}
		}
	}
	if !s.final {
		s.beginning()
	}
}

// at reports whether p is the literal of r, or the beginning of it.
func (r *rule) at(p []byte) bool {
	if !r.fold {
		return r.text[:len(p)] == string(p)
	}
	for i, c := range p {
		if lower(c) != r.text[i] {
			return false
		}
	}
	return true
}

// beginning holds back what may be the beginning of a literal.
func (s *scanner) beginning() {
	b := s.b
	for i := max(s.lo-minBegun+1, len(b)-longest+1, 0); i < len(b); i++ {
		for _, r := range first[b[i]] {
			if n := len(b) - i; n < len(r.text) && r.at(b[i:]) && (!r.word || s.boundary(i)) {
				if n < minBegun {
					continue
				}
				s.more(i, "", anyByte&^space)
			}
		}
	}
}

// boundary reports whether a word begins at i. Escapes count as what they
// stand for, since text that holds text is scanned as it is.
func (s *scanner) boundary(i int) bool {
	if i == 0 {
		return !s.cut
	}
	b := s.b
	if !word.has(b[i-1]) {
		return !s.afterSecret(i)
	}
	if i >= 2 && isLengthAfter(b[i-2]) {
		return true
	}
	if i >= 2 && b[i-2] == '\\' && bytes.IndexByte([]byte("nrtbf"), b[i-1]) >= 0 {
		return true
	}
	if i >= 3 && b[i-3] == '%' && isHex(b[i-2]) && isHex(b[i-1]) {
		return true
	}
	if i >= 6 && b[i-6] == '\\' && b[i-5] == 'u' && isHex(b[i-4]) && isHex(b[i-3]) && isHex(b[i-2]) && isHex(b[i-1]) {
		return true
	}
	if b[i-1] == 'm' { // the end of an SGR sequence, ECMA-48 section 8.3.117
		j := i - 2
		for j >= 0 && i-j < 24 && (digit.has(b[j]) || b[j] == ';') {
			j--
		}
		if j >= 0 && b[j] == '[' && j < i-1 {
			return true
		}
	}
	for _, p := range s.starts {
		if p == i {
			return true
		}
	}
	return false
}

// isLengthAfter reports whether the letter after c is most likely the length of
// a text in binary data: behind a control character that texts do not have, or
// behind what would begin a longer UTF-8 sequence.
func isLengthAfter(c byte) bool {
	return c < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != 0x1b || c >= 0xc0
}

// afterSecret reports whether a placeholder ends at i: what follows it began
// neither word nor name when the secret still stood there.
func (s *scanner) afterSecret(i int) bool {
	if i == 0 || s.b[i-1] != ']' {
		return false
	}
	t := s.b[max(0, i-maxName):i]
	k := bytes.LastIndex(t, []byte(opening))
	return k >= 0 && isPlaceholder(t[k:])
}

// run returns the end of the run of c that holds i. A slot always stands for
// the same class.
func (s *scanner) run(slot, i int, c class) int {
	m := &s.memo[slot]
	if s.used>>slot&1 != 0 && m.from <= i && i < m.to {
		return m.to
	}
	e := i
	for e < len(s.b) && c.has(s.b[e]) {
		e++
	}
	m.from, m.to = i, e
	s.used |= 1 << slot
	return e
}

// class is the rule "from j on at least min bytes of c".
func (s *scanner) class(slot, start, j int, c class, min int, kind string) {
	e := s.run(slot, j, c)
	if e-j < min {
		if e == len(s.b) && !s.final {
			s.more(start, kind, c)
		}
		return
	}
	s.hit(start, e, kind, c)
}

// hit records a secret that goes as far as its class.
func (s *scanner) hit(start, end int, kind string, c class) {
	if end == len(s.b) && !s.final {
		s.more(start, kind, c)
		return
	}
	s.sure(start, end, kind)
}

// sure records a secret whose end is known.
func (s *scanner) sure(start, end int, kind string) {
	s.add(span{start: start, end: end, kind: kind})
}

func (s *scanner) add(p span) {
	if p.start = max(p.start, s.lo); p.start < p.end {
		s.spans = append(s.spans, p)
	}
}

// more records that a secret has, or may have, begun and that its end is not
// in sight.
func (s *scanner) more(start int, kind string, c class) { s.moreBy(start, cont{kind: kind, c: c}) }

func (s *scanner) moreBy(start int, by cont) {
	if start = max(start, s.lo); start < s.hold || start == s.hold && s.by.kind == "" {
		s.hold, s.by = start, by
	}
}

// scan finds all secrets of the text: spans, normalized, and the position up
// to which they are decided. The spans are valid until the next reset.
func (s *scanner) scan() ([]span, int) {
	if !s.blob && !s.final {
		// Whether an escape that is not complete goes on with what stands
		// before it, its other half will tell.
		s.hold = min(s.escapeTail(`\u00`, 6), s.escapeTail("%", 3))
		s.b, s.by.c = s.b[:s.hold], anyByte&^space
	}
	if s.known != nil {
		s.known.find(s)
	}
	if !s.blob {
		s.escape = false
		if s.patterns(); s.escape {
			s.decoded(decodeUnicode)
			s.decoded(decodePercent)
			s.decoded(decodeForm)
		}
	}
	s.spans = normalize(s.spans)
	for i := len(s.spans) - 1; i >= 0; i-- {
		if s.spans[i].end <= s.hold {
			break
		}
		if s.spans[i].start < s.hold {
			s.hold = s.spans[i].start
		}
		s.spans = s.spans[:i]
	}
	if s.known != nil && s.known.tags {
		for i := range s.spans {
			p := &s.spans[i]
			p.kind = s.known.tag(p.kind, s.b[p.start:p.end])
		}
	}
	return s.spans, s.hold
}

// decoded scans the text once more as it reads when escapes of one sort are
// undone, where it has any.
func (s *scanner) decoded(decode func(v *view, b []byte) bool) {
	v := &s.view
	v.reset()
	any := decode(v, s.b)
	if !any {
		return
	}
	if s.inner == nil {
		s.inner = &scanner{}
	}
	in := s.inner.reset(s.known, v.text)
	in.cut, in.final, in.url, in.closed = s.cut, s.final, s.url, s.closed
	in.patterns()
	if in.known != nil {
		in.known.find(in)
	}
	in.spans = normalize(in.spans)
	v.back(in.spans)
	for _, p := range in.spans {
		s.add(p)
	}
	if in.hold < len(v.text) {
		s.moreBy(v.start(in.hold), in.by)
	}
}

// decodeUnicode undoes the JSON escapes \u0020 to \u007e, however deep the
// text is nested.
func decodeUnicode(v *view, b []byte) bool {
	from, any := 0, false
	for at := 0; ; {
		k := bytes.Index(b[at:], []byte(`\u00`))
		if k < 0 || at+k+6 > len(b) {
			break
		}
		k += at
		at = k + 6
		if b[k+4] < '2' || b[k+4] > '7' || !isHex(b[k+5]) {
			continue
		}
		start := k
		for start > from && b[start-1] == '\\' {
			start--
		}
		v.copy(b[from:start], from)
		v.escape(start, unhex(b[k+4])<<4|unhex(b[k+5]))
		from, any = at, true
	}
	if any {
		v.copy(b[from:], from)
		v.close(len(b))
	}
	return any
}

// decodePercent undoes percent-encoding (RFC 3986 section 2.1).
func decodePercent(v *view, b []byte) bool {
	from, any := 0, false
	for at := 0; ; {
		k := bytes.IndexByte(b[at:], '%')
		if k < 0 || at+k+3 > len(b) {
			break
		}
		k += at
		at = k + 1
		if !isHex(b[k+1]) || !isHex(b[k+2]) {
			continue
		}
		v.copy(b[from:k], from)
		v.escape(k, unhex(b[k+1])<<4|unhex(b[k+2]))
		from, at, any = k+3, k+3, true
	}
	if any {
		v.copy(b[from:], from)
		v.close(len(b))
	}
	return any
}

// decodeForm undoes the encoding of forms, in which a plus is a space, where
// a text has both.
func decodeForm(v *view, b []byte) bool {
	if bytes.IndexByte(b, '+') < 0 || !decodePercent(v, b) {
		return false
	}
	for i, p := range v.pts[:len(v.pts)-1] {
		if p.atomic {
			continue
		}
		plain := v.text[p.dec:v.pts[i+1].dec]
		for j, c := range plain {
			if c == '+' {
				plain[j] = ' '
			}
		}
	}
	return true
}

// escapeTail returns where an escape of n bytes that is not complete begins.
func (s *scanner) escapeTail(mark string, n int) int {
	for i := max(s.lo, len(s.b)-n+1); i < len(s.b); i++ {
		t := s.b[i:]
		if m := min(len(t), len(mark)); string(t[:m]) == mark[:m] {
			return i
		}
	}
	return len(s.b)
}

func hasPrefix(b []byte, s string) bool { return len(b) >= len(s) && string(b[:len(s)]) == s }

func hasSuffix(b []byte, s string) bool { return len(b) >= len(s) && string(b[len(b)-len(s):]) == s }

// skip returns the position after one byte of set at i, or i.
func (s *scanner) skip(i int, set string) int {
	if i < len(s.b) && bytes.IndexByte([]byte(set), s.b[i]) >= 0 {
		return i + 1
	}
	return i
}

// foldWord returns the position after the one of words that stands at i, 0
// if none does.
func (s *scanner) foldWord(i int, words ...string) int {
	for _, w := range words {
		if r := (rule{text: w, fold: true}); len(s.b)-i >= len(w) && r.at(s.b[i:i+len(w)]) {
			return i + len(w)
		}
	}
	return 0
}
