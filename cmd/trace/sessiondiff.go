package main

import (
	"context"
	"io"

	"trace/flow"
	"trace/llm"
	"trace/store"
)

// turnOf is a call and where it stands.
type turnOf struct {
	x *flow.Exchange
	n int
	s *callSummary
}

// A turnPair is what stands at the same place of two runs; one may be missing.
type turnPair struct{ a, b *turnOf }

// align pairs the turns of two runs. Where all calls of a run stand decides;
// pairs of which neither was chosen are left out.
func align(ctx context.Context, ra, rb *store.Reader, as, bs []*flow.Exchange) ([]turnPair, error) {
	ta, err := joined(ctx, ra, as)
	if err != nil {
		return nil, err
	}
	tb, err := joined(ctx, rb, bs)
	if err != nil {
		return nil, err
	}
	chosenA, chosenB := turnsOf(as), turnsOf(bs)
	var pairs []turnPair
	for _, p := range llm.Align(ta, tb) {
		if pair := (turnPair{chosenA[p.A], chosenB[p.B]}); pair.a != nil || pair.b != nil {
			pairs = append(pairs, pair)
		}
	}
	return pairs, nil
}

// turnsOf returns the calls of xs by their names.
func turnsOf(xs []*flow.Exchange) map[llm.Ref]*turnOf {
	by := map[llm.Ref]*turnOf{}
	for _, x := range xs {
		for i, s := range callsIn(callOf(x)) {
			by[llm.Ref{Flow: x.ID, Call: i}] = &turnOf{x, i, s}
		}
	}
	return by
}

// sessions compares two runs.
func (o *diffOptions) sessions(ctx context.Context, w *terminal, stderr io.Writer) error {
	o.llm, o.bare = true, len(o.jq) == 0
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
	out := &diffOutput{p: &printer{w: w}, asJSON: o.json}
	if err := compareTurns(ctx, ra, rb, a.flows, b.flows, out.add); err != nil {
		return err
	}
	return b.end(a.end(out.end(stderr, "neither session has calls to language models")))
}

// compareTurns calls fn with what differs in each place of two runs.
func compareTurns(ctx context.Context, ra, rb *store.Reader, as, bs []*flow.Exchange, fn func(*comparison) error) error {
	pairs, err := align(ctx, ra, rb, as, bs)
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		c := &comparison{a: pair.a.side(ra), b: pair.b.side(rb)}
		if c.a != nil && c.b != nil {
			c.diff = llm.Compare(c.a.call, c.b.call)
			c.diff.Cache = llm.CacheVerdict{Break: -1} // the runs share no cache worth a word
		}
		if c.a == nil && c.b == nil {
			continue
		}
		if err := fn(c); err != nil {
			return err
		}
	}
	return nil
}

// side reads a turn; nil if there is none, or it cannot be read.
func (t *turnOf) side(r *store.Reader) *diffSide {
	if t == nil {
		return nil
	}
	read := readOne(r, t.x.ID)
	if read.err != nil || t.n >= len(read.calls) {
		return nil
	}
	return &diffSide{d: &flow.Detail{Exchange: *read.x}, call: read.calls[t.n], n: t.n, thread: t.s.Thread}
}
