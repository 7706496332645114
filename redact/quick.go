package redact

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"strings"
	"unsafe"
)

// Most of what passes holds no secret, and much of it passes again and again:
// the names of members and fields, the values of fields. What is here finds
// that out at a fraction of the cost. It decides nothing by itself: where it
// does not know, the text is looked at as any other.

// bucketEscape marks the pairs of bytes with which an escape may begin that
// scanner.decoded undoes. No rule stands in it.
const bucketEscape = 253

// lastOfField tells the last letters of fieldsInText.
var lastOfField = func() (t [256]bool) {
	for name := range fieldsInText {
		c := name[len(name)-1]
		t[c], t[c-0x20] = true, true
	}
	return t
}()

// isClean reports whether nothing can be found in b, which is whole; if it does
// not, that says nothing.
func (r *Redactor) isClean(b []byte) bool {
	for i := 0; i+1 < len(b); i++ {
		if k := pairs[uint16(b[i])|uint16(b[i+1])<<8]; k != 0 && mayMatch(k, b, i) {
			return false
		}
	}
	return r.known.isAbsent(b)
}

// mayMatch reports whether something of bucket k may stand at b[i].
func mayMatch(k uint8, b []byte, i int) bool {
	switch k {
	case bucketEscape:
		return true
	case bucketColon:
		return mayMatchColon(b, i)
	case bucketEquals: // a name stands before it, perhaps with spaces between
		return i > 0 && (wordDash | dot | space).has(b[i-1])
	}
	for _, r := range buckets[k] {
		if len(b)-i >= len(r.text) && r.at(b[i:i+len(r.text)]) {
			return true
		}
	}
	return false
}

// mayMatchColon is mayMatch for what scanner.colon judges.
func mayMatchColon(b []byte, i int) bool {
	if hasPrefix(b[i+1:], "//") {
		return bytes.IndexByte(b[i+3:], '@') >= 0
	}
	return i > 0 && (lastOfField[b[i-1]] || (space | quote).has(b[i-1]))
}

// isAbsent reports whether no remembered value, nor at the end of b the
// beginning of one, can stand in b; if it does not, that says nothing.
func (k *known) isAbsent(b []byte) bool {
	if len(k.forms) == 0 || len(b) < minKnown {
		return true
	}
	// As in find and tail.
	tail := max(len(b)-k.max+1, 0)
	for i := 0; i < tail; i += 4 {
		if k.mayStart(b, i) {
			return false
		}
	}
	for i := tail; i+minKnown <= len(b); i++ {
		if k.mayStart(b, i) {
			return false
		}
	}
	// What remains of the grid of find. A value that ends there began before.
	for i := max(tail, len(b)-minKnown+1); i+4 <= len(b); i++ {
		if k.mayStart(b, i) {
			return false
		}
	}
	return true
}

// mayStart reports whether one of the first grams of a form may stand at b[i].
func (k *known) mayStart(b []byte, i int) bool {
	if i+4 > len(b) {
		return false
	}
	h := hash4(binary.LittleEndian.Uint32(b[i:]))
	return k.bits[h>>6]>>(h&63)&1 != 0
}

// viewOf returns the bytes of s, which nobody may change.
func viewOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// keyFlags says what the name of a JSON member tells of its value.
type keyFlags uint16

const (
	keySecret keyFlags = 1 << iota
	keySuspect
	keyAuth
	keyGrant
	keyOpaque
	keyCredential // begins like the word: a number may be one of something
	keyHeaders
	keyClientSecret
	keyPersonal
	keyType
	keyGrantType
	keyName
	keyValue
)

// exactKeys are the names that are compared as they stand.
var exactKeys = map[string]keyFlags{
	"type": keyType, "grant_type": keyGrantType, "name": keyName, "value": keyValue,
	"user_id": keyPersonal, "user": keyPersonal, "safety_identifier": keyPersonal,
}

func flagsOf(k []byte) keyFlags {
	f := exactKeys[string(k)]
	var buf [40]byte
	name := simplify(&buf, k)
	for _, s := range []struct {
		set  map[string]bool
		flag keyFlags
	}{{secretKeys, keySecret}, {suspectKeys, keySuspect}, {authKeys, keyAuth}, {grantKeys, keyGrant}, {opaqueKeys, keyOpaque}} {
		if s.set[string(name)] {
			f |= s.flag
		}
	}
	if bytes.EqualFold(k, []byte("headers")) {
		f |= keyHeaders
	}
	if bytes.EqualFold(k, []byte("client_secret")) {
		f |= keyClientSecret
	}
	const word = "credential"
	if len(k) >= len(word) && strings.EqualFold(string(k[:len(word)]), word) {
		f |= keyCredential
	}
	return f
}

