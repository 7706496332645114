package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestDiffLines: what a comparison says was there and is there now is what was
// there and is there now, and nothing is said to differ that need not.
func TestDiffLines(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func(n int) []string {
		var lines []string
		for range random.IntN(n) {
			lines = append(lines, fmt.Sprint(random.IntN(6)))
		}
		return lines
	}
	for range 2000 {
		a, b := text(30), text(30)
		edits := diffLines(strings.Join(a, "\n"), strings.Join(b, "\n"))
		var old, now []string
		changed := 0
		for _, e := range edits {
			if e.op != '+' {
				old = append(old, e.line)
			}
			if e.op != '-' {
				now = append(now, e.line)
			}
			if e.op != ' ' {
				changed++
			}
		}
		if strings.Join(old, "\n") != strings.Join(a, "\n") || strings.Join(now, "\n") != strings.Join(b, "\n") {
			t.Fatalf("%q %q: %+v", a, b, edits)
		}
		if want := len(a) + len(b) - 2*common(a, b); changed != want {
			t.Fatalf("%q %q: %d edits, want %d", a, b, changed, want)
		}
	}
}

// common is the length of the longest common subsequence.
func common(a, b []string) int {
	best := make([]int, len(b)+1)
	for i := range a {
		diagonal := 0
		for j := range b {
			above := best[j+1]
			if a[i] == b[j] {
				best[j+1] = diagonal + 1
			} else {
				best[j+1] = max(best[j+1], best[j])
			}
			diagonal = above
		}
	}
	return best[len(b)]
}

// TestDiffLinesIsBounded: texts that have nothing in common do not take for
// ever.
func TestDiffLinesIsBounded(t *testing.T) {
	var a, b []string
	for i := range 20000 {
		a, b = append(a, fmt.Sprint("a", i)), append(b, fmt.Sprint("b", i))
	}
	edits := diffLines("same\n"+strings.Join(a, "\n"), "same\n"+strings.Join(b, "\n")+"\n")
	if len(edits) != 40001 || edits[0] != (edit{' ', "same"}) || edits[1] != (edit{'-', "a0"}) || edits[40000] != (edit{'+', "b19999"}) {
		t.Errorf("%d edits, first %v", len(edits), edits[:2])
	}
	shown := hunks(diffLines("1\n2\n3\n4\n5\n6\n7", "1\n2\n3\nx\n5\n6\n7"), 1)
	var s strings.Builder
	for _, e := range shown {
		if e == nil {
			s.WriteString("…")
			continue
		}
		s.WriteString(string(e.op) + e.line)
	}
	if s.String() != "… 3-4+x 5…" {
		t.Errorf("%s", s.String())
	}
}
