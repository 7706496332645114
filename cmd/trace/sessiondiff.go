package main

import (
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"strings"

	"trace/flow"
	"trace/llm"
	"trace/store"
)

// An aligned is a conversation of one run, as far as another run is compared
// with it.
type aligned struct {
	first string
	order int // of its first call
	kind  string
	turns map[int]turnOf
	taken bool
}

// turnOf is a call and where it stands.
type turnOf struct {
	x *flow.Exchange
	n int
	s *callSummary
}

// conversations sorts the calls of a run by conversation. Of calls that were
// repeated the last attempt counts.
func conversations(xs []*flow.Exchange) []*aligned {
	by := map[string]*aligned{}
	order := 0
	for _, x := range xs {
		for i, s := range callsIn(callOf(x)) {
			if s.Thread == nil {
				continue
			}
			c := by[s.Thread.First]
			if c == nil {
				c = &aligned{first: s.Thread.First, order: order, turns: map[int]turnOf{}, kind: strings.Join([]string{s.API, s.Thread.ParentName, s.Model}, "\x00")}
				if s.Tools > 0 {
					c.kind += "\x00tools"
				}
				by[s.Thread.First] = c
				order++
			}
			c.turns[s.Thread.Turn] = turnOf{x, i, s}
		}
	}
	return slices.SortedFunc(maps.Values(by), func(a, b *aligned) int { return cmp.Compare(a.order, b.order) })
}

// partner returns the conversation of another run that stands for c: the first
// that is left of the same kind and about as long, else of the same length class;
// nil if there is none.
func (c *aligned) partner(others []*aligned) *aligned {
	tests := []func(*aligned) bool{
		func(o *aligned) bool { return o.kind == c.kind && (len(o.turns) > 1) == (len(c.turns) > 1) },
		func(o *aligned) bool { return o.kind == c.kind },
		func(o *aligned) bool {
			return len(o.turns) > 1 && len(c.turns) > 1 && strings.Count(o.kind, "\x00tools") == strings.Count(c.kind, "\x00tools")
		},
	}
	for _, fits := range tests {
		if i := slices.IndexFunc(others, func(o *aligned) bool { return !o.taken && fits(o) }); i >= 0 {
			others[i].taken = true
			return others[i]
		}
	}
	return nil
}

// A turnPair is what stands at the same place of two runs; one may be missing.
type turnPair struct{ a, b *turnOf }

// align pairs the turns of two runs, conversation by conversation.
func align(as, bs []*aligned) []turnPair {
	var pairs []turnPair
	both := func(a, b *aligned) {
		turns := map[int]bool{}
		for _, c := range []*aligned{a, b} {
			if c != nil {
				for n := range c.turns {
					turns[n] = true
				}
			}
		}
		for _, n := range slices.Sorted(maps.Keys(turns)) {
			pairs = append(pairs, turnPair{turnAt(a, n), turnAt(b, n)})
		}
	}
	for _, a := range as {
		both(a, a.partner(bs))
	}
	for _, b := range bs {
		if !b.taken {
			both(nil, b)
		}
	}
	return pairs
}

func turnAt(c *aligned, n int) *turnOf {
	if c == nil {
		return nil
	}
	if t, ok := c.turns[n]; ok {
		return &t
	}
	return nil
}

// sessions compares two runs.
func (o *diffOptions) sessions(ctx context.Context, w *terminal, stderr io.Writer) error {
	o.llm = true
	a, err := o.choose(ctx, stderr)
	if err != nil {
		return err
	}
	other := o.selection
	other.session = o.against
	b, err := other.choose(ctx, stderr)
	if err != nil {
		return err
	}
	ra, err := openSession(o.session)
	if err != nil {
		return err
	}
	defer closing(ra)
	rb, err := openSession(o.against)
	if err != nil {
		return err
	}
	defer closing(rb)
	for r, xs := range map[*store.Reader][]*flow.Exchange{ra: a.flows, rb: b.flows} {
		if err := threadsOf(r, xs); err != nil {
			return err
		}
	}
	out := &diffOutput{p: &printer{w: w}, asJSON: o.json}
	for _, pair := range align(conversations(a.flows), conversations(b.flows)) {
		c := &comparison{a: pair.a.side(ra), b: pair.b.side(rb)}
		if c.a != nil && c.b != nil {
			c.diff = llm.Compare(c.a.call, c.b.call)
			c.diff.Cache = llm.CacheVerdict{Break: -1} // the runs share no cache worth a word
		}
		if c.a == nil && c.b == nil {
			continue
		}
		if err := out.add(c); err != nil {
			return err
		}
	}
	return b.end(a.end(out.end(stderr, "neither session has calls to language models")))
}

// side reads a turn; nil if there is none, or it cannot be read.
func (t *turnOf) side(r *store.Reader) *diffSide {
	if t == nil {
		return nil
	}
	read := readOne(r, t.x)
	if read.err != nil || t.n >= len(read.calls) {
		return nil
	}
	return &diffSide{d: &flow.Detail{Exchange: *read.x}, call: read.calls[t.n], n: t.n, thread: t.s.Thread}
}