// The sizes of the memories below: tables of sets of which each name has one.
// What is met again moves to the front of its set, and what is new takes the
// place of the last.
const (
	keySets   = 64
	nameSets  = 32
	fieldSets = 64
	markSeen  = 512
	maxKey    = 64  // bytes of a name that is kept
	maxField  = 512 // bytes of a value
)

// A seen name, and how much was known when it was found to be no secret
// itself.
type seenKey struct {
	text  string
	flags keyFlags
	clean int
}

type seenName struct {
	text  string
	class fieldClass
	clean int
}

// A seenField is a header field with what became of it when so much was known.
type seenField struct {
	hash             uint64
	name, value      string
	outName, outText string
	n                int
	learnt           int
}

// seen is what passed lately. It holds only what passed twice, or is short.
type seen struct {
	seed   maphash.Seed
	keys   [keySets][4]seenKey
	names  [nameSets][4]seenName
	fields [fieldSets][4]seenField
	marks  [markSeen]uint64 // the hashes of fields that passed once
	long   seenKey
}

// unknown is less than known.learnt can be.
const unknown = -1

// past returns the memory of what passed.
func (r *Redactor) past() *seen {
	if r.seen == nil {
		r.seen = &seen{seed: maphash.MakeSeed()}
	}
	return r.seen
}

// forward moves element i of a set towards its front and returns where it is.
func forward[T any](set []T, i int) *T {
	if i == 0 {
		return &set[0]
	}
	set[i-1], set[i] = set[i], set[i-1]
	return &set[i-1]
}

// key returns what is known of the name of a member. It is valid until the
// next call.
func (r *Redactor) key(k []byte) *seenKey {
	s := r.past()
	if len(k) > maxKey {
		s.long = seenKey{flags: flagsOf(k), clean: unknown}
		return &s.long
	}
	set := &s.keys[maphash.Bytes(s.seed, k)%keySets]
	for i := range set {
		if set[i].text == string(k) && len(k) > 0 {
			return forward(set[:], i)
		}
	}
	e := &set[len(set)-1]
	*e = seenKey{string(k), flagsOf(k), unknown}
	return e
}

// name returns what is known of the name of a header field, as key does.
func (r *Redactor) name(name string) *seenName {
	s := r.past()
	if len(name) > maxKey {
		return &seenName{name, classify(name), unknown}
	}
	set := &s.names[maphash.String(s.seed, name)%nameSets]
	for i := range set {
		if set[i].text == name && name != "" {
			return forward(set[:], i)
		}
	}
	e := &set[len(set)-1]
	*e = seenName{strings.Clone(name), classify(name), unknown}
	return e
}

// nameAndField replaces the secrets of one header field, name and value.
func (r *Redactor) nameAndField(name, value string) (outName, outValue string, n int) {
	s := r.past()
	h := maphash.String(s.seed, name)*0x9e3779b97f4a7c15 ^ maphash.String(s.seed, value)
	set := &s.fields[h%fieldSets]
	for i := range set {
		if m := &set[i]; m.hash == h && m.learnt == r.known.learnt && m.name == name && m.value == value && name != "" {
			m = forward(set[:], i)
			return m.outName, m.outText, m.n
		}
	}
	learnt := r.known.learnt
	outValue, n = r.field(name, value)
	outName, k := r.fieldName(name)
	n += k
	if learnt != r.known.learnt || len(name) > maxKey || len(value) > maxField || r.name(name).class == fieldPersonal {
		return outName, outValue, n
	}
	if mark := &s.marks[h%markSeen]; *mark != h {
		*mark = h
		return outName, outValue, n
	}
	// Clones, for name and value are part of a whole head.
	set[len(set)-1] = seenField{h, strings.Clone(name), strings.Clone(value), strings.Clone(outName), strings.Clone(outValue), n, learnt}
	return outName, outValue, n
}

// fieldName replaces the secrets of the name of a header field.
func (r *Redactor) fieldName(name string) (string, int) {
	e := r.name(name)
	if e.clean == r.known.learnt {
		return name, 0
	}
	out, n := r.plain(name, 0)
	if n == 0 {
		e.clean = r.known.learnt
	}
	return out, n
}
