package main

import "strings"

// maxEdits bounds the work on two texts: beyond so many lines that were added
// or removed, what lies between their equal ends is taken as replaced.
const maxEdits = 1000

// An edit is a line of a comparison: "-" it was there, "+" it is there now, " "
// it stayed.
type edit struct {
	op   byte
	line string
}

// diffLines compares two texts line by line.
func diffLines(a, b string) []edit {
	x, y := splitLines(a), splitLines(b)
	head := 0
	for head < len(x) && head < len(y) && x[head] == y[head] {
		head++
	}
	tail := 0
	for tail < len(x)-head && tail < len(y)-head && x[len(x)-1-tail] == y[len(y)-1-tail] {
		tail++
	}
	var edits []edit
	for _, l := range x[:head] {
		edits = append(edits, edit{' ', l})
	}
	edits = append(edits, shortestEdit(x[head:len(x)-tail], y[head:len(y)-tail])...)
	for _, l := range x[len(x)-tail:] {
		edits = append(edits, edit{' ', l})
	}
	return edits
}

func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// shortestEdit is the algorithm of Myers ("An O(ND) Difference Algorithm", 1986),
// with the furthest points of each round kept to walk back.
func shortestEdit(a, b []string) []edit {
	n, m := len(a), len(b)
	limit := min(n+m, maxEdits)
	var rounds [][]int
	v := make([]int, 2*limit+2)
	for d := 0; d <= limit; d++ {
		rounds = append(rounds, append([]int(nil), v...))
		for k := -d; k <= d; k += 2 {
			x := furthest(v, limit, k, d)
			y := x - k
			for x < n && y < m && a[x] == b[y] {
				x, y = x+1, y+1
			}
			v[index(k, limit)] = x
			if x >= n && y >= m {
				return walkBack(a, b, rounds, limit)
			}
		}
	}
	var edits []edit
	for _, l := range a {
		edits = append(edits, edit{'-', l})
	}
	for _, l := range b {
		edits = append(edits, edit{'+', l})
	}
	return edits
}

// index is the place of diagonal k.
func index(k, limit int) int { return (k + 2*limit + 2) % (2*limit + 2) }

// furthest is where diagonal k begins in round d: a line down from the diagonal
// above, or one to the right from that below.
func furthest(v []int, limit, k, d int) int {
	if d == 0 {
		return 0
	}
	if k == -d || k != d && v[index(k-1, limit)] < v[index(k+1, limit)] {
		return v[index(k+1, limit)]
	}
	return v[index(k-1, limit)] + 1
}

func walkBack(a, b []string, rounds [][]int, limit int) []edit {
	var reversed []edit
	x, y := len(a), len(b)
	for d := len(rounds) - 1; d >= 0; d-- {
		v, k := rounds[d], x-y
		start := furthest(v, limit, k, d)
		for x > start {
			x, y = x-1, y-1
			reversed = append(reversed, edit{' ', a[x]})
		}
		if d == 0 {
			break
		}
		if k == -d || k != d && v[index(k-1, limit)] < v[index(k+1, limit)] {
			y--
			reversed = append(reversed, edit{'+', b[y]})
		} else {
			x--
			reversed = append(reversed, edit{'-', a[x]})
		}
	}
	edits := make([]edit, 0, len(reversed))
	for i := len(reversed) - 1; i >= 0; i-- {
		edits = append(edits, reversed[i])
	}
	return edits
}

// hunks leaves of what stayed only so many lines around what did not; nil
// stands for what is left out.
func hunks(edits []edit, around int) []*edit {
	keep := make([]bool, len(edits))
	for i := range edits {
		if edits[i].op == ' ' {
			continue
		}
		for j := max(0, i-around); j <= min(len(edits)-1, i+around); j++ {
			keep[j] = true
		}
	}
	var shown []*edit
	for i := range edits {
		switch {
		case keep[i]:
			shown = append(shown, &edits[i])
		case i == 0 || keep[i-1]:
			shown = append(shown, nil)
		}
	}
	return shown
}
