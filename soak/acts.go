package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An act is a kind of run, with the fault that it is about.
type act struct {
	name   string
	flags  []string // of trace run
	env    []string
	says   string                                   // what trace has to say besides where the session is
	before func(p *play) (undo func(), err error)   // before trace is started
	during func(ctx context.Context, p *play) error // under load, until ctx is done
	after  func(p *play)                            // when the client has been told to end
	judge  func(p *play)                            // besides what holds of every act
}

var acts = []*act{
	{name: "plain"},
	{name: "full", before: mountSmall, during: fillDisk, judge: judgeFull},
	{name: "fullend", before: mountSmall, during: fillForGood, judge: judgeFullEnd},
	{name: "slow", during: slowDown, judge: judgeSlow},
	{name: "killed", during: kill, judge: judgeKilled},
	{name: "files", during: limitFiles, judge: judgeFiles},
	{name: "readers", before: makePipe, says: "took nothing", during: hangReaders, after: wakeReaders, judge: judgeReaders},
	{name: "memory", env: []string{"GOMEMLIMIT=40MiB"}, judge: judgeMemory},
}

// pause waits for d, and reports whether ctx is still on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// smallSize is the size of the tmpfs on which a session lies.
const smallSize = 64 << 20

// mountSmall puts a tmpfs under the session.
func mountSmall(p *play) (func(), error) {
	dir := filepath.Dir(p.file)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", smallSize)); err != nil {
		return nil, fmt.Errorf("mount a tmpfs: %w", err)
	}
	return func() {
		if p.violations == 0 {
			unix.Unmount(dir, unix.MNT_DETACH)
			return
		}
		// It goes with our namespace: keep what is in it.
		keep := p.dir + "-kept"
		os.CopyFS(keep, os.DirFS(dir))
		unix.Unmount(dir, unix.MNT_DETACH)
	}, nil
}

// logged counts the lines of trace's log that contain text.
func (p *play) logged(text string) int {
	b, _ := os.ReadFile(p.log)
	return bytes.Count(b, []byte(text))
}

// awaitLog waits until the log has n lines that contain text.
func (p *play) awaitLog(text string, n int) bool {
	for end := time.Now().Add(30 * time.Second); p.logged(text) < n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.wrong("after 30 s the log does not say %q for the %d. time", text, n)
			return false
		}
	}
	return true
}

// What trace's log says when recording stops, and goes on.
const (
	saysStopped = "recording stopped"
	saysGoesOn  = "recording goes on"
)

// fill fills the tmpfs until recording has stopped for the n-th time.
func (p *play) fill(n int) (undo func() error, err error) {
	ballast := filepath.Join(filepath.Dir(p.file), "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		return nil, err
	}
	undo = func() error { return errors.Join(f.Close(), os.Remove(ballast)) }
	for end := time.Now().Add(20 * time.Second); p.logged(saysStopped) < n && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := io.Copy(f, &cycle{}); err != nil && !errors.Is(err, unix.ENOSPC) { // also what was freed meanwhile
			return undo, err
		}
	}
	p.awaitLog(saysStopped, n)
	return undo, nil
}

// fillDisk fills the tmpfs, leaves it full for a while, and empties it again.
func fillDisk(ctx context.Context, p *play) error {
	for n := 1; pause(ctx, time.Second); n++ {
		w := window{from: time.Now(), loses: true}
		undo, err := p.fill(n)
		if err != nil {
			return err
		}
		pause(ctx, 2*time.Second)
		if err := undo(); err != nil {
			return err
		}
		p.awaitLog(saysGoesOn, n)
		w.to = time.Now()
		p.windows = append(p.windows, w)
	}
	p.tell("%d times full, %.1f s in all", len(p.windows), lengthOf(p.windows).Seconds())
	return nil
}

// fillForGood fills the tmpfs and leaves it so.
func fillForGood(ctx context.Context, p *play) error {
	if _, err := p.fill(1); err != nil {
		return err
	}
	p.windows = append(p.windows, window{from: time.Now().Add(-slack), to: time.Now().Add(time.Hour), loses: true})
	pause(ctx, time.Hour)
	return nil
}

// judgeFullEnd wants a line that says why the record ends.
func judgeFullEnd(p *play) {
	if !strings.Contains(p.stderr.String(), "full") {
		p.wrong("no line says that the disk was full: %q", p.stderr.String())
	}
	if len(p.rows) < 10 {
		p.wrong("%d rows of what was committed", len(p.rows))
	}
}

