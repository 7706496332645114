package redact

import "bytes"

// maxName is the longest name that is looked for before a separator.
const maxName = 64

// maxUserinfo is the longest user, and the longest password, of a URL.
const maxUserinfo = 256

// maxPort is the length of the longest port, which looks like a password.
const maxPort = 5

// colon judges what stands around the colon at i: the password of a URL, a
// JSON member in text that is no JSON document, a header field in text.
func (s *scanner) colon(i int) {
	b := s.b
	if hasPrefix(b[i+1:], "//") {
		s.userinfo(i)
		return
	}
	j := i
	for j > 0 && i-j < maxGap && space.has(b[j-1]) {
		j--
	}
	if j == 0 {
		return
	}
	if q := b[j-1]; q == '"' || q == '\'' {
		s.member(i, j-1, q)
		return
	}
	if j == i {
		s.field(i)
	}
}

// userinfo: scheme://user:password@ (RFC 3986 section 3.2.1).
func (s *scanner) userinfo(i int) {
	b := s.b
	if i == 0 || !(alnum | plus | dot | dash).has(b[i-1]) {
		return
	}
	at := i + 3
	j := at
	for j < len(b) && j-at <= maxUserinfo && userinfoUser.has(b[j]) {
		j++
	}
	if j < len(b) && b[j] != ':' || j-at > maxUserinfo {
		return
	}
	if j == len(b) {
		if !s.closed { // else most likely a host; a password that follows is found all the same
			s.pendingURL(at)
		}
		return
	}
	pass := j + 1
	// The last at sign counts, as in every URL parser; the class has it.
	last := 0
	for j = pass; j < len(b) && j-pass <= maxUserinfo && userinfoPass.has(b[j]); j++ {
		if b[j] == '@' {
			last = j
		}
	}
	if j == len(b) && !s.final {
		if !s.closed || j-pass > maxPort || !digit.all(b[pass:j]) {
			s.pendingURL(at)
		}
		return
	}
	if last > pass && !isPlaceholder(b[at:last]) {
		s.add(span{start: at, end: last, kind: kindUserinfo, named: true})
	}
}

func (s *scanner) pendingURL(at int) {
	if !s.final {
		s.more(at, kindUserinfo, userinfoPass)
	}
}

// member: "name": "value", with any number of backslashes before each quote,
// as JSON that was put into JSON strings has them. end is the position of the
// quote that closes the name.
func (s *scanner) member(i, end int, q byte) {
	b := s.b
	j := end
	level := 0
	for j > 0 && b[j-1] == '\\' {
		j--
		level++
	}
	name := j
	for name > 0 && j-name <= maxName && (word | dash | dot).has(b[name-1]) {
		name--
	}
	if name == j || name == 0 || b[name-1] != q || !isSecretKey(b[name:j]) {
		return
	}
	k := i + 1
	for k < len(b) && k-i < maxGap && space.has(b[k]) {
		k++
	}
	for n := 0; n < level; n++ {
		if k == len(b) {
			break
		}
		if b[k] != '\\' {
			return
		}
		k++
	}
	if k == len(b) {
		s.pendingMember(i+1, q, level)
		return
	}
	if b[k] != q {
		return
	}
	from := k + 1
	to, done := findQuote(b, from, q, level)
	switch {
	case !done && !s.final:
		s.pendingMember(from, q, level)
	case to > from && !isPlaceholder(b[from:to]):
		s.value(from, to, kindJSON, isAuthKey(b[name:j]))
	}
}

func (s *scanner) pendingMember(at int, q byte, level int) {
	if !s.final {
		s.moreBy(at, cont{kind: kindJSON, quoted: true, q: q, level: level})
	}
}

// value records a value that its name caught; with auth its scheme word stays.
func (s *scanner) value(from, to int, kind string, auth bool) {
	if auth {
		n := schemeLen(s.b[from:to])
		if from += n; n > 0 && isPlaceholder(s.b[from:to]) {
			return
		}
	}
	s.add(span{start: from, end: to, kind: kind, named: true})
}

// findQuote returns where the string that holds b[i] ends: before its closing
// quote, which stands after level backslashes; the end of b and false if it
// does not.
func findQuote(b []byte, i int, q byte, level int) (int, bool) {
	n := 0 // backslashes before i
	for ; i < len(b); i++ {
		switch b[i] {
		case '\\':
			n++
			continue
		case q:
			// Fewer: an outer string ends. Otherwise those beyond level are
			// escaped backslashes of this level, or escape the quote.
			if n <= level || (n-level)%(2*(level+1)) == 0 {
				return i - min(n, level), true
			}
		}
		n = 0
	}
	return len(b), false
}

