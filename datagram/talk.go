package datagram

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"trace/flow"
)

// maxAsked bounds the echo requests of a talk that wait for their answer.
const maxAsked = 256

// A talk is what passes under one key.
type talk struct {
	relay   *Relay
	key     key
	facts   flow.Conn
	timer   *time.Timer
	element *list.Element // in Relay.recent; nil if it only refuses
	used    atomic.Int64  // when something passed last, in Unix nanoseconds
	sent    atomic.Int64  // packets
	got     atomic.Int64
	dropped atomic.Int64 // packets that found no room

	// work is held by the pump while it works, and by the end of the talk.
	// It guards sock, listened, row and refusals.
	work     sync.Mutex
	sock     *socket
	listened chan struct{} // closed when the listener has ended
	row      *row
	refusals refusals

	// mu guards what follows.
	mu      sync.Mutex
	queue   []Packet
	pumping bool
	latest  Packet // to answer with
	asked   map[uint16]Echo
	order   []uint16 // of asked, oldest first
}

// put queues a packet and reports whether there was room. Relay.mu is held.
func (t *talk) put(p Packet) bool {
	t.touch()
	if t.element != nil {
		t.relay.recent.MoveToFront(t.element)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	size := cost(p)
	if full := t.relay.waiting.Add(size) > maxWaiting; full || len(t.queue) >= maxQueued {
		t.relay.waiting.Add(-size)
		t.dropped.Add(1)
		if t.key.why == carried {
			t.relay.counters.dropped.Add(1)
		} else {
			t.relay.counters.refused.Add(1)
		}
		return false
	}
	t.queue = append(t.queue, p)
	if !t.pumping {
		t.pumping = true
		t.relay.working.Add(1)
		go t.pump()
	}
	return true
}

// cost is what a packet counts while it waits, in bytes: with what is kept
// around its payload.
func cost(p Packet) int64 { return int64(len(p.Payload())) + 512 }

func (t *talk) touch() { t.used.Store(time.Now().UnixNano()) }

// quiet is for how long nothing has passed.
func (t *talk) quiet() time.Duration { return time.Since(time.Unix(0, t.used.Load())) }

// silence is the one after which the talk ends.
func (t *talk) silence() time.Duration {
	switch {
	case t.relay.Idle > 0:
		return t.relay.Idle
	case t.key.why != carried:
		return idleRefused
	case t.key.dst.Port() == portDNS:
		return idleDNS
	case t.key.proto == unix.IPPROTO_UDP && t.sent.Load() > 2 && t.got.Load() > 2:
		return idleStream
	}
	return idleOneShot
}

// expire ends the talk if it has been silent for long enough.
func (t *talk) expire() {
	r := t.relay
	if !r.enter(&r.working) {
		return
	}
	r.mu.Lock()
	left := t.silence() - t.quiet()
	stays := r.talks[t.key] != t
	if !stays && left > 0 {
		t.timer.Reset(left)
		stays = true
	}
	if !stays {
		r.remove(t)
	}
	r.mu.Unlock()
	if stays {
		r.working.Done()
		return
	}
	t.leave(flow.Open)
}

// leave ends a talk that is not in the map any more.
func (t *talk) leave(how flow.How) {
	defer t.relay.working.Done()
	t.work.Lock()
	defer t.work.Unlock()
	if t.sock != nil {
		t.sock.close()
		<-t.listened
		if t.key.proto == unix.IPPROTO_UDP {
			t.relay.release(t.key.src)
		}
	}
	if t.row != nil {
		t.finish(how)
	}
	t.refusals.finish(t.dropped.Load())
	t.relay.gone(t)
}

// finish ends the row.
func (t *talk) finish(how flow.How) {
	if n := t.dropped.Load(); n > 0 {
		t.row.mark(&flow.Error{Where: flow.AtCapture, Code: flow.CodeLimit, Message: count(n, "datagram") + " dropped: more came than could be sent on"})
	}
	var fault *flow.Error
	switch {
	case t.got.Load() > 0:
	case t.row.fault != nil:
		fault = t.row.fault
	case t.key.proto == unix.IPPROTO_ICMP:
		fault = &flow.Error{Where: flow.AtUpstream, Code: flow.CodeTimeout, Message: "no echo reply came"}
	}
	t.row.end(how, fault)
}

// pump sends what is queued until nothing is.
func (t *talk) pump() {
	r := t.relay
	defer r.working.Done()
	t.work.Lock()
	defer t.work.Unlock()
	for {
		t.mu.Lock()
		batch := t.queue
		t.queue = nil
		t.pumping = len(batch) > 0
		t.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for i, p := range batch {
			size := cost(p)
			if t.key.why != carried {
				t.refuse(p)
			} else {
				t.send(p)
			}
			p.Forget()
			batch[i] = nil
			r.waiting.Add(-size)
		}
	}
}

// send records a packet and sends it on.
func (t *talk) send(p Packet) {
	if t.row == nil {
		t.facts.ID = t.relay.NextID()
		if t.relay.Process != nil && t.key.proto == unix.IPPROTO_UDP {
			t.facts.Process = t.relay.Process(p.Src(), p.Dst(), "udp")
		}
		t.row = &row{record: t.relay.Record, conn: t.facts}
		t.row.open(t.facts.Opaque)
	}
	if t.sock == nil {
		start := time.Now()
		sock, err := t.relay.connect(t.key)
		if err != nil {
			t.relay.counters.refused.Add(1)
			t.row.fail(connectFault(t.key, err))
			p.Refuse(err)
			return
		}
		t.sock, t.listened = sock, make(chan struct{})
		t.row.connected(time.Since(start))
		t.relay.reading.Add(1)
		go t.listen(sock, t.listened)
	}
	t.expect(p)
	t.row.message(flow.Client, p.Payload())
	seq := uint16(0)
	if e, ok := p.(Echo); ok {
		seq = e.Seq()
	}
	// An error of an earlier packet may be told first, instead of sending.
	err := t.sock.send(p.Payload(), p.TTL(), seq)
	for i := 0; err != nil && t.complaints(t.sock) && i < maxComplaints; i++ {
		err = t.sock.send(p.Payload(), p.TTL(), seq)
	}
	if err != nil {
		t.relay.counters.dropped.Add(1)
		t.row.fail(connectFault(t.key, err))
		p.Refuse(err)
		return
	}
	t.sent.Add(1)
	t.relay.counters.sent.Add(1)
}

// expect notes which packet an answer or error will be about.
func (t *talk) expect(p Packet) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.latest = p
	e, ok := p.(Echo)
	if !ok {
		return
	}
	if t.asked == nil {
		t.asked = make(map[uint16]Echo)
	}
	if t.asked[e.Seq()] == nil {
		if len(t.order) == maxAsked {
			delete(t.asked, t.order[0])
			t.order = t.order[1:]
		}
		t.order = append(t.order, e.Seq())
	}
	t.asked[e.Seq()] = e
}

