package main

import (
	"bytes"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"trace/flow"
	"trace/store"
)

// regexReach is how long a match of a regular expression may be, if the
// expression sets no limit, where it lies across parts of a body that are
// stored apart.
const regexReach = 4 << 10

// newFinder makes what looks for text.
func newFinder(text string, isRegexp, ignoreCase bool) (store.Finder, error) {
	if isRegexp {
		if ignoreCase {
			text = "(?i)" + text
		}
		return regexFinder(text)
	}
	if text == "" {
		return store.Finder{}, fmt.Errorf("what is to be found? An empty text is everywhere")
	}
	forms := writtenForms(text)
	if !ignoreCase {
		return literalFinder(forms, nil), nil
	}
	for i, f := range forms {
		forms[i] = f
		if strings.IndexFunc(f, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
			// The case of other letters than ASCII is not a matter of bytes.
			quoted := make([]string, len(forms))
			for i, f := range forms {
				quoted[i] = regexp.QuoteMeta(f)
			}
			return regexFinder("(?i)" + strings.Join(quoted, "|"))
		}
	}
	return literalFinder(forms, lower), nil
}

// writtenForms returns text as it may stand in a record: as it is, and as JSON
// writes it in a string, or in a string of JSON in a string.
func writtenForms(text string) []string {
	forms := []string{text}
	add := func(s string) {
		if !slices.Contains(forms, s) {
			forms = append(forms, s)
		}
	}
	for _, ascii := range []func(string) string{nil, asciiJSON("%04x"), asciiJSON("%04X")} {
		s := text
		for range 2 {
			p, err := flow.MarshalJSON(s)
			if err != nil {
				break
			}
			s = string(p[1 : len(p)-1])
			if ascii != nil {
				s = ascii(s)
			}
			add(s)
		}
	}
	return forms
}

// asciiJSON returns what writes the letters beyond ASCII of a JSON string as
// escapes.
func asciiJSON(form string) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for _, r := range s {
			switch {
			case r < utf8.RuneSelf:
				b.WriteRune(r)
			case r > 0xffff:
				r -= 0x10000
				fmt.Fprintf(&b, `\u`+form+`\u`+form, 0xd800+r>>10, 0xdc00+r&0x3ff)
			default:
				fmt.Fprintf(&b, `\u`+form, r)
			}
		}
		return b.String()
	}
}

// literalFinder looks for any of forms, in what fold makes of the bytes.
func literalFinder(forms []string, fold func(dst, p []byte) []byte) store.Finder {
	f := store.Finder{}
	needles := make([][]byte, len(forms))
	for i, s := range forms {
		needles[i] = []byte(s)
		if fold != nil {
			needles[i] = fold(nil, needles[i])
		}
		f.Reach = max(f.Reach, len(s))
	}
	var folded []byte
	f.All = func(p []byte) [][2]int {
		if fold != nil {
			folded = fold(folded[:0], p)
			p = folded
		}
		var ms [][2]int
		for _, needle := range needles {
			for at := 0; ; {
				i := bytes.Index(p[at:], needle)
				if i < 0 {
					break
				}
				ms = append(ms, [2]int{at + i, at + i + len(needle)})
				at += i + len(needle)
			}
		}
		if len(needles) > 1 && len(ms) > 1 {
			ms = apart(ms)
		}
		return ms
	}
	return f
}

// apart sorts matches and leaves those out that overlap one before them.
func apart(ms [][2]int) [][2]int {
	slices.SortFunc(ms, func(a, b [2]int) int {
		if a[0] != b[0] {
			return a[0] - b[0]
		}
		return b[1] - a[1]
	})
	out := ms[:1]
	for _, m := range ms[1:] {
		if m[0] >= out[len(out)-1][1] {
			out = append(out, m)
		}
	}
	return out
}

// lower appends p to dst with the letters of ASCII in lower case.
func lower(dst, p []byte) []byte {
	n := len(dst)
	dst = append(dst, p...)
	for i, c := range dst[n:] {
		if c-'A' < 26 {
			dst[n+i] = c + ('a' - 'A')
		}
	}
	return dst
}

// regexFinder looks for matches of a regular expression.
func regexFinder(expr string) (store.Finder, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return store.Finder{}, err
	}
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return store.Finder{}, err
	}
	f := store.Finder{Reach: min(longest(tree), regexReach), Sight: utf8.UTFMax, Open: true}
	f.All = func(p []byte) [][2]int {
		var ms [][2]int
		for _, m := range re.FindAllIndex(p, -1) {
			if m[1] > m[0] {
				ms = append(ms, [2]int{m[0], m[1]})
			}
		}
		return ms
	}
	return f, nil
}

// longest returns how many bytes a match may have, regexReach or more where
// there is no limit.
func longest(re *syntax.Regexp) int {
	sum := func(n int, of func(int) int) int {
		total := 0
		for i := 0; i < n && total < regexReach; i++ {
			total += of(i)
		}
		return total
	}
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune) * utf8.UTFMax
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return utf8.UTFMax
	case syntax.OpStar, syntax.OpPlus:
		return regexReach
	case syntax.OpRepeat:
		if re.Max < 0 {
			return regexReach
		}
		return sum(re.Max, func(int) int { return max(1, longest(re.Sub[0])) })
	case syntax.OpConcat:
		return 1 + sum(len(re.Sub), func(i int) int { return longest(re.Sub[i]) })
	case syntax.OpCapture, syntax.OpQuest:
		return longest(re.Sub[0])
	case syntax.OpAlternate:
		n := 0
		for _, sub := range re.Sub {
			n = max(n, longest(sub))
		}
		return n
	}
	return 1 // what matches between two letters must see the second
}
