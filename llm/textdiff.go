package llm

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The operations of a [Span].
const (
	Same    = "same"
	Deleted = "deleted"
	Added   = "added"
	Skipped = "skipped" // Size bytes that are not shown
)

// A Span is a piece of a difference between two texts. Read in order, those that
// are the same and deleted make the old text, those that are the same and added
// the new one, but for what is skipped.
type Span struct {
	Op   string `json:"op"`
	Text string `json:"text,omitempty"`
	Size int    `json:"size,omitempty"` // of what is skipped, in bytes
	// Of says what is skipped: something that is the same, deleted or added.
	Of string `json:"of,omitempty"`
}

// The bounds of what a difference shows.
const (
	maxAround = 160     // bytes that are the same before and after a change
	maxSpan   = 2000    // bytes of a change
	maxSpans  = 200     // changes
	maxWords  = 1 << 20 // bytes that are compared word by word
)

// textDiff compares two texts: line by line, and word by word where lines differ.
func textDiff(a, b string) []Span {
	old, now := splitLines(a), splitLines(b)
	var all []Span
	for _, e := range edits(old, now) {
		x, y := strings.Join(old[e.oldFrom:e.oldTo], ""), strings.Join(now[e.newFrom:e.newTo], "")
		switch {
		case e.equal:
			all = span(all, Same, x)
		case x == "" || y == "" || len(x)+len(y) > maxWords:
			all = span(span(all, Deleted, x), Added, y)
		default:
			all = wordDiff(all, x, y)
		}
	}
	return shown(all)
}

// wordDiff compares lines word by word. Where next to nothing is the same, one
// stands for the other as a whole: that is easier to read.
func wordDiff(all []Span, a, b string) []Span {
	old, now := splitWords(a), splitWords(b)
	list := edits(old, now)
	same := 0
	for _, e := range list {
		if e.equal {
			for _, w := range old[e.oldFrom:e.oldTo] {
				if strings.TrimSpace(w) != "" {
					same += len(w)
				}
			}
		}
	}
	if 5*same < min(len(a), len(b)) {
		return span(span(all, Deleted, a), Added, b)
	}
	for _, e := range list {
		x, y := strings.Join(old[e.oldFrom:e.oldTo], ""), strings.Join(now[e.newFrom:e.newTo], "")
		if e.equal {
			all = span(all, Same, x)
		} else {
			all = span(span(all, Deleted, x), Added, y)
		}
	}
	return all
}

// span appends text to the last span of that kind.
func span(all []Span, op, text string) []Span {
	if text == "" {
		return all
	}
	n := len(all) - 1
	if n >= 0 && all[n].Op == op {
		all[n].Text += text
		return all
	}
	// Of neighbours the deleted comes first, so that they stay two.
	if n > 0 && op == Deleted && all[n].Op == Added && all[n-1].Op == Deleted {
		all[n-1].Text += text
		return all
	}
	if n > 0 && op == Added && all[n].Op == Deleted && all[n-1].Op == Added {
		all[n-1].Text += text
		return all
	}
	return append(all, Span{Op: op, Text: text})
}

// shown shortens what is the same to what stands around the changes, and what
// is very long.
func shown(all []Span) []Span {
	var out []Span
	for i, s := range all {
		if len(out) >= maxSpans {
			rest := 0
			for _, s := range all[i:] {
				rest += len(s.Text)
			}
			return append(out, Span{Op: Skipped, Size: rest})
		}
		head, tail := maxSpan/2, maxSpan/2
		if s.Op == Same {
			head, tail = maxAround, maxAround
			if i == 0 {
				head = 0
			}
			if i == len(all)-1 {
				tail = 0
			}
		}
		if len(s.Text) <= head+tail+maxAround/2 && (s.Op != Same || head+tail > 0) {
			out = append(out, s)
			continue
		}
		first, last := cutText(s.Text, head, tail)
		if first != "" {
			out = append(out, Span{Op: s.Op, Text: first})
		}
		out = append(out, Span{Op: Skipped, Size: len(s.Text) - len(first) - len(last), Of: s.Op})
		if last != "" {
			out = append(out, Span{Op: s.Op, Text: last})
		}
	}
	return out
}

// cutText returns the first and last bytes of s, in whole characters.
func cutText(s string, head, tail int) (first, last string) {
	for head > 0 && !utf8.RuneStart(s[head]) {
		head--
	}
	tail = len(s) - tail
	for tail < len(s) && !utf8.RuneStart(s[tail]) {
		tail++
	}
	return s[:head], s[tail:]
}

// splitLines splits after each line feed.
func splitLines(s string) []string {
	lines := strings.SplitAfter(s, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// splitWords splits into words, runs of white space, and single other
// characters.
func splitWords(s string) []string {
	var words []string
	class := func(r rune) int {
		switch {
		case unicode.IsSpace(r):
			return 1
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' || unicode.IsMark(r):
			return 2
		}
		return 0
	}
	from, last := 0, -1
	for i, r := range s {
		c := class(r)
		if i > from && (c != last || c == 0) {
			words = append(words, s[from:i])
			from = i
		}
		last = c
	}
	if from < len(s) {
		words = append(words, s[from:])
	}
	return words
}
