package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"trace/control"
	"trace/flow"
	"trace/mitm"
	"trace/proxy"
	"trace/wire"
)

const (
	maxClients = 1000 // sessions that are recorded at once
	endAtOnce  = 16   // sessions that end at the same time
)

// A clientKey tells clients apart.
type clientKey struct {
	source flow.Source
	label  string
}

// clients are those of a serve: each is recorded in a session of its own, from
// its first connection until it has been silent for a while.
type clients struct {
	server *server
	ids    atomic.Int64 // of connections
	ended  atomic.Int64 // flows of sessions that are over
	roots  func() *x509.CertPool

	mu     sync.Mutex // guards what follows
	open   map[clientKey]*client
	closed bool

	ending sync.WaitGroup
}

// A client is who is recorded in one session.
type client struct {
	key   clientKey
	count meter

	once  sync.Once // begins the session
	*lane           // nil: there is none
	proxy *mitm.Proxy
	err   error // why there is no session

	connections int       // open ones; guarded by clients.mu
	last        time.Time // when there was one; guarded by clients.mu
}

func newClients(s *server) *clients {
	return &clients{server: s, open: map[clientKey]*client{},
		roots: sync.OnceValue(func() *x509.CertPool { return s.rules.hostRoots(s.log) })}
}

// nextID numbers connections, those of all sessions.
func (c *clients) nextID() int64 { return c.ids.Add(1) }

// tapInto decodes what passes on a connection into emit.
func (c *clients) tapInto(f *flow.Conn, emit func(flow.Event)) mitm.Tap {
	return &wire.Decoder{Conn: f, Emit: emit, Limit: c.server.rules.limit.of, Secrets: c.server.rules.secrets}
}

// lane is where a connection of a client is recorded. Where that cannot be, the
// connection is carried all the same.
func (c *clients) lane(source flow.Source, label string) proxy.Lane {
	cl, err := c.enter(source, label)
	if err != nil {
		c.server.say("session of %s %q: %v: its traffic is not recorded", source, label, err)
		return c.unrecorded(source)
	}
	return proxy.Lane{Record: cl.emit, Leave: func() { c.leave(cl) }, Proxy: cl.proxy, NewTap: cl.record.tapInto, Alter: cl.lane.alter}
}

// unrecorded is a lane that leads to no record.
func (c *clients) unrecorded(source flow.Source) proxy.Lane {
	s := c.server
	nowhere := func(flow.Event) {}
	l := &lane{rules: &s.rules, alter: s.rules.alter, source: source, roots: c.roots, emit: nowhere, nextID: c.nextID}
	p := l.transparent()
	p.Tap = nil
	return proxy.Lane{Record: nowhere, Proxy: p, NewTap: c.tapInto, Alter: l.alter}
}

// enter returns the client that a connection is of; leave follows.
func (c *clients) enter(source flow.Source, label string) (*client, error) {
	key := clientKey{source, clientLabel(label)}
	c.mu.Lock()
	cl := c.open[key]
	if cl == nil {
		var full error
		switch {
		case c.closed:
			full = errors.New("the serve is ending")
		case len(c.open) >= maxClients && !c.evict():
			full = fmt.Errorf("%d sessions are being recorded already", len(c.open))
		}
		if full != nil {
			c.mu.Unlock()
			return nil, full
		}
		cl = &client{key: key}
		c.open[key] = cl
	}
	cl.connections++
	cl.last = time.Now()
	c.mu.Unlock()
	cl.once.Do(func() { cl.err = c.begin(cl) })
	if cl.err != nil {
		c.mu.Lock()
		if c.open[key] == cl {
			delete(c.open, key) // the next one tries again
		}
		c.mu.Unlock()
		return nil, cl.err
	}
	return cl, nil
}

// maxLabel bounds a label, in characters.
const maxLabel = 64

// clientLabel makes a name of a session out of what a client says.
func clientLabel(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '/' || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(s, "_"))
	if r := []rune(s); len(r) > maxLabel {
		s = string(r[:maxLabel])
	}
	return s
}

// begin begins the session of a client.
func (c *clients) begin(cl *client) error {
	s := c.server
	rec, err := record(recordingOptions{dir: s.dir, limit: s.rules.limit, log: s.log, secret: s.o.token, budget: s.rules.budget, otlp: s.otlp,
		session: flow.Session{Name: cmp.Or(cl.key.label, string(cl.key.source)), Source: cl.key.source, PID: os.Getpid(), Secrets: s.rules.secrets}})
	if err != nil {
		return err
	}
	l := newLane(&s.rules, rec, cl.key.source, s.log)
	if s.rules.budgetStop {
		l.alter = stopBy(l.alter, func() *recording { return rec })
	}
	l.roots, l.nextID, l.who = c.roots, c.nextID, s.who.find
	l.emit = func(e flow.Event) {
		cl.count.saw(e)
		rec.emit(e)
	}
	if s.ca != nil {
		l.authority = s.ca.authority
	}
	c.mu.Lock() // of who looks without having entered
	cl.lane, cl.proxy = l, l.transparent()
	c.mu.Unlock()
	return nil
}

