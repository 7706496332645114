package netns

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"time"

	"ahead"

	"golang.org/x/sys/unix"
)

// Status is how the command ended.
type Status struct {
	Code   int         // if Signal is 0
	Signal unix.Signal // that ended it
	Core   bool        // it left a core file
}

// ExitCode is what a shell would exit with.
func (s Status) ExitCode() int {
	if s.Signal != 0 {
		return 128 + int(s.Signal)
	}
	return s.Code
}

// String is as os.ProcessState writes it.
func (s Status) String() string {
	if s.Signal != 0 {
		return "signal: " + s.Signal.String()
	}
	return fmt.Sprintf("exit status %d", s.Code)
}

func statusOf(ws unix.WaitStatus, err error) Status {
	switch {
	case err != nil:
		return Status{Code: ahead.ExitStage} // somebody else took the status: this process must not wait for any child (-1)
	case ws.Signaled():
		return Status{Signal: ws.Signal(), Core: ws.CoreDump()}
	}
	return Status{Code: ws.ExitStatus()}
}

const (
	stopSettles  = 30 * time.Millisecond  // after fg the stop that was just ended is still reported
	reapInterval = 20 * time.Millisecond  // orphans that end in between are waited for together
	membersPoll  = 100 * time.Millisecond // a process that joined and left no trace otherwise
)

// Wait returns when the command ended. In the meantime it collects orphans of the namespace, and where the command is stopped from the
// terminal it stops this process too (or calls Config.Stopped), so that the shell gets its terminal back.
func (n *Namespace) Wait() (Status, error) {
	dead := make(chan os.Signal, 1)
	signal.Notify(dead, unix.SIGCHLD)
	defer signal.Stop(dead)
	r := newReaper()
	var later, settle <-chan time.Time
	for {
		select {
		case <-n.done:
			r.collect()
			return n.status, nil
		case <-dead:
			if later == nil {
				later = time.After(reapInterval)
			}
		case <-later:
			later = nil
			if r.collect() {
				later = time.After(orphanGrace / 4)
			}
		case ws := <-n.events:
			settle = nil
			if ws.Stopped() {
				settle = time.After(stopSettles)
			}
		case <-settle:
			settle = nil
			n.stopped()
		}
	}
}

// WaitAll returns when no process of the namespace is left but the helper, or ctx is done. Call it after Wait.
func (n *Namespace) WaitAll(ctx context.Context) error {
	r := newReaper()
	tick := time.NewTicker(membersPoll)
	defer tick.Stop()
	var guests []int
	for {
		r.collect()
		if len(n.living(n.descendants())) == 0 {
			// All processes are asked only when those that one of them knows of have ended.
			guests = slices.DeleteFunc(guests, func(pid int) bool { return !n.holds(pid) })
			if len(guests) == 0 {
				guests = n.Members()
			}
			if len(guests) == 0 {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stopped stops this process as the command is, if there is a shell that will wake both. After fg it wakes first and may have seen the
// stop that has just ended: hence the look at the state.
func (n *Namespace) stopped() {
	st, err := readStat(n.pid)
	if err != nil || st.state != 'T' {
		return
	}
	if n.config.Stopped != nil {
		n.config.Stopped()
		return
	}
	self, err := readStat(os.Getpid())
	sid, sidErr := unix.Getsid(0)
	if err != nil || self.tty == 0 || sidErr != nil || sid == os.Getpid() {
		return // nobody would wake us; the command may be woken by whoever stopped it
	}
	stopSelf()
	// fg wakes our process group. A shell that made itself one of its own and stopped itself needs a call.
	st, err = readStat(n.pid)
	if err == nil && st.state == 'T' && st.pgrp != unix.Getpgrp() {
		unix.Kill(-st.pgrp, unix.SIGCONT)
	}
}

// stopSelf returns when this process was woken. The signal goes to the thread, or it might return before.
func stopSelf() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
}
