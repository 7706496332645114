package llm

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// apply builds the second sequence from the first.
func apply(t *testing.T, a, b []int, list []edit) []int {
	var out []int
	x, y := 0, 0
	for i, e := range list {
		if e.oldFrom != x || e.newFrom != y || e.oldTo < x || e.newTo < y || e.oldTo == x && e.newTo == y {
			t.Fatalf("edit %d of %v does not follow", i, list)
		}
		if e.equal {
			if !slices.Equal(a[e.oldFrom:e.oldTo], b[e.newFrom:e.newTo]) {
				t.Fatalf("edit %d of %v is not equal", i, list)
			}
			out = append(out, a[e.oldFrom:e.oldTo]...)
		} else {
			out = append(out, b[e.newFrom:e.newTo]...)
		}
		x, y = e.oldTo, e.newTo
	}
	if x != len(a) || y != len(b) {
		t.Fatalf("%v ends early", list)
	}
	return out
}

func TestEditsLeadFromOneToTheOther(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n, kinds int) []int {
		s := make([]int, r.IntN(n+1))
		for i := range s {
			s[i] = r.IntN(kinds)
		}
		return s
	}
	for i := range 3000 {
		a, b := random(30, 1+i%9), random(30, 1+i%9)
		if out := apply(t, a, b, edits(a, b)); !slices.Equal(out, b) {
			t.Fatalf("%v to %v: %v", a, b, out)
		}
	}
	// Too different: still right.
	a, b := make([]int, 5000), make([]int, 4000)
	for i := range b {
		a[i], b[i] = i, -i-1
	}
	if out := apply(t, a, b, edits(a, b)); !slices.Equal(out, b) {
		t.Error("different")
	}
}

func TestEditsAreShort(t *testing.T) {
	a, b := strings.Split("abcabba", ""), strings.Split("cbabac", "")
	changed := 0
	for _, e := range edits(a, b) {
		if !e.equal {
			changed += e.oldTo - e.oldFrom + e.newTo - e.newFrom
		}
	}
	if changed != 5 {
		t.Error(changed, edits(a, b))
	}
}
