// Package pipe joins two ends of a connection in memory.
//
//	near, far := pipe.New()
//
// Unlike those of net.Pipe the ends buffer, so that two sides which write first do
// not wait for each other, end a direction alone (CloseWrite), and can be reset.
package pipe

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxPiped bounds what lies in one direction of a pipe.
const maxPiped = 256 << 10

// A half is one direction of a pipe.
type half struct {
	mu      sync.Mutex // guards all of it
	buf     []byte
	end     error // what follows buf; nil: more may come
	gone    bool  // nobody reads any more
	changed chan struct{}
	read    time.Time // deadlines
	write   time.Time
}

func newHalf() *half { return &half{changed: make(chan struct{})} }

// update changes h and wakes who waits for it.
func (h *half) update(f func()) {
	h.mu.Lock()
	f()
	close(h.changed)
	h.changed = make(chan struct{})
	h.mu.Unlock()
}

// attempt calls f under the lock until it is done, and waits for a change in
// between, up to a deadline that f returns.
func (h *half) attempt(f func() (done bool, deadline time.Time)) error {
	for {
		h.mu.Lock()
		done, deadline := f()
		changed := h.changed
		h.mu.Unlock()
		if done {
			return nil
		}
		var timeout <-chan time.Time
		if !deadline.IsZero() {
			left := time.Until(deadline)
			if left <= 0 {
				return os.ErrDeadlineExceeded
			}
			t := time.NewTimer(left)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-changed:
		case <-timeout:
			return os.ErrDeadlineExceeded
		}
	}
}

// An End is one end of a connection. It is safe for concurrent use, as every net.Conn.
type End struct{ in, out *half }

// New returns the two ends of a connection.
func New() (*End, *End) {
	a, b := newHalf(), newHalf()
	return &End{a, b}, &End{b, a}
}

// Read implements net.Conn.
func (c *End) Read(p []byte) (n int, err error) {
	h := c.in
	wait := h.attempt(func() (bool, time.Time) {
		switch {
		case h.gone:
			err = net.ErrClosed
		case !h.read.IsZero() && !time.Now().Before(h.read):
			err = os.ErrDeadlineExceeded
		case len(h.buf) > 0:
			n = copy(p, h.buf)
			if h.buf = h.buf[n:]; len(h.buf) == 0 {
				h.buf = nil
			}
			close(h.changed)
			h.changed = make(chan struct{})
		case h.end != nil:
			err = h.end
		case len(p) > 0:
			return false, h.read
		}
		return true, time.Time{}
	})
	if wait != nil {
		err = wait
	}
	return n, err
}

// Write implements net.Conn.
func (c *End) Write(p []byte) (n int, err error) {
	h := c.out
	for n < len(p) && err == nil {
		wait := h.attempt(func() (bool, time.Time) {
			switch {
			case h.end != nil:
				err = syscall.EPIPE
			case h.gone:
				err = syscall.ECONNRESET
			case !h.write.IsZero() && !time.Now().Before(h.write):
				err = os.ErrDeadlineExceeded
			case len(h.buf) >= maxPiped:
				return false, h.write
			default:
				k := min(len(p)-n, maxPiped-len(h.buf))
				h.buf = append(h.buf, p[n:n+k]...)
				n += k
				close(h.changed)
				h.changed = make(chan struct{})
			}
			return true, time.Time{}
		})
		if wait != nil {
			err = wait
		}
	}
	return n, err
}

// finish ends the outgoing direction by err, once.
func (c *End) finish(err error) {
	c.out.update(func() {
		if c.out.end == nil {
			c.out.end = err
		}
	})
}

// CloseWrite ends the outgoing direction.
func (c *End) CloseWrite() error {
	c.finish(io.EOF)
	return nil
}

// Close implements net.Conn.
func (c *End) Close() error {
	c.finish(io.EOF)
	c.in.update(func() { c.in.gone, c.in.buf = true, nil })
	return nil
}

// Reset closes the connection such that the other end reads ECONNRESET behind
// what it was sent.
func (c *End) Reset() error {
	c.finish(syscall.ECONNRESET)
	return c.Close()
}

// SetDeadline implements net.Conn.
func (c *End) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *End) SetReadDeadline(t time.Time) error {
	c.in.update(func() { c.in.read = t })
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *End) SetWriteDeadline(t time.Time) error {
	c.out.update(func() { c.out.write = t })
	return nil
}

// LocalAddr implements net.Conn.
func (c *End) LocalAddr() net.Addr { return Addr{} }

// RemoteAddr implements net.Conn.
func (c *End) RemoteAddr() net.Addr { return Addr{} }

// Addr is the address of all ends.
type Addr struct{}

// Network implements net.Addr.
func (Addr) Network() string { return "pipe" }

// String implements net.Addr.
func (Addr) String() string { return "pipe" }