// about returns the packet that an answer with this sequence number is to,
// nil if there was none. Of datagrams it is the latest.
func (t *talk) about(seq uint16) Packet {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.key.proto == unix.IPPROTO_UDP {
		return t.latest
	}
	if e := t.asked[seq]; e != nil {
		return e
	}
	return nil
}

// listen hands answers to the child until the socket is closed.
func (t *talk) listen(sock *socket, listened chan<- struct{}) {
	defer t.relay.reading.Done()
	defer close(listened)
	for fails := 0; fails < maxFails; {
		err := sock.receive(t.answer)
		switch {
		case sock.isClosed():
			return
		case err == nil, t.complaints(sock):
			fails = 0
		default:
			fails++
		}
	}
}

// answer hands one answer to the child.
func (t *talk) answer(p []byte, seq uint16, ttl int) {
	about := t.about(seq)
	if about == nil {
		return
	}
	t.touch()
	t.row.message(flow.Server, p)
	t.got.Add(1)
	t.relay.counters.received.Add(1)
	switch about := about.(type) {
	case Echo:
		about.Reply(p, ttl) // its errors are about a stack that closes
	case Datagram:
		about.Reply(p)
	}
}

// complaints passes on the ICMP errors that have come in and reports whether
// there were any.
func (t *talk) complaints(sock *socket) bool {
	any := false
	for range maxComplaints {
		c, ok := sock.complaint()
		if !ok {
			break
		}
		any = true
		if !c.passable() {
			continue
		}
		if p := t.about(c.seq); p != nil {
			t.row.fail(c.fault())
			p.Fail(c.from, c.typ, c.code)
		}
	}
	return any
}
