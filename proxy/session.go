package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"trace/flow"
	"trace/mitm"
)

// readSize is what is read at once.
const readSize = 64 << 10

// A way is what a session has to know of its proxy.
type way interface {
	// takes tells whether a request, given its head, is for this session.
	takes(head []byte) bool
	// find works out where a request goes, or why it does not.
	find(s *session, r *request) (destination, *refusal)
	// address makes the head of a request name the server that is called.
	address(*flow.Head) *flow.Head
	// outlives tells whether the child's connection goes on when a server has ended
	// one that was idle.
	outlives() bool
	dial(ctx context.Context, to destination) (net.Conn, error)
	tlsConfig(name string, protocols ...string) *tls.Config
	newTap(c *flow.Conn, emit func(flow.Event)) mitm.Tap
	// begun is told of the target of each request that a tap sees, before that is
	// recorded. The lock of the session is held.
	begun(s *session, target string)
}

// A refusal is why a request is not carried, and how the child is told.
type refusal struct {
	status int
	err    *flow.Error
}

func (r *refusal) text() string {
	if r.err.Hint != "" {
		return r.err.Message + ": " + r.err.Hint
	}
	return r.err.Message
}

// A session is one connection of the child. Its goroutine reads requests.
type session struct {
	way    way
	ctx    context.Context
	cancel context.CancelFunc
	child  net.Conn
	buf    []byte // read from the child and not passed on
	space  []byte // for buf
	up     *upstream
	method string // of the latest request
	told   bool   // an end of the child's stream was tapped
	left   bool   // the connection goes on without this session

	mu      sync.Mutex // guards what follows, and the calls of tap
	server  net.Conn   // that of up, to be reset by stop
	facts   flow.Conn
	tap     mitm.Tap
	ordinal int64 // of the latest request
	failed  map[int64]*flow.Error
	stopped bool
	lane    Lane         // without Record: not known yet
	held    []flow.Event // until it is
	label   string       // of the request that chose the lane
	token   string
	denied  *flow.Error // why that was not let in
	endings [2]flow.How
	streams map[int64]int64 // of HTTP/2: their ordinals
}

// The first bytes of what is spoken.
var (
	preface   = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	helloType = byte(22) // of a TLS record (RFC 8446 section 5.1)
	// versionAlert is a fatal alert, protocol_version.
	versionAlert = []byte{21, 3, 1, 0, 2, 2, 70}
)

func (s *session) record(k flow.Kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.facts
	s.emitted(flow.Event{Kind: k, At: time.Now(), Conn: f.ID, Facts: &f})
}

func (s *session) change(f func(*flow.Conn)) {
	s.mu.Lock()
	f(&s.facts)
	s.mu.Unlock()
	s.record(flow.ConnUpdate)
}

// stop ends the session from outside. A server may be silent for ever: it is not
// waited for.
func (s *session) stop() {
	s.mu.Lock()
	s.stopped = true
	server := s.server
	s.mu.Unlock()
	reset(s.child)
	if server != nil {
		reset(server)
	}
}

// serve finds out what is spoken, and carries it.
func (s *session) serve(p *Reverse) {
	for {
		n := min(len(s.buf), len(preface))
		switch {
		case len(s.buf) > 0 && s.buf[0] == helloType:
			s.child.Write(versionAlert)
			s.refuse(&flow.Error{Where: flow.AtClient, Code: flow.CodeMalformed, Message: "the client speaks TLS to the port of the reverse proxy, which is plain HTTP",
				Hint: "use http:// in the base URL: the connection to the server is TLS all the same"})
			return
		case n == len(preface) && bytes.Equal(s.buf[:n], preface):
			s.open("http2")
			s.serveHTTP2(p)
			return
		case n > 0 && !bytes.Equal(s.buf[:n], preface[:n]):
			s.open("http")
			s.requests()
			return
		}
		if !s.fill() {
			return
		}
	}
}

