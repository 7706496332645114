// Command soak runs trace for as long as one likes under mixed load, while
// faults are injected, and holds the record against what both ends saw.
//
//	soak -trace bin/trace -time 3m
//
// # Theory of operation
//
// A run consists of acts in rotation. An act is one `trace run --inspect`
// around a client, which is this program in another role; the origin that it
// talks to is this process. What the client does is a function of the seed, so
// each act of a rotation does the same, and so does the control: the client on
// the host, without trace, at the end of the rotation.
//
// The network's faults are in the load of every act (plan.go): resets, stalls,
// half-closes, bodies that break off, answers that are none, refused ports. In
// addition each act has a fault of its own (acts.go):
//
//   - plain: none.
//   - full: the session lies on a small tmpfs, which is filled and emptied
//     again. That needs a mount namespace; the program starts itself in one.
//   - fullend: the same, but it stays full.
//   - slow: another process holds the lock under which trace commits, for
//     seconds. To the writer that is a disk which does not answer. Nothing in
//     user space can slow down a file system without FUSE, and the control
//     groups that could belong to the system.
//   - killed: trace is killed with SIGKILL under load.
//   - files: the limit of open files of the running trace is lowered below
//     what the load needs, and raised again.
//   - readers: a `flows tail` that was stopped, and a pipe of --jsonl that
//     nobody reads.
//   - memory: GOMEMLIMIT well below what trace would take. A limit of a control
//     group would kill trace and show nothing but that.
//
// Clocks are jumped in the tests of the packages that are given one: the
// host's clock is everybody's.
//
// # What is checked
//
// Every exchange that the record calls complete has the sizes and hashes that
// both ends saw; what the record has of others is the beginning of what was
// sent. Every exchange of the logs is in the record, unless it overlaps a time
// for which the record has a gap mark that says why. The client's results are
// those of the control, but for those that overlap a fault which may reach it
// (a limit of files, trace's death). After the load, with all connections
// closed, resident memory, descriptors and threads of trace are back near
// where they were after a first part of the same load. There is no count of
// goroutines to be had from outside; each connection of trace holds a
// descriptor as long as its goroutines run. Only root sees the descriptors.
//
// Whatever is wrong is printed, with the seed and the directory in which the
// files of the act were left; the exit status is 1 then.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// options are the flags.
type options struct {
	trace string
	time  time.Duration // of all acts
	act   time.Duration // of one, at most
	seed  uint64
	only  string
	link  string
	dir   string
	out   io.Writer
}

// roles are the other processes of a run: this binary with another first
// argument.
var roles = map[string]func(args []string) error{
	"client": serveClient,
	"inside": inside,
}

func main() {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		if err := roles[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "soak:", err)
			os.Exit(1)
		}
		return
	}
	code, err := enclose(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		code = 1
	}
	os.Exit(code)
}

// enclose starts this program again in a mount namespace of its own, where it
// may mount what nobody else sees.
func enclose(args []string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(self, append([]string{"inside"}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for waiting := true; waiting; {
		select {
		case <-signals:
			cmd.Process.Signal(syscall.SIGTERM) // the terminal's reach it twice: no harm
		case err = <-ended:
			waiting = false
		}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// inside is the program proper.
func inside(args []string) error {
	o := options{out: os.Stdout}
	f := flag.NewFlagSet("soak", flag.ExitOnError)
	f.StringVar(&o.trace, "trace", "bin/trace", "the `binary` to run")
	f.DurationVar(&o.time, "time", 3*time.Minute, "how long the acts take in all; each is played at least once")
	f.DurationVar(&o.act, "act", 2*time.Minute, "how long an act takes at most")
	f.Uint64Var(&o.seed, "seed", 0, "of the load; 0: a random one")
	f.StringVar(&o.only, "only", "", "only the acts whose names match this `REGEXP`")
	f.StringVar(&o.link, "link", "", "only this link; default: both in turn")
	f.StringVar(&o.dir, "dir", "", "where files go while they are needed; default: a new directory for temporary files")
	if err := f.Parse(args); err != nil {
		return err
	}
	// Mounts made from here on stay here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return o.run(ctx)
}

// errViolated ends a run in which something was wrong.
var errViolated = errors.New("trace did not keep what it promises")

func (o *options) run(ctx context.Context) (err error) {
	if o.trace, err = filepath.Abs(o.trace); err != nil {
		return err
	}
	if _, err := os.Stat(o.trace); err != nil {
		return fmt.Errorf("%w: run 'make build' first", err)
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return err
	}
	if o.seed == 0 {
		o.seed = rand.Uint64()>>32 + 1
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "soak-"); err != nil {
			return err
		}
	}
	var todo []*act
	for _, a := range acts {
		if only.MatchString(a.name) {
			todo = append(todo, a)
		}
	}
	if len(todo) == 0 {
		return fmt.Errorf("no act matches %q", o.only)
	}
	fmt.Fprintf(o.out, "soak: seed %d, files in %s\n", o.seed, o.dir)
	bad, end := 0, time.Now().Add(o.time)
	for round := 0; (round == 0 || time.Now().Before(end)) && ctx.Err() == nil; round++ {
		// The control takes about as long as one act.
		length := min(o.act, max(o.time/time.Duration(len(todo)+1), 2*time.Second))
		n, err := o.rotation(ctx, todo, round, length)
		if err != nil && ctx.Err() == nil {
			return err
		}
		bad += n
	}
	if bad == 0 && ctx.Err() != nil {
		return errors.Join(errors.New("interrupted; nothing was wrong until then"), os.RemoveAll(o.dir))
	}
	if bad > 0 {
		return fmt.Errorf("%w: %d violations; seed %d, files in %s", errViolated, bad, o.seed, o.dir)
	}
	fmt.Fprintln(o.out, "soak: nothing is wrong")
	return os.RemoveAll(o.dir)
}

// rotation plays each act once, and the control. It returns how much was
// wrong.
func (o *options) rotation(ctx context.Context, todo []*act, round int, length time.Duration) (bad int, err error) {
	seed := o.seed + uint64(round)
	var plays []*play
	for i, a := range todo {
		if ctx.Err() != nil {
			break
		}
		link := o.link
		if link == "" {
			link = []string{"wireguard", "direct"}[(i+round)%2]
		}
		p, err := o.play(ctx, a, link, seed, round, length)
		if err != nil {
			return bad, fmt.Errorf("%s: %w", a.name, err)
		}
		plays = append(plays, p)
	}
	c, err := o.control(ctx, seed, round, plays)
	if err != nil {
		return bad, fmt.Errorf("control: %w", err)
	}
	for _, p := range plays {
		p.compare(c)
		p.report(o.out)
		bad += p.violations
		if p.violations == 0 {
			os.RemoveAll(p.dir)
		}
	}
	fmt.Fprintf(o.out, "  %-8s %-9s %6d exchanges without trace, for comparison\n", "control", "-", len(c))
	return bad, nil
}
