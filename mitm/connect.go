package mitm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"trace/flow"
)

// Limits of following CONNECT.
const (
	maxConnect  = 64 << 10         // bytes of a head
	connectTime = 30 * time.Second // for asking a proxy a second time
)

// errUnfollowed ends following: what the two sides say is carried as it is.
var errUnfollowed = errors.New("no tunnel that can be followed")

// followConnect carries what the child and a proxy that it was told to use say
// to each other until there is a tunnel (RFC 9110 section 9.3.6), and returns the
// connection within, which goes on with the same two sockets; that of the proxy
// has ended for the record then. nil: there is no tunnel, and the connection has
// been carried to its end.
//
// Whatever follows the child's request is held back until it is known what it
// is for; whatever the proxy says is passed on at once.
func (c *conn) followConnect(ctx context.Context, reason string) *conn {
	c.change(func(f *flow.Conn) { f.Protocol, f.Opaque = "http", reason })
	c.record(flow.ConnUpdate)
	c.tap = c.newTapped(false)
	c.peek.start(flow.Server, func() {})
	head, err := c.awaitTunnel(ctx)
	if err != nil {
		c.carry()
		return nil
	}
	c.peek.stop(flow.Client)
	c.peek.stop(flow.Server)
	c.change(func(f *flow.Conn) { f.Sent, f.Received = c.passed[flow.Client], c.passed[flow.Server] })
	return c.within(head)
}

// awaitTunnel passes requests and answers on until one made a tunnel, and returns
// the head of that request.
func (c *conn) awaitTunnel(ctx context.Context) ([]byte, error) {
	for {
		head, err := c.peek.head(ctx, flow.Client)
		if err != nil {
			return nil, err
		}
		if tunnelHost(head) == "" {
			return nil, errUnfollowed
		}
		if err := c.pass(flow.Client, head); err != nil {
			return nil, err
		}
		made, err := c.passAnswer(ctx)
		if made || err != nil {
			return head, err
		}
	}
}

// passAnswer passes the proxy's answer to a CONNECT on, and tells whether it made a
// tunnel. After one that did not the child may ask again, unless there is an error.
func (c *conn) passAnswer(ctx context.Context) (made bool, err error) {
	for {
		head, err := c.peek.head(ctx, flow.Server)
		if err != nil {
			return false, err
		}
		r := bufio.NewReader(io.MultiReader(bytes.NewReader(head), &passing{c, ctx}))
		answer, err := readAnswer(r)
		if err != nil {
			return false, err
		}
		if err := c.pass(flow.Server, head); err != nil {
			return false, err
		}
		switch {
		case answer.StatusCode/100 == 2:
			return true, nil
		case answer.StatusCode == http.StatusSwitchingProtocols || answer.Close:
			return false, errUnfollowed
		case answer.StatusCode/100 == 1:
			continue
		}
		_, err = io.Copy(io.Discard, answer.Body)
		if err == nil && r.Buffered() > 0 {
			err = errUnfollowed
		}
		return false, err
	}
}

// pass shows the tap what a side said next, and passes it on.
func (c *conn) pass(side flow.Side, p []byte) error {
	c.tap.data(side, c.peek.take(side, len(p)), p)
	c.passed[side] += int64(len(p))
	to := c.server
	if side == flow.Server {
		to = c.child
	}
	_, err := to.Write(p)
	return err
}

// passing reads the body of the proxy's answer and passes on what it reads.
type passing struct {
	c   *conn
	ctx context.Context
}

func (r *passing) Read(p []byte) (int, error) {
	said, err := r.c.peek.await(r.ctx, flow.Server, func(said []byte) int { return min(len(said), len(p)) })
	if err != nil {
		return 0, err
	}
	return copy(p, said), r.c.pass(flow.Server, said)
}

