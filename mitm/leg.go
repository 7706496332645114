package mitm

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"trace/flow"
)

// Limits of delivering before an abort.
const (
	drainTime  = 30 * time.Second
	drainFirst = time.Millisecond
	drainLater = 20 * time.Millisecond
)

// leg is one of the two connections that a relay joins. One goroutine reads
// from it, another writes to it; reset may be called by any.
type leg struct {
	raw  net.Conn
	src  *source
	out  *sink
	tls  *tls.Conn // nil if the leg is carried as it is
	wire *wireConn // under tls

	primed bool // what crypto/tls had read ahead has been decrypted

	prefix []byte // of a plain leg: what was peeked
	at     time.Time
	ending error // what followed prefix, if that is known

	broken atomic.Bool // a write failed: the other end takes nothing more
}

func plainLeg(h *half) *leg {
	l := &leg{raw: h.conn, src: newSource(h.conn), out: newSink(h.conn), at: h.at, ending: h.err}
	l.prefix = h.buf
	return l
}

// tlsLeg makes a leg of a finished handshake.
func tlsLeg(c *tls.Conn, w *wireConn) *leg {
	w.fed = true
	w.pending, w.prefix = w.prefix, nil
	return &leg{raw: w.Conn, src: newSource(w.Conn), tls: c, wire: w}
}

// errCloseNotify ends a TLS stream whose sender said that it is the end.
var errCloseNotify = errors.New("close_notify")

// read calls got with what comes next, in pieces of any size, and returns when
// it has given some or the direction has ended.
func (l *leg) read(got func(p []byte)) error {
	if len(l.prefix) > 0 {
		got(l.prefix)
		l.prefix = nil
		return nil
	}
	if l.ending != nil {
		return l.ending
	}
	if l.tls != nil {
		return l.readTLS(got)
	}
	b, n, err := l.src.read()
	if n > 0 {
		got(b[:n])
		buffers.Put(b)
	}
	return err
}

// readTLS decrypts what one read of the socket gave. It hands over what
// there is as soon as no whole record is left, and never waits for more.
func (l *leg) readTLS(got func(p []byte)) error {
	if !l.primed {
		// crypto/tls may have read ahead in the handshake.
		l.primed = true
		if err := l.decrypt(got); err != (errEmpty{}) {
			return l.tlsEnd(err)
		}
	}
	b, n, err := l.src.read()
	l.wire.ending = err
	if n > 0 {
		l.wire.pending = b[:n]
		defer buffers.Put(b)
	}
	err = l.decrypt(got)
	l.wire.pending = nil
	if err != (errEmpty{}) {
		return l.tlsEnd(err)
	}
	return nil
}

// decrypt hands over what can be decrypted, and returns errEmpty when more input is
// needed.
func (l *leg) decrypt(got func(p []byte)) error {
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	n := 0
	for {
		m, err := l.tls.Read(b[n:])
		n += m
		if err == nil && n < len(b) {
			continue
		}
		if n > 0 {
			got(b[:n])
			n = 0
		}
		if err != nil {
			return err
		}
	}
}

func (l *leg) tlsEnd(err error) error {
	if err == io.EOF && !l.wire.closed() {
		return errCloseNotify
	}
	return err
}

// write sends p whole. After an error nothing more can be sent.
func (l *leg) write(p []byte) error {
	var err error
	if l.tls == nil {
		_, err = l.out.Write(p)
	} else {
		l.wire.cork()
		_, err = l.tls.Write(p)
		if flushed := l.wire.uncork(); err == nil {
			err = flushed
		}
	}
	if err != nil {
		l.broken.Store(true)
	}
	return err
}

// closeNotify tells the other end by TLS that nothing follows.
func (l *leg) closeNotify() {
	if n, ok := l.raw.(*noticed); ok {
		n.CloseWrite()
	}
	if l.tls != nil && l.tls.CloseWrite() != nil {
		l.broken.Store(true)
	}
}

// fin ends the direction towards this leg's other end by FIN alone.
func (l *leg) fin() {
	if c, ok := l.raw.(interface{ CloseWrite() error }); ok {
		c.CloseWrite() // fails if the connection is gone, which the reader sees too
	}
}

// watch reads on after close_notify until the FIN or the error that follows.
func (l *leg) watch() error {
	for {
		b, n, err := l.src.read()
		if n > 0 {
			buffers.Put(b)
		}
		if err != nil {
			return err
		}
	}
}

// abort resets the connection once the other end has acknowledged what was
// sent to it.
func (l *leg) abort() {
	if !l.broken.Load() {
		drain(l.raw)
	}
	reset(l.raw)
}

// reset aborts a connection at once.
func reset(c net.Conn) {
	switch r := c.(type) {
	case interface{ Reset() error }:
		r.Reset()
	case interface{ SetLinger(int) error }:
		r.SetLinger(0)
	}
	c.Close()
}

// drain waits until a socket's other end has acknowledged everything, within
// bounds. The kernel tells the amount that is left but not when it is none.
// Conns with a Reset of their own do this by themselves.
func drain(c net.Conn) {
	sc, ok := c.(syscall.Conn)
	if _, own := c.(interface{ Reset() error }); own || !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	wait := drainFirst
	for end := time.Now().Add(drainTime); time.Now().Before(end); {
		if left, err := unsent(raw); err != nil || left == 0 {
			return
		}
		time.Sleep(wait)
		wait = min(2*wait, drainLater)
	}
}

// howEnded sorts the errors of reading.
func howEnded(err error) flow.How {
	switch {
	case err == errCloseNotify:
		return flow.CloseNotify
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		return flow.FIN // the latter inside a TLS record
	case isReset(err):
		return flow.Reset
	}
	return flow.Failed
}
