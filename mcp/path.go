package mcp

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A step of a path chooses among the children of an object or an array.
type step struct {
	key    string
	keyed  bool // a member of that name
	lo, hi int  // elements, if lo < hi
	from   int  // -1 is the last element, -2 the one before; 0: counted from the beginning
}

// fits reports whether a step chooses a child: the member of that name, or
// element n.
func (s *step) fits(array bool, key string, n int) bool {
	if array {
		return n >= s.lo && n < s.hi
	}
	return s.keyed && s.key == key || !s.keyed && s.lo == 0 && s.hi == math.MaxInt
}

// The limits of paths.
const (
	maxPath  = 1000 // bytes
	maxSteps = 64
)

// pathExample is what a wrong path is answered with.
const pathExample = `write messages[0].content, tools[*].name, messages[-1] or /messages/0/content`

// parsePath reads messages[0].content[*].text, with or without $ or . before it, or
// the JSON pointer /messages/0/content (RFC 6901). several: it may choose several
// values.
func parsePath(text string) (steps []step, several bool, err error) {
	bad := func(why string) ([]step, bool, error) {
		return nil, false, &Problem{fmt.Sprintf("path %q: %s", clip(text, 100), why), pathExample}
	}
	if len(text) > maxPath {
		return bad("too long")
	}
	if strings.HasPrefix(text, "/") {
		for part := range strings.SplitSeq(text[1:], "/") {
			s := step{key: strings.NewReplacer("~1", "/", "~0", "~").Replace(part), keyed: true}
			if n, err := strconv.Atoi(part); err == nil && n >= 0 && n < math.MaxInt {
				s.lo, s.hi = n, n+1
			}
			steps = append(steps, s)
		}
	} else {
		rest := strings.TrimPrefix(text, "$")
		for first := true; rest != "" && rest != "."; first = false {
			var s step
			var why string
			switch {
			case rest[0] == '[':
				s, rest, why = bracket(rest)
			case rest[0] == '.' || first:
				rest = strings.TrimPrefix(rest, ".")
				if strings.HasPrefix(rest, "[") {
					continue
				}
				end := strings.IndexAny(rest, ".[")
				if end < 0 {
					end = len(rest)
				}
				if s = (step{key: rest[:end], keyed: true}); s.key == "*" {
					s = step{hi: math.MaxInt}
				}
				if rest = rest[end:]; s.keyed && s.key == "" {
					why = "a name is missing"
				}
			default:
				why = "want . or [ before " + strconv.Quote(clip(rest, 20))
			}
			if why != "" {
				return bad(why)
			}
			steps = append(steps, s)
		}
	}
	if len(steps) > maxSteps {
		return bad("too long")
	}
	for _, s := range steps {
		several = several || s.hi-s.lo > 1
	}
	return steps, several, nil
}

// bracket reads [0], [-1], [2:5], [*], [] or ["name"].
func bracket(text string) (s step, rest, why string) {
	if len(text) > 1 && (text[1] == '"' || text[1] == '\'') {
		for end := 2; end < len(text); end++ {
			switch {
			case text[end] == '\\':
				end++
			case text[end] == text[1] && strings.HasPrefix(text[end+1:], "]"):
				s.keyed, s.key = true, text[2:end]
				if text[1] == '"' {
					json.Unmarshal([]byte(text[1:end+1]), &s.key)
				}
				return s, text[end+2:], ""
			}
		}
		return s, "", "a quote has no end"
	}
	inner, rest, closed := strings.Cut(text[1:], "]")
	if !closed {
		return s, "", "a bracket has no end"
	}
	if inner == "*" || inner == "" {
		return step{hi: math.MaxInt}, rest, ""
	}
	lo, hi, slice := strings.Cut(inner, ":")
	var err1, err2 error
	if s.hi = math.MaxInt; lo != "" {
		s.lo, err1 = strconv.Atoi(lo)
	}
	if slice && hi != "" {
		s.hi, err2 = strconv.Atoi(hi)
	} else if !slice {
		s.hi = s.lo + 1
	}
	switch {
	case err1 != nil || err2 != nil || s.lo >= math.MaxInt32 || s.lo < -math.MaxInt32:
		return s, "", "no index: " + strconv.Quote(clip(inner, 20))
	case slice && (s.lo < 0 || s.hi <= s.lo):
		return s, "", "no range: " + strconv.Quote(clip(inner, 20))
	case s.lo < 0:
		s.from, s.lo, s.hi = s.lo, 0, 0
	}
	return s, rest, ""
}
