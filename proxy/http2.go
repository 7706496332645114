package proxy

import (
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"trace/flow"
)

// A crossing carries the streams of one connection of HTTP/2.
type crossing struct {
	p *Reverse
	s *session

	mu sync.Mutex // guards ways
	// bridges lead to the servers of the connection, by origin.
	bridges map[string]*bridge
	latest  chan struct{} // closed when it is known where the latest stream goes
}

// serveHTTP2 carries a connection of HTTP/2.
func (s *session) serveHTTP2(p *Reverse) {
	s.mu.Lock()
	s.streams = map[int64]int64{}
	s.mu.Unlock()
	conn := &tappedConn{Conn: s.child, s: s, first: s.buf}
	if _, err := io.ReadFull(conn, make([]byte, len(preface))); err != nil {
		return
	}
	c := &crossing{p: p, s: s, bridges: map[string]*bridge{}}
	var streams sync.WaitGroup
	var carried atomic.Int64
	l := newLink(conn, false, func(st *stream) bool {
		if carried.Add(1) > mostCarried {
			carried.Add(-1)
			return false
		}
		before, routed := c.latest, make(chan struct{})
		c.latest = routed
		streams.Go(func() {
			defer carried.Add(-1)
			c.carry(st, before, routed)
		})
		return true
	})
	l.run()
	s.cancel() // nobody waits for a server any more
	streams.Wait()
	for _, b := range c.bridges {
		b.close()
	}
}

// tappedConn shows what passes to the tap.
type tappedConn struct {
	net.Conn
	s     *session
	first []byte
}

func (c *tappedConn) Read(p []byte) (n int, err error) {
	if len(c.first) > 0 {
		n = copy(p, c.first)
		c.first = c.first[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	if n > 0 {
		c.s.saw(flow.Client, p[:n])
	}
	if err != nil {
		c.s.ended(flow.Client, howEnded(err))
	}
	return n, err
}

func (c *tappedConn) Write(p []byte) (int, error) {
	c.s.saw(flow.Server, p)
	return c.Conn.Write(p)
}

// An asked is the head of a request of HTTP/2.
type asked struct {
	*stream                                  // the child's
	ordinal                           int64  // in the record; 0: it is not there
	method, authority, path, protocol string // of pseudo-header fields
	pseudo, fields                    []hpack.HeaderField
	end                               bool // no body follows
	to                                destination
	before, begun                     chan struct{} // closed when the stream before, this one, has been begun at its server
}

// inOrder returns what closes after once before is closed, nil if nothing is before.
func inOrder(before, after chan struct{}) func() {
	return sync.OnceFunc(func() {
		if before != nil {
			<-before
		}
		close(after)
	})
}

// carry carries one stream. Streams are begun at their server in the order in which
// the child began them: before is closed when the one before has found its place in
// that order, and routed is to be.
func (c *crossing) carry(st *stream, before, routed chan struct{}) {
	found := inOrder(before, routed)
	defer found()
	first, err := st.next()
	if err != nil {
		return
	}
	q, ok := readAsked(st, first)
	if !ok {
		st.reset(http2.ErrCodeProtocol)
		return
	}
	q.ordinal = c.s.ordinalOf(st.id)
	if q.ordinal != 0 {
		defer c.s.carried(st.id)
	}
	var no *refusal
	if q.to, no = c.p.find(c.s, &request{method: q.method, target: q.path}); no != nil {
		found()
		c.answer(q, no.status, no.err, no.text())
		return
	}
	if q.ordinal != 0 && c.s.rulesMay(q.to) {
		c.s.notApplied(q.ordinal)
	}
	if before != nil {
		<-before
	}
	b := c.bridge(q.to)
	q.before, q.begun = b.turn()
	found()
	defer q.begin()
	if err := c.cross(q, b); err != nil && q.problem() == nil {
		q.begin()
		e := upstreamError(q.to, err)
		c.answer(q, statusFor(err), e, e.Message)
	}
}

// rulesMay tells whether a rule may match requests to a server.
func (s *session) rulesMay(to destination) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.lane.Alter
	return a != nil && a.Rules.May(hostOf(to.host), to.port, s.facts.Process)
}

// notApplied says that rules were not asked about an exchange.
func (s *session) notApplied(ordinal int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.emitted(flow.Event{Kind: flow.Mark, At: time.Now(), Conn: s.facts.ID, Flow: ordinal, Error: &flow.Error{Where: flow.AtCapture, Code: flow.CodeRuleNotApplied,
		Message: "there are rules for this host, and they are not applied to HTTP/2 without TLS through a base URL", Hint: "have the client speak HTTP/1.1 to the base URL"}})
}

// mostTries is how often a stream is tried on another connection because one has
// ended before it was begun.
const mostTries = 3

// cross carries a stream to its server. An error says that nothing was answered.
func (c *crossing) cross(q *asked, b *bridge) (err error) {
	if q.before != nil {
		<-q.before
	}
	for range mostTries {
		var l *link
		if l, err = b.reach(q); err != nil {
			return err
		}
		switch {
		case l != nil:
			err = c.forward(q, l)
		case q.protocol != "":
			q.begin()
			return c.socket(q)
		default:
			q.begin()
			return c.overHTTP1(q, b)
		}
		if !errors.Is(err, errAway) {
			return err
		}
	}
	return err
}

// begin lets the next stream to the server be begun.
func (q *asked) begin() {
	select {
	case <-q.begun:
	default:
		close(q.begun)
	}
}

// readAsked reads the first header section of a stream (RFC 9113 section 8.3.1).
func readAsked(st *stream, it item) (*asked, bool) {
	q := &asked{stream: st, end: it.end}
	for i, f := range it.fields {
		if !f.IsPseudo() {
			q.fields = it.fields[i:]
			break
		}
		q.pseudo = it.fields[:i+1]
		switch f.Name {
		case ":method":
			q.method = f.Value
		case ":authority":
			q.authority = f.Value
		case ":path":
			q.path = f.Value
		case ":protocol":
			q.protocol = f.Value
		}
	}
	return q, q.method != "" && q.path != ""
}

// ordinalOf returns the number of the exchange of a stream in the record.
func (s *session) ordinalOf(id uint32) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[int64(id)]
}

