package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// somePrices are 1, 0.1, 2 and 5 a million tokens of claude-x.
func somePrices(t *testing.T) *priceList {
	t.Helper()
	l := &priceList{}
	if err := l.parse([]byte(`{"source":"a page","date":"2026-01-02","currency":"EUR",
		"models":{"claude-x*":{"input":1,"cache_read":0.1,"cache_write":2,"output":5}}}`)); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestBudgetFlags: what makes no sense is refused before anything runs.
func TestBudgetFlags(t *testing.T) {
	prices := somePrices(t)
	for _, c := range []struct {
		values []string
		prices *priceList
		want   string // in the error; "": none
		tokens int64
		cost   float64
	}{
		{nil, prices, "", 0, 0},
		{[]string{"tokens=200000"}, nil, "", 200000, 0},
		{[]string{"tokens=200k"}, nil, "", 200000, 0},
		{[]string{"tokens=1.5M"}, nil, "", 1500000, 0},
		{[]string{"cost=2.5"}, prices, "", 0, 2.5},
		{[]string{"cost=.5eur", "tokens=7"}, prices, "", 7, 0.5},
		{[]string{"cost=1"}, nil, "--prices FILE", 0, 0},
		{[]string{"cost=1USD"}, prices, "are in EUR", 0, 0},
		{[]string{"tokens=1", "tokens=2"}, nil, "twice", 0, 0},
		{[]string{"cost=1", "cost=1"}, prices, "twice", 0, 0},
		{[]string{""}, nil, "want tokens=N or cost=N", 0, 0},
		{[]string{"1000"}, nil, "want tokens=N or cost=N", 0, 0},
		{[]string{"Tokens=1"}, nil, "want tokens=N or cost=N", 0, 0},
		{[]string{"tokens"}, nil, "want a number of tokens", 0, 0},
		{[]string{"tokens=0"}, nil, "want a number of tokens", 0, 0},
		{[]string{"tokens=-1"}, nil, "want a number of tokens", 0, 0},
		{[]string{"tokens=1.5"}, nil, "want a number of tokens", 0, 0},
		{[]string{"tokens=1e3"}, nil, "want a number of tokens", 0, 0},
		{[]string{"tokens=inf"}, nil, "want a number of tokens", 0, 0},
		{[]string{"tokens=1G"}, nil, "want a number of tokens", 0, 0},
		{[]string{"tokens=99999999999999999999"}, nil, "want a number of tokens", 0, 0},
		{[]string{"cost="}, prices, "want an amount", 0, 0},
		{[]string{"cost=0"}, prices, "want an amount", 0, 0},
		{[]string{"cost=-1"}, prices, "want an amount", 0, 0},
		{[]string{"cost=1,5"}, prices, "want an amount", 0, 0},
		{[]string{"cost=NaN"}, prices, "want an amount", 0, 0},
		{[]string{"cost=1.2.3"}, prices, "want an amount", 0, 0},
	} {
		b, err := newBudget(c.values, c.prices)
		switch {
		case c.want != "":
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "--budget") {
				t.Errorf("%q: %v, want %q", c.values, err, c.want)
			}
		case err != nil:
			t.Errorf("%q: %v", c.values, err)
		case b == nil && len(c.values) > 0, b != nil && (b.tokens != c.tokens || b.cost != c.cost):
			t.Errorf("%q: %+v", c.values, b)
		}
	}
}

// spends has the summariser of a run with these budgets read the calls of agentRun:
// 20 tokens out, 100 read from the cache, 240 written to it and 40 more in.
func spends(t *testing.T, values ...string) *spending {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	b, err := newBudget(values, somePrices(t))
	if err != nil {
		t.Fatal(err)
	}
	r := agentRun(t)
	s := newSummariser(r.s, t.Logf)
	s.spent = b.begin()
	s.saw()
	s.close()
	return s.spent
}

