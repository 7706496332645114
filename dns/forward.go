package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Query answers one query of the child: raw as it came from src for the server
// dst. The answer is the caller's. An error means that nothing should be
// answered: the server is silent, there are too many queries, or raw is no
// query. With tcp the server is asked over TCP, on a connection of its own;
// neither raw nor the answer has the prefix of two octets then.
func (s *Server) Query(ctx context.Context, src, dst netip.AddrPort, raw []byte, tcp bool) ([]byte, error) {
	if !s.begin() {
		return nil, net.ErrClosed
	}
	defer s.wg.Done()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return nil, ErrBusy
	}
	ctx, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	ask := s.askUDP
	rec := Query{Src: src, Dst: dst, Transport: "udp", At: time.Now(), Sent: len(raw)}
	if tcp {
		ask, rec.Transport = s.askTCP, "tcp"
	}
	answer, q, err := s.local(raw)
	switch {
	case err != nil:
		return nil, err
	case answer != nil:
		rec.Local = true
	default:
		answer, err = s.askAll(ctx, ask, s.upstreams(dst), raw, q)
		if err != nil && unanswerable(err) {
			answer = reply(raw, q, rcodeServFail, netip.Addr{})
		}
		if ctx.Err() == nil {
			if lent := s.instead(raw, q, answer, err); lent != nil {
				answer, err, rec.Local = lent, nil, true
			}
		}
		rec.Err = err
	}
	s.finish(rec, q, answer)
	if answer == nil {
		return nil, err
	}
	return answer, nil
}

// askPatiently waits for the server as long as the child does, or less where
// a lent address can stand in for the answer.
func (s *Server) askPatiently(ctx context.Context, ask askFunc, server netip.AddrPort, raw []byte, q question) ([]byte, error) {
	if s.hurries(q) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lendAfter)
		defer cancel()
	}
	return ask(ctx, server, raw, q)
}

// askFunc asks a server over one transport.
type askFunc func(ctx context.Context, server netip.AddrPort, raw []byte, q question) ([]byte, error)

// local answers what is answered here. No answer and no error: ask the server.
func (s *Server) local(raw []byte) ([]byte, question, error) {
	q, err := parseQuery(raw)
	switch {
	case errors.Is(err, errMalformed):
		return reply(raw, question{}, rcodeFormErr, netip.Addr{}), q, nil
	case err != nil:
		return nil, q, fmt.Errorf("query of %d bytes: %w", len(raw), err)
	case q.end == 0 || q.class != classIN:
		if s.Offline != nil {
			return reply(raw, q, rcodeRefused, netip.Addr{}), q, nil
		}
		return nil, q, nil
	case q.typ == typeHTTPS || q.typ == typeSVCB:
		return reply(raw, q, 0, netip.Addr{}), q, nil
	}
	if answer := s.ours(raw, q); answer != nil {
		return answer, q, nil
	}
	if a, ok := s.Lent(q.name); ok {
		if q.typ != typeA && q.typ != typeANY {
			a = netip.Addr{}
		}
		return reply(raw, q, 0, a), q, nil
	}
	if s.Offline != nil {
		return s.alone(raw, q), q, nil
	}
	return nil, q, nil
}

// alone answers for a name that nobody else is asked about. Names that a
// resolver library made by adding a domain of the search list do not exist, or
// the name that was meant would never be tried.
func (s *Server) alone(raw []byte, q question) []byte {
	name := canonical(q.name)
	if special(name) || s.completed(name) || !s.Offline(name) {
		return reply(raw, q, rcodeNXDomain, netip.Addr{})
	}
	a := s.Lend(name)
	switch {
	case !a.IsValid():
		return reply(raw, q, rcodeNXDomain, netip.Addr{})
	case q.typ != typeA && q.typ != typeANY:
		a = netip.Addr{}
	}
	return reply(raw, q, 0, a)
}

// finish remembers what an answer says and tells the recorder.
func (s *Server) finish(rec Query, q question, answer []byte) {
	r := parseAnswer(answer)
	if !rec.Local && rec.Err == nil && len(r.addrs) > 0 && q.end > 0 {
		name := canonical(q.name)
		s.mu.Lock()
		for _, a := range r.addrs {
			s.seen.put(a, name)
		}
		s.mu.Unlock()
	}
	rec.Took = time.Since(rec.At)
	rec.Name, rec.Rcode, rec.Answers, rec.Received = q.name, r.rcode, r.answers, len(answer)
	if q.end > 0 {
		rec.Type = typeName(q.typ)
	}
	s.tell(rec)
}

// unanswerable reports whether err says that the server cannot be asked, as
// opposed to one that does not answer.
func unanswerable(err error) bool {
	return !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ETIMEDOUT)
}

// askUDP forwards raw with an ID and a port of its own and returns the answer
// with the ID of raw.
func (s *Server) askUDP(ctx context.Context, server netip.AddrPort, raw []byte, q question) ([]byte, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	size, _, _ := edns(raw)
	buf := make([]byte, max(int(size), 4096))
	asked := append(buf[:0:0], raw...)
	id := newID()
	binary.BigEndian.PutUint16(asked, id)
	if _, err := conn.Write(asked); err != nil {
		return nil, err
	}
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if answers(buf[:n], asked, q, id) {
			copy(buf, raw[:2])
			return buf[:n:n], nil
		}
	}
}

// newID returns an ID that others cannot guess (RFC 5452 section 9.2).
func newID() uint16 {
	var b [2]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint16(b[:])
}

// askTCP asks over a connection of its own.
func (s *Server) askTCP(ctx context.Context, server netip.AddrPort, raw []byte, q question) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if err := writeFrame(conn, raw); err != nil {
		return nil, err
	}
	for {
		msg, err := readFrame(conn)
		if err != nil {
			return nil, err
		}
		if answers(msg, raw, q, binary.BigEndian.Uint16(raw)) {
			return msg, nil
		}
	}
}
