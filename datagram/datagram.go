// Package datagram carries the child's datagrams and echo requests to where
// they were sent.
//
//	r := &datagram.Relay{Record: record, NextID: nextID, Name: names.Name}
//	defer r.Close()
//
//	tcpstack.Options{
//		Datagram: func(d *tcpstack.Datagram) bool { return r.Take(d) },
//		Echo:     func(e *tcpstack.Echo) bool { return r.TakeEcho(e) },
//	}
//
// It decodes nothing but name queries, and listens to nobody: what comes to
// the host unasked reaches no child.
//
// # Theory of operation
//
// A talk is what passes between one address and port of the child and one
// outside, or for echo requests (ping) between two addresses under one
// identifier. Each talk has a socket on the host that is connected to the
// destination, so that the kernel sorts answers and tells errors, and a row in
// the record.
//
// Take runs on the packet path and only puts the datagram into the queue of
// its talk. While something is queued, a goroutine (pump) sends it; another
// (listen) waits for answers. A queue that is full drops what comes, as the
// buffer of a socket does. The row is opened before the first datagram is
// sent, and each datagram is recorded before it is passed on, so that a
// question stands before its answer.
//
// The child's addresses are not the host's, but one port of the child is one
// port of the host: talks that share their source share the port they are sent
// from, as peers of a program that learned its address from a STUN server
// expect. The time to live is that of the child, and an ICMP error that a
// datagram meets is handed to the child with its sender, type and code, so
// that traceroute sees the road from here on. Errors about size are not: the
// kernel cuts what is too large from then on.
//
// Echo requests go through a ping socket (SOCK_DGRAM, IPPROTO_ICMP) where
// net.ipv4.ping_group_range allows it, through a raw socket where this process
// has CAP_NET_RAW. Otherwise they are refused. Only an answer from outside is
// ever answered with.
//
// Refused without being sent: UDP to port 443, because QUIC cannot be read and
// its clients fall back to TCP at once (ICMP port unreachable); addresses that
// were lent to a name, which nothing stands behind; what exceeds MaxTalks.
// Refusals are recorded too, but not each: those of one process for one
// destination are one row until they pause.
//
// Limits: MaxTalks talks; when they are all used, one that has been silent
// for evictAfter makes room. A talk ends after a silence (see the constants).
// Close waits for what is queued and ends all.
package datagram

import (
	"cmp"
	"container/list"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"trace/flow"
)

// How long a talk may be silent.
const (
	idleDNS     = 10 * time.Second  // port 53
	idleOneShot = 30 * time.Second  // questions, answered or not, and echo requests
	idleStream  = 180 * time.Second // more than that
	idleRefused = 5 * time.Second   // refusals

	// evictAfter is the silence after which a talk makes room for a new one.
	evictAfter = 2 * time.Second
)

const (
	maxTalks   = 1024
	maxLeaving = 64       // talks beyond the limit that are just being ended
	maxQueued  = 512      // datagrams that wait in a talk
	maxWaiting = 32 << 20 // bytes that wait in all talks
	maxRefused = 256      // destinations whose refusals are told apart

	portDNS  = 53
	portQUIC = 443
)

// A Packet is what datagrams and echo requests have in common. The relay may
// keep it, and calls its methods from several goroutines.
type Packet interface {
	Src() netip.AddrPort // the child's end; of an echo request, the port is its identifier
	Dst() netip.AddrPort // of an echo request, without port
	TTL() int
	Payload() []byte // the relay's
	Forget()         // the payload is not needed any more
	Refuse(err error)
	Fail(from netip.Addr, typ, code uint8) // an ICMP error that from sent
}

// A Datagram is a UDP datagram of the child; *tcpstack.Datagram is one.
type Datagram interface {
	Packet
	Reply(p []byte) error
}

// An Echo is an ICMP echo request of the child; *tcpstack.Echo is one.
type Echo interface {
	Packet
	Seq() uint16
	Reply(p []byte, ttl int) error
}

