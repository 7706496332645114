package console

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// TestMain is also the program that owns a terminal in tests.
func TestMain(m *testing.M) {
	if os.Getenv("CONSOLE_CHILD") == "" {
		os.Exit(m.Run())
	}
	os.Exit(owner())
}

// owner takes the terminal, shows its size and the keys that were pressed, and obeys
// some: q quits, ! panics, # writes without an end, ^Z stops.
func owner() int {
	s, err := Open(os.Stdout)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer s.Close()
	keys := ""
	for turn := 0; ; turn++ {
		w, h := s.Size()
		s.Draw([]string{fmt.Sprintf("size %dx%d", w, h), "keys " + keys})
		e := <-s.Events()
		switch {
		case e.Signal != nil:
			return 128 + int(e.Signal.(syscall.Signal))
		case e.Gone:
			return 100
		case e.Key == 'q':
			return 0
		case e.Key == '!':
			panic("hurt")
		case e.Key == CtrlZ:
			s.Suspend()
		case e.Key == '#':
			for len(s.Events()) == 0 {
				turn++
				s.Draw([]string{strconv.Itoa(turn) + strings.Repeat("x", 70)})
			}
		case e.Key != 0:
			keys += string(rune(e.Key))
		}
	}
}

// An owned is a pseudo terminal and the program that owns it.
type owned struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	before *term.State
	cmd    *exec.Cmd

	mu      sync.Mutex
	changed *sync.Cond
	out     bytes.Buffer
	over    bool // a reader has reached the end, or the deadline of a test has passed
}

func own(t *testing.T) *owned {
	t.Helper()
	o := &owned{t: t}
	o.changed = sync.NewCond(&o.mu)
	var err error
	if o.master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.master.Close() })
	n, err := unix.IoctlGetInt(o.fd(), unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(o.fd(), unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	if o.slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.slave.Close() })
	o.resize(80, 24)
	o.before = o.modes()
	o.cmd = exec.Command(os.Args[0])
	o.cmd.Env = append(os.Environ(), "CONSOLE_CHILD=1")
	o.cmd.Stdout, o.cmd.Stderr = o.slave, o.slave
	o.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its parent can let it go on: it can be stopped
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		o.cmd.Process.Kill()
		o.cmd.Wait()
	})
	return o
}

// fd is the master's; it leaves its file as it is.
func (o *owned) fd() int {
	var n uintptr
	c, err := o.master.SyscallConn()
	if err == nil {
		err = c.Control(func(fd uintptr) { n = fd })
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return int(n)
}

func (o *owned) resize(w, h uint16) {
	o.t.Helper()
	if err := unix.IoctlSetWinsize(o.fd(), unix.TIOCSWINSZ, &unix.Winsize{Row: h, Col: w}); err != nil {
		o.t.Fatal(err)
	}
}

func (o *owned) modes() *term.State {
	o.t.Helper()
	s, err := term.GetState(int(o.slave.Fd()))
	if err != nil {
		o.t.Fatal(err)
	}
	return s
}

// read takes what the program writes.
func (o *owned) read() *owned {
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := o.master.Read(b)
			o.mu.Lock()
			o.out.Write(b[:n])
			o.over = o.over || err != nil
			o.changed.Broadcast()
			o.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return o
}

// shows waits until all of texts were written, in this order, and forgets them.
func (o *owned) shows(texts ...string) {
	o.t.Helper()
	late := time.AfterFunc(10*time.Second, func() {
		o.mu.Lock()
		o.over = true
		o.changed.Broadcast()
		o.mu.Unlock()
	})
	defer late.Stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, text := range texts {
		for {
			if i := bytes.Index(o.out.Bytes(), []byte(text)); i >= 0 {
				o.out.Next(i + len(text))
				break
			}
			if o.over {
				o.t.Fatalf("%q does not come; there is %q", text, o.out.Bytes())
			}
			o.changed.Wait()
		}
	}
}

func (o *owned) press(keys string) {
	o.t.Helper()
	if _, err := o.master.WriteString(keys); err != nil {
		o.t.Fatal(err)
	}
}

func (o *owned) signal(sig syscall.Signal) {
	o.t.Helper()
	if err := o.cmd.Process.Signal(sig); err != nil {
		o.t.Fatal(err)
	}
}

// exits waits for the end of the program, and finds the modes as they were.
func (o *owned) exits(code int) {
	o.t.Helper()
	late := time.AfterFunc(10*time.Second, func() { o.cmd.Process.Kill() })
	defer late.Stop()
	o.cmd.Wait()
	if got := o.cmd.ProcessState.ExitCode(); got != code {
		o.t.Errorf("%v, want exit %d", o.cmd.ProcessState, code)
	}
	if !reflect.DeepEqual(o.modes(), o.before) {
		o.t.Error("the modes of the terminal are not what they were")
	}
}

// stops waits until the program is stopped.
func (o *owned) stops() {
	o.t.Helper()
	late := time.AfterFunc(10*time.Second, func() { o.cmd.Process.Kill() })
	defer late.Stop()
	var w unix.WaitStatus
	for {
		_, err := unix.Wait4(o.cmd.Process.Pid, &w, unix.WUNTRACED, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || !w.Stopped() {
			o.t.Fatalf("not stopped: %v, status %#x", err, w)
		}
		return
	}
}

// TestOwner: keys come, a change of the size redraws all, q gives the terminal back.
func TestOwner(t *testing.T) {
	o := own(t).read()
	o.shows(takeAll, "size 80x24")
	if reflect.DeepEqual(o.modes(), o.before) {
		t.Error("not in raw mode")
	}
	o.press("jk\x1b[") // Escape that nothing follows ends the row of keys, at its own time
	o.shows("keys jk")
	o.press("Aé")
	o.shows("é")
	o.resize(100, 30)
	o.signal(syscall.SIGWINCH)
	o.shows("\x1b[2J", "size 100x30", "keys jk")
	o.press("q")
	o.shows(giveBack)
	o.exits(0)
}

// TestSignals: a program that is asked to end gives the terminal back first.
func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGUSR1} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			o := own(t).read()
			o.shows("keys")
			o.signal(sig)
			o.shows(giveBack)
			o.exits(128 + int(sig))
		})
	}
}