// TestBudget: a budget that is used up is told with what was used, one that is not is
// not mentioned.
func TestBudget(t *testing.T) {
	const tokens, cost = "400 tokens (380 in, 100 of them cached, 20 out) in 4 calls", "0.0006 EUR in 4 calls by the prices of a page, 2026-01-02"
	for _, c := range []struct {
		values []string
		want   []string
	}{
		{[]string{"tokens=401"}, nil},
		{[]string{"tokens=400"}, []string{"budget tokens=400 is used up: " + tokens}},
		{[]string{"cost=0.00064"}, nil},
		{[]string{"cost=0.0006"}, []string{"budget cost=0.0006 is used up: " + cost}},
		{[]string{"cost=1", "tokens=1"}, []string{"budget tokens=1 is used up: " + tokens}},
		{[]string{"cost=.0001EUR", "tokens=1"}, []string{"budget tokens=1 is used up: " + tokens, "budget cost=0.0001 is used up: " + cost}},
	} {
		s := spends(t, c.values...)
		if got := s.report(); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.values, got, c.want)
		}
		if why, over := s.exceeded(); over != (c.want != nil) || over && why != strings.Join(c.want, "; ") {
			t.Errorf("%q: exceeded: %q, %t", c.values, why, over)
		}
	}
	var none *budget
	if s := none.begin(); s != nil || s.report() != nil {
		t.Error("no budget is one")
	}
}

// TestBudgetUnknown: what is not known of the calls is said.
func TestBudgetUnknown(t *testing.T) {
	begin := func(values ...string) *spending {
		b, err := newBudget(values, somePrices(t))
		if err != nil {
			t.Fatal(err)
		}
		return b.begin()
	}
	s := begin("cost=1")
	s.count(1, &callSummary{Model: "claude-x", Usage: &callUsage{Input: 1000}})
	s.count(1, &callSummary{Model: "claude-x", Usage: &callUsage{Input: 1e9}}) // seen twice
	s.count(2, &callSummary{Model: "other\x1b[2J", Usage: &callUsage{Input: 10}})
	s.count(3, &callSummary{Model: "claude-x", Error: &callError{Type: "overloaded_error"}}) // which costs nothing
	s.count(4, &callSummary{Model: "claude-x", API: "count_tokens"})
	s.count(5, &callSummary{Model: "claude-x"})
	s.count(6, nil)
	s.missed(7)
	s.missed(1)
	s.broken()
	want := []string{"budget: 0.0010 EUR in 4 calls by the prices of a page, 2026-01-02, and more: " +
		`1 call could not be priced (other\x1b[2J), 1 call told no tokens, 1 call could not be read, the last calls were not counted`}
	if got := s.report(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	s = begin("tokens=10", "cost=1")
	s.count(1, &callSummary{Model: "other", Calls: []callSummary{{Model: "other", Usage: &callUsage{Input: 4}}, {Model: "other", Usage: &callUsage{Output: 6}}}})
	if got := s.report(); len(got) != 2 || !strings.Contains(got[0], "10 tokens (4 in, 0 of them cached, 6 out) in 2 calls") || got[1] != "budget: it is more than that: 2 calls could not be priced (other)" {
		t.Errorf("%q", got)
	}
}

// TestBudgetTogether counts from many sides at once, while others ask.
func TestBudgetTogether(t *testing.T) {
	b, err := newBudget([]string{"tokens=1000"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := b.begin()
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			for n := range 99 {
				s.count(int64(100*i+n), &callSummary{Usage: &callUsage{Output: 1}})
				s.exceeded()
			}
		})
	}
	all.Wait()
	if why, over := s.exceeded(); over {
		t.Error(why)
	}
	s.count(5000, &callSummary{Usage: &callUsage{Output: 10}})
	if why, over := s.exceeded(); !over || !strings.Contains(why, fmt.Sprint(1000)) {
		t.Errorf("%q, %t", why, over)
	}
}
