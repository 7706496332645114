package mitm

import (
	"io"
	"net"
	"sync"
	"time"
)

// wireConn stands under a tls.Conn. It replays what was peeked, notices what
// crypto/tls hides (plaintext alerts, how the stream ended, whether anything
// was sent), and joins small writes.
//
// While shaking hands it blocks as a net.Conn does. Once fed is set, Read only
// returns what feed gave it and errEmpty otherwise, so that the relay decides
// when to wait.
type wireConn struct {
	net.Conn
	out    *sink  // of Conn; made when it is first needed
	prefix []byte // read before; comes first

	// Reading; one goroutine at a time.
	fed     bool
	pending []byte
	ending  error // follows pending
	ended   error // what the stream ended with, once crypto/tls has seen it
	heard   bool  // something came
	records recordScanner

	mu       sync.Mutex // guards what follows
	wrote    bool       // something was sent
	told     alert      // the last that was to be sent in the clear
	alerted  bool       // there was one
	corked   bool
	batch    *[]byte // of batches; nil while it is empty
	withhold bool    // keep such an alert back
}

// errEmpty is temporary, so crypto/tls keeps its state and can be asked again.
type errEmpty struct{}

func (errEmpty) Error() string   { return "nothing to read yet" }
func (errEmpty) Timeout() bool   { return false }
func (errEmpty) Temporary() bool { return true }

func (w *wireConn) Read(p []byte) (int, error) {
	if len(w.prefix) > 0 {
		n := copy(p, w.prefix)
		w.prefix = w.prefix[n:]
		w.records.scan(p[:n])
		return n, nil
	}
	if w.fed {
		return w.readFed(p)
	}
	n, err := w.Conn.Read(p)
	w.heard = w.heard || n > 0
	w.records.scan(p[:n])
	if n == 0 && err != nil {
		w.ended = err
	}
	return n, err
}

func (w *wireConn) readFed(p []byte) (int, error) {
	switch {
	case len(w.pending) > 0:
		n := copy(p, w.pending)
		w.pending = w.pending[n:]
		return n, nil
	case w.ending != nil:
		w.ended = w.ending
		return 0, w.ending
	}
	return 0, errEmpty{}
}

func (w *wireConn) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(p) == recordHeader+2 && p[0] == recordAlert {
		w.told, w.alerted = alert(p[recordHeader+1]), true
	}
	if w.withhold && !w.wrote && len(p) > 0 && p[0] == recordAlert {
		return len(p), nil
	}
	w.wrote = true
	if w.corked {
		w.put(p)
		return len(p), nil
	}
	return w.send(p)
}

// cork joins all writes until uncork sends them.
func (w *wireConn) cork() {
	w.mu.Lock()
	w.corked = true
	w.mu.Unlock()
}

func (w *wireConn) uncork() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.corked = false
	if w.batch == nil {
		return nil
	}
	_, err := w.send(*w.batch)
	batches.Put(w.batch)
	w.batch = nil
	return err
}

// send writes p. The caller holds the lock.
func (w *wireConn) send(p []byte) (int, error) {
	if w.out == nil {
		w.out = newSink(w.Conn)
	}
	return w.out.Write(p)
}

// batches are the buffers of corked connections: a relay's buffer in records.
var batches = sync.Pool{New: func() any {
	b := make([]byte, 0, bufferSize+bufferSize/32)
	return &b
}}

// put adds to the batch.
func (w *wireConn) put(p []byte) {
	if w.batch == nil {
		w.batch = batches.Get().(*[]byte)
		*w.batch = (*w.batch)[:0]
	}
	*w.batch = append(*w.batch, p...)
}

// SetWriteDeadline does nothing: tls.Conn.CloseWrite sets one of five seconds,
// and a peer that reads slowly has a right to its last bytes.
func (w *wireConn) SetWriteDeadline(time.Time) error { return nil }

// answered tells whether the peer has been sent anything.
func (w *wireConn) answered() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wrote
}

// lastAlert returns the last alert that was sent in the clear, or withheld.
func (w *wireConn) lastAlert() (alert, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told, w.alerted
}

// closed tells that the stream ended without close_notify, given that
// crypto/tls returned io.EOF.
func (w *wireConn) closed() bool { return w.ended == io.EOF }

// recordScanner follows the records of a stream and keeps the last alert that
// was sent in the clear. A TLS 1.3 client that has not yet changed its keys
// refuses a certificate so, which crypto/tls reports as a bad record MAC.
type recordScanner struct {
	header [recordHeader + 2]byte // with the two bytes of an alert
	have   int                    // bytes of header so far
	skip   int                    // bytes of the record still to come
	alert  alert
	found  bool
}

func (s *recordScanner) scan(p []byte) {
	for len(p) > 0 {
		if s.skip > 0 {
			n := min(s.skip, len(p))
			s.skip -= n
			p = p[n:]
			continue
		}
		s.header[s.have] = p[0]
		s.have++
		p = p[1:]
		if s.have < recordHeader {
			continue
		}
		size := int(s.header[3])<<8 | int(s.header[4])
		switch {
		case s.header[0] != recordAlert || size != 2:
			s.skip, s.have = size, 0
		case s.have == len(s.header):
			s.alert, s.found, s.have = alert(s.header[recordHeader+1]), true, 0
		}
	}
}
