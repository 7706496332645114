package replay

import "strings"

// idPrefixes begin the ids of messages, tool calls and the like, before _.
var idPrefixes = map[string]bool{
	"msg": true, "toolu": true, "srvtoolu": true, "call": true, "fc": true, "resp": true, "req": true, "chatcmpl": true, "rs": true, "ws": true, "run": true,
	"thread": true, "step": true, "item": true, "file": true, "cntr": true, "session": true, "conv": true, "gen": true, "tooluse": true,
}

// The bounds of what is taken for an id, a hash, a prefix of an id.
const (
	minID     = 6
	minHash   = 32
	maxHash   = 64
	maxPrefix = 8
)

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isHex(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }

func isWord(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

// steady returns s with what is volatile in it (ids and times) replaced by its
// kind. It looks at each word once: bodies are megabytes, and compared often.
func steady(s string) string {
	out, _ := settle(s, true)
	return out
}

// hasID reports whether an id stands in s.
func hasID(s string) bool {
	_, ids := settle(s, false)
	return ids
}

// settle is steady; ids reports whether something other than a time was
// replaced. Without times these stay.
func settle(s string, times bool) (out string, ids bool) {
	var b strings.Builder
	done := 0
	prose := strings.ContainsAny(s, " \n\t")
	for i := 0; i < len(s); {
		kind, n := "", 0
		switch c := s[i]; {
		case c == '/' && strings.HasPrefix(s[i:], "/tmp/"):
			if n = tempAt(s[i:]); n > 0 {
				kind = "temp"
			}
		case !isWord(c):
			i++
			continue
		default:
			kind, n = wordAt(s, i)
		}
		if kind == "time" && (!times || !prose && n != len(s)) {
			kind, n = "", max(1, wordLen(s[i:])) // a date within a word belongs to that
		}
		if kind == "" {
			i += max(1, n)
			continue
		}
		ids = ids || kind != "time"
		b.WriteString(s[done:i])
		b.WriteString("<" + kind + ">")
		i += n
		done = i
	}
	if done == 0 {
		return s, ids
	}
	b.WriteString(s[done:])
	return b.String(), ids
}

// wordAt judges the word that begins at i, and returns how long it is, or what
// of it is volatile.
func wordAt(s string, i int) (kind string, n int) {
	t := s[i:]
	c := t[0]
	if isHex(c) {
		if n := uuidAt(t); n > 0 {
			return "uuid", n
		}
	}
	if isDigit(c) {
		if n := clockAt(t); n > 0 && (i == 0 || s[i-1] != '-') {
			return "time", n
		}
	}
	word := wordLen(t)
	switch {
	case c >= 'a' && c <= 'z':
		if n := idAt(t, word); n > 0 {
			return "id", n
		}
	case isDigit(c) && isEpoch(t[:word]):
		return "epoch", word
	}
	if word >= minHash && word <= maxHash && isHash(t[:word]) {
		return "hash", word
	}
	return "", word
}

func wordLen(t string) int {
	n := 0
	for n < len(t) && isWord(t[n]) {
		n++
	}
	return n
}

// ends reports whether a word does not go on at n.
func ends(t string, n int) bool { return n >= len(t) || !isWord(t[n]) }

// uuidAt returns the length of the UUID that t begins with (RFC 9562), or 0.
func uuidAt(t string) int {
	const size = 36
	if len(t) < size || t[8] != '-' || t[13] != '-' || t[18] != '-' || t[23] != '-' || !ends(t, size) {
		return 0
	}
	for i := range size {
		if i != 8 && i != 13 && i != 18 && i != 23 && !isHex(t[i]) {
			return 0
		}
	}
	return size
}

// idAt returns the length of the id that t begins with, whose first word is that
// long, or 0: msg_01AbCd, chatcmpl-9x8y7z.
func idAt(t string, word int) int {
	sep := 0
	for sep < len(t) && sep <= maxPrefix && t[sep] >= 'a' && t[sep] <= 'z' {
		sep++
	}
	switch {
	case sep == len(t) || !idPrefixes[t[:sep]]:
		return 0
	case t[sep] == '_':
	case t[sep] == '-' && t[:sep] == "chatcmpl":
	default:
		return 0
	}
	n := sep + 1
	for n < len(t) && (isWord(t[n]) || t[n] == '-') {
		n++
	}
	if n-sep-1 < minID {
		return 0
	}
	return n
}

// isEpoch tells a time in seconds, milliseconds, … since 1970, from 2017 on.
func isEpoch(w string) bool {
	if len(w) < 10 || len(w) > 19 || len(w)%3 != 1 || w[0] != '1' || w[1] < '5' {
		return false
	}
	for i := range len(w) {
		if !isDigit(w[i]) {
			return false
		}
	}
	return true
}

func isHash(w string) bool {
	for i := range len(w) {
		if !isDigit(w[i]) && (w[i] < 'a' || w[i] > 'f') {
			return false
		}
	}
	return true
}

// tempAt returns how long a name below /tmp is, its directory included.
func tempAt(t string) int {
	n := len("/tmp/")
	for n < len(t) && (isWord(t[n]) || t[n] == '.' || t[n] == '-') {
		n++
	}
	if n == len("/tmp/") {
		return 0
	}
	return n
}

// shaped reports whether t begins as a pattern in which 0 stands for a digit.
func shaped(t, pattern string) bool {
	if len(t) < len(pattern) {
		return false
	}
	for i := range len(pattern) {
		if pattern[i] == '0' && !isDigit(t[i]) || pattern[i] != '0' && pattern[i] != t[i] {
			return false
		}
	}
	return true
}

// clockAt returns the length of the date, the time, or both, that t begins with,
// or 0.
func clockAt(t string) int {
	n := 0
	if shaped(t, "0000-00-00") {
		n = len("0000-00-00")
		if n == len(t) || t[n] != 'T' && t[n] != ' ' || !shaped(t[n+1:], "00:00") {
			if !ends(t, n) || n < len(t) && t[n] == '-' {
				return 0
			}
			return n
		}
		n++
	} else if !shaped(t, "00:00:00") {
		return 0
	}
	n += len("00:00")
	if shaped(t[n:], ":00") {
		n += len(":00")
		if n+1 < len(t) && (t[n] == '.' || t[n] == ',') && isDigit(t[n+1]) {
			for n++; n < len(t) && isDigit(t[n]); n++ {
			}
		}
	}
	n += zoneAt(t[n:])
	if !ends(t, n) {
		return 0
	}
	return n
}

// zoneAt returns how long the time zone is that follows a time.
func zoneAt(t string) int {
	rest := strings.TrimPrefix(t, " ")
	space := len(t) - len(rest)
	switch {
	case strings.HasPrefix(rest, "Z") && ends(rest, 1):
		return space + 1
	case strings.HasPrefix(rest, "UTC"):
		return space + 3
	case len(rest) > 0 && (rest[0] == '+' || rest[0] == '-') && shaped(rest[1:], "00:00"):
		return space + 6
	case len(rest) > 0 && (rest[0] == '+' || rest[0] == '-') && shaped(rest[1:], "0000"):
		return space + 5
	}
	return 0
}