// field: a header field as curl -v and others print it.
func (s *scanner) field(i int) {
	b := s.b
	if i == 0 || !lastOfField[b[i-1]] {
		return
	}
	j := i
	for j > 0 && i-j <= maxName && (word | dash).has(b[j-1]) {
		j--
	}
	j = s.name(j, i)
	if j == i || i-j > maxName || !isFieldInText(b[j:i]) {
		return
	}
	k := i + 1
	for k < len(b) && k-i < maxGap && (b[k] == ' ' || b[k] == '\t') {
		k++
	}
	if n := schemeLen(b[k:]); n > 0 {
		k += n
	}
	if !isPlaceholder(b[k:min(len(b), s.run(slotBearer, k, bearerBody))]) {
		s.class(slotBearer, k, k, bearerBody, 16, kindHeader)
	}
}

// equals judges what stands around the equals sign at i: a parameter of a
// query or form, a variable, a key of WireGuard, a part of a SigV4 header.
func (s *scanner) equals(i int) {
	b := s.b
	j := i
	for j > 0 && i-j < 4 && b[j-1] == ' ' {
		j--
	}
	end := j
	for j > 0 && end-j <= maxName && (word | dash | dot).has(b[j-1]) {
		j--
	}
	j = s.name(j, end)
	name := b[j:end]
	if len(name) == 0 || len(name) > maxName {
		return
	}
	if isWireGuardKey(name) {
		s.wireGuard(i + 1)
		return
	}
	if end != i {
		return
	}
	var before byte
	if j > 0 {
		before = b[j-1]
	}
	start := j == 0 && !s.cut
	if string(name) == "Signature" {
		s.class(slotHex, i+1, i+1, hexLower|underscore, 64, kindSigV4)
	}
	switch {
	case string(name) == "Credential":
		s.param(i+1, slotCredential, credential, kindSigV4, 1)
	case s.url && (start || before == '?' || before == '&' || before == '#' || before == ';'):
		if isQueryKey(name) || isSecretKey(name) {
			s.param(i+1, slotForm, fieldValue&^hash, kindQuery, 1)
		}
	case before == '?' || before == '&':
		if isQueryKeyInText(name) {
			s.param(i+1, slotQuery, queryValue, kindQuery, 1)
		} else if before == '&' && isFormKey(name) {
			s.param(i+1, slotForm, fieldValue&^hash, kindForm, 1)
		}
	case start && isFormKey(name):
		s.param(i+1, slotForm, fieldValue&^hash, kindForm, 1)
	case isVariable(name):
		if k := s.skip(i+1, `"'`); k < len(b) && b[k] != '$' && b[k] != '\\' {
			s.param(k, slotEnv, envValue, kindEnv, minEnv)
		}
	}
}

// name returns where the name b[i:end] really begins: behind the end of an
// escape that was taken for letters of it.
func (s *scanner) name(i, end int) int {
	b := s.b
	if i == end || i == 0 {
		return i
	}
	if s.afterSecret(i) {
		return end
	}
	switch b[i-1] {
	case '\\':
		if bytes.IndexByte([]byte("nrtbf"), b[i]) >= 0 {
			return i + 1
		}
	case '[', ';': // SGR
		j := i
		for j < end && digit.has(b[j]) {
			j++
		}
		if j < end && b[j] == 'm' {
			return j + 1
		}
	}
	return i
}

// minEnv is the least length of the value of a variable in text: shorter ones
// are counts and switches.
const minEnv = 8

// param records the value that begins at i.
func (s *scanner) param(i, slot int, c class, kind string, min int) {
	e := s.run(slot, i, c)
	if e == len(s.b) && !s.final {
		s.more(i, kind, c)
		return
	}
	if e-i >= min && !isPlaceholder(s.b[i:e]) {
		s.add(span{start: i, end: e, kind: kind, named: true})
	}
}

// wireGuard: 32 bytes in base64.
func (s *scanner) wireGuard(i int) {
	for n := 0; i < len(s.b) && n < maxGap && space.has(s.b[i]); n++ {
		i++
	}
	e := i
	for e < len(s.b) && e-i < 43 && base64Body.has(s.b[e]) {
		e++
	}
	switch {
	case e == len(s.b) && !s.final:
		s.more(i, "wireguard", base64Body|equals)
	case e-i == 43 && e < len(s.b) && s.b[e] == '=':
		s.sure(i, e+1, "wireguard")
	}
}
