package llm

// An edit is a run of elements that both sequences have (Old and New are as
// long), or that one has instead of the other's.
type edit struct {
	oldFrom, oldTo int
	newFrom, newTo int
	equal          bool
}

// maxEdits bounds how different what is compared may be: beyond it the rest is
// one edit. The work grows with its square.
const maxEdits = 600

// edits compares two sequences by the shortest way from one to the other (E. W.
// Myers, "An O(ND) Difference Algorithm and Its Variations", 1986).
func edits[T comparable](a, b []T) []edit {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	var list []edit
	if head > 0 {
		list = append(list, edit{0, head, 0, head, true})
	}
	list = append(list, middle(a[head:len(a)-tail], b[head:len(b)-tail], head)...)
	if tail > 0 {
		list = append(list, edit{len(a) - tail, len(a), len(b) - tail, len(b), true})
	}
	return list
}

// middle compares what begins and ends differently, offset elements behind the
// beginning of both.
func middle[T comparable](a, b []T, offset int) []edit {
	switch {
	case len(a) == 0 && len(b) == 0:
		return nil
	case len(a) == 0 || len(b) == 0:
		return []edit{{offset, offset + len(a), offset, offset + len(b), false}}
	}
	trace, found := search(a, b)
	if !found {
		return []edit{{offset, offset + len(a), offset, offset + len(b), false}}
	}
	var back []edit // from the end to the beginning
	x, y := len(a), len(b)
	for d := len(trace) - 1; d >= 0; d-- {
		k := x - y
		var px, py int // where the last single edit began
		if d > 0 {
			v := trace[d-1]
			if k == -d || k != d && v[k-1+d] < v[k+1+d] {
				k++
			} else {
				k--
			}
			px = v[k+d]
			py = px - k
		}
		run := min(x-px, y-py) // equal ones behind it
		back = add(back, edit{x - run, x, y - run, y, true})
		x, y = x-run, y-run
		back = add(back, edit{px, x, py, y, false})
		x, y = px, py
	}
	list := make([]edit, 0, len(back))
	for i := len(back) - 1; i >= 0; i-- {
		e := back[i]
		list = append(list, edit{e.oldFrom + offset, e.oldTo + offset, e.newFrom + offset, e.newTo + offset, e.equal})
	}
	return list
}

// add puts e, which ends where the last one begins, to the list.
func add(back []edit, e edit) []edit {
	if e.oldFrom == e.oldTo && e.newFrom == e.newTo {
		return back
	}
	if n := len(back) - 1; n >= 0 && back[n].equal == e.equal {
		back[n].oldFrom, back[n].newFrom = e.oldFrom, e.newFrom
		return back
	}
	return append(back, e)
}

// search returns, for each number of single edits d, how far in a one gets on
// each diagonal k: at index k+d+1.
func search[T comparable](a, b []T) (trace [][]int, found bool) {
	n, m := len(a), len(b)
	for d := 0; d <= min(n+m, maxEdits); d++ {
		v := make([]int, 2*d+3)
		for k := -d; k <= d; k += 2 {
			x := 0
			if d > 0 {
				if before := trace[d-1]; k == -d || k != d && before[k-1+d] < before[k+1+d] {
					x = before[k+1+d]
				} else {
					x = before[k-1+d] + 1
				}
			}
			for x < n && x-k < m && a[x] == b[x-k] {
				x++
			}
			v[k+d+1] = x
			if x >= n && x-k >= m {
				return append(trace, v), true
			}
		}
		trace = append(trace, v)
	}
	return nil, false
}
