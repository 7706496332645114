// Command bench measures trace beside what one would use instead, in one run.
//
//	bench -trace bin/trace -o docs/benchmarks.md
//
// It starts an origin on loopback and, for each contender, a client that lives
// as long as the run: on the host without any capture, under trace with either
// link, behind mitmproxy, behind slirp4netns and pasta, and behind a relay that
// only copies. A round gives each client each task in turn, so that what the
// machine does meanwhile falls on all of them; the report has the medians of
// the rounds, their spread, and the ratios to the host. A contender that is not
// installed is left out, and the report says so.
//
// Everything stays on loopback and in namespaces of its own, and all that was
// started is ended.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

// options are the flags.
type options struct {
	trace  string
	report string
	json   string
	rounds int
	length time.Duration
	only   string
	skip   string
	halt   bool
	dir    string // for all that is written; removed at the end
}

func main() {
	if len(os.Args) > 1 {
		role := roles[os.Args[1]]
		if role != nil {
			if err := role(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
				os.Exit(1)
			}
			return
		}
	}
	var o options
	flag.StringVar(&o.trace, "trace", "bin/trace", "the `binary` to measure")
	flag.StringVar(&o.report, "o", "", "write the report to `FILE` (Markdown); default: standard output")
	flag.StringVar(&o.json, "json", "", "write all figures to `FILE`")
	flag.IntVar(&o.rounds, "rounds", 5, "interleaved rounds")
	flag.DurationVar(&o.length, "time", time.Second, "of one task")
	flag.StringVar(&o.only, "only", "", "only the measures whose names match this `REGEXP`")
	flag.StringVar(&o.skip, "without", "", "without the contenders whose names match this `REGEXP`")
	flag.BoolVar(&o.halt, "halt", false, "let processors halt when they are idle")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// roles are the other processes of a run: this binary with another first
// argument.
var roles = map[string]func(args []string) error{
	"origin":   serveOrigin,
	"client":   serveTasks,
	"relay":    serveRelay,
	"endpoint": serveEndpoint,
	"stamp":    stamp,
	"spin":     spin,
}

func (o *options) run(ctx context.Context) error {
	var err error
	if o.trace, err = filepath.Abs(o.trace); err != nil {
		return err
	}
	if _, err := os.Stat(o.trace); err != nil {
		return fmt.Errorf("%w: run 'make build' first", err)
	}
	if o.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	if !o.halt {
		stop, err := keepAwake()
		if err != nil {
			return err
		}
		defer stop()
	}
	b := &bench{options: o, results: map[string]*result{}}
	if err := b.match(); err != nil {
		return err
	}
	if b.origin, err = startOrigin(o.dir); err != nil {
		return err
	}
	defer b.origin.stop()
	err = b.rounds(ctx)
	if err == nil {
		err = b.specials(ctx)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return errors.Join(err, b.write())
}
