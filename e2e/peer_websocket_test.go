package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Opcodes of RFC 6455 section 5.2.
const (
	opText   = 1
	opBinary = 2
	opClose  = 8
	opPing   = 9
	opPong   = 10
)

const wsGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// acceptKey is Sec-WebSocket-Accept (RFC 6455 section 4.2.2).
func acceptKey(key string) string {
	s := sha1.Sum([]byte(key + wsGUID))
	return base64.StdEncoding.EncodeToString(s[:])
}

// offer is the client's Sec-WebSocket-Extensions; "" for none.
func (w *wsPlan) offer() string {
	if !w.Deflate {
		return ""
	}
	return "x-unknown, permessage-deflate" + w.params() + ", permessage-deflate"
}

// accept is the server's.
func (w *wsPlan) accept() string {
	if !w.Deflate {
		return ""
	}
	return "permessage-deflate" + w.params()
}

func (w *wsPlan) params() string {
	s := ""
	for i, side := range []string{"client", "server"} {
		if w.NoTakeover[i] {
			s += "; " + side + "_no_context_takeover"
		}
		if w.Bits[i] > 0 {
			s += "; " + side + "_max_window_bits=" + strconv.Itoa(w.Bits[i])
		}
	}
	return s
}

// A ws is one end of a WebSocket.
type ws struct {
	p      *plan
	client bool
	r      *bufio.Reader
	rnd    *rand.Rand
	e      *seen
	in     io.Writer // takes raw bytes; nil: not wanted
	echo   bool      // send back what comes, and nothing else

	wmu    sync.Mutex // of what follows
	w      func(p []byte) error
	comp   *flate.Writer
	packed bytes.Buffer

	window  []byte // of what was inflated
	mu      sync.Mutex
	cond    *sync.Cond
	got     int // data messages
	readErr error
	over    bool
	pongs   sync.WaitGroup
}

func (w *ws) me() int {
	if w.client {
		return 0
	}
	return 1
}

// run does all that is planned; end breaks the transport off.
func (w *ws) run(end func(how string)) {
	w.cond = sync.NewCond(&w.mu)
	plan := w.p.WS
	if plan.Deflate {
		size := 1 << 15
		if b := plan.Bits[w.me()]; b > 0 {
			size = 1 << b
		}
		w.comp, _ = flate.NewWriterWindow(&w.packed, size)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := w.readAll()
		w.mu.Lock()
		w.readErr, w.over = err, true
		w.cond.Broadcast()
		w.mu.Unlock()
	}()
	sizes, theirs, name := plan.Client, plan.Server, "client"
	if !w.client {
		sizes, theirs, name = theirs, sizes, "server"
	}
	for i, n := range sizes {
		if err := w.message(i, n, name); err != nil {
			w.e.Err = "send: " + err.Error()
			break
		}
	}
	if plan.Closer == name {
		w.mu.Lock()
		for w.got < len(theirs) && !w.over {
			w.cond.Wait()
		}
		w.mu.Unlock()
		w.pongs.Wait()
		if plan.Code == 0 {
			end(plan.How)
		} else {
			w.control(opClose, append(binary.BigEndian.AppendUint16(nil, uint16(plan.Code)), "done"...))
		}
	}
	<-done
	w.pongs.Wait()
	if w.readErr != nil {
		w.e.Err = "receive: " + w.readErr.Error()
	}
	w.e.Complete = w.e.Err == ""
}

// message sends the i-th message, in fragments and compressed as it comes.
func (w *ws) message(i, n int, name string) error {
	r := rng(w.p.ID*1000+i, name+" message")
	op, data := byte(opText), []byte(nil)
	if r.IntN(3) == 0 {
		op, data = opBinary, noise(r, n)
	} else {
		data = prose(r, n)
	}
	if all := [2][]int{w.p.WS.Client, w.p.WS.Server}[w.me()]; w.p.WS.Secret[w.me()] && i == len(all)-1 {
		op, data = opText, []byte(secretText)
	}
	m := seenMessage{Opcode: op, Size: len(data), SHA: sumOf(data)}
	payload := data
	if w.comp != nil && r.IntN(5) > 0 {
		m.Compressed = true
		payload = w.deflate(data)
	}
	if r.IntN(6) == 0 {
		if err := w.control(opPing, prose(r, r.IntN(126))); err != nil {
			return err
		}
	}
	for first := true; ; first = false {
		n := len(payload)
		if r.IntN(3) == 0 {
			n = r.IntN(len(payload) + 1)
		}
		last := n == len(payload)
		b := byte(0)
		if first {
			b = op
			if m.Compressed {
				b |= 0x40
			}
		}
		if last {
			b |= 0x80
		}
		w.wmu.Lock()
		if last { // a write that fails may have sent it
			w.e.MsgSent = append(w.e.MsgSent, m)
		}
		err := w.frame(b, payload[:n])
		w.wmu.Unlock()
		if err != nil || last {
			return err
		}
		payload = payload[n:]
		if r.IntN(4) == 0 {
			if err := w.control(opPing, prose(r, r.IntN(20))); err != nil {
				return err
			}
		}
	}
}