// carried forgets it.
func (s *session) carried(id uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, int64(id))
}

// answer answers a stream ourselves, and says in the record why.
func (c *crossing) answer(q *asked, status int, e *flow.Error, text string) {
	c.s.fail(q.ordinal, e)
	text = "trace: " + text + "\n"
	err := q.headers([]hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(status)}, {Name: "content-type", Value: "text/plain; charset=utf-8"},
		{Name: "content-length", Value: strconv.Itoa(len(text))}}, q.method == "HEAD")
	if err == nil && q.method != "HEAD" {
		err = q.write([]byte(text), true)
	}
	if err == nil { // it may have more to say before it reads
		q.drain()
	}
	q.reset(http2.ErrCodeNo)
}

// forward carries a stream to a server that speaks HTTP/2.
func (c *crossing) forward(q *asked, l *link) error {
	fields := q.addressed()
	st, err := l.open(fields, q.end)
	if err != nil {
		return errAway // nothing has left
	}
	q.begin()
	c.left(q, &flow.Head{Method: q.method, Target: q.to.target, Authority: q.authorityTo(), Fields: plainFields(fields), Version: "2", Protocol: q.protocol})
	sum := newSummed()
	if q.end {
		c.over(q, sum, nil)
	}
	up, down := make(chan struct{}), make(chan struct{})
	there := &half{from: q.stream, to: st, done: up, other: down, over: q.end, saw: func(it item) {
		if sum.Write(it.data); it.end {
			c.over(q, sum, it.fields)
		}
	}}
	back := &half{from: st, to: q.stream, done: down, other: up, broke: func(err error) {
		var gone *goneError
		if errors.As(err, &gone) {
			c.s.fail(q.ordinal, lostServer(q.to, gone))
		}
	}}
	var both sync.WaitGroup
	both.Go(there.carry)
	back.carry()
	both.Wait()
	return nil
}

// A half passes on what comes on one stream to another, and how it ends.
type half struct {
	from, to    *stream
	done, other chan struct{}                          // closed when this half, the other one, has passed on all that it will
	over        bool                                   // there is nothing
	saw         func(item)                             // nil: nobody looks
	broke       func(error)                            // from was broken off, and that is passed on now
	alter       func(item) ([]item, error)             // what is passed on instead; errCut: and nothing more. nil: what comes
	pace        func([]byte, func([]byte) error) error // gives data to what writes it; nil: at once
}

