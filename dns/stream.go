package dns

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// maxPending is how many queries of one TCP connection are remembered until
// their answers come. More are carried, but not recorded.
const maxPending = 1024

// A stream joins a TCP connection of the child to one to its server, frame by
// frame, both ways at once.
type stream struct {
	s      *Server
	child  net.Conn
	src    netip.AddrPort
	dst    netip.AddrPort
	server net.Conn // nil until the first query that needs it
	refuse error    // why there is no server
	back   sync.WaitGroup

	// mu guards writes to the child and what follows: local answers and the
	// server's come from two goroutines.
	mu      sync.Mutex
	pending map[uint16]asked
}

// asked is a query that waits for its answer.
type asked struct {
	rec Query
	q   question
	raw []byte // if its answer may have to be replaced
}

func newStream(s *Server, conn net.Conn, src, dst netip.AddrPort) *stream {
	return &stream{s: s, child: conn, src: src, dst: dst, pending: map[uint16]asked{}}
}

// run carries the child's queries until it has no more, then waits for the
// answers to those.
func (t *stream) run() {
	r := bufio.NewReader(t.child)
	for {
		raw, err := readFrame(r)
		if err != nil || t.query(raw) != nil {
			t.finish(err)
			return
		}
	}
}

// finish ends the server's side as the child's side ended: a half-close still
// gets its answers.
func (t *stream) finish(err error) {
	if t.server == nil {
		return
	}
	if c, ok := t.server.(*net.TCPConn); ok && err == io.EOF {
		c.CloseWrite()
		c.SetReadDeadline(time.Now().Add(t.s.wait))
	} else {
		t.server.Close()
	}
	t.back.Wait()
	t.server.Close()
	t.forget()
}

// query answers one query here, or sends it on.
func (t *stream) query(raw []byte) error {
	rec := Query{Src: t.src, Dst: t.dst, Transport: "tcp", At: time.Now(), Sent: len(raw)}
	answer, q, err := t.s.local(raw)
	if err != nil {
		return err
	}
	if answer == nil {
		if err := t.dial(); err != nil {
			if !unanswerable(err) {
				t.s.finish(rec.failed(err), q, nil)
				return err
			}
			rec.Err = err
			answer = reply(raw, q, rcodeServFail, netip.Addr{})
			if lent := t.s.instead(raw, q, answer, err); lent != nil {
				answer, rec.Err, rec.Local = lent, nil, true
			}
		}
	} else {
		rec.Local = true
	}
	if answer != nil {
		t.s.finish(rec, q, answer)
		return t.write(answer)
	}
	t.mu.Lock()
	if len(t.pending) < maxPending {
		a := asked{rec: rec, q: q}
		if t.s.mayLend(q) {
			a.raw = raw // readFrame made it for us
		}
		t.pending[binary.BigEndian.Uint16(raw)] = a
	}
	t.mu.Unlock()
	return writeFrame(t.server, raw)
}

func (q Query) failed(err error) Query {
	q.Err = err
	return q
}

// dial connects to the server at the first query, and once only: its answer to
// being dialled holds for this connection of the child.
func (t *stream) dial() error {
	if t.server != nil || t.refuse != nil {
		return t.refuse
	}
	ctx, cancel := context.WithTimeout(t.s.ctx, t.s.wait)
	defer cancel()
	conn, err := dialAll(ctx, t.s.upstreams(t.dst))
	if err != nil {
		t.refuse = err
		return err
	}
	t.server = conn
	t.back.Go(t.answer)
	return nil
}

// answer carries the server's answers until it has no more, and then closes
// the child's connection, as the server closed its own.
func (t *stream) answer() {
	stop := context.AfterFunc(t.s.ctx, func() { t.server.Close() })
	defer stop()
	r := bufio.NewReader(t.server)
	for {
		msg, err := readFrame(r)
		if err != nil {
			break
		}
		if t.write(t.settle(msg)) != nil {
			break
		}
	}
	t.child.Close()
}

// settle records the query that msg answers, and returns what the child gets.
// Of a zone transfer, many messages with one ID, it is the first.
func (t *stream) settle(msg []byte) []byte {
	if len(msg) < headerLen {
		return msg
	}
	id := binary.BigEndian.Uint16(msg)
	t.mu.Lock()
	a, ok := t.pending[id]
	delete(t.pending, id)
	t.mu.Unlock()
	if !ok {
		return msg
	}
	if a.raw != nil && answers(msg, a.raw, a.q, id) {
		if lent := t.s.instead(a.raw, a.q, msg, nil); lent != nil {
			msg, a.rec.Local = lent, true
		}
	}
	t.s.finish(a.rec, a.q, msg)
	return msg
}

// forget records the queries that were never answered.
func (t *stream) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.pending {
		t.s.finish(a.rec.failed(errNoAnswer), a.q, nil)
	}
}

var errNoAnswer = errors.New("the connection ended before an answer came")

func (t *stream) write(msg []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return writeFrame(t.child, msg)
}