// control sends a control frame, also between the fragments of a message.
func (w *ws) control(op byte, data []byte) error {
	w.wmu.Lock()
	defer w.wmu.Unlock()
	w.e.MsgSent = append(w.e.MsgSent, seenMessage{Opcode: op, Size: len(data), SHA: sumOf(data)})
	return w.frame(0x80|op, data)
}

// frame writes one frame; wmu is held.
func (w *ws) frame(first byte, data []byte) error {
	b := []byte{first}
	mask := byte(0)
	if w.client {
		mask = 0x80
	}
	switch n := len(data); {
	case n < 126:
		b = append(b, mask|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, mask|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, mask|127), uint64(n))
	}
	if w.client {
		var key [4]byte
		binary.BigEndian.PutUint32(key[:], w.rnd.Uint32())
		b = append(b, key[:]...)
		data = slices.Clone(data)
		unmask(data, key)
	}
	return w.w(append(b, data...))
}

func unmask(p []byte, key [4]byte) {
	for i := range p {
		p[i] ^= key[i&3]
	}
}

func (w *ws) deflate(data []byte) []byte {
	w.packed.Reset()
	if w.p.WS.NoTakeover[w.me()] {
		w.comp.Reset(&w.packed)
	}
	w.comp.Write(data)
	w.comp.Flush()
	return bytes.TrimSuffix(slices.Clone(w.packed.Bytes()), []byte{0, 0, 0xff, 0xff})
}