// refuse records a connection that carried nothing.
func (s *session) refuse(e *flow.Error) {
	s.mu.Lock()
	s.facts.Error, s.facts.Opaque, s.facts.Protocol = e, "not_connected", "tls"
	s.mu.Unlock()
	discard(s.child)
}

// discard lets the other end read our answer: closing with unread bytes
// would reset the connection.
func discard(c net.Conn) {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
	}
	c.SetReadDeadline(time.Now().Add(drainTime))
	io.Copy(io.Discard, io.LimitReader(c, 64<<20))
}

func (s *session) open(protocol string) {
	s.mu.Lock()
	s.facts.Protocol = protocol
	f := s.facts
	s.tap = s.tapped(&f, s.emit)
	s.mu.Unlock()
}

// emit passes events of the child's side on: its requests name the server that is
// called, and failures of ours are those of their flows.
func (s *session) emit(e flow.Event) { // the lock is held: all taps are called under it
	switch e.Kind {
	case flow.Request:
		s.way.begun(s, e.Head.Target)
		e.Head = s.way.address(e.Head)
		if s.streams != nil {
			s.streams[e.Head.Stream] = e.Flow
		}
	case flow.End:
		if f := s.failed[e.Flow]; f != nil {
			e.Error = f
			delete(s.failed, e.Flow)
		}
	}
	s.emitted(e)
}

// fail says why the current request could not be carried.
func (s *session) fail(ordinal int64, e *flow.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = map[int64]*flow.Error{}
	}
	s.failed[ordinal] = e
}

// saw taps what passed on the child's side.
func (s *session) saw(side flow.Side, p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if side == flow.Client {
		s.facts.Sent += int64(len(p))
	} else {
		s.facts.Received += int64(len(p))
	}
	s.tap.Data(side, time.Now(), p)
}

// ended taps the end of a side, once.
func (s *session) ended(side flow.Side, how flow.How) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		how = flow.Stopped
	}
	if s.endings[side] == flow.Open {
		s.endings[side] = how
		if s.tap != nil {
			s.tap.End(side, time.Now(), how)
		}
	}
}

// fill reads more from the child. It returns false when there is no more.
func (s *session) fill() bool {
	if len(s.buf) == 0 {
		if s.space == nil {
			s.space = make([]byte, readSize)
		}
		s.buf = s.space[:0] // what was there has been passed on
	}
	s.buf = slices.Grow(s.buf, 4<<10)
	n, err := s.child.Read(s.buf[len(s.buf):cap(s.buf)])
	s.buf = s.buf[:len(s.buf)+n]
	if n > 0 {
		return true
	}
	how := howEnded(err)
	s.ended(flow.Client, how)
	s.told = true
	if s.up != nil {
		s.up.childEnded(how)
	}
	return false
}

// finish takes leave of the connection.
func (s *session) finish() {
	if s.up != nil {
		s.up.leave()
	}
	if !s.left {
		s.ended(flow.Client, flow.Stopped)
		s.ended(flow.Server, flow.FIN)
	}
	s.mu.Lock()
	if s.tap != nil {
		s.tap.Close(time.Now())
	}
	s.facts.Ended, s.facts.ChildEnd, s.facts.SrvEnd = time.Now(), s.endings[flow.Client], s.endings[flow.Server]
	s.mu.Unlock()
	if !s.left {
		s.child.Close()
	}
	s.record(flow.ConnEnd)
	if s.lane.Leave != nil {
		s.lane.Leave()
	}
}

