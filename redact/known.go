package redact

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// Limits of what is remembered.
const (
	minKnown = 8        // bytes of the shortest value
	maxKnown = 16 << 10 // bytes of the longest; holds back no more than that
	maxWord  = 12       // a shorter value of nothing but letters is a word, not a secret
	maxForms = 32 << 10 // forms in all; beyond, the older half is forgotten
)

// known is the memory of values that their names gave away. Each is looked
// for verbatim, in base64 wherever in a base64 text it may stand, and with
// the escapes of JSON; percent-encoding is undone before the search.
type known struct {
	tags   bool // Redactor.Tag
	key    [32]byte
	always []form // values that are never forgotten
	values map[string]bool
	forms  []form
	grams  map[uint32][]gram // four bytes of a form at offset 0 to 3
	bits   [1 << 12]uint64   // a filter before grams
	short  map[[4]byte]bool  // the first one to three bytes, length last
	max    int               // length of the longest form
	learnt int               // values so far, forgotten ones too
}

type form struct{ text, kind string }

type gram struct{ form, offset int32 }

func hash4(g uint32) uint32 { return g * 0x9e3779b1 >> 14 }

// remember adds a value that was caught by name.
func (k *known) remember(value []byte, kind string) {
	v := string(bytes.Trim(value, "\" \t\r\n"))
	k.add(v, kind)
	if i := strings.IndexByte(v, '%'); i >= 0 {
		var w view
		if decodePercent(&w, []byte(v)) {
			k.add(string(w.text), kind)
		}
	}
}

// add adds one value in all its forms.
func (k *known) add(v, kind string) {
	if len(v) < minKnown || len(v) > maxKnown || isCommon(v) || k.values[v] {
		return
	}
	if k.values == nil || len(k.forms) > maxForms {
		k.forget()
	}
	k.values[v] = true
	k.learnt++
	k.form(v, kind)
	for e, level := v, 0; level < maxNest; level++ {
		if e == jsonEscape.Replace(e) {
			break
		}
		e = jsonEscape.Replace(e)
		k.form(e, kind)
	}
	if strings.IndexByte(v, '/') >= 0 {
		k.form(strings.ReplaceAll(jsonEscape.Replace(v), "/", `\/`), kind)
	}
	if len(v) > maxKnown/2 {
		return // in base64 it would be longer than what is held back
	}
	for off := range 3 {
		for i, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			// What stands before and after shifts bits into the first and
			// the last digit: those are left out.
			e := enc.EncodeToString(append(make([]byte, off), v...))
			e = e[(off*8+5)/6:]
			if (off+len(v))%3 != 0 {
				e = e[:len(e)-1]
			}
			if i == 0 || strings.ContainsAny(e, "-_") {
				k.form(e, kind)
			}
		}
	}
}

var jsonEscape = strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\n", `\n`, "\t", `\t`, "\r", `\r`)

func (k *known) form(text, kind string) {
	if len(text) < minKnown {
		return
	}
	n := int32(len(k.forms))
	k.forms = append(k.forms, form{text, kind})
	k.max = max(k.max, len(text))
	for o := range 4 {
		g := binary.LittleEndian.Uint32([]byte(text[o : o+4]))
		k.grams[g] = append(k.grams[g], gram{n, int32(o)})
		h := hash4(g)
		k.bits[h>>6] |= 1 << (h & 63)
	}
	for n := 1; n < 4; n++ {
		k.short[prefix([]byte(text[:n]))] = true
	}
}

func prefix(p []byte) (k [4]byte) {
	k[3] = byte(copy(k[:3], p))
	return k
}

// forget empties the memory but for the younger half of the forms.
func (k *known) forget() {
	old := k.forms
	*k = known{tags: k.tags, key: k.key, learnt: k.learnt, always: k.always, values: map[string]bool{}, grams: map[uint32][]gram{}, short: map[[4]byte]bool{}}
	for _, f := range old[len(old)/2:] {
		k.values[f.text] = true
		k.form(f.text, f.kind)
	}
	for _, f := range k.always {
		if !k.values[f.text] {
			k.add(f.text, f.kind)
		}
	}
}

// tag returns kind, with Redactor.Tag the mark of v.
func (k *known) tag(kind string, v []byte) string {
	if !k.tags {
		return kind
	}
	m := hmac.New(sha256.New, k.key[:])
	m.Write(v)
	return kind + ":" + hex.EncodeToString(m.Sum(nil)[:4])
}

// find looks for remembered values in the text of s.
func (k *known) find(s *scanner) {
	if len(k.forms) == 0 {
		return
	}
	b := s.b
	// A form is at least eight bytes long, so one of its first four grams
	// stands at a multiple of four.
	for i := 0; i+4 <= len(b); i += 4 {
		g := binary.LittleEndian.Uint32(b[i:])
		if h := hash4(g); k.bits[h>>6]>>(h&63)&1 == 0 {
			continue
		}
		for _, c := range k.grams[g] {
			f := &k.forms[c.form]
			if at := i - int(c.offset); at >= 0 && hasPrefix(b[at:], f.text) {
				s.sure(at, at+len(f.text), f.kind)
			}
		}
	}
	k.tail(s)
}

// tail holds back what may be the beginning of a remembered value: four bytes
// of it anywhere, fewer where a word begins, so that ordinary words go on. At
// the end of a text that was cut, what is clearly its beginning goes too.
func (k *known) tail(s *scanner) {
	b := s.b
	for i := max(s.lo, len(b)-k.max+1, 0); i < len(b); i++ {
		n := len(b) - i
		if n < 4 {
			if !s.final && k.short[prefix(b[i:])] && s.boundary(i) {
				s.more(i, kindHeader, anyByte&^space)
			}
			continue
		}
		if s.final && n < minKnown || !k.mayStart(b, i) {
			continue
		}
		for _, c := range k.grams[binary.LittleEndian.Uint32(b[i:])] {
			f := &k.forms[c.form]
			if c.offset != 0 || len(f.text) <= n || f.text[:n] != string(b[i:]) {
				continue
			}
			if !s.final {
				s.more(i, f.kind, anyByte&^space)
			} else if n >= minKnown {
				s.sure(i, len(b), f.kind)
			}
		}
	}
}

// isCommon reports whether v is no secret although it stood where one was
// expected: a word, a number, a reference to a variable, our placeholder.
func isCommon(v string) bool {
	letters := true
	for i := range len(v) {
		if !(hexLetter | lowLetter | upLetter).has(v[i]) {
			letters = false
			break
		}
	}
	switch {
	case letters && len(v) < maxWord, len(v) < maxKnownNumber && digit.all([]byte(v)):
		return true
	case v[0] == '$', v[0] == '<' && v[len(v)-1] == '>', strings.Contains(v, "{{"), strings.HasPrefix(v, "process.env"):
		return true
	case strings.Contains(v, opening), strings.Contains("[REDACTED:", v):
		return true
	}
	return v == strings.Repeat(v[:1], len(v)) || commonValues[strings.ToLower(v)]
}

// maxKnownNumber is the length from which a number is no time and no count.
const maxKnownNumber = 16

var commonValues = set(`authorization client_secret access_token refresh_token your-api-key your_api_key
	not-needed no-key-required sk-no-key-required lm-studio no-api-key dummy-key fake-key test-key placeholder x-api-key application/json text/plain`)
