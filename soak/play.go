package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A play is one performance of an act.
type play struct {
	*act
	o      *options
	link   string
	dir    string
	file   string // the session
	log    string // trace's own diagnostics
	origin *origin
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	orders *json.Encoder
	replys *json.Decoder
	stderr bytes.Buffer // may be read when the command has ended
	dead   bool         // trace was killed
	tail   *exec.Cmd    // a follower

	base, top, end sizes
	many           string // what the descriptors were when there were many
	windows        []window
	client         []*seen
	rows           []row
	kinds          map[string]int // lines of the event log, by type
	drops          []string       // why something was not recorded, in the record's own words
	excused        int            // exchanges that are not in the record, for a reason
	notes          []string       // what the act has to say
	outcomes       map[string]int
	took           time.Duration
	violations     int
	first          []string // violations, the first of them
}

// A window is a time in which a fault was there.
type window struct {
	from, to time.Time
	reaches  bool // the child may notice
	loses    bool // the record may lack what was then
}

// wrong notes a violation.
func (p *play) wrong(format string, args ...any) {
	if p.violations++; p.violations <= 20 {
		p.first = append(p.first, fmt.Sprintf(format, args...))
	}
}

func (p *play) tell(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// endWait is how long trace may take to end after its command, with a
// machine's worth of other work.
const endWait = time.Minute

// play performs an act once.
func (o *options) play(ctx context.Context, a *act, link string, seed uint64, round int, length time.Duration) (*play, error) {
	began := time.Now()
	p := &play{act: a, o: o, link: link, dir: filepath.Join(o.dir, fmt.Sprintf("%03d-%s", round, a.name)), outcomes: map[string]int{}, top: sizes{fds: -1}}
	p.file, p.log = filepath.Join(p.dir, "sessions", "session.db"), filepath.Join(p.dir, "trace.log")
	if err := os.MkdirAll(filepath.Join(p.dir, "sessions"), 0o700); err != nil {
		return nil, err
	}
	var err error
	if p.origin, err = startOrigin(filepath.Join(p.dir, "root.pem")); err != nil {
		return nil, err
	}
	stopped := sync.OnceFunc(p.origin.stop)
	defer stopped()
	if a.before != nil {
		undo, err := a.before(p)
		if err != nil {
			return nil, err
		}
		defer undo()
	}
	if err := p.start(seed); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, p.stderr.String())
	}
	defer syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // what is left of it, if anything
	if err := p.perform(ctx, length); err != nil {
		p.stdin.Close()
		return nil, fmt.Errorf("%w\n%s", err, p.stderr.String())
	}
	p.finish()
	stopped()
	if err := p.read(); err != nil {
		p.wrong("the record: %v", err)
		return p, nil
	}
	p.check()
	p.took = time.Since(began)
	return p, nil
}

// start runs trace around the client.
func (p *play) start(seed uint64) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	to := func(name string, port, lead int) string {
		return fmt.Sprintf("--connect-to=%s:%d:127.0.0.1:%d", name, port, lead)
	}
	or := p.origin
	argv := []string{"run", "--inspect", "--link", p.link, "--output", p.file, "--log", p.log, "--upstream-ca", filepath.Join(p.dir, "root.pem"),
		to(webName, 443, or.tls), to(webName, 80, or.clear), to(rawName, 9, or.raw), to(junkName, 443, or.junk), to(refusedName, 81, or.refused)}
	argv = append(append(argv, p.act.flags...), "--", self)
	return p.launch(exec.Command(p.o.trace, append(argv, p.clientArgs(seed)...)...))
}

func (p *play) clientArgs(seed uint64) []string {
	return []string{"client", "-seed", fmt.Sprint(seed), "-log", filepath.Join(p.dir, "client.jsonl"), "-ca", filepath.Join(p.dir, "root.pem")}
}

// launch starts the client by cmd, and waits until it is there.
func (p *play) launch(cmd *exec.Cmd) error {
	p.cmd = cmd
	cmd.Env = append(os.Environ(), p.act.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = &p.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	p.stdin, p.orders, p.replys = stdin, json.NewEncoder(stdin), json.NewDecoder(bufio.NewReader(stdout))
	if err := cmd.Start(); err != nil {
		return err
	}
	late := time.AfterFunc(endWait, func() { cmd.Process.Kill() })
	defer late.Stop()
	if err := p.replys.Decode(&reply{}); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return fmt.Errorf("the client does not start: %w", err)
	}
	return nil
}

