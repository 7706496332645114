package replay

import (
	"bytes"
	"hash/maphash"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"trace/flow"
)

// A form is what a request says, without what changes from run to run. Its
// leaves are those of a JSON body, the parameters of a form, or the lines of a
// text.
type form struct {
	sums     []uint64 // of the leaves, in their order
	redacted []leaf   // those that hold a placeholder in the record
}

var formSeed = maphash.MakeSeed()

func sumOf(l leaf) uint64 {
	var h maphash.Hash
	h.SetSeed(formSeed)
	h.WriteString(l.path)
	h.WriteByte(0)
	h.WriteString(l.value)
	return h.Sum64()
}

// formOf condenses leaves.
func formOf(leaves []leaf) *form {
	f := &form{sums: make([]uint64, 0, len(leaves))}
	for _, l := range leaves {
		if isRedacted(l.value) {
			f.redacted = append(f.redacted, l)
			continue
		}
		f.sums = append(f.sums, sumOf(l))
	}
	return f
}

// bodyLeaves reads a decoded body.
func bodyLeaves(contentType string, p []byte) []leaf {
	if len(bytes.TrimSpace(p)) == 0 {
		return nil
	}
	media := mediaType(contentType)
	if media == "application/x-www-form-urlencoded" {
		return queryLeaves(string(p))
	}
	if v, ok := parseJSON(p); ok {
		return leavesOf(v, "", isVolatileMember, steady, nil)
	}
	if !utf8.Valid(p) || bytes.IndexByte(p, 0) >= 0 {
		return []leaf{{"", string(p)}}
	}
	text := string(p)
	if _, boundary, ok := strings.Cut(contentType, "boundary="); ok {
		boundary, _, _ = strings.Cut(boundary, ";")
		if boundary = strings.Trim(boundary, ` "`); boundary != "" {
			text = strings.ReplaceAll(text, boundary, "<boundary>")
		}
	}
	var leaves []leaf
	n := 0
	for line := range strings.Lines(text) {
		n++
		at := "line " + strconv.Itoa(n)
		line = strings.TrimRight(line, "\r\n")
		if v, ok := parseJSON([]byte(line)); ok && strings.HasPrefix(line, "{") {
			leaves = leavesOf(v, at, isVolatileMember, steady, leaves)
			continue
		}
		leaves = append(leaves, leaf{at, steady(line)})
	}
	return leaves
}

// queryLeaves reads the parameters of a query or a form, in the order of their
// names.
func queryLeaves(query string) []leaf {
	var leaves []leaf
	for p := range strings.SplitSeq(query, "&") {
		if p == "" {
			continue
		}
		name, value, _ := strings.Cut(p, "=")
		name, value = unescape(name), unescape(value)
		if volatileParams[strings.ToLower(name)] {
			continue
		}
		leaves = append(leaves, leaf{name, steady(value)})
	}
	sort.SliceStable(leaves, func(i, j int) bool { return leaves[i].path < leaves[j].path })
	return leaves
}

func unescape(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// fits reports whether a live value may be what was redacted in the record.
func fits(recorded, live string) bool {
	rest := live
	parts := placeholder().Split(recorded, -1)
	for i, part := range parts {
		switch {
		case i == 0:
			if !strings.HasPrefix(rest, part) {
				return false
			}
			rest = rest[len(part):]
		case i == len(parts)-1:
			return strings.HasSuffix(rest, part)
		default:
			at := strings.Index(rest, part)
			if at < 0 {
				return false
			}
			rest = rest[at+len(part):]
		}
	}
	return rest == ""
}

// equals reports whether live leaves say what was recorded as f.
func (f *form) equals(live []leaf, sums []uint64) bool {
	if len(live) != len(f.sums)+len(f.redacted) {
		return false
	}
	if len(f.redacted) == 0 {
		for i, s := range sums {
			if f.sums[i] != s {
				return false
			}
		}
		return true
	}
	i, r := 0, 0
	for k, l := range live {
		switch {
		case r < len(f.redacted) && f.redacted[r].path == l.path && fits(f.redacted[r].value, l.value):
			r++
		case i < len(f.sums) && f.sums[i] == sums[k]:
			i++
		default:
			return false
		}
	}
	return true
}

// likeness returns how much of two bodies is the same, from 0 to 1.
func (f *form) likeness(sums map[uint64]int, n int) float64 {
	total := n + len(f.sums) + len(f.redacted)
	if total == 0 {
		return 1
	}
	seen := make(map[uint64]int, len(f.sums))
	same := 0
	for _, s := range f.sums {
		if seen[s] < sums[s] {
			seen[s]++
			same++
		}
	}
	return 2 * float64(same) / float64(total)
}

// firstDifference names the first leaf in which a live body is not the recorded
// one, "" if there is none.
func firstDifference(recorded, live []leaf) string {
	was := make(map[string]string, len(recorded))
	for _, l := range recorded {
		was[l.path] = l.value
	}
	is := make(map[string]bool, len(live))
	for _, l := range live {
		is[l.path] = true
		v, ok := was[l.path]
		switch {
		case !ok:
			return named(l.path) + " is " + shortValue(l.value) + ", and was not there"
		case v != l.value && !(isRedacted(v) && fits(v, l.value)):
			return named(l.path) + " is " + around(l.value, v) + ", recorded " + around(v, l.value)
		}
	}
	for _, l := range recorded {
		if !is[l.path] {
			return named(l.path) + " is missing, recorded " + shortValue(l.value)
		}
	}
	return ""
}

func named(path string) string {
	if path == "" {
		return "the body"
	}
	return path
}

// around returns what of a long text is near its first difference to another.
func around(s, other string) string {
	if len(s) <= maxShown {
		return s
	}
	i := 0
	for i < len(s) && i < len(other) && s[i] == other[i] {
		i++
	}
	if i = max(0, i-maxShown/3); i == 0 {
		return shortValue(s)
	}
	for i < len(s) && !utf8.RuneStart(s[i]) {
		i++
	}
	return "…" + shortValue(s[i:])
}

// pathKey returns the path of a request without its query, with ids in it
// replaced by their kind, and the query.
func pathKey(path string) (key, query string) {
	key, query, _ = strings.Cut(path, "?")
	parts := strings.Split(key, "/")
	for i, p := range parts {
		parts[i] = steady(p)
	}
	return strings.Join(parts, "/"), query
}

// requestBody returns the leaves of a recorded request's body.
func requestBody(d *flow.Detail) []leaf {
	return bodyLeaves(d.Request.Head.Get("Content-Type"), d.RequestBody)
}
