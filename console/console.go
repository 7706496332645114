// Package console takes a terminal whole and gives it back as it was, whatever
// happens.
//
//	s, err := console.Open(os.Stdout)
//	defer s.Close()
//	s.Draw([]string{"first line", "second line"})
//	for e := range s.Events() { … }
//
// It knows rows of text and keys, no windows: what stands on a row, and in which
// colours, is its caller's, who also escapes what a terminal might obey.
//
// # Theory of operation
//
// Open opens the terminal anew, so that it can be read and written without
// waiting although others hold it too, puts it into raw mode and switches to its
// second screen. Two goroutines feed Events: one reads keys, one takes signals.
// Draw writes the rows that differ from those that stand there.
//
// Close undoes all of it, once, in this order: the second screen, the modes. It is
// called when the program ends in order, by the goroutines' own deferred calls when
// they panic, and before the process stops (SIGTSTP): whoever else runs code while a
// screen is open defers it too, as deferred calls run before Go prints a panic. A
// terminal that takes no bytes holds nothing up for longer than half a second once
// the program is asked to end.
package console

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// What is written to take the terminal and to give it back (xterm's control
// sequences): the second screen, no cursor, no wrapping at the right edge.
const (
	takeAll  = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
	giveBack = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
)

const (
	patience = 500 * time.Millisecond // with a terminal that takes nothing, at the end
	stopTime = 300 * time.Millisecond // in which a process that may stop has stopped
)

// caught are the signals that change, stop or, by default, end a program that owns
// the terminal.
var caught = []os.Signal{syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT,
	syscall.SIGABRT, syscall.SIGALRM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGXCPU}

// ErrNoTerminal is returned by Open for what is no terminal.
var ErrNoTerminal = errors.New("no terminal")

// An Event is something that happened at the terminal: one of its fields is set.
type Event struct {
	Key    Key
	Redraw bool      // the size may be another, or the process was stopped: draw all
	Signal os.Signal // the program is asked to end
	Gone   bool      // the terminal is: there will be no more keys
}

// A Screen is a terminal that was taken. Its methods are safe for concurrent use.
type Screen struct {
	events  chan Event
	done    chan struct{} // closed by Close
	once    sync.Once
	working sync.WaitGroup
	signals chan os.Signal
	wake    [2]int      // a pipe that ends the reading
	ending  atomic.Bool // do not wait for the terminal
	hurry   atomic.Bool // nor while a signal is to be obeyed

	mu    sync.Mutex // guards what follows
	fd    int
	own   *os.File // nil: fd is the caller's
	modes *term.State
	taken bool
	stuck bool // it took nothing when there was haste
	shown []string
	width int
	rows  int
}