// requests carries HTTP/1.1 until the child has no more to say.
func (s *session) requests() {
	var seek headSeeker
	for {
		n := seek.end(s.buf)
		switch {
		case s.up != nil && s.up.tunnelled():
			s.pass()
			return
		case n == 0 && len(s.buf) <= maxHead:
			if !s.fill() {
				return
			}
			continue
		case n == 0 || n > maxHead:
			s.ordinal++
			s.saw(flow.Client, s.buf)
			s.fail(s.ordinal, &flow.Error{Where: flow.AtClient, Code: flow.CodeLimit, Message: "the head of the request is longer than trace takes"})
			s.answer(431, "the head of the request is longer than trace takes")
			return
		}
		if s.up != nil && !s.up.ready() {
			if s.up.tunnelled() {
				continue
			}
			return
		}
		head := s.buf[:n:n]
		if !s.way.takes(head) {
			s.left = true
			return
		}
		s.buf = s.buf[n:]
		if !s.exchange(head) {
			return
		}
		seek = headSeeker{}
	}
}

// exchange carries one request. It returns false when the connection cannot go
// on.
func (s *session) exchange(head []byte) bool {
	s.ordinal++
	ordinal := s.ordinal
	r, err := parseRequest(head)
	if err != nil {
		s.fail(ordinal, &flow.Error{Where: flow.AtClient, Code: flow.CodeMalformed, Message: err.Error()})
		s.saw(flow.Client, head)
		s.answer(400, err.Error())
		return false
	}
	s.method = r.method
	to, no := s.way.find(s, &r)
	if no != nil {
		s.fail(ordinal, no.err)
		s.saw(flow.Client, head)
		s.answer(no.status, no.text())
		return false
	}
	s.saw(flow.Client, head)
	if err := s.reach(to); err != nil {
		e := upstreamError(to, err)
		if s.ctx.Err() != nil { // nobody is there to be answered
			e.Code, e.Message, e.Hint = flow.CodeTimeout, "connect to "+to.addr()+": no answer, until trace ended", ""
			s.fail(ordinal, e)
			return false
		}
		s.fail(ordinal, e)
		s.answer(statusFor(err), e.Message, proxyStatus(err))
		return false
	}
	s.up.begin(ordinal, r.method)
	out := r.rewritten(head, to)
	if !to.proxied && to.scheme == "http" {
		out = withoutH2C(out)
	}
	s.up.write(out)
	return s.body(&r.body)
}

// body carries the body of a request.
func (s *session) body(b *body) bool {
	for !b.over() {
		if len(s.buf) == 0 && !s.fill() {
			return false
		}
		n, err := b.take(s.buf)
		s.saw(flow.Client, s.buf[:n])
		s.up.write(s.buf[:n])
		s.buf = s.buf[n:]
		if err != nil {
			s.fail(s.ordinal, &flow.Error{Where: flow.AtClient, Code: flow.CodeMalformed, Message: err.Error()})
			s.pass()
			return false
		}
	}
	return true
}

// pass carries what is no HTTP any more.
func (s *session) pass() {
	for {
		if len(s.buf) > 0 {
			s.saw(flow.Client, s.buf)
			s.up.write(s.buf)
			s.buf = nil
		}
		if !s.fill() {
			return
		}
	}
}

// reach connects to a server, unless that is the one of the request before.
func (s *session) reach(to destination) error {
	if s.up != nil {
		if s.up.to.origin() == to.origin() && !s.up.gone() {
			return nil
		}
		s.up.retire()
		s.up = nil
	}
	up, err := s.connect(to)
	s.up = up
	return err
}

// answer is what we say ourselves. The connection ends with it.
func (s *session) answer(status int, text string, fields ...string) {
	if s.up != nil {
		s.up.retire()
		s.up = nil
	}
	p := answerTo(s.method, status, text, fields...)
	s.saw(flow.Server, p)
	s.child.Write(p)
	s.ended(flow.Server, flow.FIN)
	discard(s.child)
}

// howEnded sorts the errors of reading.
func howEnded(err error) flow.How {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return flow.FIN
	case isReset(err):
		return flow.Reset
	}
	return flow.Failed
}

// reset aborts a connection at once.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		l.SetLinger(0)
	}
	c.Close()
}
