package main

import (
	"fmt"
	"math"
	"time"

	"trace/flow"
)

// jsonStats is `flows stats --json`.
type jsonStats struct {
	jsonTally
	Source    *jsonPrices  `json:"prices"`
	Models    []jsonTally  `json:"by_model"`
	Hosts     []jsonTally  `json:"by_host"`
	Processes []jsonTally  `json:"by_process"`
	Agents    []jsonTally  `json:"by_agent"`
	Growth    []jsonGrowth `json:"growth"`
}

type jsonPrices struct {
	Source   string `json:"source"`
	Date     string `json:"date"`
	Currency string `json:"currency"`
}

type jsonTally struct {
	Name    string           `json:"name,omitempty"`
	Flows   int              `json:"flows"`
	Calls   int              `json:"calls"`
	Errors  int              `json:"errors"`
	Bytes   jsonTraffic      `json:"bytes"`
	Usage   *callUsage       `json:"usage"`
	Took    *jsonPercentiles `json:"duration_ms"`
	First   *jsonPercentiles `json:"first_event_ms"`
	Rate    *float64         `json:"tokens_per_second"`
	Context []jsonShare      `json:"context,omitempty"`
	Cost    *jsonCost        `json:"cost"`
}

// jsonTraffic counts bytes each way.
type jsonTraffic struct {
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
}

type jsonPercentiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

type jsonShare struct {
	Part  string  `json:"part"`
	Bytes int64   `json:"bytes"`
	Share float64 `json:"share"` // of tokens, estimated
}

type jsonCost struct {
	Amount   float64 `json:"amount"`
	Currency string  `json:"currency"`
	Unpriced int     `json:"unpriced_calls"`
}

type jsonGrowth struct {
	Session string `json:"session"`
	ID      string `json:"id"`
	Agent   string `json:"agent,omitempty"`
	Tokens  *int64 `json:"prompt_tokens"`
	Bytes   int64  `json:"context_bytes"`
}

func writeStatsJSON(w *terminal, s *statistics) error {
	j := jsonStats{jsonTally: s.tallyJSON(&s.all), Models: s.tallies(s.models), Hosts: s.tallies(s.hosts), Processes: s.tallies(s.processes),
		Agents: s.tallies(s.agents), Growth: []jsonGrowth{}}
	if p := s.prices; p != nil {
		j.Source = &jsonPrices{p.Source, p.Date, p.Currency}
	}
	for _, g := range s.growth {
		point := jsonGrowth{Session: g.x.Session, ID: fmt.Sprint(g.x.ID), Agent: g.agent, Bytes: g.bytes}
		if g.tokens > 0 {
			point.Tokens = &g.tokens
		}
		j.Growth = append(j.Growth, point)
	}
	text, err := flow.MarshalJSON(j)
	if err != nil {
		return err
	}
	return writeJSON(w, text)
}

func (s *statistics) tallies(groups map[string]*tally) []jsonTally {
	js := []jsonTally{}
	for _, t := range ranked(groups) {
		js = append(js, s.tallyJSON(t))
	}
	return js
}

func (s *statistics) tallyJSON(t *tally) jsonTally {
	j := jsonTally{Name: t.name, Flows: t.flows, Calls: t.calls, Errors: t.errors, Bytes: jsonTraffic{t.sent, t.received},
		Took: percentiles(t.took), First: percentiles(t.first)}
	if t.calls == 0 {
		return j
	}
	j.Usage = &t.usage
	if r := t.rate(); r > 0 {
		j.Rate = new(round(r, 1))
	}
	for _, c := range t.context.shares() {
		j.Context = append(j.Context, jsonShare{c.name, c.bytes, round(c.share, 4)})
	}
	if s.prices != nil {
		j.Cost = &jsonCost{round(t.cost, 8), s.prices.Currency, t.unpriced}
	}
	return j
}

func percentiles(ds []time.Duration) *jsonPercentiles {
	if len(ds) == 0 {
		return nil
	}
	ms := func(p int) float64 { return *flow.MS(percentile(ds, p)) }
	return &jsonPercentiles{ms(50), ms(90), ms(99), ms(100)}
}

// round rounds to so many decimals.
func round(f float64, decimals int) float64 {
	scale := math.Pow10(decimals)
	return math.Round(f*scale) / scale
}