func lengthOf(ws []window) (d time.Duration) {
	for _, w := range ws {
		d += w.to.Sub(w.from)
	}
	return d
}

// judgeFull wants a gap for each time, with the reason, and a line after the
// run.
func judgeFull(p *play) {
	if len(p.windows) == 0 {
		p.wrong("the disk was never full")
	}
	if len(p.drops) == 0 || len(p.drops) > len(p.windows) {
		p.wrong("%d gaps in the record, the disk was full %d times", len(p.drops), len(p.windows))
	}
	for _, why := range p.drops {
		if !strings.Contains(why, "full") {
			p.wrong("a gap does not say that the disk was full: %q", why)
		}
	}
	if !strings.Contains(p.stderr.String(), "in the record") {
		p.wrong("the line after the run says nothing of gaps: %q", p.stderr.String())
	}
}

// judgeWhole wants a record without gaps.
func judgeWhole(p *play) {
	if len(p.drops) > 0 || strings.Contains(p.stderr.String(), "in the record") {
		p.wrong("gaps in the record: %q; %q", p.drops, p.stderr.String())
	}
}

// walWriteLock is the byte of the -shm file whose lock a writer holds
// (SQLite's "WAL-mode file format", section 2.3.1: the first of the lock
// bytes, at 120).
const walWriteLock = 120

// tooSlow is how long trace waits for a disk before it takes it for broken.
const tooSlow = 20 * time.Second

// judgeSlow wants a record without gaps, unless the disk was taken for broken.
func judgeSlow(p *play) {
	if len(p.windows) == 0 {
		judgeWhole(p)
	}
	if len(p.drops) > len(p.windows) {
		p.wrong("%d gaps in the record; for so long the disk did not answer %d times", len(p.drops), len(p.windows))
	}
}

// slowDown holds the writer's lock of the session, as another process that
// writes and does not get on.
func slowDown(ctx context.Context, p *play) error {
	f, err := os.OpenFile(p.file+"-shm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var held time.Duration
	times := 0
	holds := []time.Duration{time.Second, 3 * time.Second, 7 * time.Second, tooSlow + 5*time.Second}
	for pause(ctx, 300*time.Millisecond) {
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: walWriteLock, Len: 1}
		if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock); errors.Is(err, unix.EAGAIN) {
			for errors.Is(err, unix.EAGAIN) && pause(ctx, time.Millisecond) { // while trace commits
				err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock)
			}
		} else if err != nil {
			return err
		}
		start := time.Now()
		pause(ctx, holds[times%len(holds)])
		held += time.Since(start)
		times++
		if time.Since(start) > tooSlow {
			p.windows = append(p.windows, window{from: start, to: time.Now().Add(2 * time.Second), loses: true})
		}
		lock.Type = unix.F_UNLCK
		if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock); err != nil {
			return err
		}
	}
	p.tell("%d times without an answer from the disk, %.1f s in all", times, held.Seconds())
	if times == 0 {
		p.wrong("the lock was never had")
	}
	return nil
}

// kill kills trace.
func kill(ctx context.Context, p *play) error {
	pause(ctx, time.Hour)
	p.dead = true
	p.windows = append(p.windows, window{time.Now(), time.Now().Add(time.Hour), true, true})
	return p.cmd.Process.Kill()
}

// judgeKilled wants the session to be crashed, readable and removable.
func judgeKilled(p *play) {
	state := filepath.Join(p.dir, "state")
	dir := filepath.Join(state, "trace", "sessions")
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		p.wrong("%v", err)
		return
	}
	if err := os.Rename(filepath.Dir(p.file), dir); err != nil {
		p.wrong("%v", err)
		return
	}
	for range 2 { // the second time as the first reader left it
		out, err := p.trace("sessions", "list", "--json")
		if err != nil || !strings.Contains(string(out), `"state":"crashed"`) {
			p.wrong("sessions list: %v, %.1000s", err, out)
		}
	}
	if p.violations > 0 {
		return
	}
	if out, err := p.trace("sessions", "rm", filepath.Join(dir, filepath.Base(p.file))); err != nil {
		p.wrong("sessions rm: %v, %s", err, out)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		p.wrong("sessions rm left %v", left)
	}
}

