package tcpstack

import (
	"io"
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// resetPatience is how long Reset waits for a child that takes nothing.
	// By then its receive buffer is full, and a server's reset would have
	// cost it the rest without us, too.
	resetPatience = 3 * time.Second

	// resetPoll is how often Reset looks for progress.
	resetPoll = 20 * time.Millisecond
)

// Reset ends the connection with RST, so that the child's next call fails
// with ECONNRESET, but not before the child's kernel has acknowledged all
// that was written: we acknowledged it to the server, whose kernel would not
// have taken it back. It waits as long as that makes progress, and 3 s more.
// What the child sends meanwhile is thrown away.
func (c *Conn) Reset() error {
	err := c.opError("reset", net.ErrClosed)
	c.closeOnce.Do(func() {
		err = nil
		close(c.closed)
		c.drain()
		c.ep.Abort()
	})
	return err
}

// drain waits until the send buffer is empty.
func (c *Conn) drain() {
	poll := time.NewTicker(resetPoll)
	defer poll.Stop()
	c.ep.SocketOptions().SetSendBufferSize(2, true) // ends gVisor's own tuning of it
	last, since := -1, time.Now()
	for {
		c.ep.Read(io.Discard, tcpip.ReadOptions{}) // or a child that only writes now never reads
		n := c.unacknowledged()
		if n == 0 {
			return
		}
		if n != last {
			last, since = n, time.Now()
		} else if time.Since(since) > resetPatience {
			return
		}
		select {
		case <-c.writableEvent:
		case <-c.readableEvent:
		case <-poll.C:
		case <-c.stop:
			return
		}
	}
}

// unacknowledged returns how many bytes wait in the send buffer. gVisor does
// not say; but it says whether they are fewer than the buffer's size, and
// that size may be chosen. Left at 2, the smallest of which it reports that
// half is free, it makes gVisor report the empty buffer. Nobody writes any
// more.
func (c *Conn) unacknowledged() int {
	switch tcp.EndpointState(c.ep.State()) {
	case tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
		return 1 // at least our FIN
	case tcp.StateEstablished, tcp.StateCloseWait:
	default:
		return 0
	}
	opts := c.ep.SocketOptions()
	fewer := func(size int) bool {
		opts.SetSendBufferSize(int64(size), false)
		return c.ep.Readiness(waiter.WritableEvents) != 0
	}
	defer opts.SetSendBufferSize(2, false)
	if fewer(1) {
		return 0
	}
	low, high := 1, 2*bufferMax // low <= n < high
	for high-low > 1 {
		mid := low + (high-low)/2
		if fewer(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return low
}
