package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/store"
)

// statsOptions are the flags of `flows stats`.
type statsOptions struct {
	selection
	json   bool
	prices string
}

func newFlowsStatsCommand() *cobra.Command {
	var o statsOptions
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Count flows, bytes, tokens and cost by model, host, process and agent",
		Long: `Count flows, bytes, tokens and cost: by model, host, process and agent, with
percentiles of the time that answers took, what the context of the calls consisted
of, and how it grew.

Costs are known only from a file of prices that you give (see docs/cli.md); it
must name its source and date.`,
		Example: `  trace flows stats
  trace flows stats --from 'second try' --prices prices.json
  trace flows stats --all --json`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), output(cmd), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	f.StringVar(&o.prices, "prices", "", "work costs out with the prices of this `FILE`")
	o.register(f)
	return cmd
}

func (o *statsOptions) run(ctx context.Context, w *terminal, stderr io.Writer) error {
	prices, err := loadPrices(o.prices)
	if err != nil {
		return usageError{err}
	}
	o.bare = len(o.jq) == 0 // attached below
	c, err := o.choose(ctx, stderr)
	if err != nil {
		return err
	}
	s := newStatistics(prices)
	err = c.each(func(r *store.Reader, xs []*flow.Exchange) error {
		if err := attachThreads(r, xs); err != nil {
			return err
		}
		s.names = namesOfAgents(xs)
		if o.all {
			s.prefix = xs[0].Session + "/"
		}
		for _, x := range xs {
			s.add(x)
		}
		return nil
	})
	switch {
	case err != nil:
	case o.json:
		err = writeStatsJSON(w, s)
	case s.all.flows == 0:
		_, err = fmt.Fprintln(stderr, o.nothing())
	default:
		err = writeStats(w, s)
	}
	return c.end(err)
}

// writeStats prints the counts for reading.
func writeStats(w *terminal, s *statistics) error {
	p := &printer{w: w}
	a := &s.all
	facts := []string{count(int64(a.flows), "flow"), fmt.Sprintf("%s sent, %s received", bytesText(a.sent), bytesText(a.received))}
	if a.calls > 0 {
		facts = append(facts, count(int64(a.calls), "call")+" to language models")
	}
	if a.errors > 0 {
		facts = append(facts, fmt.Sprintf("%d of them without a proper answer", a.errors))
	}
	p.line("%s", strings.Join(facts, ", "))
	if a.calls > 0 {
		u := a.usage
		p.line("%d tokens in (%d new, %d from cache: %s, %d to cache), %d out%s", u.prompt(), u.Input, u.CacheRead, percentText(share(u.CacheRead, u.prompt())), u.CacheWrite, u.Output,
			reasoningText(u.Reasoning))
	}
	p.cost(s)
	for _, g := range []struct {
		title  string
		groups map[string]*tally
		calls  bool
	}{{"MODEL", s.models, true}, {"AGENT", s.agents, true}, {"HOST", s.hosts, false}, {"PROCESS", s.processes, false}} {
		if len(g.groups) == 0 || p.err != nil {
			continue
		}
		p.line("")
		p.err = writeGroups(w, g.title, ranked(g.groups), g.calls, s.prices)
	}
	if a.calls > 0 {
		p.composition(&a.context)
		p.growth(s)
	}
	return p.err
}

func reasoningText(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d reasoning)", n)
}