// A Relay carries datagrams. Record and NextID are required, the fields must
// not change once it is in use. Its methods may be called concurrently.
type Relay struct {
	// Record takes the events of talks. It is never called on the packet path:
	// while it waits, the talk waits, and no other.
	Record func(flow.Event)

	// NextID returns the next connection number of the session.
	NextID func() int64

	// Name returns the name that an address stands for, or "", and whether it
	// was lent to it. Nil knows none.
	Name func(netip.Addr) (name string, lent bool)

	// Process names the process behind a socket of the child; network is
	// "udp". It may take its time. Nil names none.
	Process func(src, dst netip.AddrPort, network string) *flow.Process

	// Socket makes sockets that send on the host's network. Nil: unix.Socket.
	Socket func(domain, typ, proto int) (int, error)

	// Source is what talks are recorded as coming from. "":
	// flow.SourceNamespace.
	Source flow.Source

	// MaxTalks bounds the talks, and so the sockets. 0: 1024.
	MaxTalks int

	// Idle replaces all the silences after which a talk ends. 0: as documented.
	Idle time.Duration

	counters struct{ talks, sent, received, refused, dropped, evicted atomic.Uint64 }
	waiting  atomic.Int64 // bytes in queues
	ident    atomic.Uint32

	// mu guards what follows.
	mu      sync.Mutex
	closed  bool
	talks   map[key]*talk
	recent  list.List      // of talks that may be evicted, latest use first
	refused int            // talks that only refuse
	alive   int            // talks whose row is not ended, with those that left the map
	working sync.WaitGroup // pumps, and the ends of talks
	reading sync.WaitGroup // listeners

	// binding guards ports: the host's port of each source of the child.
	binding sync.Mutex
	ports   map[netip.AddrPort]*port
}

// key tells talks apart. A talk that only refuses has no port of the child:
// a client that tries again does so from another one.
type key struct {
	proto    uint8
	src, dst netip.AddrPort
	why      refusal
}

// Stats counts what a Relay met since it was made.
type Stats struct {
	Talks    uint64 // that were opened
	Sent     uint64 // datagrams and echo requests sent on
	Received uint64 // datagrams and echo replies handed to the child
	Refused  uint64 // answered with an ICMP error, by rule or because a limit was met
	Dropped  uint64 // lost here: a queue was full, or the host's network took none
	Evicted  uint64 // talks that ended early to make room
	Open     int    // talks that are open now
}

// Stats returns the counts as they are now.
func (r *Relay) Stats() Stats {
	c := &r.counters
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{c.talks.Load(), c.sent.Load(), c.received.Load(), c.refused.Load(), c.dropped.Load(), c.evicted.Load(), len(r.talks)}
}

// Take takes a datagram of the child and reports whether it did; it does not
// wait. What is not taken is to be answered with port unreachable.
func (r *Relay) Take(d Datagram) bool { return r.take(unix.IPPROTO_UDP, d) }

// TakeEcho takes an echo request of the child and reports whether it did; it
// does not wait. What is not taken is to be refused.
func (r *Relay) TakeEcho(e Echo) bool { return r.take(unix.IPPROTO_ICMP, e) }

