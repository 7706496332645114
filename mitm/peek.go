package mitm

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"trace/flow"
)

// Sizes of peeking. Most connections are decided by their first segment.
const (
	peekChunk = 2 << 10
	maxPeek   = maxHello + maxHello/8 // a ClientHello in many small records fits
)

// longAgo is a deadline that makes a blocked read return at once.
var longAgo = time.Unix(1, 0)

// peek reads both sides of a connection until it is known what they speak,
// and keeps what it read. Readers stop at maxPeek bytes.
type peek struct {
	sides [2]half
	event chan struct{} // something changed; capacity 1
}

// half is one side of a peek.
type half struct {
	conn net.Conn
	done chan struct{} // closed when the reader has returned
	gone func()        // called once on a read error

	mu      sync.Mutex // guards what follows while the reader runs
	buf     []byte
	at      time.Time // when the first byte came
	err     error
	stopped bool
	full    bool // the reader stopped because of maxPeek
}

func newPeek(child, server net.Conn) *peek {
	p := &peek{event: make(chan struct{}, 1)}
	p.sides[flow.Client].conn = child
	p.sides[flow.Server].conn = server
	return p
}

// begin gives a side what was read of it before. No reader has started yet.
func (p *peek) begin(side flow.Side, said []byte, at time.Time) {
	if len(said) > 0 {
		h := &p.sides[side]
		h.buf, h.at = said, at
	}
}

// start starts the reader of a side. gone is called when a read fails, not when
// it is stopped. A side that is known to have ended is not read again.
func (p *peek) start(side flow.Side, gone func()) {
	h := &p.sides[side]
	h.gone = gone
	if h.err != nil {
		gone()
		return
	}
	h.stopped, h.full = false, false
	h.done = make(chan struct{})
	go p.read(h, h.done)
}

func (p *peek) read(h *half, done chan struct{}) {
	defer close(done)
	chunk := make([]byte, peekChunk)
	for {
		n, err := h.conn.Read(chunk)
		if more := h.add(chunk[:n], err); !more {
			p.notify()
			return
		}
		p.notify()
	}
}

// add takes what a read returned, and tells whether to go on.
func (h *half) add(p []byte, err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(p) > 0 {
		if h.buf == nil {
			h.at = time.Now()
		}
		h.buf = append(h.buf, p...)
	}
	if err != nil && !(h.stopped && isDeadline(err)) {
		h.err = err
		h.gone()
	}
	h.full = err == nil && !h.stopped && len(h.buf) >= maxPeek
	return err == nil && !h.stopped && !h.full
}

func (p *peek) notify() {
	select {
	case p.event <- struct{}{}:
	default:
	}
}

// stop ends the reader of a side and waits for it. What it read stays.
func (p *peek) stop(side flow.Side) {
	h := &p.sides[side]
	if h.done == nil {
		return
	}
	h.mu.Lock()
	h.stopped = true
	h.mu.Unlock()
	h.conn.SetReadDeadline(longAgo)
	<-h.done
	h.conn.SetReadDeadline(time.Time{})
	h.done = nil
}

// seen returns what a side has said so far. The slice is only appended to.
func (p *peek) seen(side flow.Side) ([]byte, error) {
	h := &p.sides[side]
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf, h.err
}

// decide waits until the two sides have said enough. Silence has no deadline;
// a beginning that needs more has. The reader of the server is stopped when
// it returns, that of the child goes on.
func (p *peek) decide(ctx context.Context) sniffed {
	defer p.stop(flow.Server)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	var size int
	var began bool
	for {
		client, cerr := p.seen(flow.Client)
		server, serr := p.seen(flow.Server)
		s := sniff(client, server)
		if s.is != needMore {
			return s
		}
		if cerr != nil || serr != nil || len(client) >= maxPeek {
			return sniffed{is: isNone}
		}
		switch {
		case s.sure && len(client) > size:
			timer.Reset(assurance)
		case !began && len(client) > 0:
			timer.Reset(patience)
		}
		began, size = len(client) > 0, len(client)
		select {
		case <-p.event:
		case <-timer.C:
			return sniffed{is: isNone}
		case <-ctx.Done():
			return sniffed{is: isNone}
		}
	}
}

// isDeadline tells an expired deadline of ours from a timeout of the kernel's.
func isDeadline(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	var errno syscall.Errno
	var timeout net.Error
	return !errors.As(err, &errno) && errors.As(err, &timeout) && timeout.Timeout()
}

// isReset tells the errors of a connection that the other end aborted.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe)
}
