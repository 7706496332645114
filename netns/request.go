package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"ahead"

	"golang.org/x/sys/unix"
)

// ErrHelperGone is what requests for sockets end with once the helper ended, as it may at any time: the child can kill it.
var ErrHelperGone = errors.New("helper in the namespace ended")

// helperPatience bounds every request: the child can stop the helper too. A dial may take ahead.HelperDialing more.
const helperPatience = 2 * time.Second

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// helperClient is the parent's side of the helper's socket.
type helperClient struct {
	conn *net.UnixConn
	gone chan struct{} // closed by read when the stream ended

	mu      sync.Mutex // guards what follows
	last    uint64
	pending map[uint64]chan answer
}

type answer struct {
	fd  int
	err error
}

func newHelperClient(conn *net.UnixConn) *helperClient {
	h := &helperClient{conn: conn, gone: make(chan struct{}), pending: map[uint64]chan answer{}}
	go h.read()
	return h
}

func (h *helperClient) close() {
	h.conn.Close()
	<-h.gone
}

// read hands replies to those who wait. What is not a reply of ours ends the conversation.
func (h *helperClient) read() {
	defer close(h.gone)
	defer h.conn.Close()
	for {
		var r ahead.Reply
		fds, err := receiveFrom(h.conn, &r, 1)
		if err != nil {
			return
		}
		h.mu.Lock()
		waiting := h.pending[r.ID]
		delete(h.pending, r.ID)
		h.mu.Unlock()
		switch {
		case waiting == nil:
			closeAll(fds) // came after its time
		case r.Fault != nil:
			closeAll(fds)
			waiting <- answer{-1, r.Fault}
		case len(fds) != 1:
			waiting <- answer{-1, unix.EBADMSG}
		default:
			waiting <- answer{fds[0], nil}
		}
	}
}

// started tells the helper that it may become small. If it does not hear, nothing is lost but memory.
func (h *helperClient) started() { h.write(ahead.Request{Op: ahead.OpStarted}) }

func (h *helperClient) write(r ahead.Request) error {
	raw, err := h.conn.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	h.conn.SetWriteDeadline(time.Now().Add(helperPatience))
	err = raw.Write(func(fd uintptr) bool {
		sent = ahead.Send(int(fd), &r)
		return !isErrno(sent, unix.EAGAIN)
	})
	if err != nil {
		return err
	}
	return sent
}

// ask makes one request and returns the socket.
func (h *helperClient) ask(ctx context.Context, r ahead.Request, patience time.Duration) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	waiting := make(chan answer, 1)
	h.mu.Lock()
	h.last++
	r.ID = h.last
	h.pending[r.ID] = waiting
	h.mu.Unlock()
	err := h.write(r)
	if err == nil {
		select {
		case a := <-waiting:
			return openAnswer(a, r)
		case <-ctx.Done():
			err = ctx.Err()
		case <-h.gone:
			err = ErrHelperGone
		}
	} else if isErrno(err, unix.EPIPE, unix.ECONNRESET) || errors.Is(err, net.ErrClosed) {
		err = ErrHelperGone
	}
	h.mu.Lock()
	delete(h.pending, r.ID)
	h.mu.Unlock()
	select {
	case a := <-waiting: // it came all the same
		return openAnswer(a, r)
	default:
		return nil, err
	}
}

func openAnswer(a answer, r ahead.Request) (*os.File, error) {
	if a.err != nil {
		return nil, a.err
	}
	return os.NewFile(uintptr(a.fd), r.Op), nil
}

// socketRequest asks for a socket: network "tcp4", "tcp6", "udp4" or "udp6", address a literal IP and a port.
func socketRequest(op, network, address string) (r ahead.Request, err error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return r, err
	}
	kind, six := strings.CutSuffix(network, "6")
	if !six {
		var four bool
		if kind, four = strings.CutSuffix(network, "4"); !four {
			return r, net.UnknownNetworkError(network)
		}
	}
	switch {
	case kind != "tcp" && kind != "udp":
		return r, net.UnknownNetworkError(network)
	case six == a.Addr().Is4() || a.Addr().Zone() != "":
		return r, unix.EAFNOSUPPORT
	}
	return ahead.Request{Op: op, UDP: kind == "udp", IP: a.Addr().AsSlice(), Port: a.Port()}, nil
}

// HelperDone is closed when the helper ended or its stream broke. The device goes on; requests for sockets fail.
func (n *Namespace) HelperDone() <-chan struct{} { return n.helper.gone }

// Listen makes a listener inside: network "tcp4" or "tcp6", address with a literal IP. A tcp6 listener takes IPv6 only.
func (n *Namespace) Listen(ctx context.Context, network, address string) (*net.TCPListener, error) {
	r, err := socketRequest(ahead.OpListen, network, address)
	if err != nil {
		return nil, opError("listen", address, err)
	}
	f, err := n.helper.ask(ctx, r, helperPatience)
	if err != nil {
		return nil, opError("listen", address, err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, opError("listen", address, err)
	}
	t, ok := l.(*net.TCPListener)
	if !ok {
		l.Close()
		return nil, opError("listen", address, unix.EPROTOTYPE)
	}
	return t, nil
}

// ListenUDP makes a bound datagram socket inside: network "udp4" or "udp6".
func (n *Namespace) ListenUDP(ctx context.Context, network, address string) (*net.UDPConn, error) {
	r, err := socketRequest(ahead.OpListen, network, address)
	if err != nil {
		return nil, opError("listen", address, err)
	}
	var f *os.File
	if network == "udp4" && address == "0.0.0.0:0" {
		f = n.spare(&n.spareUDPs)
	}
	if f == nil {
		f, err = n.helper.ask(ctx, r, helperPatience)
	}
	if err != nil {
		return nil, opError("bind", address, err)
	}
	defer f.Close()
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, opError("bind", address, err)
	}
	u, ok := c.(*net.UDPConn)
	if !ok {
		c.Close()
		return nil, opError("bind", address, unix.EPROTOTYPE)
	}
	return u, nil
}

// Dial connects to a listener inside. An error wraps the errno, such as ECONNREFUSED.
func (n *Namespace) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	r, err := socketRequest(ahead.OpDial, network, address)
	if err != nil {
		return nil, opError("dial", address, err)
	}
	f, err := n.helper.ask(ctx, r, helperPatience+ahead.HelperDialing)
	if err != nil {
		return nil, opError("dial", address, err)
	}
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, opError("dial", address, err)
	}
	return c, nil
}

// Diag makes a NETLINK_SOCK_DIAG socket that shows the sockets of the namespace. It is non-blocking and the caller's.
func (n *Namespace) Diag(ctx context.Context) (*os.File, error) {
	if f := n.spare(&n.spareDiags); f != nil {
		return f, nil
	}
	f, err := n.helper.ask(ctx, ahead.Request{Op: ahead.OpDiag}, helperPatience)
	if err != nil {
		return nil, opError("open", "sock_diag", err)
	}
	return f, nil
}

func opError(op, what string, err error) error { return fmt.Errorf("%s %s inside: %w", op, what, err) }