// TestPanic: what Go prints of a panic stands on a terminal that is as it was.
func TestPanic(t *testing.T) {
	o := own(t).read()
	o.shows("keys")
	o.press("!")
	o.shows(giveBack, "panic: hurt\r\n", "goroutine")
	o.exits(2)
}

// TestStop: stopped by a signal or a key, by what can be caught and what cannot, and
// going on each time.
func TestStop(t *testing.T) {
	o := own(t).read()
	o.shows("keys")
	for i, stop := range []func(){
		func() { o.signal(syscall.SIGTSTP) },
		func() { o.press("\x1a") },
		func() { o.signal(syscall.SIGTSTP) },
	} {
		stop()
		o.stops()
		o.shows(giveBack)
		if !reflect.DeepEqual(o.modes(), o.before) {
			t.Errorf("stop %d: the modes are not what they were", i)
		}
		o.signal(syscall.SIGCONT)
		o.shows(takeAll, "size 80x24", "keys")
	}
	o.signal(syscall.SIGSTOP)
	o.stops()
	if err := term.Restore(int(o.slave.Fd()), o.before); err != nil { // as a shell does
		t.Fatal(err)
	}
	o.signal(syscall.SIGCONT)
	o.shows(takeAll, "size 80x24")
	o.press("q")
	o.shows(giveBack)
	o.exits(0)
}

// TestGone: a terminal that was lost ends the keys.
func TestGone(t *testing.T) {
	o := own(t).read()
	o.shows("keys")
	o.slave.Close()
	o.master.Close()
	late := time.AfterFunc(10*time.Second, func() { o.cmd.Process.Kill() })
	defer late.Stop()
	o.cmd.Wait()
	if got := o.cmd.ProcessState.ExitCode(); got != 100 {
		t.Errorf("%v", o.cmd.ProcessState)
	}
}

// TestStuck: a terminal that takes nothing keeps nobody from stopping or ending.
func TestStuck(t *testing.T) {
	o := own(t)
	o.press("#")
	full := func() bool { // the program waits for the terminal
		p := []unix.PollFd{{Fd: int32(o.slave.Fd()), Events: unix.POLLOUT}}
		n, err := unix.Poll(p, 0)
		return err == nil && n == 0
	}
	for end := time.Now().Add(10 * time.Second); !full(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it takes all")
		}
	}
	o.signal(syscall.SIGTSTP)
	o.stops()
	o.signal(syscall.SIGCONT)
	o.signal(syscall.SIGTERM)
	o.exits(128 + int(syscall.SIGTERM))
}

// TestNoTerminal: a pipe is none.
func TestNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if s, err := Open(w); s != nil || !errors.Is(err, ErrNoTerminal) {
		t.Errorf("%v, %v", s, err)
	}
}
