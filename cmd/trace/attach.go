package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"trace/control"
	"trace/flow"
	"trace/store"
)

// attachDefault is --attach without a value: to where a serve listens by default.
const attachDefault = "default"

// The patience of a run that is attached. Variables for tests.
var (
	attachBackoff    = 200 * time.Millisecond // after the first failure; it doubles
	attachBackoffMax = 24 * time.Second       // 30 with what chance adds
	attachLinger     = 5 * time.Second        // after the run, as long as nothing is taken
	attachQuiet      = time.Second            // of that, before it is said
	attachPing       = 2 * time.Second        // of silence, after which serve is asked whether it is there
)

// An attachment sends a session to the serve that runs while it is recorded. It is
// a follower of the session's file like others: the road never waits for it, and
// what serve cannot take now waits in that file.
type attachment struct {
	socket string // "": the default
	id     string
	reader *store.Reader
	feed   *store.Feed
	log    func(format string, args ...any)

	ctx    context.Context
	cancel context.CancelFunc
	ending chan struct{} // closed when nothing more will be recorded
	done   chan struct{}

	mu      sync.Mutex
	acked   string // position that serve has committed
	at      time.Time
	met     bool // a serve was there once
	failure error
	kept    *control.Kept // where the session lies; nil: it is not delivered
}

// attach begins to send the session that r reads. It closes r in the end.
func attach(socket string, r *store.Reader, log func(format string, args ...any)) (*attachment, error) {
	if socket == attachDefault {
		socket = ""
	}
	s, err := r.Run()
	var f *store.Feed
	if err == nil {
		f, err = r.Feed()
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	a := &attachment{socket: socket, id: s.ID, reader: r, feed: f, log: log, ending: make(chan struct{}), done: make(chan struct{})}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	go a.run()
	return a, nil
}

// serveAt looks whether a serve listens and returns why not.
func serveAt(socket string) error {
	if socket == attachDefault {
		socket = ""
	}
	c, err := control.Dial(context.Background(), socket)
	if err == nil {
		c.Close()
	}
	return err
}

// run tries until the session is delivered, refused for good, or given up.
func (a *attachment) run() {
	defer close(a.done)
	wait := attachBackoff
	for {
		before := a.progress()
		kept, err := a.deliver()
		if err == nil {
			a.mu.Lock()
			a.kept = &kept
			a.mu.Unlock()
			return
		}
		a.log("attach: %v", err)
		var refused *control.RefusedError
		if !a.failed(err) || errors.As(err, &refused) {
			return
		}
		if a.progress() != before {
			wait = attachBackoff
		}
		if !a.pause(wait) {
			return
		}
		wait = min(2*wait, attachBackoffMax)
	}
}

// failed notes why it does not go on, and tells whether it is worth trying again.
func (a *attachment) failed(err error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx.Err() != nil { // given up: what kept it until then is said
		return false
	}
	a.failure = err
	return true
}

// pause waits before the next attempt: up to a quarter more than wait, so that many
// runs do not come at once. When the run has ended the next attempt is due at once,
// and then every so often.
func (a *attachment) pause(wait time.Duration) bool {
	ending := a.ending
	if a.isEnding() {
		ending, wait = nil, attachBackoff
	}
	t := time.NewTimer(wait + rand.N(wait/4+1))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ending:
	case <-a.ctx.Done():
		return false
	}
	return true
}

func (a *attachment) isEnding() bool {
	select {
	case <-a.ending:
		return true
	default:
		return false
	}
}

// progress returns the position that serve has.
func (a *attachment) progress() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.acked
}

func (a *attachment) advance(position string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if position != a.acked {
		a.acked, a.at = position, time.Now()
	}
	a.met, a.failure = true, nil
}

// deliver sends over one connection all that there is until the session's end.
func (a *attachment) deliver() (kept control.Kept, err error) {
	c, err := control.Dial(a.ctx, a.socket)
	if err != nil {
		return kept, err
	}
	defer c.Close()
	if err := a.open(c); err != nil {
		return kept, err
	}
	for {
		from := a.feed.Position()
		batch, err := a.next()
		switch {
		case err == io.EOF:
			return a.end(c)
		case errors.Is(err, context.DeadlineExceeded) && a.ctx.Err() == nil: // nothing happens: is serve still there?
			err = a.open(c)
		case err == nil:
			var to control.Position
			if to, err = c.Send(a.ctx, a.id, control.Position(from), batch); err == nil {
				a.advance(string(to))
			}
		}
		if err != nil {
			return kept, err
		}
	}
}

// next waits for news, but not for ever.
func (a *attachment) next() ([]byte, error) {
	ctx, cancel := context.WithTimeout(a.ctx, attachPing)
	defer cancel()
	return a.feed.Next(ctx)
}

