package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"trace/flow"
	"trace/mitm"
)

// Explicit is a proxy that programs are told to use. One port speaks HTTP
// (CONNECT, and requests in absolute-form), SOCKS 5 (RFC 1928, RFC 1929) and
// SOCKS 4 and 4a, told apart by the first octet. Its fields are set before Serve.
type Explicit struct {
	// Open returns where what a client sends goes. It is asked when it is known
	// who the client is: once a connection, unless that comes to speak for another
	// user. It is called from several goroutines.
	Open func(Client) Lane

	// Users tells whether a user may use the proxy, and by which label that user
	// is known. Of a client that names no user both are empty. nil: anyone may.
	Users func(user, password string) (label string, ok bool)

	// Patience bounds how long a client may take to say what it wants, from its
	// first octet on. Default: 30 seconds.
	Patience time.Duration

	active atomic.Int64
}

// A Client is who has connected to an Explicit.
type Client struct {
	Src, Local netip.AddrPort // its end and ours
	Protocol   string         // "http", "socks5", "socks4"; "" if it is none of them
	User       string         // that it says to be, "" if it does not
	Label      string         // of that user
	// Refused says that nothing of it is carried: the lane only gets a row
	// that says why.
	Refused bool
}

// Bounds of a client that has not said what it wants.
const (
	defaultPatience = 30 * time.Second
	silence         = 10 * time.Minute // of one that has said nothing at all: clients connect ahead
)

// Serve carries the connections that l accepts until ctx ends, and then resets
// those that are left. It closes l.
func (p *Explicit) Serve(ctx context.Context, l net.Listener) error { return serve(ctx, l, p.carry) }

// Settle waits until no connection is left, for at most d.
func (p *Explicit) Settle(d time.Duration) { settle(&p.active, d) }

// carry serves one connection.
func (p *Explicit) carry(ctx context.Context, conn net.Conn) {
	p.active.Add(1)
	defer p.active.Add(-1)
	defer conn.Close()
	c := &client{p: p, ctx: ctx, conn: conn, who: Client{Src: addrPort(conn.RemoteAddr()), Local: addrPort(conn.LocalAddr())}}
	for c.next() {
	}
	if c.challenged != nil {
		c.challenged.record() // it never came with a user
	}
}

// admit tells who a user is.
func (p *Explicit) admit(user, password string) (label string, ok bool) {
	if p.Users == nil {
		return "", true
	}
	return p.Users(user, password)
}

// A client is a connection to an Explicit. Its goroutine negotiates, hands the
// connection over to what carries it, and may get it back.
type client struct {
	p    *Explicit
	ctx  context.Context
	conn net.Conn
	who  Client
	buf  []byte // read and not used

	challenged *denial // it was asked for a user, and has not answered yet
}

// next negotiates and carries what was agreed on. It returns whether the
// connection goes on after that.
func (c *client) next() bool {
	stop := context.AfterFunc(c.ctx, func() { reset(c.conn) })
	defer stop()
	c.who.Protocol, c.who.User, c.who.Label = "", "", ""
	c.conn.SetDeadline(time.Now().Add(silence))
	if !c.need(1) {
		return false
	}
	patience := c.p.Patience
	if patience == 0 {
		patience = defaultPatience
	}
	c.conn.SetDeadline(time.Now().Add(patience))
	var then func() bool
	switch c.buf[0] {
	case socks5Version:
		c.who.Protocol = "socks5"
		then = c.socks5()
	case socks4Version:
		c.who.Protocol = "socks4"
		then = c.socks4()
	case helloType:
		c.refuse(versionAlert, denial{protocol: "tls", err: &flow.Error{Where: flow.AtClient, Code: flow.CodeMalformed,
			Message: "the client speaks TLS to the port of the proxy, which is plain HTTP and SOCKS",
			Hint:    "use http:// in the URL of the proxy: what passes it is TLS all the same"}})
	default:
		then = c.http()
	}
	if then == nil {
		return false
	}
	if !stop() { // what carries it minds the context itself
		return false
	}
	c.conn.SetDeadline(time.Time{})
	return then()
}

// need reads until there are n octets.
func (c *client) need(n int) bool {
	for len(c.buf) < n {
		if !c.fill() {
			return false
		}
	}
	return true
}