func share(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

func percentText(share float64) string { return fmt.Sprintf("%.0f%%", share*100) }

// cost says what the calls cost, and by whose prices.
func (p *printer) cost(s *statistics) {
	if s.prices == nil || s.all.calls == 0 {
		return
	}
	line := fmt.Sprintf("cost %.4f %s by the prices of %s, %s", s.all.cost, s.prices.Currency, s.prices.Source, s.prices.Date)
	if s.all.unpriced > 0 {
		line += fmt.Sprintf(", without %s that it has no price for", count(int64(s.all.unpriced), "call"))
	}
	p.line("%s", w1(p.w, line))
}

// writeGroups prints a table of groups; calls says that they are of calls
// alone.
func writeGroups(w *terminal, title string, groups []*tally, calls bool, prices *priceList) error {
	t := table{columns: []column{
		{title: title, least: 8, wish: 20},
		{title: "FLOWS", right: true, drop: 5},
		{title: "CALLS", right: true},
		{title: "IN", right: true},
		{title: "CACHED", right: true, drop: 9},
		{title: "OUT", right: true},
		{title: "SENT", right: true, drop: 6},
		{title: "RECEIVED", right: true, drop: 7},
		{title: "FIRST p50", right: true, drop: 3},
		{title: "TOOK p50", right: true, drop: 10},
		{title: "p90", right: true, drop: 8},
		{title: "p99", right: true, drop: 2},
		{title: "TOK/S", right: true, drop: 1},
		{title: "COST", right: true},
	}}
	for _, g := range groups {
		row := make([]cell, len(t.columns))
		set := func(i int, text string) { row[i] = cell{text: text} }
		set(0, g.name)
		if !calls {
			set(1, fmt.Sprint(g.flows))
		}
		if g.calls > 0 {
			set(2, fmt.Sprint(g.calls))
			set(3, tokenText(g.usage.prompt()))
			set(4, percentText(share(g.usage.CacheRead, g.usage.prompt())))
			set(5, tokenText(g.usage.Output))
		}
		set(6, sizeText(g.sent))
		set(7, sizeText(g.received))
		for i, d := range []time.Duration{percentile(g.first, 50), percentile(g.took, 50), percentile(g.took, 90), percentile(g.took, 99)} {
			if d >= 0 {
				set(8+i, tookText(d))
			}
		}
		if r := g.rate(); r > 0 {
			set(12, rateText(r))
		}
		if prices != nil && g.calls > g.unpriced {
			set(13, fmt.Sprintf("%.4f", g.cost))
		}
		t.add(row...)
	}
	return t.write(w)
}

// composition prints what the contexts consisted of.
func (p *printer) composition(c *composition) {
	p.line("")
	p.line("%s%s", p.w.paint(bold, "Context"), p.w.paint(faint, " (of all calls together; shares of tokens are estimates)"))
	for _, part := range c.shares() {
		if part.bytes == 0 {
			continue
		}
		p.line("  %s %6s %4s %s", pad(contextNames[part.name], 12, false), sizeText(part.bytes), percentText(part.share), p.w.paint(cyan, bar(part.share, 40)))
	}
}

// contextNames are the parts of a context in words.
var contextNames = map[string]string{"system": "system", "tools": "tools", "results": "tool results", "history": "history", "user": "user", "media": "images etc."}

// growth draws how the prompts of the agent with most calls grew.
func (p *printer) growth(s *statistics) {
	by := map[string]int{}
	longest := ""
	for _, g := range s.growth {
		if by[g.agent]++; by[g.agent] > by[longest] {
			longest = g.agent
		}
	}
	var values []float64
	var highest int64
	var first, last *flow.Exchange
	unit := "tokens"
	for _, g := range s.growth {
		if g.agent == longest && g.tokens > 0 {
			values = append(values, float64(g.tokens))
			highest = max(highest, g.tokens)
			first, last = cmp.Or(first, g.x), g.x
		}
	}
	if len(values) == 0 { // nobody told tokens
		unit = "bytes"
		for _, g := range s.growth {
			if g.agent == longest {
				values = append(values, float64(g.bytes))
				highest = max(highest, g.bytes)
				first, last = cmp.Or(first, g.x), g.x
			}
		}
	}
	if len(values) < 2 {
		return
	}
	const left = 10
	width := 60
	if p.w.width > 0 {
		width = max(1, min(100, p.w.width-left-1))
	}
	p.line("")
	title := fmt.Sprintf(" (%s of the prompt, %s", unit, count(int64(len(values)), "call"))
	if longest != "" && len(by) > 1 {
		title += " of " + printable(longest)
	}
	p.line("%s%s", p.w.paint(bold, "Growth"), p.w.paint(faint, title+")"))
	label := tokenText(highest)
	if unit == "bytes" {
		label = sizeText(highest)
	}
	for i, row := range chart(values, width) {
		if i > 0 {
			label = ""
		}
		p.line("%s", strings.TrimRight(pad(label, left-2, true)+" │"+p.w.paint(cyan, row), " "))
	}
	p.line("%s└ flows %d to %d", strings.Repeat(" ", left-1), first.ID, last.ID)
}
