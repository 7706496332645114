package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"trace/flow"
	"trace/llm"
)

// A tally counts the flows of a group: those of one model, host, process or
// agent, or all.
type tally struct {
	name           string
	flows, calls   int
	errors         int // of calls: without a proper answer
	sent, received int64
	usage          callUsage
	context        composition
	took, first    []time.Duration
	output         float64 // tokens of answers whose speed is known, and the seconds that they took
	seconds        float64
	cost           float64
	unpriced       int // calls whose cost is not known
}

// A point is the size of one call's prompt.
type point struct {
	x      *flow.Exchange
	agent  string
	tokens int64 // 0: not told
	bytes  int64
}

// statistics counts flows.
type statistics struct {
	prices *priceList
	names  agentNames // of the session that is being counted
	prefix string     // of the names of agents

	all                              tally
	models, hosts, processes, agents map[string]*tally
	growth                           []point
}

func newStatistics(prices *priceList) *statistics {
	return &statistics{prices: prices, models: map[string]*tally{}, hosts: map[string]*tally{}, processes: map[string]*tally{}, agents: map[string]*tally{}}
}

// add counts one flow.
func (s *statistics) add(x *flow.Exchange) {
	host, process := group(s.hosts, hostOf(x)), group(s.processes, processName(x))
	groups := []*tally{&s.all, host, process}
	info := callOf(x)
	for _, t := range groups {
		t.flow(x)
	}
	if info == nil {
		return
	}
	met := map[*tally]bool{}
	for _, c := range callsIn(info) {
		name := s.names.of(c)
		if name != "" {
			name = s.prefix + name
		}
		own := []*tally{group(s.models, cmp.Or(c.Model, c.Served, "?"))}
		if name != "" {
			own = append(own, group(s.agents, name))
		}
		for _, t := range own {
			if !met[t] { // the flow of a WebSocket counts once
				met[t] = true
				t.flow(x)
			}
		}
		for _, t := range append(own, groups...) {
			t.call(c, s.prices)
		}
		s.grow(x, c, name)
	}
}

// grow notes how long the prompt of a call was.
func (s *statistics) grow(x *flow.Exchange, c *callSummary, agent string) {
	if c.API == llm.CountTokens || c.API == llm.Embeddings {
		return
	}
	p := point{x: x, agent: agent}
	if c.Usage != nil {
		p.tokens = c.Usage.prompt()
	}
	if c.Context != nil {
		p.bytes = c.Context.total()
	}
	s.growth = append(s.growth, p)
}

func group(groups map[string]*tally, name string) *tally {
	t := groups[name]
	if t == nil {
		t = &tally{name: name}
		groups[name] = t
	}
	return t
}

// processName is the name that flows of one program share.
func processName(x *flow.Exchange) string {
	if x.Conn.Process == nil {
		return "?"
	}
	return cmp.Or(x.Conn.Process.Name(), "?")
}

// flow counts what passed, and how long it took.
func (t *tally) flow(x *flow.Exchange) {
	t.flows++
	sent, received := payload(x)
	t.sent += sent
	t.received += received
	if x.Kind == flow.KindHTTP && x.State == flow.StateComplete {
		t.took = append(t.took, x.Duration())
	}
	if d := x.Timings().FirstEvent; d >= 0 {
		t.first = append(t.first, d)
	}
}

// payload returns the bytes of the bodies of x, or of what it carried.
func payload(x *flow.Exchange) (sent, received int64) {
	switch {
	case x.IsWebSocket():
		return x.Tally[flow.Client].Bytes, x.Tally[flow.Server].Bytes
	case x.Kind == flow.KindTCP || x.Kind == flow.KindUDP:
		return x.Conn.Sent, x.Conn.Received
	}
	size := func(p *flow.Part) int64 {
		if p == nil || p.Body == nil {
			return 0
		}
		return p.Body.Size
	}
	return size(x.Request), size(x.Response)
}

// call counts one call.
func (t *tally) call(c *callSummary, prices *priceList) {
	t.calls++
	if c.Error != nil || c.Partial {
		t.errors++
	}
	t.context.add(c.Context)
	if c.Usage == nil {
		return
	}
	t.usage.add(c.Usage)
	if c.Rate != nil && *c.Rate > 0 {
		t.output += float64(c.Usage.Output)
		t.seconds += float64(c.Usage.Output) / *c.Rate
	}
	if prices == nil {
		return
	}
	if amount, ok := prices.cost(c); ok {
		t.cost += amount
	} else {
		t.unpriced++
	}
}

// rate is the tokens a second of the answers whose speed is known, 0 if of
// none it is.
func (t *tally) rate() float64 {
	if t.seconds == 0 {
		return 0
	}
	return t.output / t.seconds
}

// percentile returns the smallest of ds that is not below p percent of them.
func percentile(ds []time.Duration, p int) time.Duration {
	if len(ds) == 0 {
		return -1
	}
	slices.Sort(ds)
	return ds[max(0, (len(ds)*p+99)/100-1)]
}

// ranked returns the groups: those with most tokens first, then most bytes.
func ranked(groups map[string]*tally) []*tally {
	return slices.SortedFunc(maps.Values(groups), func(a, b *tally) int {
		return cmp.Or(cmp.Compare(b.usage.prompt()+b.usage.Output, a.usage.prompt()+a.usage.Output), cmp.Compare(b.calls, a.calls),
			cmp.Compare(b.sent+b.received, a.sent+a.received), strings.Compare(a.name, b.name))
	})
}

// shares returns the parts of a context with their estimated shares of its
// tokens. Images and the like count by their bytes but weigh as much text as
// they take tokens, about.
func (c *composition) shares() []contextShare {
	const perMedia = 0.02 // an image of 300 kB is some 1500 tokens, 6 kB of text
	parts := []contextShare{{"system", c.System, 0}, {"tools", c.Tools, 0}, {"results", c.Results, 0}, {"history", c.History, 0}, {"user", c.User, 0}, {"media", c.Media, 0}}
	weight := func(p contextShare) float64 {
		if p.name == "media" {
			return float64(p.bytes) * perMedia
		}
		return float64(p.bytes)
	}
	total := 0.0
	for _, p := range parts {
		total += weight(p)
	}
	for i := range parts {
		if total > 0 {
			parts[i].share = weight(parts[i]) / total
		}
	}
	return parts
}

// contextShare is one part of a context.
type contextShare struct {
	name  string
	bytes int64
	share float64
}
