package tcpstack

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Conn is a TCP connection with the child. Besides what net.Conn promises:
// a Read or Write fails with ECONNRESET (by errors.Is) once the child has
// reset the connection and everything that came before is read, and with
// net.ErrClosed after Close and Reset. Reads and writes may run concurrently.
type Conn struct {
	ep            tcpip.Endpoint
	wq            *waiter.Queue
	local, remote *net.TCPAddr
	stop          <-chan struct{} // the stack is closing

	readable, writable           waiter.Entry
	readableEvent, writableEvent chan struct{}
	lostEntry                    waiter.Entry
	lost                         chan struct{}
	lostOnce                     sync.Once

	readDeadline, writeDeadline deadline
	readMu, writeMu             sync.Mutex

	failed      atomic.Pointer[syscall.Errno] // why the connection broke
	writeClosed atomic.Bool
	closed      chan struct{}
	closeOnce   sync.Once
}

func newConn(ep tcpip.Endpoint, wq *waiter.Queue, dst, src netip.AddrPort, stop <-chan struct{}) *Conn {
	c := &Conn{
		ep: ep, wq: wq, stop: stop,
		local:         net.TCPAddrFromAddrPort(dst),
		remote:        net.TCPAddrFromAddrPort(src),
		lost:          make(chan struct{}),
		readDeadline:  makeDeadline(),
		writeDeadline: makeDeadline(),
		closed:        make(chan struct{}),
	}
	const end = waiter.EventHUp | waiter.EventErr
	c.readable, c.readableEvent = waiter.NewChannelEntry(waiter.ReadableEvents | end)
	c.writable, c.writableEvent = waiter.NewChannelEntry(waiter.WritableEvents | end)
	c.lostEntry = waiter.NewFunctionEntry(end, c.noteEnd)
	wq.EventRegister(&c.readable)
	wq.EventRegister(&c.writable)
	wq.EventRegister(&c.lostEntry)
	c.noteEnd(end) // in case it is over already
	return c
}

// LocalAddr returns the destination that the child dialled.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the child's end.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// Lost returns a channel that is closed when the connection broke: the child
// reset it, or TCP gave up. It serves those who neither read nor write just
// then, when the child has closed its side, say.
func (c *Conn) Lost() <-chan struct{} { return c.lost }

// noteEnd runs under gVisor's locks.
func (c *Conn) noteEnd(waiter.EventMask) {
	switch state := tcp.EndpointState(c.ep.State()); {
	case state == tcp.StateError:
	case state == tcp.StateClose && !c.writeClosed.Load(): // RST in CLOSE-WAIT
	default:
		return
	}
	c.lostOnce.Do(func() { close(c.lost) })
}

// WaitRead waits until Read would not block, or the read deadline. It lets a
// relay take a buffer only once there is something to put into it.
func (c *Conn) WaitRead() error {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for c.ep.Readiness(waiter.ReadableEvents) == 0 {
		if err := c.await(c.readableEvent, &c.readDeadline); err != nil {
			return c.opError("read", err)
		}
	}
	return nil
}

// Read implements net.Conn. It fills as much of b as has arrived.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.readDeadline.passed() {
		return 0, c.opError("read", os.ErrDeadlineExceeded)
	}
	w := tcpip.SliceWriter(b)
	for {
		if c.isClosed() {
			return 0, c.opError("read", net.ErrClosed)
		}
		res, terr := c.ep.Read(&w, tcpip.ReadOptions{})
		switch terr.(type) {
		case nil:
			c.ep.ModerateRecvBuf(res.Count)
			return res.Count, nil
		case *tcpip.ErrWouldBlock:
			if err := c.await(c.readableEvent, &c.readDeadline); err != nil {
				return 0, c.opError("read", err)
			}
		case *tcpip.ErrClosedForReceive:
			if tcp.EndpointState(c.ep.State()) != tcp.StateError {
				return 0, io.EOF
			}
			return 0, c.opError("read", c.failure(nil))
		default:
			return 0, c.opError("read", c.failure(terr))
		}
	}
}

// Write implements net.Conn. It returns when all of b lies in the send buffer.
func (c *Conn) Write(b []byte) (n int, err error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.writeDeadline.passed() {
		return 0, c.opError("write", os.ErrDeadlineExceeded)
	}
	var r bytes.Reader
	for n < len(b) {
		if c.isClosed() {
			return n, c.opError("write", net.ErrClosed)
		}
		r.Reset(b[n:])
		m, terr := c.ep.Write(&r, tcpip.WriteOptions{})
		n += int(m)
		switch terr.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			if err := c.await(c.writableEvent, &c.writeDeadline); err != nil {
				return n, c.opError("write", err)
			}
		case *tcpip.ErrClosedForSend:
			if c.writeClosed.Load() && !c.isClosed() {
				return n, c.opError("write", syscall.EPIPE)
			}
			return n, c.opError("write", c.failure(nil))
		default:
			return n, c.opError("write", c.failure(terr))
		}
	}
	return n, nil
}

// await waits for an event of gVisor's; a stale one only costs its caller
// another look.
func (c *Conn) await(event <-chan struct{}, d *deadline) error {
	select {
	case <-event:
		return nil
	case <-c.closed:
		return net.ErrClosed
	case <-d.wait():
		return os.ErrDeadlineExceeded
	}
}

// failure notes why the connection broke and returns that. gVisor tells it
// only once, to whichever of reader and writer comes first; both shall know.
func (c *Conn) failure(terr tcpip.Error) error {
	if c.isClosed() || isClosed(c.stop) {
		return net.ErrClosed
	}
	if terr != nil {
		err := errno(terr)
		no, ok := err.(syscall.Errno)
		if !ok {
			return err
		}
		c.failed.CompareAndSwap(nil, &no)
	}
	if no := c.failed.Load(); no != nil {
		return *no
	}
	return syscall.ECONNRESET
}

func (c *Conn) isClosed() bool { return isClosed(c.closed) }

func (c *Conn) opError(op string, err error) error {
	if no, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, no)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// CloseWrite sends FIN after what was written. The child may go on sending.
func (c *Conn) CloseWrite() error {
	if c.isClosed() {
		return c.opError("close", net.ErrClosed)
	}
	c.writeClosed.Store(true)
	switch terr := c.ep.Shutdown(tcpip.ShutdownWrite); terr.(type) {
	case nil:
		return nil
	case *tcpip.ErrNotConnected:
		return c.opError("close", syscall.ENOTCONN)
	default:
		return c.opError("close", errno(terr))
	}
}

// Close ends both directions without waiting: what was written is still
// sent, then FIN. As with any socket, bytes of the child that nobody has read
// turn it into a reset.
func (c *Conn) Close() error {
	err := c.opError("close", net.ErrClosed)
	c.closeOnce.Do(func() {
		err = nil
		c.writeClosed.Store(true)
		close(c.closed)
		c.ep.Close()
	})
	return err
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.readDeadline.set(t)
	c.writeDeadline.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.readDeadline.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.writeDeadline.set(t)
	return nil
}