// leave says that a connection is over.
func (c *clients) leave(cl *client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl.connections--
	cl.last = time.Now()
}

// evict ends the session that has been silent for longest. c.mu is held.
func (c *clients) evict() bool {
	var oldest *client
	for _, cl := range c.open {
		if cl.connections == 0 && (oldest == nil || cl.last.Before(oldest.last)) {
			oldest = cl
		}
	}
	if oldest == nil {
		return false
	}
	delete(c.open, oldest.key)
	c.ending.Go(func() { c.end(oldest) })
	return true
}

// end ends the session of a client that is not among the open ones any more.
func (c *clients) end(cl *client) {
	if cl.lane == nil {
		return
	}
	s, err := cl.record.end(0)
	if err != nil {
		c.server.log("session %s: %v", s.ID, err)
	}
	c.ended.Add(cl.count.flows.Load())
	c.server.say("%s", summary(s, false))
	for _, line := range cl.record.spent.report() {
		c.server.say("session %s (%s): %s", s.ID, s.Name, line)
	}
}

// watch ends sessions of clients that are silent, until ctx is over.
func (c *clients) watch(ctx context.Context) {
	idle := c.server.o.idle
	tick := time.NewTicker(max(idle/10, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.mu.Lock()
		for _, cl := range c.open {
			if cl.connections == 0 && time.Since(cl.last) >= idle {
				delete(c.open, cl.key)
				c.ending.Go(func() { c.end(cl) })
			}
		}
		c.mu.Unlock()
	}
}

// close ends all sessions. All connections are over.
func (c *clients) close() {
	c.mu.Lock()
	c.closed = true
	open := slices.SortedFunc(maps.Values(c.open), func(a, b *client) int { return strings.Compare(a.key.label, b.key.label) })
	clear(c.open)
	c.mu.Unlock()
	slots := make(chan struct{}, endAtOnce)
	for _, cl := range open {
		slots <- struct{}{}
		c.ending.Go(func() {
			c.end(cl)
			<-slots
		})
	}
	c.ending.Wait()
}

// total returns how many flows were recorded since the start.
func (c *clients) total() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.ended.Load()
	for _, cl := range c.open {
		n += cl.count.flows.Load()
	}
	return n
}

// openFlows returns how many flows are under way.
func (c *clients) openFlows() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var n int64
	for _, cl := range c.open {
		n += cl.count.open.Load()
	}
	return n
}

// status lists the sessions that go on.
func (c *clients) status() []control.Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []control.Session{}
	now := time.Now()
	for _, cl := range c.open {
		if cl.lane == nil { // of which it is not known yet whether there will be one
			continue
		}
		s := cl.record.Session()
		all = append(all, control.Session{ID: s.ID, Name: s.Name, Label: cl.key.label, Source: string(cl.key.source), Started: control.Time{Time: s.Started},
			Flows: cl.count.flows.Load(), Open: cl.count.open.Load(), Rate: cl.count.rate(now), File: s.File})
	}
	slices.SortFunc(all, func(a, b control.Session) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// A meter counts the flows of a session.
type meter struct {
	flows, open atomic.Int64

	mu      sync.Mutex  // guards what follows
	seconds [rate]int64 // flows that began in each of the last seconds
	second  int64       // the latest
}

// rate is over how many seconds a rate is taken.
const rate = 10

// saw counts an event.
func (m *meter) saw(e flow.Event) {
	switch e.Kind {
	case flow.Request, flow.Opaque, flow.Query:
		m.flows.Add(1)
		if e.Kind != flow.Query { // which is over
			m.open.Add(1)
		}
		m.mu.Lock()
		if at := e.At.Unix(); at > m.second-rate {
			m.turn(at)
			m.seconds[at%rate]++
		}
		m.mu.Unlock()
	case flow.End:
		m.open.Add(-1)
	}
}

// turn forgets the seconds that are out of sight. m.mu is held.
func (m *meter) turn(now int64) {
	for s := max(m.second+1, now-rate+1); s <= now; s++ {
		m.seconds[s%rate] = 0
	}
	m.second = max(m.second, now)
}

// rate returns the flows of a second, of the last ten.
func (m *meter) rate(now time.Time) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now.Unix())
	var n int64
	for _, k := range m.seconds {
		n += k
	}
	return math.Round(float64(n)/rate*10) / 10
}
