package datagram

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"trace/flow"
)

// A refusal is a reason not to send a packet on.
type refusal uint8

const (
	carried refusal = iota
	quic
	lent
	crowded
)

// The codes of rows about datagrams that were not sent on.
const (
	CodeQUIC     = "quic_refused"
	CodeLent     = "lent_address"       // sent to an address that was lent to a name
	CodeNoICMP   = "icmp_not_permitted" // this process may send no echo requests
	maxRefusers  = 64                   // processes whose refusals by one rule are told apart
	quicHint     = "nothing to mend: clients fall back to HTTP over TCP, which is recorded"
	icmpHintTail = ` lets this group send them: sudo sysctl -w net.ipv4.ping_group_range="%d %d"`
)

// fault says why, in a row.
func (f refusal) fault(limit int) *flow.Error {
	switch f {
	case quic:
		return &flow.Error{Where: flow.AtCapture, Code: CodeQUIC, Hint: quicHint,
			Message: "UDP to port 443 was refused: QUIC cannot be decoded"}
	case lent:
		return &flow.Error{Where: flow.AtCapture, Code: CodeLent,
			Message: "the address was lent to a name that has none: only TCP can follow it"}
	}
	return &flow.Error{Where: flow.AtCapture, Code: flow.CodeLimit,
		Message: fmt.Sprintf("refused: %d conversations over UDP and ICMP are open already", limit)}
}

// errno is what the child's socket is to say.
func (f refusal) errno() error {
	if f == crowded {
		return syscall.EACCES
	}
	return syscall.ECONNREFUSED
}

// refusals are the rows of a talk that only refuses: one for each process.
type refusals struct {
	rows map[int]*refused
	last *refused
	src  netip.AddrPort // of last
}

type refused struct {
	row   *row
	count int64
}

// refuse answers a packet and records it.
func (t *talk) refuse(p Packet) {
	r, f := t.relay, &t.refusals
	if f.last == nil || f.src != p.Src() {
		f.src = p.Src()
		f.last = t.refuser(p)
	}
	f.last.count++
	r.counters.refused.Add(1)
	p.Refuse(t.key.why.errno())
}

// refuser returns the row for refusals of the process that sent p.
func (t *talk) refuser(p Packet) *refused {
	r, f := t.relay, &t.refusals
	c := t.facts
	c.Src, c.Process = p.Src(), nil
	pid := 0
	if r.Process != nil && t.key.proto == unix.IPPROTO_UDP {
		if c.Process = r.Process(p.Src(), p.Dst(), "udp"); c.Process != nil {
			pid = c.Process.PID
		}
	}
	if known := f.rows[pid]; known != nil {
		return known
	}
	if len(f.rows) == maxRefusers {
		return f.last
	}
	limit := r.MaxTalks
	if limit <= 0 {
		limit = maxTalks
	}
	c.ID = r.NextID()
	fresh := &refused{row: &row{record: r.Record, conn: c}}
	fault := t.key.why.fault(limit)
	fresh.row.conn.Opaque = fault.Code
	fresh.row.open(fault.Code)
	fresh.row.finish(fault)
	if f.rows == nil {
		f.rows = make(map[int]*refused)
	}
	f.rows[pid] = fresh
	return fresh
}

// finish says how many were refused. unseen came too fast to be told apart.
func (f *refusals) finish(unseen int64) {
	for _, one := range f.rows {
		if one == f.last {
			one.count += unseen
		}
		if one.count > 1 {
			fault := *one.row.conn.Error
			fault.Message, fault.Hint = count(one.count, "datagram")+" refused", ""
			one.row.mark(&fault)
		}
		one.row.end(flow.Open, one.row.conn.Error)
	}
}

// connectFault says in a row why a packet could not be sent on.
func connectFault(k key, err error) *flow.Error {
	f := &flow.Error{Where: flow.AtUpstream, Code: flow.CodeUnreachable, Message: err.Error()}
	switch {
	case errors.Is(err, errNoICMP):
		f.Where, f.Code = flow.AtCapture, CodeNoICMP
		f.Hint = fmt.Sprintf("one line"+icmpHintTail, os.Getegid(), os.Getegid())
	case errors.Is(err, unix.ECONNREFUSED):
		f.Code = flow.CodeRefused
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
		f.Where, f.Code = flow.AtCapture, flow.CodeLimit
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.Where, f.Code = flow.AtCapture, flow.CodeTimeout
	}
	return f
}
