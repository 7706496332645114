package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A topSum is what some flows come to.
type topSum struct {
	name           string
	flows, open    int
	recent         int // begun in the time over which rates are taken
	sent, received int64
	bytes, tokens  int64 // of what ended in that time
	calls, errors  int
	usage          callUsage
}

// add counts a flow. from is when the time of rates begins.
func (s *topSum) add(r *topRow, from time.Time) {
	s.flows++
	if r.open {
		s.open++
	}
	if r.started.After(from) {
		s.recent++
	}
	s.sent += r.sent
	s.received += r.received
	fresh := r.ended.After(from)
	if fresh {
		s.bytes += r.sent + r.received
	}
	if r.call == nil {
		return
	}
	for _, c := range callsIn(r.call) {
		s.calls++
		if c.Error != nil || c.Partial {
			s.errors++
		}
		if c.Usage == nil {
			continue
		}
		s.usage.add(c.Usage)
		if fresh {
			s.tokens += c.Usage.Output
		}
	}
}

// perSecondOf is n in the time of rates as a second's share; "" of nothing.
func perSecondOf(n int64) string {
	if n == 0 {
		return ""
	}
	return rateText(float64(n)/rateTime.Seconds()) + "/s"
}

// groupColumns are those of the panes that add flows up.
func groupColumns(title string) []column {
	return []column{
		{title: title, least: 8, wish: 24},
		{title: "FLOWS", right: true}, {title: "OPEN", right: true, drop: 4}, {title: "RATE", right: true, drop: 7},
		{title: "SENT", right: true, drop: 3}, {title: "RECEIVED", right: true, drop: 2},
		{title: "CALLS", right: true, drop: 8}, {title: "ERRORS", right: true, drop: 5}, {title: "IN", right: true, drop: 10},
		{title: "CACHED", right: true, drop: 6}, {title: "OUT", right: true, drop: 9}, {title: "TOK/S", right: true, drop: 1},
	}
}

// cells is the row of a sum.
func (s *topSum) cells() []cell {
	row := []cell{{text: s.name}, {text: fmt.Sprint(s.flows)}, {text: numberText(s.open)}, {}, {text: sizeText(s.sent)}, {text: sizeText(s.received)}}
	if s.recent > 0 {
		row[3].text = perSecond(float64(s.recent) / rateTime.Seconds())
	}
	calls := make([]cell, 6)
	if s.calls > 0 {
		calls = []cell{{text: fmt.Sprint(s.calls)}, {numberText(s.errors), red}, {text: tokenText(s.usage.prompt())},
			{text: tokenText(s.usage.CacheRead)}, {text: tokenText(s.usage.Output)}, {text: perSecondOf(s.tokens)}}
	}
	return append(row, calls...)
}

// numberText is a number, "" for none.
func numberText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// groups adds rows up by the name that of gives them; "" is left out. Those with
// most tokens stand first, then those with most bytes.
func groups(rows []*topRow, from time.Time, of func(*topRow) string) []*topSum {
	by := map[string]*topSum{}
	var list []*topSum
	for _, r := range rows {
		name := of(r)
		if name == "" {
			continue
		}
		s := by[name]
		if s == nil {
			s = &topSum{name: name}
			by[name] = s
			list = append(list, s)
		}
		s.add(r, from)
	}
	slices.SortStableFunc(list, func(a, b *topSum) int {
		return cmp.Or(cmp.Compare(b.usage.prompt()+b.usage.Output, a.usage.prompt()+a.usage.Output), cmp.Compare(b.sent+b.received, a.sent+a.received),
			cmp.Compare(b.flows, a.flows), strings.Compare(a.name, b.name))
	})
	return list
}

// A topFilter says which rows are shown: those with all words, and none of those
// behind a "!", and of one group.
type topFilter struct {
	text  string
	pane  int // of the group; 0: of all
	group string
}

func (f *topFilter) fits(r *topRow, words []string) bool {
	if f.pane != 0 && topPanes[f.pane].of(r) != f.group {
		return false
	}
	for _, w := range words {
		if no, ok := strings.CutPrefix(w, "!"); ok && no != "" {
			if strings.Contains(r.text, no) {
				return false
			}
		} else if !strings.Contains(r.text, w) {
			return false
		}
	}
	return true
}

// choose returns the rows that fit.
func (f *topFilter) choose(rows []*topRow) []*topRow {
	words := strings.Fields(strings.ToLower(f.text))
	if len(words) == 0 && f.pane == 0 {
		return rows
	}
	var list []*topRow
	for _, r := range rows {
		if f.fits(r, words) {
			list = append(list, r)
		}
	}
	return list
}