// limitFiles lowers the limit of open files of the running trace to little
// more than it has, opens more connections than that, and raises it again.
func limitFiles(ctx context.Context, p *play) error {
	pid := p.cmd.Process.Pid
	var was unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		return err
	}
	total := map[string]int{}
	for pause(ctx, time.Second) { // without load trace has about 28
		w := window{from: time.Now(), reaches: true}
		low := unix.Rlimit{Cur: uint64(max(p.base.fds, 28) + 40), Max: was.Max}
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &low, nil); err != nil {
			return err
		}
		r, err := p.do(order{Do: "hoard", N: 120})
		if err != nil {
			return err
		}
		for k, n := range r.Outcomes {
			total[k] += n
		}
		pause(ctx, time.Second)
		if _, err = p.do(order{Do: "release"}); err != nil {
			return err
		}
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &was, nil); err != nil {
			return err
		}
		w.to = time.Now()
		p.windows = append(p.windows, w)
	}
	p.tell("%d times at the limit; of the connections beyond it: %v", len(p.windows), total)
	if total["ok"] == 0 || total["refused"]+total["reset"] == 0 {
		p.wrong("the limit was not reached: %v", total)
	}
	return nil
}

// judgeFiles wants a row that says why for each connection that trace refused.
func judgeFiles(p *play) {
	judgeWhole(p)
	said, sample := 0, ""
	for i := range p.rows {
		if e := p.rows[i].Error; e != nil && e.Where == "capture" && e.Code == "limit" && strings.Contains(e.Message, "too many open files") {
			said, sample = said+1, fmt.Sprintf("%+v", *e)
		}
	}
	refused := 0
	for _, s := range p.client {
		if s.Outcome == "refused" && s.Kind != kindRefused {
			refused++
		}
	}
	p.tell("%d connections were refused for want of files, %d rows say so: %s", refused, said, sample)
	if said < refused {
		p.wrong("%d connections were refused for want of files, %d rows say so", refused, said)
	}
}

// makePipe makes the pipe of --jsonl. It has a reader that never reads.
func makePipe(p *play) (func(), error) {
	pipe := filepath.Join(p.dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	own := *p.act
	own.flags = []string{"--jsonl", pipe}
	p.act = &own
	return func() { f.Close() }, nil
}

// hangReaders starts a follower and stops it in the middle of its work.
func hangReaders(ctx context.Context, p *play) error {
	p.tail = exec.Command(p.o.trace, "flows", "tail", "--json", "--session", p.file)
	out, err := os.Create(filepath.Join(p.dir, "tail.jsonl"))
	if err != nil {
		return err
	}
	defer out.Close()
	p.tail.Stdout, p.tail.Stderr = out, out
	if err := p.tail.Start(); err != nil {
		return err
	}
	for pause(ctx, 300*time.Millisecond) {
		if err := p.tail.Process.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		pause(ctx, 3*time.Second)
		if ctx.Err() == nil {
			p.tail.Process.Signal(syscall.SIGCONT)
		}
	}
	p.tail.Process.Signal(syscall.SIGSTOP)
	return nil
}

// wakeReaders lets the follower go on once trace has had time to end.
func wakeReaders(p *play) {
	time.Sleep(2 * time.Second)
	p.tail.Process.Signal(syscall.SIGCONT)
	late := time.AfterFunc(endWait, func() { p.tail.Process.Kill() })
	defer late.Stop()
	if err := p.tail.Wait(); err != nil {
		p.wrong("flows tail, stopped and continued, ended with %v", err)
	}
}

// judgeReaders wants the follower to have seen all.
func judgeReaders(p *play) {
	judgeWhole(p)
	f, err := os.Open(filepath.Join(p.dir, "tail.jsonl"))
	if err != nil {
		p.wrong("%v", err)
		return
	}
	defer f.Close()
	kinds, _, err := eventLog(f)
	if err != nil {
		p.wrong("flows tail, stopped and continued: %v", err)
	}
	for kind, want := range p.kinds {
		if got := kinds[kind]; got != want {
			p.wrong("flows tail, stopped and continued, has %d lines of type %s, want %d", got, kind, want)
		}
	}
}

// judgeMemory wants the limit of the runtime to have been of use.
func judgeMemory(p *play) {
	judgeWhole(p)
	const most = 160 << 20 // the limit is soft, and does not count the pages of the binary and of SQLite
	if p.top.hwm > most {
		p.wrong("%d MB resident under GOMEMLIMIT=40MiB", p.top.hwm>>20)
	}
}
