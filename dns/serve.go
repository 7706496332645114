package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// ServeUDP answers the queries that arrive at conn, a socket bound inside the
// namespace to the address of the server, until conn is closed or the Server
// is. It closes conn. Nil: it was closed.
func (s *Server) ServeUDP(conn net.PacketConn, server netip.AddrPort) error {
	defer conn.Close()
	if !s.begin() {
		return nil
	}
	defer s.wg.Done()
	defer context.AfterFunc(s.ctx, func() { conn.Close() })()
	work := make(chan struct{}, maxInFlight)
	buf := make([]byte, 65535)
	for broken := 0; ; {
		n, src, err := conn.ReadFrom(buf)
		if err != nil {
			if broken++; s.done(err, broken) {
				return closedNil(err)
			}
			continue
		}
		broken = 0
		select {
		case work <- struct{}{}:
		default:
			continue // lost, as where a socket's queue is full
		}
		raw := append([]byte(nil), buf[:n]...)
		s.wg.Go(func() {
			s.answerUDP(conn, src, server, raw)
			<-work
		})
	}
}

// maxBroken is how many errors in a row a socket may give, 10 ms apart: want
// of descriptors or memory passes, all else does not.
const maxBroken = 1000

// done reports whether serving a socket is over after err, the nth in a row.
// If not, it has paused.
func (s *Server) done(err error, n int) bool {
	if errors.Is(err, net.ErrClosed) || n >= maxBroken {
		return true
	}
	select {
	case <-s.ctx.Done():
		return true
	case <-time.After(10 * time.Millisecond):
		return false
	}
}

func closedNil(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (s *Server) answerUDP(conn net.PacketConn, src net.Addr, server netip.AddrPort, raw []byte) {
	if answer, err := s.Query(s.ctx, addrPort(src), server, raw, false); err == nil {
		conn.WriteTo(answer, src) // whom it does not reach asks again
	}
}

// addrPort returns the address of a, or the zero AddrPort.
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return unmap(a.AddrPort())
	case *net.TCPAddr:
		return unmap(a.AddrPort())
	}
	return netip.AddrPort{}
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// ServeTCP answers the queries of the connections that arrive at l, bound
// inside the namespace to the address of the server, until l is closed or the
// Server is. It closes l. Nil: it was closed.
func (s *Server) ServeTCP(l net.Listener, server netip.AddrPort) error {
	defer l.Close()
	if !s.begin() {
		return nil
	}
	defer s.wg.Done()
	defer context.AfterFunc(s.ctx, func() { l.Close() })()
	for broken := 0; ; {
		conn, err := l.Accept()
		if err != nil {
			if broken++; s.done(err, broken) {
				return closedNil(err)
			}
			continue
		}
		broken = 0
		s.wg.Go(func() { s.ServeConn(conn, addrPort(conn.RemoteAddr()), server) })
	}
}

// ServeConn answers the queries of one TCP connection (RFC 7766) from src to
// server, and closes it. It returns when either end has closed.
func (s *Server) ServeConn(conn net.Conn, src, server netip.AddrPort) {
	defer conn.Close()
	if !s.begin() {
		return
	}
	defer s.wg.Done()
	select {
	case s.conns <- struct{}{}:
		defer func() { <-s.conns }()
	default:
		return
	}
	defer context.AfterFunc(s.ctx, func() { conn.Close() })()
	newStream(s, conn, src, server).run()
}

// readFrame reads one message with its prefix (RFC 1035 section 4.2.2).
func readFrame(r io.Reader) ([]byte, error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(n[:]))
	_, err := io.ReadFull(r, msg)
	return msg, err
}

// writeFrame writes one message with its prefix, at once.
func writeFrame(w io.Writer, msg []byte) error {
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(msg)), uint16(len(msg)))
	_, err := w.Write(append(frame, msg...))
	return err
}
