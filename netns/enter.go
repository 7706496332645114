package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"ahead"

	"golang.org/x/sys/unix"
)

// An Entry is a command to be started in a Place.
type Entry struct {
	Path    string   // as of Config, looked up in the PATH of Env there
	Args    []string // with argv[0]; empty means just Path
	Env     []string // nil: this process's
	Dir     string   // absolute working directory; empty: this process's, by its path
	Stopped func()   // as of Config
}

// Entered is a command that was started in a Place.
type Entered struct{ n *Namespace }

// Enter starts a command. It returns when the command runs, or with an *ExecError or *StepError: then nothing of it has run.
//
// The command is this process's child, with its terminal, standard files and what it inherited; environment and trust are the
// caller's to see to. It has the rights that the first command of the place was started with, and ends with this process.
func (p *Place) Enter(e *Entry) (*Entered, error) {
	if !stagesReady {
		return nil, errNoInit
	}
	if e.Path == "" {
		return nil, fmt.Errorf("command: %w", unix.EINVAL)
	}
	first, err := p.entry(e.Dir)
	if err != nil {
		return nil, &StepError{"chdir", err}
	}
	n := newNamespace()
	n.config = Config{Path: e.Path, Args: e.Args, Env: e.Env, Stopped: e.Stopped}
	if len(n.config.Args) == 0 {
		n.config.Args = []string{e.Path}
	}
	if n.config.Env == nil {
		n.config.Env = os.Environ()
	}
	ns := p.ns
	if p.inside {
		ns = ahead.Namespaces{User: -1, Net: -1, Mount: -1, Root: -1}
	}
	forking.Lock() // until keep is known to wait for the child
	child, err := ahead.Enter(ns)
	if err == nil {
		ours[child.PID] = true
	}
	forking.Unlock()
	if err != nil {
		return nil, enterFault(err)
	}
	if err := n.adopt(child); err != nil {
		return nil, &StepError{"enter", err}
	}
	if err = n.present(first); err == nil {
		err = n.execute()
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return &Entered{n}, nil
}

// present has what entered take its place, where it then waits for its command.
func (n *Namespace) present(first *ahead.Entry) error {
	n.control.SetDeadline(time.Now().Add(execPatience))
	if _, _, err := n.control.WriteMsgUnix(ahead.Encode(first), nil, nil); err != nil {
		return &StepError{"enter", n.lost(err)}
	}
	var r ahead.Report
	if _, err := receiveFrom(n.control, &r, 0); err != nil {
		return &StepError{"enter", n.lost(err)}
	}
	if r.Fault != nil {
		return &StepError{r.Step, r.Fault}
	}
	return nil
}

// enterFault names the step of the way in as Start names it.
func enterFault(err error) error {
	var e *ahead.EnterError
	if errors.As(err, &e) {
		return &StepError{"enter " + e.Step, e.Err}
	}
	return &StepError{"enter", err}
}

// entry is the first message to what entered.
func (p *Place) entry(dir string) (*ahead.Entry, error) {
	if dir == "" {
		var err error
		if dir, err = os.Getwd(); err != nil {
			return nil, err
		}
	}
	if !filepath.IsAbs(dir) {
		return nil, &os.PathError{Op: "chdir", Path: dir, Err: unix.EINVAL}
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	return &ahead.Entry{UserNS: p.ns.User >= 0, Dir: []byte(dir), Dev: uint64(st.Dev), Ino: st.Ino}, nil
}

// PID is the process id of the command.
func (e *Entered) PID() int { return e.n.pid }

// Wait returns when the command ended, and follows its stops, as Namespace.Wait does.
func (e *Entered) Wait() (Status, error) { return e.n.Wait() }

// Signal sends sig to the command, unless it ended: then it is os.ErrProcessDone.
func (e *Entered) Signal(sig unix.Signal) error { return e.n.Signal(sig) }

// Close ends the command if it still runs.
func (e *Entered) Close() error { return e.n.Close() }
