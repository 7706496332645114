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

// A reverseRun is one `trace run` without --inspect: the command is an ordinary
// child of ours that is told, by variables, to call a proxy on loopback.
type reverseRun struct {
	*run
	bases    *baseURLs
	listener net.Listener
	env      []string
}

// checkReverse reports flags that mean nothing without a namespace.
func (o *runOptions) checkReverse() error {
	switch {
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
	if err := o.checkReverse(); err != nil {
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
	r := &reverseRun{run: common, bases: bases}
	code, err := r.do()
	if err != nil || code != 0 {
		return exitError{Code: code, Err: err}
	}
	return nil
}

// do records the command and returns the exit code, and what is to be said about
// it if trace or the command failed to start.
func (r *reverseRun) do() (int, error) {
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
	r.listener = listener
	place, err := r.place()
	if err != nil {
		return exitTrace, err
	}
	if err := r.open(place); err != nil {
		return exitTrace, err
	}
	r.env = r.bases.environ(os.Environ(), listener.Addr().String())
	code, err := r.carry(signals)
	if ferr := r.finish(code); err == nil && ferr != nil {
		r.say("%v", ferr)
	}
	return code, err
}

// carry serves while the command runs.
func (r *reverseRun) carry(signals <-chan os.Signal) (int, error) {
	ctx, cancel := context.WithCancel(context.Background())
	l := newLane(&r.rules, r.record, r.source, r.log)
	l.keys = r.keyLogs()
	p := l.reverse(r.bases.routes)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := p.Serve(ctx, r.listener); err != nil {
			r.log("reverse proxy: %v", err)
		}
	})
	code, err := runChild(r.o.argv, r.env, signals)
	p.Settle(settleTime)
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
	done := make(chan struct{})
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			select {
			case s := <-signals:
				if s != syscall.SIGINT && s != syscall.SIGQUIT || !foreground() {
					cmd.Process.Signal(s)
				}
			case <-done:
				return
			}
		}
	})
	err := cmd.Wait()
	close(done)
	passing.Wait()
	if cmd.ProcessState == nil {
		return exitTrace, err
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}
