package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"time"

	"trace/flow"
	"trace/netns"
)

// startSettles is how long after the command's start the memory that the start
// took is given back.
const startSettles = 300 * time.Millisecond

// startMemory bounds what this process takes until then without collecting
// garbage: to collect it takes as long as to end a short command's run.
const startMemory = 64 << 20

// An inspectRun is one `trace run --inspect`.
type inspectRun struct {
	*run
	road *road
	left []string // processes that outlive the run, as NAME[PID]
}

// runInspect is `trace run --inspect`.
func (o *runOptions) runInspect() error {
	if len(o.maps) > 0 {
		return usageError{errors.New("--map and --inspect exclude each other: in a namespace every server is seen")}
	}
	common, err := o.prepare(flow.SourceNamespace)
	if err != nil {
		return usageError{err}
	}
	r := &inspectRun{run: common, road: &road{
		rules: common.rules, link: o.link, device: netns.DeviceKind(o.device), argv: o.argv, env: commandEnviron(), isolated: o.noLocalhost, pcap: o.pcap,
	}}
	p, err := o.play.open()
	if err != nil {
		return exitError{Code: exitTrace, Err: err}
	}
	r.road.playFrom(p)
	if r.road.packets, err = o.openCapture(); err != nil {
		return exitError{Code: exitTrace, Err: err}
	}
	if r.road.packets != nil {
		r.road.childKeys = append(r.road.childKeys, r.road.packets.KeyLog())
	}
	code, err := r.do()
	if r.road.packets != nil {
		r.road.packets.Close() // again, unless there was no road to end
	}
	if err != nil || code != 0 {
		return exitError{Code: code, Err: err}
	}
	return nil
}

// do records the command and returns the exit code, and what is to be said
// about it if trace or the command failed to start.
func (r *inspectRun) do() (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, passedSignals...)
	defer signal.Stop(signals)

	if err := r.openFiles(); err != nil {
		return exitTrace, err
	}
	r.road.log, r.road.keys = r.log, r.keyLogs()
	started := time.Now()
	debug.SetGCPercent(-1) // what is made now stays: the child waits for it
	mark := func(what string) { r.log("%s after %v", what, time.Since(started).Round(time.Microsecond)) }
	if err := r.setUp(); err != nil {
		return exitTrace, err
	}
	mark("road built")
	if err := r.road.start(); err != nil {
		r.road.close()
		code := exitTrace
		var exec *netns.ExecError
		if errors.As(err, &exec) {
			code = exec.ExitCode()
		}
		r.finish(code)
		return code, err
	}
	mark("command executed")
	limit := debug.SetMemoryLimit(startMemory)
	slim := time.AfterFunc(startSettles, func() {
		tuneHeap()
		debug.SetMemoryLimit(limit)
		debug.FreeOSMemory()
		netns.Trim() // what cannot be given back is kept
	})
	defer slim.Stop()
	defer giveBackAfterLoad()()
	code, err := r.wait(signals)
	mark("command ended")
	r.road.close()
	mark("road closed")
	if ferr := r.finish(code); err == nil && ferr != nil {
		r.say("%v", ferr)
	}
	if err != nil {
		return exitTrace, err
	}
	return code, nil
}

// setUp makes the record and the road at the same time: each takes some
// milliseconds, and the road needs the record only once packets come.
func (r *inspectRun) setUp() error {
	place, err := r.place()
	if err != nil {
		return err
	}
	if !r.o.noSave {
		r.road.private = privateDir()
	}
	opened := make(chan error, 1)
	r.road.beside = func() { opened <- r.open(place) }
	err = r.road.build()
	oerr := <-opened
	switch {
	case oerr != nil:
		if err == nil {
			r.road.close()
		}
		return oerr
	case err == nil:
		r.road.record = r.record
		err = r.road.join()
	}
	if err != nil {
		r.finish(exitTrace)
	}
	return err
}

// wait waits until the command has ended.
func (r *inspectRun) wait(signals <-chan os.Signal) (int, error) {
	status, err := passSignals(signals, r.road.ns.Signal, r.road.ns.Wait)
	if err != nil {
		return exitTrace, err
	}
	r.waitOthers(signals)
	return status.ExitCode(), nil
}

// waitOthers deals with processes that the command left behind: with
// --wait-all it waits for them, until a signal says otherwise; else it notes
// who they are, because they lose their network now.
func (r *inspectRun) waitOthers(signals <-chan os.Signal) {
	if r.o.waitAll {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		all := make(chan struct{})
		go func() {
			r.road.ns.WaitAll(ctx)
			close(all)
		}()
		select {
		case <-all:
		case <-signals:
			cancel()
			<-all
		}
	}
	for _, pid := range r.road.ns.Members() {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err == nil {
			r.left = append(r.left, fmt.Sprintf("%s[%d]", printable(strings.TrimSpace(string(name))), pid))
		}
	}
}

// finish ends the record and says what became of the run.
func (r *inspectRun) finish(code int) error {
	err := r.run.finish(code)
	r.sayPlayed()
	if r.road.captured != "" {
		r.say("packets: %s", r.road.captured)
	}
	if n := len(r.left); n > 0 {
		r.say("left behind, without a network now: %s (--wait-all waits for them)", shortList(r.left))
	}
	return err
}
