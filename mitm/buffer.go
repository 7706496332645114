package mitm

import (
	"io"
	"net"
	"sync"
	"syscall"

	"trace/nonblock"
)

// bufferSize is what the relay reads at most at once. Smaller ones make the
// kernel and the stack cut a stream in more pieces than it needs.
const bufferSize = 128 << 10

// buffers are taken when there is something to read and given back when it has been
// written, so that silent connections hold none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

type buffer = [bufferSize]byte

// source reads a conn without holding a buffer while there is nothing to read.
type source struct {
	conn net.Conn
	raw  syscall.RawConn               // of a socket
	wait interface{ WaitRead() error } // of a conn of our stack
}

func newSource(conn net.Conn) *source {
	s := &source{conn: conn}
	if w, ok := conn.(interface{ WaitRead() error }); ok {
		s.wait = w
	} else if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	return s
}

// read waits for input and returns a buffer with n bytes of it, which the
// caller gives back to buffers. b is nil if n is 0.
func (s *source) read() (b *buffer, n int, err error) {
	if s.raw != nil {
		return s.readRaw()
	}
	if s.wait != nil {
		s.wait.WaitRead() // its error, if any, is what Read returns too
	}
	b = buffers.Get().(*buffer)
	n, err = s.conn.Read(b[:])
	if n == 0 {
		buffers.Put(b)
		b = nil
	}
	return b, n, err
}

// readRaw reads a non-blocking socket; the runtime waits while it has nothing.
func (s *source) readRaw() (b *buffer, n int, err error) {
	var failed error
	err = s.raw.Read(func(fd uintptr) bool {
		b = buffers.Get().(*buffer)
		if n, failed = nonblock.Read(fd, b[:]); n > 0 {
			return true
		}
		buffers.Put(b)
		b = nil
		return failed != syscall.EAGAIN
	})
	if err == nil {
		err = failed
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return b, n, err
}

// sink writes to a conn.
type sink struct {
	conn net.Conn
	raw  syscall.RawConn // of a socket
}

func newSink(conn net.Conn) *sink {
	s := &sink{conn: conn}
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	return s
}

// Write sends p whole.
func (s *sink) Write(p []byte) (n int, err error) {
	if s.raw == nil {
		return s.conn.Write(p)
	}
	var failed error
	err = s.raw.Write(func(fd uintptr) bool {
		for n < len(p) && failed == nil {
			var m int
			m, failed = nonblock.Write(fd, p[n:])
			n += m
		}
		if failed == syscall.EAGAIN {
			failed = nil
			return false
		}
		return true
	})
	if err == nil {
		err = failed
	}
	return n, err
}
