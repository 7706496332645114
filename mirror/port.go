package mirror

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// A port is one mirror.
type port struct {
	m        *Mirror
	on       side           // where it stands
	at       netip.AddrPort // what it is for
	inode    uint32
	listener *net.TCPListener
	missed   bool // the keeper's: its original was missing once
}

// close ends the mirror; its connections go on.
func (p *port) close() error { return p.listener.Close() }

// serve accepts until the mirror is closed.
func (p *port) serve(ctx context.Context) {
	slots := p.m.conns[p.on]
	if p.on == inside {
		defer track(p.m, &p.m.accepting, p.listener)()
	}
	for {
		c, err := p.listener.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no descriptors, no memory: it may get better
			p.m.log("localhost: accept %v %v: %v", p.at, p.on, err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(firstRetry):
			}
			continue
		}
		release := func() {}
		if p.on == inside {
			release = track(p.m, &p.m.carrying, c)
		}
		select {
		case slots <- struct{}{}:
			p.m.wait.Go(func() {
				defer func() { release(); <-slots }()
				p.m.carry(ctx, p.on, c)
			})
		case <-ctx.Done():
			release()
			reset(c)
			return
		}
	}
}

// carry joins a connection to a mirror with the original.
func (m *Mirror) carry(ctx context.Context, on side, c *net.TCPConn) {
	in := &Incoming{conn: c, src: addrPort(c.RemoteAddr()), dst: addrPort(c.LocalAddr())}
	if !in.dst.Addr().IsLoopback() {
		in.dst = loopback(wildcard(in.dst)) // an address of the child's own
	}
	if on == inside && m.Accept != nil {
		m.Accept(ctx, in)
		return
	}
	to, err := m.dial(ctx, on.other(), in.dst)
	if err != nil {
		in.Refuse(err)
		return
	}
	join(ctx, c, to)
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := t.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Incoming is a connection of the child to a service of the host. Exactly one
// of Accept and Refuse is called, once.
type Incoming struct {
	conn     *net.TCPConn
	src, dst netip.AddrPort
}

// Src returns the child's end, an address inside.
func (in *Incoming) Src() netip.AddrPort { return in.src }

// Dst returns the loopback address and port that the child wanted; it leads
// to the service when dialled outside.
func (in *Incoming) Dst() netip.AddrPort { return in.dst }

// Accept returns the connection, a *net.TCPConn, which is the caller's to
// close. The kernel has completed it already; there is no error.
func (in *Incoming) Accept() (net.Conn, error) { return in.conn, nil }

// Refuse resets the connection, whatever the reason: it is too late for
// another answer.
func (in *Incoming) Refuse(error) { reset(in.conn) }
