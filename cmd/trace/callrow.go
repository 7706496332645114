package main

import (
	"cmp"
	"fmt"
	"time"

	"trace/flow"
)

// callCells are the columns of a call to a language model in the table of
// flows: model, tokens of the prompt, those of them that came from the cache,
// tokens of the answer, why it stopped, time to the first event, tokens a
// second.
func callCells(x *flow.Exchange) []cell {
	cells := make([]cell, 7)
	s := callOf(x)
	if s == nil {
		return cells
	}
	cells[0] = cell{text: cmp.Or(s.Model, s.Served)}
	if u := s.Usage; u != nil {
		cells[1], cells[2], cells[3] = cell{text: tokenText(u.prompt())}, cell{text: tokenText(u.CacheRead)}, cell{text: tokenText(u.Output)}
	}
	cells[4] = stopCell(x, s)
	cells[5] = cell{text: firstText(x, s)}
	if s.Rate != nil {
		cells[6] = cell{text: rateText(*s.Rate)}
	}
	return cells
}

// stopCell says why the answer ended.
func stopCell(x *flow.Exchange, s *callSummary) cell {
	switch {
	case s.Error != nil:
		return cell{cmp.Or(s.Error.Type, "error"), red}
	case s.Stop != nil:
		return cell{text: *s.Stop}
	case s.Partial && x.State != flow.StateOpen:
		return cell{"cut off", yellow}
	}
	return cell{}
}

// firstText is the time to the first event of the answer.
func firstText(x *flow.Exchange, s *callSummary) string {
	if t := x.Timings(); t.FirstEvent >= 0 {
		return tookText(t.FirstEvent)
	}
	if s.FirstToken != nil {
		return tookText(time.Duration(*s.FirstToken * float64(time.Millisecond)))
	}
	return ""
}

func rateText(rate float64) string {
	if rate < 9.95 {
		return fmt.Sprintf("%.1f", rate)
	}
	return fmt.Sprintf("%.0f", rate)
}

// tokenText writes a number of tokens short: 712, 9120, 48k, 1.4M.
func tokenText(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprint(n)
	case n < 999_500:
		return fmt.Sprintf("%.0fk", float64(n)/1e3)
	case n < 9_950_000:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	}
	return fmt.Sprintf("%.0fM", float64(n)/1e6)
}
