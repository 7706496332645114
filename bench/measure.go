package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"time"
)

// A measure is a task that contenders are given, round by round.
type measure struct {
	name string
	task task
	raw  bool // for those that carry plain TCP; else for those compared over TLS
	ours bool // for host and trace only: others hold a body of this size in memory
}

const bulkSize = 64 << 20

var measures = []measure{
	{name: "raw up", task: task{Do: "rawup"}, raw: true},
	{name: "raw down", task: task{Do: "rawdown"}, raw: true},
	{name: "h1 x1", task: task{Do: "requests", Conc: 1}},
	{name: "h1 x16", task: task{Do: "requests", Conc: 16}},
	{name: "h2 x1", task: task{Do: "requests", Conc: 1, H2: true}},
	{name: "h2 x16", task: task{Do: "requests", Conc: 16, H2: true}},
	{name: "handshakes x1", task: task{Do: "handshakes", Conc: 1}},
	{name: "handshakes x16", task: task{Do: "handshakes", Conc: 16}},
	{name: "bulk down", task: task{Do: "down", Size: bulkSize}, ours: true},
	{name: "bulk up", task: task{Do: "up", Size: bulkSize}, ours: true},
	{name: "events", task: task{Do: "events"}},
}

// whole are the measures that are made again with --max-body 0.
var whole = []string{"bulk down", "bulk up"}

// A sample is one run of a task.
type sample struct {
	answer
	CPU float64 `json:"cpu"` // seconds of the contender's engine
}

// A result is what came of one measure: samples by contender.
type result struct {
	Samples map[string][]sample `json:"samples"`
	Errors  map[string]string   `json:"errors,omitempty"`
}

// bench is a run of the program.
type bench struct {
	*options
	origin  *origin
	pick    *regexp.Regexp // measures
	without *regexp.Regexp // contenders; nil: none
	results map[string]*result
	singles []single
	absent  []string // contenders that did not run, and why
	began   time.Time
}

func (b *bench) match() (err error) {
	b.began = time.Now()
	if b.pick, err = regexp.Compile(b.only); err != nil {
		return err
	}
	if b.skip != "" {
		b.without, err = regexp.Compile(b.skip)
	}
	return err
}

func (b *bench) left(name string) bool { return b.without != nil && b.without.MatchString(name) }

// rounds runs all measures.
func (b *bench) rounds(ctx context.Context) error {
	if !slices.ContainsFunc(measures, func(m measure) bool { return b.pick.MatchString(m.name) }) {
		return nil
	}
	all, err := b.start()
	if err != nil {
		return err
	}
	defer func() {
		for _, r := range all {
			r.stop()
		}
	}()
	for n := range b.options.rounds {
		for _, m := range measures {
			if !b.pick.MatchString(m.name) {
				continue
			}
			fmt.Fprintf(os.Stderr, "bench: round %d of %d: %s\n", n+1, b.options.rounds, m.name)
			// Each round another one begins.
			for i := range all {
				r := all[(i+n)%len(all)]
				if m.takes(r.contender) && ctx.Err() == nil {
					b.take(r, m)
				}
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// takes tells whether a contender is measured by m.
func (m *measure) takes(c *contender) bool {
	switch {
	case c.only != nil && !slices.Contains(c.only, m.name):
		return false
	case m.raw:
		return c.raw
	case m.ours:
		return c.ours || c.name == "host"
	}
	return c.tls
}

func (b *bench) take(r *running, m measure) {
	t := m.task
	t.Time = b.length
	a, cpu, err := r.do(t)
	res := b.results[m.name]
	if res == nil {
		res = &result{Samples: map[string][]sample{}, Errors: map[string]string{}}
		b.results[m.name] = res
	}
	if err != nil {
		res.Errors[r.name] = err.Error()
		fmt.Fprintln(os.Stderr, "bench:", err)
		return
	}
	res.Samples[r.name] = append(res.Samples[r.name], sample{a, cpu})
}

// start starts the contenders that this machine has.
func (b *bench) start() ([]*running, error) {
	var all []*running
	for _, c := range b.contestants() {
		if b.left(c.name) {
			continue
		}
		if c.need != "" {
			if _, err := exec.LookPath(c.need); err != nil {
				b.absent = append(b.absent, c.name+": "+c.need+" is not installed")
				continue
			}
		}
		r, err := c.start(b, c)
		switch {
		case err == nil:
			all = append(all, r)
		case c.name == "host" || c.ours:
			for _, r := range all {
				r.stop()
			}
			return nil, fmt.Errorf("start %s: %w", c.name, err)
		default:
			b.absent = append(b.absent, c.name+": "+err.Error())
		}
	}
	return all, nil
}

// contestants are the contenders, and trace with --max-body 0.
func (b *bench) contestants() []*contender {
	all := slices.Clone(contenders)
	for _, c := range contenders {
		if c.ours && c.than == "" && slices.ContainsFunc(whole, b.pick.MatchString) {
			all = append(all, &contender{
				name: c.name + " whole", note: c.note + ", --max-body 0", tls: true, ours: true, only: whole,
				start: func(b *bench, w *contender) (*running, error) { return b.startTraceWith(w, c.name, "--max-body", "0") },
			})
		}
	}
	return all
}

// median returns the middle value, and the lowest and highest.
func median(v []float64) (mid, low, high float64) {
	if len(v) == 0 {
		return 0, 0, 0
	}
	v = slices.Sorted(slices.Values(v))
	mid = v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (v[len(v)/2-1] + mid) / 2
	}
	return mid, v[0], v[len(v)-1]
}