// within makes the connection that a tunnel carries, given the request that made
// it. It takes over the sockets and what was read of them.
func (c *conn) within(head []byte) *conn {
	host := tunnelHost(head)
	in := &conn{p: c.p, in: c.in, name: host, child: c.child, server: c.server, peek: newPeek(c.child, c.server)}
	in.reach = func(ctx context.Context) (net.Conn, error) {
		server, err := c.reachServer(ctx)
		if err != nil {
			return nil, err
		}
		if err := askTunnel(ctx, server, head); err != nil {
			server.Close()
			return nil, fmt.Errorf("tunnel to %s: %w", host, err)
		}
		return server, nil
	}
	for side := range in.peek.sides {
		from, to := &c.peek.sides[side], &in.peek.sides[side]
		to.buf, to.at, to.err = from.buf, from.at, from.err
	}
	c.peek = nil
	c.mu.Lock()
	c.open = nil // they are for the other to reset
	c.mu.Unlock()
	in.open = []net.Conn{in.child, in.server}
	f := c.snapshot()
	in.facts = flow.Conn{
		ID: c.p.nextID(), Source: f.Source, Process: f.Process, Src: f.Src, Dst: f.Dst, Host: host,
		Started: c.p.now(), Transport: f.Transport,
	}
	return in
}

// askTunnel sends a proxy a request for a tunnel and reads the answer, and not
// an octet more.
func askTunnel(ctx context.Context, server net.Conn, head []byte) error {
	stop := context.AfterFunc(ctx, func() { reset(server) })
	defer stop()
	server.SetDeadline(time.Now().Add(connectTime))
	defer server.SetDeadline(time.Time{})
	if _, err := server.Write(head); err != nil {
		return err
	}
	for {
		var said []byte
		for headEnd(said) == 0 {
			if len(said) >= maxConnect {
				return errUnfollowed
			}
			var octet [1]byte
			if _, err := io.ReadFull(server, octet[:]); err != nil {
				return err
			}
			said = append(said, octet[0])
		}
		answer, err := readAnswer(bufio.NewReader(bytes.NewReader(said)))
		switch {
		case err != nil:
			return err
		case answer.StatusCode/100 == 2:
			return nil
		case answer.StatusCode/100 != 1:
			return errors.New("the proxy says " + answer.Status)
		}
	}
}

func readAnswer(r *bufio.Reader) (*http.Response, error) {
	return http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
}

// isConnect tells a request line of CONNECT.
func isConnect(client []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(client, "\r\n"), []byte("CONNECT "))
}

// tunnelHost returns the host that a request asks a tunnel to, in lower case and
// without brackets; "" if it is no such request, or has a body.
func tunnelHost(head []byte) string {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(bytes.TrimLeft(head, "\r\n"))))
	if err != nil || r.Method != http.MethodConnect || r.ContentLength != 0 {
		return ""
	}
	host, _, err := net.SplitHostPort(r.RequestURI)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// headEnd returns how long the head is that p begins with, its blank line and
// blank lines before it included (RFC 9112 section 2.2); 0 if it is not whole.
func headEnd(p []byte) int {
	if len(p) == 0 {
		return 0
	}
	at, begun := 0, false
	for {
		n := bytes.IndexByte(p[at:], '\n')
		if n < 0 {
			return 0
		}
		blank := n == 0 || n == 1 && p[at] == '\r'
		at += n + 1
		if blank && begun {
			return at
		}
		begun = begun || !blank
	}
}

// head waits for the head of a message of a side.
func (p *peek) head(ctx context.Context, side flow.Side) ([]byte, error) {
	return p.await(ctx, side, headEnd)
}

// await waits until a side, whose turn it is, has said enough, as enough tells by how
// many bytes that is, and returns these. It gives up when that cannot come, and
// when the other side ends; or when the proxy speaks in the child's turn.
func (p *peek) await(ctx context.Context, side flow.Side, enough func([]byte) int) ([]byte, error) {
	for {
		said, err := p.seen(side)
		other, gone := p.seen(side.Other())
		n := enough(said)
		switch {
		case side == flow.Client && len(other) > 0, n == 0 && len(said) >= maxConnect:
			return nil, errUnfollowed
		case n > 0:
			return said[:n:n], nil
		}
		if err := errors.Join(err, gone); err != nil {
			return nil, err
		}
		select {
		case <-p.event:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take cuts off the first n bytes of what a side said, and returns when they
// came. A reader that had stopped because it held too much goes on.
func (p *peek) take(side flow.Side, n int) time.Time {
	h := &p.sides[side]
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.at
	h.buf = h.buf[n:]
	if len(h.buf) == 0 {
		h.buf = nil
	}
	if h.full && len(h.buf) < maxPeek {
		h.full = false
		before := h.done
		h.done = make(chan struct{})
		go func(done chan struct{}) {
			<-before
			p.read(h, done)
		}(h.done)
	}
	return at
}