func (r *Relay) take(proto uint8, p Packet) bool {
	k := key{proto: proto, src: p.Src(), dst: p.Dst()}
	dst := k.dst.Addr()
	if !dst.IsValid() || dst.IsUnspecified() || dst.IsMulticast() || dst == broadcast ||
		proto == unix.IPPROTO_UDP && (k.dst.Port() == 0 || k.src.Port() == 0) {
		r.counters.refused.Add(1)
		return false
	}
	if k.why = r.why(k); k.why != carried {
		k.src = netip.AddrPortFrom(k.src.Addr(), 0)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.find(k, p)
	return t != nil && (t.put(p) || t.key.why == carried) // or lost, as datagrams are
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// why says whether a packet is carried, or why not.
func (r *Relay) why(k key) refusal {
	if k.proto == unix.IPPROTO_UDP && k.dst.Port() == portQUIC {
		return quic
	}
	if _, is := r.name(k.dst.Addr()); is {
		return lent
	}
	return carried
}

// find returns the talk for k, a new one if need be; nil says that none may
// be opened. r.mu is held.
func (r *Relay) find(k key, p Packet) *talk {
	if r.closed {
		return nil
	}
	if t := r.talks[k]; t != nil {
		return t
	}
	if r.talks == nil {
		r.talks = make(map[key]*talk)
	}
	if k.why == carried && r.full() {
		k = key{proto: k.proto, src: netip.AddrPortFrom(k.src.Addr(), 0), why: crowded}
		if t := r.talks[k]; t != nil {
			return t
		}
	}
	if k.why != carried && r.refused >= maxRefused {
		r.counters.refused.Add(1)
		return nil // refused all the same, without a row
	}
	t := &talk{relay: r, key: k, facts: r.facts(k.proto, p)}
	t.used.Store(time.Now().UnixNano())
	r.talks[k] = t
	r.alive++
	if k.why == carried {
		t.element = r.recent.PushFront(t)
	} else {
		r.refused++
	}
	r.counters.talks.Add(1)
	t.timer = time.AfterFunc(t.silence(), t.expire)
	return t
}

// full makes room for one more talk and reports whether it could not.
// r.mu is held.
func (r *Relay) full() bool {
	limit := r.MaxTalks
	if limit <= 0 {
		limit = maxTalks
	}
	if r.recent.Len() < limit {
		return r.alive-r.refused >= limit+maxLeaving
	}
	oldest := r.recent.Back().Value.(*talk)
	if oldest.quiet() < evictAfter || r.alive-r.refused >= limit+maxLeaving {
		return true
	}
	r.counters.evicted.Add(1)
	r.remove(oldest)
	r.working.Add(1)
	go oldest.leave(flow.Open)
	return false
}

// remove takes a talk out of the map. r.mu is held.
func (r *Relay) remove(t *talk) {
	if r.talks[t.key] != t {
		return
	}
	delete(r.talks, t.key)
	t.timer.Stop()
	if t.element != nil {
		r.recent.Remove(t.element)
	}
}

// gone says that a talk has ended altogether.
func (r *Relay) gone(t *talk) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive--
	if t.key.why != carried {
		r.refused--
	}
}

// Close sends what is queued, ends all talks and waits for every goroutine.
// Packets that come later are not taken.
func (r *Relay) Close() error {
	r.mu.Lock()
	already := r.closed
	r.closed = true
	r.mu.Unlock()
	r.working.Wait()
	if already {
		return nil
	}
	r.mu.Lock()
	var all []*talk
	for _, t := range r.talks {
		all = append(all, t)
	}
	for _, t := range all {
		r.remove(t)
	}
	r.mu.Unlock()
	for _, t := range all {
		r.working.Add(1)
		t.leave(flow.Stopped)
	}
	r.working.Wait()
	r.reading.Wait()
	return nil
}

// enter counts a goroutine in, unless the relay is closing.
func (r *Relay) enter(wg *sync.WaitGroup) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	wg.Add(1)
	return true
}

func (r *Relay) name(a netip.Addr) (string, bool) {
	if r.Name == nil {
		return "", false
	}
	return r.Name(a)
}

// facts is what is known of a talk from its first packet.
func (r *Relay) facts(proto uint8, p Packet) flow.Conn {
	c := flow.Conn{Source: cmp.Or(r.Source, flow.SourceNamespace), Src: p.Src(), Dst: p.Dst(), Started: time.Now(), Transport: "udp", Opaque: "udp"}
	c.Host, _ = r.name(c.Dst.Addr())
	switch {
	case proto != unix.IPPROTO_UDP:
		c.Protocol, c.Opaque = "icmp", "icmp"
	case c.Dst.Port() == portDNS:
		c.Protocol = "dns"
	}
	return c
}