// do gives the client an order.
func (p *play) do(o order) (r reply, err error) {
	if err = p.orders.Encode(o); err == nil {
		err = p.replys.Decode(&r)
	}
	if err != nil {
		err = fmt.Errorf("the client is gone: %w", err)
	}
	return r, err
}

// perform gives a quarter of the time to the load alone, and the rest to the
// load with the act's fault.
func (p *play) perform(ctx context.Context, length time.Duration) error {
	for i, d := range []time.Duration{length / 4, length * 3 / 4} {
		watched := make(chan struct{})
		over, cancel := context.WithTimeout(ctx, d)
		go func() {
			p.watch(over)
			close(watched)
		}()
		if _, err := p.do(order{Do: "go"}); err != nil {
			cancel()
			return err
		}
		var err error
		if i > 0 && p.act.during != nil {
			err = p.act.during(over, p)
		}
		if !p.dead {
			<-over.Done()
		}
		cancel()
		<-watched
		if err != nil || p.dead {
			return err
		}
		if _, err := p.do(order{Do: "stop"}); err != nil {
			return err
		}
		if i == 0 {
			p.base = p.settle(nil)
		} else {
			p.end = p.settle(&p.base)
		}
	}
	return nil
}

// finish ends the client, and waits for trace.
func (p *play) finish() {
	p.stdin.Close()
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	if p.act.after != nil {
		p.act.after(p)
	}
	var err error
	select {
	case err = <-ended:
	case <-time.After(endWait):
		p.wrong("trace has not ended %v after its command", endWait)
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		return
	}
	var exit *exec.ExitError
	switch killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL; {
	case p.dead && !killed:
		p.wrong("trace was killed, and ended with %v", err)
	case !p.dead && err != nil:
		p.wrong("trace ended with %v", err)
	}
	said := p.act.says == ""
	for line := range strings.Lines(p.stderr.String()) {
		switch {
		case p.act.says != "" && strings.Contains(line, p.act.says):
			said = true
		case !strings.HasPrefix(line, "trace: session "):
			p.wrong("unexpected on stderr: %.300s", strings.TrimSpace(line))
		}
	}
	if !said {
		p.wrong("trace does not say %q: %q", p.act.says, p.stderr.String())
	}
}

// control lets the client do on the host what it did in the plays, and returns
// what came of it.
func (o *options) control(ctx context.Context, seed uint64, round int, plays []*play) (map[int64]*seen, error) {
	p := &play{act: &act{}, dir: filepath.Join(o.dir, fmt.Sprintf("%03d-control", round))}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if p.origin, err = startOrigin(filepath.Join(p.dir, "root.pem")); err != nil {
		return nil, err
	}
	defer p.origin.stop()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	argv := p.clientArgs(seed)
	for name, port := range map[string]int{webName + ":443": p.origin.tls, webName + ":80": p.origin.clear, rawName + ":9": p.origin.raw,
		junkName + ":443": p.origin.junk, refusedName + ":81": p.origin.refused} {
		argv = append(argv, "-direct", fmt.Sprintf("%s=127.0.0.1:%d", name, port))
	}
	if err := p.launch(exec.CommandContext(ctx, self, argv...)); err != nil {
		return nil, err
	}
	until := make([]int, workers)
	for _, q := range plays {
		for _, s := range q.client {
			if s.Kind != kindHoard {
				until[s.ID/stride] = max(until[s.ID/stride], int(s.ID%stride)+1)
			}
		}
	}
	_, err = p.do(order{Do: "count", Until: until})
	p.stdin.Close()
	if e := p.cmd.Wait(); err == nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, p.stderr.String())
	}
	log, err := readLog(filepath.Join(p.dir, "client.jsonl"))
	if err != nil {
		return nil, err
	}
	m := map[int64]*seen{}
	for _, s := range log {
		m[s.ID] = s
	}
	return m, os.RemoveAll(p.dir)
}

// readLog reads what a client wrote; the last line may be torn.
func readLog(path string) (log []*seen, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for d := json.NewDecoder(bufio.NewReader(f)); ; {
		var s seen
		switch err := d.Decode(&s); {
		case err == io.EOF, err == io.ErrUnexpectedEOF:
			return log, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		log = append(log, &s)
	}
}