// Open takes the terminal that out is.
func Open(out *os.File) (*Screen, error) {
	if !term.IsTerminal(int(out.Fd())) {
		return nil, ErrNoTerminal
	}
	s := &Screen{events: make(chan Event, 16), done: make(chan struct{}), signals: make(chan os.Signal, 8), fd: int(out.Fd())}
	if s.own = reopen(s.fd); s.own != nil {
		s.fd = int(s.own.Fd())
		_ = unix.SetNonblock(s.fd, true) // which Fd has ended
	}
	var pipe [2]int
	err := unix.Pipe(pipe[:])
	if err == nil {
		unix.CloseOnExec(pipe[0])
		unix.CloseOnExec(pipe[1])
		s.wake = pipe
		if s.modes, err = term.GetState(s.fd); err == nil {
			signal.Notify(s.signals, caught...) // first: one that comes now is obeyed in a moment
			s.mu.Lock()
			err = s.take()
			s.mu.Unlock()
		}
		if err != nil {
			signal.Stop(s.signals)
			s.closeFiles()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	s.working.Go(s.readKeys)
	s.working.Go(s.takeSignals)
	return s, nil
}

// reopen opens the terminal fd again, nil if that cannot be. What is opened anew has
// flags of its own: to make the other one not wait would change it for the shell.
func reopen(fd int) *os.File {
	names := []string{"/dev/tty"}
	if runtime.GOOS == "linux" { // elsewhere that is the same one, not another
		names = []string{"/proc/self/fd/" + strconv.Itoa(fd)}
	}
	for _, name := range names {
		n, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil && term.IsTerminal(n) {
			return os.NewFile(uintptr(n), name)
		}
		if err == nil {
			unix.Close(n)
		}
	}
	return nil
}

// Events tells what happens, until Close.
func (s *Screen) Events() <-chan Event { return s.events }

// Size returns the columns and rows of the terminal.
func (s *Screen) Size() (width, rows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	width, rows, err := term.GetSize(s.fd)
	if err != nil || width <= 0 || rows <= 0 {
		return 80, 24
	}
	return width, rows
}

// Draw shows lines, the first at the top. Those below the last row are left out,
// rows without a line are empty. A line must fit, and may hold sequences that set
// how text looks (SGR).
func (s *Screen) Draw(lines []string) {
	width, rows := s.Size()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.taken {
		return
	}
	var b bytes.Buffer
	if s.shown == nil || width != s.width || rows != s.rows {
		b.WriteString("\x1b[0m\x1b[2J")
		s.shown, s.width, s.rows = make([]string, rows), width, rows
	}
	for i := range s.rows {
		line := ""
		if i < len(lines) {
			line = lines[i]
		}
		if line == s.shown[i] {
			continue
		}
		s.shown[i] = line
		// Cleared first: behind a full row the cursor stands on its last column.
		fmt.Fprintf(&b, "\x1b[%d;1H\x1b[0m\x1b[K%s", i+1, line)
	}
	s.write(b.Bytes())
}

// Clear has the next Draw draw all rows.
func (s *Screen) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = nil
}

// Suspend stops the process and those of its group, as the terminal does when
// Ctrl-Z is pressed.
func (s *Screen) Suspend() { _ = unix.Kill(0, unix.SIGTSTP) }

// Restore gives the terminal back at once and for good. It may be called at any time,
// more than once.
func (s *Screen) Restore() {
	s.ending.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.give()
	s.modes = nil // not to be taken again
}

// Close gives the terminal back and ends Events.
func (s *Screen) Close() {
	s.Restore()
	s.once.Do(func() {
		signal.Stop(s.signals)
		close(s.done)
		_, _ = unix.Write(s.wake[1], []byte{0})
		s.working.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.closeFiles()
		s.fd = -1
		close(s.events)
	})
}

func (s *Screen) closeFiles() {
	unix.Close(s.wake[0])
	unix.Close(s.wake[1])
	if s.own != nil {
		s.own.Close()
	}
}

// take puts the terminal into raw mode. s.mu is held.
func (s *Screen) take() error {
	if s.modes == nil {
		return nil
	}
	if _, err := term.MakeRaw(s.fd); err != nil {
		return err
	}
	s.taken, s.shown = true, nil
	s.write([]byte(takeAll))
	return nil
}

// give undoes take. s.mu is held.
func (s *Screen) give() {
	if !s.taken {
		return
	}
	s.taken = false
	s.write([]byte(giveBack))
	_ = term.Restore(s.fd, s.modes)
}

// write writes all of p, unless the terminal is gone, or takes nothing while the
// program is to end. s.mu is held.
func (s *Screen) write(p []byte) {
	began := time.Now()
	for len(p) > 0 {
		n, err := unix.Write(s.fd, p)
		if n > 0 {
			p, s.stuck = p[n:], false
		}
		switch {
		case err == nil || errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if (s.ending.Load() || s.hurry.Load()) && (s.stuck || time.Since(began) > patience) {
				s.shown, s.stuck = nil, true
				return
			}
			var ready unix.FdSet
			ready.Set(s.fd)
			wait := unix.NsecToTimeval(int64(patience / 5))
			_, _ = unix.Select(s.fd+1, nil, &ready, nil, &wait)
		default:
			return
		}
	}
}

// tell hands over an event, unless the screen is being closed.
func (s *Screen) tell(e Event) {
	select {
	case s.events <- e:
	case <-s.done:
	}
}

// takeSignals does what signals ask for until Close.
func (s *Screen) takeSignals() {
	defer s.Restore()
	for {
		select {
		case <-s.done:
			return
		case sig := <-s.signals:
			switch sig {
			case syscall.SIGWINCH:
				s.tell(Event{Redraw: true})
			case syscall.SIGTSTP:
				s.stop()
				s.tell(Event{Redraw: true})
			case syscall.SIGCONT: // stopped by SIGSTOP, which nobody hears of
				s.lock()
				_ = s.take()
				s.unlock()
				s.tell(Event{Redraw: true})
			default:
				s.ending.Store(true)
				s.tell(Event{Signal: sig})
			}
		}
	}
}

// lock locks mu, before long although a terminal takes nothing of what is drawn.
func (s *Screen) lock() {
	s.hurry.Store(true)
	s.mu.Lock()
}

func (s *Screen) unlock() {
	s.hurry.Store(false)
	s.mu.Unlock()
}

// stop gives the terminal back, stops this process as if it had never caught
// SIGTSTP, and takes the terminal again when it goes on. Where nobody could let it
// go on (its group is orphaned), the kernel does not stop it.
func (s *Screen) stop() {
	s.lock()
	defer s.unlock()
	s.give()
	stopSelf()
	goOn := time.NewTimer(stopTime)
	defer goOn.Stop()
	for waiting := true; waiting; {
		select {
		case sig := <-s.signals:
			if waiting = sig == syscall.SIGWINCH; !waiting && sig != syscall.SIGCONT {
				select { // it is to end: afterwards
				case s.signals <- sig:
				default:
				}
			}
		case <-goOn.C:
			waiting = false
		}
	}
	_ = s.take()
}
