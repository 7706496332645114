package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"time"

	"trace/netns"
	"trace/tcpstack"
)

// settleWait bounds how long the end of a run waits for packets that are
// still on the link.
const settleWait = 100 * time.Millisecond

// lastAddr is where the last packet of a run is sent: on the link, nobody's.
var lastAddr = netip.MustParseAddrPort("198.19.255.254:9")

// A last is the datagram that follows all of the child's through the link.
type last struct {
	conn  *net.UDPConn // sends it; nil: there is none, and nothing is waited for
	token []byte
	came  chan struct{}
}

func newLast() *last {
	return &last{token: []byte(rand.Text()), came: make(chan struct{}, 1)}
}

// open makes the socket inside the namespace, before the command may end it
// all: asking for one later would take as long as all else that ends a run.
func (l *last) open(ctx context.Context, ns *netns.Namespace) {
	if conn, err := ns.ListenUDP(ctx, "udp4", "0.0.0.0:0"); err == nil {
		l.conn = conn
	}
}

func (l *last) close() {
	if l != nil && l.conn != nil {
		l.conn.Close()
	}
}

// takes reports whether d is the last one.
func (l *last) takes(d *tcpstack.Datagram) bool {
	if d.Dst() != lastAddr || !bytes.Equal(d.Payload(), l.token) {
		return false
	}
	select {
	case l.came <- struct{}{}:
	default:
	}
	return true
}

// is tells whether an IP packet carries l. It is ours, not the child's.
func (l *last) is(packet []byte) bool {
	const headers = 20 + 8 // IPv4 without options, UDP
	return len(packet) == headers+len(l.token) && bytes.Equal(packet[headers:], l.token)
}

// settle waits until what the child sent before it ended has come out of the
// link: a program may send a datagram, hear nothing and end. Packets keep
// their order up to here, so one of ours that follows them says when.
func (r *road) settle() {
	if r.last.conn == nil {
		return
	}
	r.last.conn.SetWriteDeadline(time.Now().Add(settleWait))
	if _, err := r.last.conn.WriteToUDPAddrPort(r.last.token, lastAddr); err != nil {
		return
	}
	select {
	case <-r.last.came:
	case <-time.After(settleWait):
	}
}

// drainWait bounds how long the end of a run waits for connections whose ends
// have come already, those of the command, to be understood. Others, of what
// outlives it, are cut off.
const drainWait = 50 * time.Millisecond

// drain lets connections that the command has closed come to their own end: a
// client that refuses a certificate is often gone before the refusal is read.
func (r *road) drain() {
	if r.proxy == nil {
		return
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(drainWait); r.proxy.Active() > 0 && time.Now().Before(end); {
		<-tick.C
	}
}
