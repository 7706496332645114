package replay

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"trace/flow"
)

// closingTime is how long a played WebSocket waits for the client to close.
const closingTime = 5 * time.Second

// maxFrame bounds a frame of a live WebSocket.
const maxFrame = 64 << 20

// webSocket plays the recorded messages: each that the server sent follows as
// many of the client's as it followed in the record.
func (s *served1) webSocket(r *http.Request, a *answer) error {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fs := setField(dropField(a.head.Fields, "Sec-WebSocket-Extensions"), "Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
	head := *a.head
	if head.Status != http.StatusSwitchingProtocols { // RFC 8441
		head = flow.Head{Status: http.StatusSwitchingProtocols, Reason: http.StatusText(http.StatusSwitchingProtocols)}
		fs = setField(setField(fs, "Upgrade", "websocket"), "Connection", "Upgrade")
	}
	s.head(&head, "1.1", fs)
	if err := s.w.Flush(); err != nil {
		return err
	}
	ws := &playedSocket{s: s, said: make(chan struct{}, 1), over: make(chan struct{})}
	var reader sync.WaitGroup
	reader.Go(ws.read)
	err := ws.play(a.detail)
	if err == nil {
		select {
		case <-ws.over:
		case <-s.ctx.Done():
		}
	}
	s.c.Close()
	reader.Wait()
	return errOver
}

// A playedSocket is one WebSocket that is played.
type playedSocket struct {
	s    *served1
	said chan struct{} // something came
	over chan struct{} // closed when nothing more comes

	mu     sync.Mutex // guards what follows, and writing
	heard  int        // messages that came
	closed bool       // a close frame was sent
}

// play sends what the server sent.
func (ws *playedSocket) play(d *flow.Detail) error {
	asked := 0
	last := d.Responded
	for _, m := range d.Messages {
		if m.Side == flow.Client {
			if m.Opcode == flow.OpText || m.Opcode == flow.OpBinary {
				asked++
				if err := ws.await(asked); err != nil {
					return err
				}
				last = m.At
			}
			continue
		}
		if m.Opcode == flow.OpPong {
			continue
		}
		if !ws.s.p.opt.Fast {
			if err := pause(ws.s.ctx, m.At.Sub(last)); err != nil {
				return err
			}
		}
		last = m.At
		if err := ws.write(m.Opcode, m.Data); err != nil {
			return err
		}
	}
	return ws.rest(asked)
}

// rest waits for the client to go. What it asks now has no recorded answer.
func (ws *playedSocket) rest(asked int) error {
	ws.mu.Lock()
	closed := ws.closed
	ws.mu.Unlock()
	if closed {
		ws.s.c.SetReadDeadline(time.Now().Add(closingTime))
		return nil
	}
	if ws.await(asked+1) != nil {
		return nil
	}
	m := &miss{Request: "a WebSocket message", Reason: "the recorded conversation is over"}
	ws.s.p.missed(m)
	return ws.write(flow.OpClose, append(binary.BigEndian.AppendUint16(nil, 1011), "trace --play: "+m.Reason...))
}

// await waits until n messages have come.
func (ws *playedSocket) await(n int) error {
	for {
		ws.mu.Lock()
		heard := ws.heard
		ws.mu.Unlock()
		if heard >= n {
			return nil
		}
		select {
		case <-ws.said:
		case <-ws.over:
			return errOver
		case <-ws.s.ctx.Done():
			return ws.s.ctx.Err()
		}
	}
}

// write sends a frame, unmasked (RFC 6455 section 5.1).
func (ws *playedSocket) write(opcode uint8, p []byte) error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.closed {
		return nil
	}
	ws.closed = opcode == flow.OpClose
	head := []byte{0x80 | opcode, byte(min(len(p), 126))}
	switch {
	case len(p) > 0xffff:
		head[1] = 127
		head = binary.BigEndian.AppendUint64(head, uint64(len(p)))
	case len(p) > 125:
		head = binary.BigEndian.AppendUint16(head, uint16(len(p)))
	}
	ws.s.w.Write(head)
	ws.s.w.Write(p)
	return ws.s.w.Flush()
}

// read counts what the client sends, and answers its control frames.
func (ws *playedSocket) read() {
	defer close(ws.over)
	for {
		final, opcode, p, err := readFrame(ws.s.c.r)
		if err != nil {
			return
		}
		switch opcode {
		case flow.OpPing:
			ws.write(flow.OpPong, p)
		case flow.OpClose:
			ws.write(flow.OpClose, p)
			return
		case flow.OpPong:
		default:
			if !final {
				continue
			}
			ws.mu.Lock()
			ws.heard++
			ws.mu.Unlock()
			select {
			case ws.said <- struct{}{}:
			default:
			}
		}
	}
}

var errFrame = errors.New("a frame is too long")

// readFrame reads a frame of the client's.
func readFrame(r *bufio.Reader) (final bool, opcode uint8, p []byte, err error) {
	var head [8]byte
	if _, err = io.ReadFull(r, head[:2]); err != nil {
		return
	}
	final, opcode = head[0]&0x80 != 0, head[0]&0xf
	masked, size := head[1]&0x80 != 0, uint64(head[1]&0x7f)
	switch size {
	case 126:
		_, err = io.ReadFull(r, head[:2])
		size = uint64(binary.BigEndian.Uint16(head[:2]))
	case 127:
		_, err = io.ReadFull(r, head[:8])
		size = binary.BigEndian.Uint64(head[:8])
	}
	if err == nil && size > maxFrame {
		err = errFrame
	}
	var mask [4]byte
	if err == nil && masked {
		_, err = io.ReadFull(r, mask[:])
	}
	if err != nil {
		return
	}
	p = make([]byte, size)
	_, err = io.ReadFull(r, p)
	for i := range p {
		p[i] ^= mask[i%4]
	}
	return
}
