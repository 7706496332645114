package mirror

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of carrying a connection.
const (
	bufferSize = 64 << 10
	drainTime  = 30 * time.Second // for what was sent before a reset
	drainFirst = time.Millisecond
	drainLater = 20 * time.Millisecond
	tcpClosed  = 7 // TCP_CLOSE of the kernel's tcp_states.h
)

// buffers are taken when there is something to read, so that silent
// connections hold none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// end is one of two joined connections.
type end struct {
	conn   *net.TCPConn
	raw    syscall.RawConn
	broken atomic.Bool // it takes nothing more
}

// join carries both directions between two connections until both are over,
// and how each ended. It closes them. ctx resets them.
func join(ctx context.Context, a, b *net.TCPConn) {
	defer a.Close()
	defer b.Close()
	defer context.AfterFunc(ctx, func() { reset(a); reset(b) })()
	ends := [2]*end{{conn: a}, {conn: b}}
	for _, e := range ends {
		raw, err := e.conn.SyscallConn()
		if err != nil {
			return
		}
		e.raw = raw
	}
	var wait sync.WaitGroup
	wait.Go(func() { pump(ends[1], ends[0]) })
	pump(ends[0], ends[1])
	wait.Wait()
}

// pump carries one direction.
func pump(from, to *end) {
	for {
		b, n, err := from.read()
		if n > 0 {
			_, err := to.conn.Write(b[:n])
			buffers.Put(b)
			if err == nil {
				continue
			}
			// What to sent before is still to be delivered, by the other
			// pump, which then sees its end.
			to.broken.Store(true)
			from.conn.SetWriteDeadline(time.Now().Add(drainTime))
			return
		}
		if err == io.EOF && !from.broken.Load() {
			to.conn.CloseWrite() // fails if it is gone, which its reader sees too
			return
		}
		from.broken.Store(true)
		if !to.broken.Load() {
			to.drain()
		}
		reset(to.conn)
		reset(from.conn)
		return
	}
}

// read waits for input and returns a buffer with n bytes of it, which the
// caller gives back.
func (e *end) read() (b *[bufferSize]byte, n int, err error) {
	var failed error
	err = e.raw.Read(func(fd uintptr) bool {
		b = buffers.Get().(*[bufferSize]byte)
		n, failed = retry(func() (int, error) { return unix.Read(int(fd), b[:]) })
		if n > 0 {
			return true
		}
		n = 0
		buffers.Put(b)
		b = nil
		return failed != unix.EAGAIN
	})
	if err == nil {
		err = failed
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return b, n, err
}

// drain waits until the other end has acknowledged everything, within bounds.
// The kernel tells the amount that is left but not when it is none.
func (e *end) drain() {
	wait := drainFirst
	for stop := time.Now().Add(drainTime); time.Now().Before(stop) && e.unsent() > 0; {
		time.Sleep(wait)
		wait = min(2*wait, drainLater)
	}
}

// unsent returns how many bytes have not been acknowledged, 0 if the connection
// is gone.
func (e *end) unsent() (n int) {
	e.raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && info.State != tcpClosed {
			n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		}
	})
	return n
}

// reset aborts a connection at once.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}
