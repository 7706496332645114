// Package pcap writes packets and the secrets that decrypt them as a pcapng
// file.
//
//	w, err := pcap.Create("run.pcapng", pcap.Options{Application: "trace 1.0", Interface: "child"})
//	cfg.KeyLogWriter = w.KeyLog()
//	w.Packet(true, header, payload) // to the child
//	sum, err := w.Close()
//
// It captures nothing and reads nothing back.
//
// # Theory of operation
//
// The format is draft-ietf-opsawg-pcapng, the packets are IP packets without
// a link header (LINKTYPE_RAW, 101). Whoever hands over a packet or a secret
// never waits for the file: packets are made into blocks in a queue of at most
// queueLimit bytes, and one goroutine writes them out. Packets beyond the
// limit are dropped and counted: in the next block that is written
// (epb_dropcount), in the statistics at the end, and in Summary.
//
// A reader that goes through the file once must find a secret before the first
// packet that needs it, but in TLS 1.2 the client encrypts its Finished
// message in the flight that makes the secret known to the server: that packet
// is captured before its secret exists. So packets wait in the queue for at
// least settle and at most delay, and secrets, which are never dropped, are
// written at once. Where a packet is seen to be the first that needs a secret
// that is not there yet, it waits for it, up to secretWait. Only when packets
// come faster than pressure bytes in that time do they wait for less.
//
// What is written goes to the file without another buffer, in whole blocks: a
// reader that follows it sees each packet after delay, as a rule. When a write fails, the
// capture is over: a file is cut behind the last whole block, what comes later
// is counted, and Close says why.
//
// Checksums that the sender left to the device (offload) are completed by
// that goroutine; wrong ones stay wrong.
package pcap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// queueLimit bounds the packets that wait to be written, in bytes: some
	// large transfers fit in while a disk takes its time.
	queueLimit = 128 << 20

	// pressure is how many bytes may wait for their time.
	pressure = 8 << 20

	// secretsLimit bounds the secrets that wait to be written, in bytes: those
	// of some 20000 connections. Beyond it nothing that follows could be read,
	// and the capture is over.
	secretsLimit = 16 << 20

	// settle and delay are the least and the most that a packet waits before
	// it is written.
	settle = 150 * time.Millisecond
	delay  = 250 * time.Millisecond

	// secretWait is the most that a packet waits that is known to need a
	// secret, and all that follow it: the secret of a connection that is not
	// decrypted never comes.
	secretWait = 3 * time.Second

	// patience is how long Close waits for a reader of a pipe that takes
	// nothing.
	patience = 3 * time.Second

	// always is longer than any capture.
	always = 100 * 365 * 24 * time.Hour
)

// errSecrets is why a capture ends whose secrets cannot be written.
var errSecrets = errors.New("its reader is too slow even for the secrets")

// Options describe a capture to who reads it. Empty ones are left out.
type Options struct {
	Hardware    string // of the machine
	System      string // its operating system
	Application string // the program that captures
	Comment     string // about the capture
	Interface   string // name of the interface
}

// Summary counts what became of the packets.
type Summary struct {
	Written uint64
	Dropped uint64 // because the queue was full, or writing had failed
}

// output is the file: an *os.File.
type output interface {
	io.WriteCloser
	Name() string
	Truncate(size int64) error
	SetWriteDeadline(t time.Time) error
}

// Writer writes one capture. Its methods may be called concurrently.
type Writer struct {
	out     output
	now     func() time.Time
	limit   int // queueLimit
	started time.Time
	wake    chan struct{} // something is to be done before the timer says so
	done    chan struct{} // the writing goroutine has ended

	// mu guards what follows.
	mu       sync.Mutex
	queue    queue
	secrets  []byte // key log lines
	received uint64 // packets, dropped ones too
	untold   uint64 // dropped ones that no block tells of yet
	closed   bool
	err      error // why the capture is over

	// Of the writing goroutine.
	handshakes handshakes
	size       int64 // bytes in the file
	written    uint64
	scratch    []byte
}

// Create makes the file path and writes the beginning of a capture to it. The
// file must not exist, and only its owner can read it. Or path names a pipe
// (FIFO), of this user or of root, that somebody reads; Create waits some
// seconds for that.
func Create(path string, opt Options) (*Writer, error) {
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("capture packets: %w", err)
	}
	w, err := start(f, opt, time.Now)
	if err != nil {
		f.Close()
		return nil, err
	}
	return w, nil
}

// start begins a capture in out, which it takes over unless it fails.
func start(out output, opt Options, now func() time.Time) (*Writer, error) {
	w := &Writer{out: out, now: now, limit: queueLimit, started: now(), wake: make(chan struct{}, 1), done: make(chan struct{})}
	if err := w.write(appendHeader(nil, opt)); err != nil {
		return nil, w.wrap(err)
	}
	go w.run()
	return w, nil
}

// Packet takes an IP packet, in parts that are the caller's again when it
// returns. toChild tells its direction. It never waits for the file.
func (w *Writer) Packet(toChild bool, parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.received++
	size := packetSize(n, w.untold)
	if w.err != nil || w.queue.size+size > w.limit {
		w.untold++
		return
	}
	before := w.queue.size
	b := w.queue.room(size)
	*b = appendPacket(*b, w.now(), toChild, w.untold, n, parts)
	w.queue.size += size
	w.untold = 0
	if before == 0 || before <= pressure && w.queue.size > pressure {
		w.poke()
	}
}