// open tells serve whose session it is, and goes to where that wants it.
func (a *attachment) open(c *control.Client) error {
	row, format, err := a.feed.Session()
	if err != nil {
		return err
	}
	at, err := c.Open(a.ctx, a.id, control.Hello{Format: format, Session: row})
	if err != nil {
		return err
	}
	a.advance(string(at))
	if string(at) == a.feed.Position() {
		return nil
	}
	return a.feed.Seek(string(at))
}

// end tells serve how the session ended.
func (a *attachment) end(c *control.Client) (control.Kept, error) {
	s, err := a.feed.Run()
	if err != nil {
		return control.Kept{}, err
	}
	return c.End(a.ctx, a.id, control.End{Ended: control.Time{Time: s.Ended}, Exit: s.Exit})
}

// finish delivers what is left of a session that has ended: as long as serve takes
// something within attachLinger, and until a signal comes. It returns where serve
// keeps the session, or why it does not, and how many flows it does not have. say
// is told why it takes long, once.
func (a *attachment) finish(say func(format string, args ...any)) (kept *control.Kept, left int64, err error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	a.mu.Lock()
	a.at = time.Now()
	a.mu.Unlock()
	close(a.ending)
	a.linger(signals, say)
	a.cancel()
	<-a.done
	a.mu.Lock()
	defer a.mu.Unlock()
	defer closing(a.reader)
	defer a.feed.Close()
	if a.kept != nil {
		return a.kept, 0, nil
	}
	if left, err = a.feed.Left(a.acked); err != nil {
		a.log("attach: %v", err)
	}
	if a.failure == nil {
		a.failure = fmt.Errorf("it took nothing for %v", attachLinger)
	}
	return nil, left, a.failure
}

// linger waits for the end of the delivery.
func (a *attachment) linger(signals <-chan os.Signal, say func(format string, args ...any)) {
	slow := time.NewTimer(attachQuiet)
	defer slow.Stop()
	tick := time.NewTicker(attachBackoff / 4)
	defer tick.Stop()
	for {
		select {
		case <-a.done:
			return
		case s := <-signals:
			a.fail(fmt.Errorf("a signal (%v) came first", s))
			return
		case <-slow.C:
			say("delivering session %s to trace serve (a signal ends this)", a.id)
		case <-tick.C:
		}
		a.mu.Lock()
		late := time.Since(a.at) > attachLinger
		// Who never met a serve does not wait for one now.
		alone := !a.met && errors.Is(a.failure, control.ErrNoServe)
		a.mu.Unlock()
		if late || alone {
			return
		}
	}
}

func (a *attachment) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failure = err
}

// warnUnattached says before the command starts that nobody takes its record yet.
func (r *run) warnUnattached() {
	if err := serveAt(r.o.attach); err != nil {
		r.say("attach: %v: the record waits until one takes it", err)
	}
}

// startAttached begins to send the record.
func (r *run) startAttached() error {
	if r.o.attach == "" {
		return nil
	}
	r.warnUnattached()
	rd, err := r.record.Reader()
	if err != nil {
		return err
	}
	r.attached, err = attach(r.o.attach, rd, r.log)
	return err
}

// finishAttached delivers what is left of s and says where the session lies now.
// The file is deleted when serve has all of it, unless the user named it.
func (r *run) finishAttached(s flow.Session) {
	kept, left, err := r.attached.finish(r.say)
	where := summary(s, true)
	switch noSave := r.o.noSave; {
	case kept == nil && noSave:
		r.say("%s", where)
		r.say("not delivered to trace serve (%v): %s lost, since nothing was saved", err, are(left))
	case kept == nil:
		r.say("%s", summary(s, false))
		r.say("not delivered to trace serve (%v): 'trace attach %s' delivers it later", err, r.reference(s))
	case r.o.output != "":
		r.say("%s; kept by trace serve, too, in %s", summary(s, false), kept.File)
	default:
		if !noSave {
			err = removeDelivered(s.File)
		}
		r.say("%s", delivered(s, kept.File))
		if err != nil {
			r.say("%v", err)
		}
	}
}

func are(n int64) string {
	if n == 1 {
		return "1 flow is"
	}
	return fmt.Sprintf("%d flows are", n)
}

// reference is what names the session to other commands.
func (r *run) reference(s flow.Session) string {
	if r.o.output != "" {
		return s.File
	}
	return s.ID
}

// delivered is the line about a session that serve has.
func delivered(s flow.Session, file string) string {
	s.File = file
	return summary(s, false) + ", kept by trace serve"
}

// removeDelivered deletes the file of a session that serve has committed.
func removeDelivered(path string) error {
	dir, err := store.Dir()
	if err != nil {
		return err
	}
	return store.Remove(dir, path)
}