// cutGrace is how long a client has to read what it was sent before its stream is cut: a
// reset that comes with the data would take it along.
const cutGrace = 500 * time.Millisecond

// errCut ends a stream for good.
var errCut = errors.New("the stream is cut")

func (h *half) carry() {
	err := h.pass()
	close(h.done)
	if err == nil {
		select {
		case <-h.from.broken: // behind its end
		case <-h.other:
			return
		}
	}
	why := h.from.problem()
	if why == nil { // it is the other end that takes no more: what it said before goes first
		<-h.other
		h.from.reset(codeOf(h.to.problem()))
		return
	}
	if h.broke != nil && err != nil {
		h.broke(why)
	}
	h.to.reset(codeOf(why))
}

// pass passes on what comes until that is over, or either stream is broken off.
func (h *half) pass() error {
	for !h.over {
		it, err := h.from.next()
		if err != nil {
			return err
		}
		if h.saw != nil {
			h.saw(it)
		}
		err = h.hand(it)
		h.from.took(len(it.data))
		if err != nil {
			return err
		}
		h.over = it.end
	}
	return nil
}

// hand passes on what came.
func (h *half) hand(it item) error {
	if h.alter == nil {
		return h.send(it)
	}
	items, cut := h.alter(it)
	for _, it := range items {
		if err := h.send(it); err != nil {
			return err
		}
	}
	if cut != nil {
		time.Sleep(cutGrace)
		h.to.reset(http2.ErrCodeInternal)
		h.from.reset(http2.ErrCodeCancel)
	}
	return cut
}

func (h *half) send(it item) error {
	switch {
	case it.fields != nil:
		return h.to.headers(it.fields, it.end)
	case h.pace == nil:
		return h.to.write(it.data, it.end)
	}
	if err := h.pace(it.data, func(p []byte) error { return h.to.write(p, false) }); err != nil || !it.end {
		return err
	}
	return h.to.write(nil, true)
}

// codeOf returns the code with which the end of a stream is passed on.
func codeOf(err error) http2.ErrCode {
	var r *resetError
	if errors.As(err, &r) {
		return r.code
	}
	return http2.ErrCodeCancel
}

// lostServer says that a server closed the connection before its answer was whole.
func lostServer(to destination, err error) *flow.Error {
	e := &flow.Error{Where: flow.AtUpstream, Code: flow.CodeTruncated, Message: to.addr() + ": " + err.Error() + " before the answer was whole"}
	if isReset(err) {
		e.Code = flow.CodeReset
	}
	return e
}

// addressed returns the header section as it leaves: naming the server.
func (q *asked) addressed() []hpack.HeaderField {
	fields := slices.Concat(q.pseudo, q.fields)
	for i := range fields {
		switch f := &fields[i]; f.Name {
		case ":scheme":
			f.Value = q.to.scheme
		case ":authority", "host":
			f.Value = q.to.authority
		case ":path":
			f.Value = q.to.target
		}
	}
	return fields
}

// authorityTo is :authority as it leaves.
func (q *asked) authorityTo() string {
	if q.authority == "" {
		return ""
	}
	return q.to.authority
}

func plainFields(fields []hpack.HeaderField) (all []flow.Field) {
	for _, f := range fields {
		if !strings.HasPrefix(f.Name, ":") {
			all = append(all, flow.Field{Name: f.Name, Value: f.Value})
		}
	}
	return all
}

// left records the head of a request as it left.
func (c *crossing) left(q *asked, h *flow.Head) {
	h.Scheme, h.Host, h.Port, h.Path = q.to.scheme, q.to.host, q.to.port, q.to.target
	c.s.forwarded(q.ordinal, flow.Event{Head: h})
}

// over records the body of a request as it left.
func (c *crossing) over(q *asked, sum *summed, trailers []hpack.HeaderField) {
	c.s.forwarded(q.ordinal, flow.Event{Ended: &flow.Ended{Size: sum.size, SHA256: [sha256.Size]byte(sum.sum.Sum(nil)), Trailers: plainFields(trailers)}})
}

// forwarded records something of a request as it left.
func (s *session) forwarded(ordinal int64, e flow.Event) {
	if ordinal == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.Kind, e.At, e.Conn, e.Flow, e.Side = flow.Forwarded, time.Now(), s.facts.ID, ordinal, flow.Client
	s.emitted(e)
}