// KeyLog returns a writer that takes secrets in SSLKEYLOGFILE format. It never
// fails and never waits for the file.
func (w *Writer) KeyLog() io.Writer { return keyLog{w} }

type keyLog struct{ w *Writer }

// Write implements io.Writer.
func (k keyLog) Write(p []byte) (int, error) {
	w := k.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.err != nil {
		return len(p), nil
	}
	w.secrets = append(w.secrets, p...)
	if len(w.secrets) > secretsLimit {
		w.abandon(errSecrets)
	}
	w.poke()
	return len(p), nil
}

// Close writes what is queued and the statistics, and closes the file. The
// error is that which ended the capture, now or before.
func (w *Writer) Close() (Summary, error) {
	w.mu.Lock()
	again := w.closed
	w.closed = true
	w.mu.Unlock()
	if !again {
		// Wakes a write that waits for the reader of a pipe, too.
		w.out.SetWriteDeadline(time.Now().Add(patience))
		w.poke()
	}
	<-w.done
	return Summary{Written: w.written, Dropped: w.received - w.written}, w.wrap(w.err)
}

func (w *Writer) wrap(err error) error {
	var path *os.PathError
	if err == nil || errors.As(err, &path) { // names the file itself
		return err
	}
	return fmt.Errorf("write %s: %w", w.out.Name(), err)
}

func (w *Writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// abandon ends the capture. w.mu is held.
func (w *Writer) abandon(err error) {
	if w.err == nil {
		w.err = err
	}
	w.queue, w.secrets = queue{}, nil
}

// run writes until the capture is over.
func (w *Writer) run() {
	defer close(w.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		b := w.take()
		if err := w.writeBatch(b); err != nil {
			w.mu.Lock()
			w.abandon(err)
			w.mu.Unlock()
		}
		switch {
		case b.last:
			w.end()
			return
		case len(b.blocks) > 0: // more may have come, and nobody pokes for those
		case b.wait < 0:
			<-w.wake
		default:
			timer.Reset(b.wait)
			select {
			case <-w.wake:
			case <-timer.C:
			}
		}
	}
}

// A batch is what is to be written now.
type batch struct {
	secrets []byte        // whole lines
	blocks  [][]byte      // whole blocks of packets
	wait    time.Duration // until the next is due; negative: nothing waits
	last    bool
}

// take decides what is to be written now.
func (w *Writer) take() batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := batch{wait: -1, last: w.closed}
	lines := bytes.LastIndexByte(w.secrets, '\n') + 1
	if w.closed {
		lines = len(w.secrets)
	}
	b.secrets, w.secrets = w.secrets[:lines:lines], w.secrets[lines:]
	w.handshakes.learn(b.secrets)
	now := w.now()
	oldest, some := w.queue.oldest()
	var until time.Time
	switch age := now.Sub(oldest); {
	case w.closed, some && age < 0: // the clock was set back
		until = oldest.Add(always)
	case age >= delay:
		until = now.Add(-settle)
	default: // later, with what comes meanwhile
	}
	wait := delay
	b.blocks = w.queue.take(func(block []byte, waiting int) bool {
		at := timeOf(block)
		if at.After(until) && waiting <= pressure {
			return false
		}
		if w.closed || waiting > w.limit/2 || !w.handshakes.lacks(dataOf(block)) || now.Sub(at).Abs() >= secretWait {
			return true
		}
		wait = secretWait
		return false
	})
	if oldest, some = w.queue.oldest(); some {
		b.wait = min(max(0, oldest.Add(wait).Sub(now)), wait)
	}
	return b
}

// writeBatch writes b and gives its memory back.
func (w *Writer) writeBatch(b batch) error {
	for lines := b.secrets; len(lines) > 0; {
		n := cutLines(lines, secretsBlock)
		w.scratch = appendSecrets(w.scratch[:0], lines[:n])
		if err := w.write(w.scratch); err != nil {
			return err
		}
		lines = lines[n:]
	}
	for _, p := range b.blocks {
		n := complete(p)
		if err := w.write(p); err != nil {
			return err
		}
		w.written += n
		w.release(len(p))
	}
	return nil
}

// release makes room in the queue.
func (w *Writer) release(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil { // else the queue is gone
		w.queue.size -= n
	}
}

// write writes whole blocks, or takes back what it could of them.
func (w *Writer) write(p []byte) error {
	for rest := p; len(rest) > 0; {
		w.mu.Lock()
		closed := w.closed
		w.mu.Unlock()
		n := len(rest)
		if closed { // a slow reader gets its patience for each piece
			n = min(n, 64<<10)
			w.out.SetWriteDeadline(time.Now().Add(patience))
		}
		n, err := w.out.Write(rest[:n])
		if err != nil {
			w.out.Truncate(w.size) // a pipe cannot: its reader is told of the end only
			return err
		}
		rest = rest[n:]
	}
	w.size += int64(len(p))
	return nil
}

// end writes the statistics and closes the file.
func (w *Writer) end() {
	w.mu.Lock()
	failed, received := w.err, w.received
	w.mu.Unlock()
	var err error
	if failed == nil {
		err = w.write(appendStatistics(nil, w.started, w.now(), received, w.written))
	}
	err = errors.Join(err, w.out.Close())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}
