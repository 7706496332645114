package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"trace/flow"
)

// A besides is what runs beside a command that is an ordinary child of ours: a
// proxy on loopback that the command is told of by variables.
type besides struct {
	server interface {
		Serve(context.Context, net.Listener) error
		Settle(time.Duration)
	}
	env []string // of the command
}

// checkBeside reports flags that mean nothing without a namespace.
func (o *runOptions) checkBeside() error {
	switch {
	case o.proxy && len(o.maps) > 0:
		return errors.New("--map and --proxy exclude each other: a proxy sees every server that is asked for")
	case o.pcap != "":
		return errors.New("--pcap needs --inspect: without a namespace there are no packets to see")
	case o.waitAll:
		return errors.New("--wait-all needs --inspect: without a namespace nobody knows what the command left behind")
	case o.play.session != "":
		return errors.New("--play needs --inspect")
	}
	return nil
}

// runReverse is `trace run` without --inspect.
func (o *runOptions) runReverse() error {
	if err := o.checkBeside(); err != nil {
		return usageError{err}
	}
	bases, err := newBaseURLs(o.maps, os.Environ())
	if err != nil {
		return usageError{err}
	}
	common, err := o.prepare(flow.SourceReverse)
	if err != nil {
		return usageError{err}
	}
	return common.runBeside(func(l *lane, addr string) (besides, error) {
		return besides{l.reverse(bases.routes), bases.environ(commandEnviron(), addr)}, nil
	})
}

// runBeside records the command with what start makes, for a lane and the address of
// its listener.
func (r *run) runBeside(start func(*lane, string) (besides, error)) error {
	code, err := r.doBeside(start)
	if err != nil || code != 0 {
		return exitError{Code: code, Err: err}
	}
	return nil
}

// doBeside returns the exit code, and what is to be said about it if trace or the
// command failed to start.
func (r *run) doBeside(start func(*lane, string) (besides, error)) (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, passedSignals...)
	defer signal.Stop(signals)
	if err := r.openFiles(); err != nil {
		return exitTrace, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return exitTrace, err
	}
	defer listener.Close()
	place, err := r.place()
	if err != nil {
		return exitTrace, err
	}
	if err := r.open(place); err != nil {
		return exitTrace, err
	}
	code, err := r.carry(signals, listener, start)
	if ferr := r.finish(code); err == nil && ferr != nil {
		r.say("%v", ferr)
	}
	return code, err
}

// carry serves while the command runs.
func (r *run) carry(signals <-chan os.Signal, listener net.Listener, start func(*lane, string) (besides, error)) (int, error) {
	l := newLane(&r.rules, r.record, r.source, r.log)
	l.keys = r.keyLogs()
	who := findPrograms(os.Getpid(), r.log)
	defer who.close()
	l.who = who.find
	b, err := start(l, listener.Addr().String())
	if err != nil {
		return exitTrace, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := b.server.Serve(ctx, listener); err != nil {
			r.log("proxy: %v", err)
		}
	})
	code, err := runChild(r.o.argv, b.env, signals)
	b.server.Settle(settleTime)
	cancel()
	serving.Wait()
	return code, err
}

// settleTime is how long after the command's end its connections may take to
// end by themselves, so that they are not recorded as cut off.
const settleTime = 500 * time.Millisecond

// runChild runs a command as our child, in our process group: what the
// terminal sends reaches it by itself. Other signals are passed on.
func runChild(argv, env []string, signals <-chan os.Signal) (int, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		code := 126
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			code = 127
		}
		var path *fs.PathError
		var look *exec.Error
		switch {
		case errors.As(err, &look):
			err = look.Err
		case errors.As(err, &path):
			err = path.Err
		}
		return code, fmt.Errorf("exec %s: %w", argv[0], err)
	}
	_, err := passSignals(signals, func(s syscall.Signal) error { return cmd.Process.Signal(s) }, func() (*exec.Cmd, error) { return cmd, cmd.Wait() })
	if cmd.ProcessState == nil {
		return exitTrace, err
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}