// fill reads more. Where that ends before the client has said what it wants, a row
// says so.
func (c *client) fill() bool {
	b := make([]byte, 4<<10)
	n, err := c.conn.Read(b)
	c.buf = append(c.buf, b[:n]...)
	if n > 0 {
		return true
	}
	if len(c.buf) == 0 || c.ctx.Err() != nil {
		return false
	}
	e := &flow.Error{Where: flow.AtClient, Code: flow.CodeTruncated, Message: "the client left before it had said what it wants of the proxy"}
	var say []byte
	if errors.Is(err, os.ErrDeadlineExceeded) {
		e.Code = flow.CodeTimeout
		e.Message = "the client did not come to say what it wants of the proxy"
		if c.who.Protocol == "" || c.who.Protocol == "http" {
			say = localAnswer(408, e.Message)
		}
	}
	c.refuse(say, denial{err: e})
	return false
}

// take cuts the first n octets off.
func (c *client) take(n int) []byte {
	p := c.buf[:n:n]
	c.buf = c.buf[n:]
	return p
}

// A denial is why a client is not served, with what is known of what it wanted.
type denial struct {
	c        *client
	who      Client
	to       place
	protocol string // default: that of the proxy
	err      *flow.Error
	at       time.Time
}

// refuse says something to a client that is not served, and makes a row of it.
func (c *client) refuse(say []byte, d denial) {
	d.c, d.who, d.at = c, c.who, time.Now()
	d.record()
	if len(say) > 0 {
		c.conn.SetWriteDeadline(time.Now().Add(drainTime))
		c.conn.Write(say)
	}
	discard(c.conn)
}

// record makes a row of a client that was not served.
func (d *denial) record() {
	d.who.Refused = true
	lane := d.c.p.Open(d.who)
	defer lane.leave()
	f := lane.facts(d.who)
	f.Started, f.Ended, f.Error, f.Opaque, f.Protocol = d.at, time.Now(), d.err, mitm.ReasonFailed, d.protocol
	if f.Protocol == "" {
		f.Protocol = d.who.Protocol
	}
	if d.to.port != 0 {
		f.Host, f.Dst = hostOf(d.to.name()), d.to.dst()
	}
	for _, k := range []flow.Kind{flow.ConnOpen, flow.ConnEnd} {
		g := f
		lane.Record(flow.Event{Kind: k, At: time.Now(), Conn: f.ID, Facts: &g})
	}
}

// facts begins what is known of a connection.
func (l Lane) facts(who Client) flow.Conn {
	f := flow.Conn{ID: l.Proxy.NextID(), Source: flow.SourceProxy, Src: who.Src, Dst: who.Local, Transport: "tcp", Started: time.Now()}
	if l.Proxy.Process != nil {
		f.Process = l.Proxy.Process(who.Src, who.Local)
	}
	return f
}

func (l Lane) leave() {
	if l.Leave != nil {
		l.Leave()
	}
}

// A tunnel is a connection that a client asked for, as mitm takes it.
type tunnel struct {
	c       *client
	to      place
	granted []byte             // the answer once there is a connection
	refused func(error) []byte // the answer if there is none
	failed  bool               // it was given
}

func (t *tunnel) Src() netip.AddrPort   { return t.c.who.Src }
func (t *tunnel) Dst() netip.AddrPort   { return t.to.dst() }
func (t *tunnel) Host() string          { return t.to.name() }
func (t *tunnel) Local() netip.AddrPort { return t.c.who.Local }

// Early returns what followed the client's request: TLS that does not wait for
// the answer, say.
func (t *tunnel) Early() []byte { return t.c.take(len(t.c.buf)) }

// Accept tells the client that it is connected.
func (t *tunnel) Accept() (net.Conn, error) {
	if _, err := t.c.conn.Write(t.granted); err != nil {
		return nil, fmt.Errorf("answer the client: %w", err)
	}
	return t.c.conn, nil
}

// Refuse tells the client why it is not.
func (t *tunnel) Refuse(err error) {
	t.failed = true
	t.c.conn.Write(t.refused(err))
}

// tunnel carries a connection to its end.
func (c *client) tunnel(t *tunnel) bool {
	t.c = c
	lane := c.p.Open(c.who)
	defer lane.leave()
	lane.Proxy.Serve(c.ctx, t)
	if t.failed && c.ctx.Err() == nil {
		discard(c.conn)
	}
	return false
}