func (w *ws) inflate(data []byte) ([]byte, error) {
	if w.p.WS.NoTakeover[1-w.me()] {
		w.window = nil
	}
	z := flate.NewReaderDict(io.MultiReader(bytes.NewReader(data), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")), w.window)
	out, err := io.ReadAll(z)
	w.window = append(w.window, out...)
	w.window = slices.Clone(w.window[max(0, len(w.window)-1<<15):])
	return out, err
}

// readAll reads until a Close frame came and was answered.
func (w *ws) readAll() error {
	var whole []byte
	var m seenMessage
	for {
		first, data, err := w.readFrame()
		if err != nil {
			return err
		}
		switch op := first & 15; op {
		case opText, opBinary, 0:
			if op != 0 {
				m = seenMessage{Opcode: op, Compressed: first&0x40 != 0}
				whole = nil
			}
			if whole = append(whole, data...); first&0x80 == 0 {
				continue
			}
			if m.Compressed {
				if whole, err = w.inflate(whole); err != nil {
					return fmt.Errorf("inflate: %w", err)
				}
			}
			m.Size, m.SHA = len(whole), sumOf(whole)
			w.received(m, 1)
			if w.echo {
				if err := w.sendBack(m, whole); err != nil {
					return err
				}
			}
		case opPing:
			w.received(seenMessage{Opcode: op, Size: len(data), SHA: sumOf(data)}, 0)
			// Not here: were both ends to wait with what they write, neither
			// would read.
			w.pongs.Go(func() { w.control(opPong, data) })
		case opPong:
			w.received(seenMessage{Opcode: op, Size: len(data), SHA: sumOf(data)}, 0)
		case opClose:
			w.received(seenMessage{Opcode: op, Size: len(data), SHA: sumOf(data)}, 0)
			if (w.p.WS.Closer == "client") != w.client {
				w.pongs.Wait()
				return w.control(opClose, data)
			}
			return nil
		default:
			return fmt.Errorf("opcode %d", op)
		}
	}
}

// sendBack sends a message as it came.
func (w *ws) sendBack(m seenMessage, data []byte) error {
	w.wmu.Lock()
	defer w.wmu.Unlock()
	first := 0x80 | m.Opcode
	if m.Compressed {
		data, first = w.deflate(data), first|0x40
	}
	w.e.MsgSent = append(w.e.MsgSent, m)
	return w.frame(first, data)
}

func (w *ws) received(m seenMessage, data int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.e.MsgRecvd = append(w.e.MsgRecvd, m)
	w.got += data
	w.cond.Broadcast()
}

func (w *ws) readFrame() (byte, []byte, error) {
	var b [14]byte
	if _, err := io.ReadFull(w.r, b[:2]); err != nil {
		return 0, nil, err
	}
	n, k := uint64(b[1]&0x7f), 2
	switch n {
	case 126:
		k += 2
	case 127:
		k += 8
	}
	masked := b[1]&0x80 != 0
	if masked == w.client {
		return 0, nil, errors.New("masked by the wrong end")
	}
	if masked {
		k += 4
	}
	if _, err := io.ReadFull(w.r, b[2:k]); err != nil {
		return 0, nil, err
	}
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		n = binary.BigEndian.Uint64(b[2:])
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(w.r, data); err != nil {
		return 0, nil, err
	}
	if w.in != nil {
		w.in.Write(b[:k])
		w.in.Write(data)
	}
	if masked {
		unmask(data, [4]byte(b[k-4:k]))
	}
	return b[0], data, nil
}

// websocketH1 is the client's end over HTTP/1.
func (k *peerClient) websocketH1(h *h1, p *plan, e *seen) {
	head := requestH1(k.conf.Host, p) + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	if ext := p.WS.offer(); ext != "" {
		head += "Sec-WebSocket-Extensions: " + ext + "\r\n"
	}
	if err := h.write([]byte(head + "\r\n")); err != nil {
		k.log.odd("exchange %d: request: %v", p.ID, err)
		return
	}
	first, _, err := h.head()
	if err != nil || !strings.HasPrefix(first, "HTTP/1.1 101 ") {
		k.log.odd("exchange %d: no 101 but %q, %v", p.ID, first, err)
		return
	}
	e.Status, e.Fields = 101, h.all
	w := &ws{p: p, client: true, r: h.br, rnd: rng(p.ID, "masks"), e: e, in: h.in, w: h.write}
	w.run(h.c.breakOff)
	if !e.Complete && p.WS.Code != 0 {
		k.log.odd("exchange %d: websocket: %s", p.ID, e.Err)
	}
}

// websocketH1 is the server's end over HTTP/1.
func (s *peerServer) websocketH1(h *h1, p *plan, e *seen, fields map[string]string) {
	head := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + acceptKey(fields["sec-websocket-key"]) + "\r\n"
	if ext := p.WS.accept(); ext != "" {
		head += "Sec-WebSocket-Extensions: " + ext + "\r\n"
	}
	e.Status = 101
	if err := h.write([]byte(head + "\r\n")); err != nil {
		e.Err = err.Error()
		return
	}
	w := &ws{p: p, r: h.br, e: e, in: h.in, w: h.write}
	w.run(h.c.breakOff)
	if e.Complete {
		h.c.closeGently()
	}
}

// websocketH2 is the client's end over a stream (RFC 8441).
func (k *peerClient) websocketH2(st *h2stream, p *plan, e *seen) {
	head, err := st.head()
	if err != nil || head.get(":status") != "200" {
		k.log.odd("exchange %d: no 200 but %v, %v", p.ID, head, err)
		return
	}
	e.Status, e.Fields = 200, head.regular()
	w := &ws{p: p, client: true, r: bufio.NewReader(st), rnd: rng(p.ID, "masks"), e: e, w: st.writeAll}
	w.run(func(string) { st.reset(http2.ErrCode(p.WS.streamCode())) })
	if !e.Complete && p.WS.Code != 0 {
		k.log.odd("exchange %d: websocket: %s", p.ID, e.Err)
	}
	if e.Complete {
		st.close()
		io.Copy(io.Discard, st)
	}
}

// websocket is the server's end over a stream.
func (v *h2server) websocket(st *h2stream, p *plan, e *seen) {
	head := []hpack.HeaderField{field(":status", "200")}
	if ext := p.WS.accept(); ext != "" {
		head = append(head, field("sec-websocket-extensions", ext))
	}
	e.Status = 200
	if err := st.headers(head, false); err != nil {
		e.Err = err.Error()
		return
	}
	w := &ws{p: p, r: bufio.NewReader(st), e: e, w: st.writeAll}
	w.run(func(string) { st.reset(http2.ErrCode(p.WS.streamCode())) })
	if e.Complete {
		st.close()
		io.Copy(io.Discard, st)
	}
}

func (w *wsPlan) streamCode() http2.ErrCode {
	if w.How == "rst" {
		return http2.ErrCodeInternal
	}
	return http2.ErrCodeCancel
}

func (s *h2stream) writeAll(p []byte) error {
	_, err := s.Write(p)
	return err
}
