package netns

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"ahead"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal with a session on it whose one job carries a shell command.
type terminal struct {
	t      *testing.T
	master *os.File
	seen   string
}

func openTerminal(t *testing.T, script string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		skip(t, "%v", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	unix.SetNonblock(int(master.Fd()), true)
	m := os.NewFile(uintptr(dup(t, master)), "ptmx") // pollable, so that deadlines count
	t.Cleanup(func() { m.Close() })
	cmd := exec.Command(ahead.SelfExe)
	cmd.Args = []string{"session"}
	cmd.Env = append(os.Environ(), roleVar+"=session "+script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		master.Close()
		m.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &terminal{t: t, master: m}
}

func dup(t *testing.T, f *os.File) int {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.SetNonblock(fd, true)
	return fd
}

// expect reads until text was shown.
func (m *terminal) expect(text string) {
	m.t.Helper()
	m.master.SetReadDeadline(time.Now().Add(5 * time.Second))
	p := make([]byte, 1024)
	for !strings.Contains(m.seen, text) {
		n, err := m.master.Read(p)
		m.seen += string(p[:n])
		if err != nil {
			m.t.Fatalf("expected %q, saw %q, %v", text, m.seen, err)
		}
	}
	_, m.seen, _ = strings.Cut(m.seen, text)
}

func (m *terminal) send(text string) {
	m.t.Helper()
	if _, err := m.master.WriteString(text); err != nil {
		m.t.Fatal(err)
	}
}

func TestStopAndContinue(t *testing.T) {
	if !asUserToo(t) {
		return
	}
	m := openTerminal(t, "echo ready; read line; echo got $line; exit 5")
	m.expect("ready")
	for range 3 {
		m.send("\x1a")
		m.expect("job stopped")
		m.expect("job continued")
	}
	m.send("hello\n")
	m.expect("got hello")
	m.expect("job ended 5")
	if strings.Contains(m.seen, "stopped") {
		t.Errorf("stopped once more: %q", m.seen)
	}
}

func TestInterrupt(t *testing.T) {
	m := openTerminal(t, "trap 'exit 9' INT; echo ready; read line")
	m.expect("ready")
	m.send("\x03")
	m.expect("job ended 9")
	m = openTerminal(t, "echo ready; exec sleep 100")
	m.expect("ready")
	time.Sleep(20 * time.Millisecond) // the exec after the echo has no event
	m.send("\x1c")
	m.expect("job ended 131")
}

// TestSuspendedShell: an interactive shell makes a process group of its own and stops only itself.
func TestSuspendedShell(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		skip(t, "%v", err)
	}
	m := openTerminal(t, "PS1='shell> ' exec bash --norc --noprofile -i")
	m.expect("shell> ")
	m.send("sleep 100\n")
	time.Sleep(50 * time.Millisecond) // the job takes the terminal without saying so
	m.send("\x1a")
	m.expect("Stopped")
	m.send("suspend\n")
	m.expect("job stopped")
	m.send("echo alive$((1+1))\n")
	m.expect("alive2")
	m.send("kill -KILL %1\nexit 4\nexit 4\n")
	m.expect("job ended 4")
}

// asUserToo is true in each process in which the test is to run, root's and the user's.
func asUserToo(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() == 0 {
		asUser(t, false)
	}
	return true
}
