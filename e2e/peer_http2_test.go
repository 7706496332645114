package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A h2 is one end of an HTTP/2 connection with control over its frames.
type h2 struct {
	c      *peerConn
	client bool
	// opened is handed the streams that the other end opens; it must not wait.
	opened func(*h2stream)

	fr *http2.Framer // read by readLoop only; written under wmu
	in *frameTap

	wmu  sync.Mutex // of what is written
	out  *bytes.Buffer
	henc *hpack.Encoder
	hbuf bytes.Buffer
	rnd  *rand.Rand

	mu      sync.Mutex
	cond    *sync.Cond
	streams map[uint32]*h2stream
	next    uint32
	window  int64 // to send
	initial int64 // of streams, as the other end says
	frame   int   // largest payload
	settled bool  // the other end's SETTINGS came
	goAway  *http2.GoAwayFrame
	err     error // of the connection
	done    chan struct{}
}

// A h2head is a header section that came.
type h2head struct {
	fields []hpack.HeaderField
	end    bool
}

func (h h2head) get(name string) string {
	for _, f := range h.fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// regular returns the fields that are no pseudo-header fields.
func (h h2head) regular() (all [][2]string) {
	for _, f := range h.fields {
		if !f.IsPseudo() {
			all = append(all, [2]string{f.Name, f.Value})
		}
	}
	return all
}

// A h2stream is a stream. Its fields are guarded by the connection's mu.
type h2stream struct {
	c      *h2
	id     uint32
	heads  []h2head
	data   bytes.Buffer
	ended  bool // END_STREAM came
	err    error
	window int64
	raw    [2]tally // of frames but WINDOW_UPDATE: received, sent
}

// A streamReset is a RST_STREAM that came.
type streamReset http2.ErrCode

func (e streamReset) Error() string { return "stream reset: " + http2.ErrCode(e).String() }

// A frameTap keeps the bytes of the frame that is read.
type frameTap struct {
	r   io.Reader
	buf bytes.Buffer
}

func (t *frameTap) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.buf.Write(p[:n])
	return n, err
}

// newH2 begins HTTP/2 on c: preface and SETTINGS are sent.
func newH2(c *peerConn, br *bufio.Reader, client bool, r *rand.Rand, opened func(*h2stream)) (*h2, error) {
	h := &h2{c: c, client: client, opened: opened, in: &frameTap{r: br}, out: &bytes.Buffer{}, rnd: r,
		streams: map[uint32]*h2stream{}, next: 1, window: 65535, initial: 65535, frame: 16384, done: make(chan struct{})}
	h.cond = sync.NewCond(&h.mu)
	h.fr = http2.NewFramer(h.out, h.in)
	h.fr.SetMaxReadFrameSize(1 << 20)
	h.henc = hpack.NewEncoder(&h.hbuf)
	table := []uint32{4096, 0, 65536, 256}[r.IntN(4)]
	h.fr.ReadMetaHeaders = hpack.NewDecoder(table, nil)
	settings := []http2.Setting{
		{ID: http2.SettingHeaderTableSize, Val: table},
		{ID: http2.SettingInitialWindowSize, Val: []uint32{65535, 1 << 20, 1 << 22}[r.IntN(3)]},
		{ID: http2.SettingMaxFrameSize, Val: []uint32{16384, 65536, 1 << 20}[r.IntN(3)]},
	}
	if !client {
		p := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(br, p); err != nil || string(p) != http2.ClientPreface {
			return nil, fmt.Errorf("preface %q: %w", p, err)
		}
		settings = append(settings, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
	} else {
		h.out.WriteString(http2.ClientPreface)
	}
	if err := h.write(nil, func() error { return h.fr.WriteSettings(settings...) }); err != nil {
		return nil, err
	}
	go h.readLoop()
	h.mu.Lock()
	defer h.mu.Unlock()
	for !h.settled && h.err == nil {
		h.cond.Wait()
	}
	return h, h.err
}

// write writes the frames that f makes, as one piece.
func (h *h2) write(s *h2stream, f func() error) error {
	h.wmu.Lock()
	defer h.wmu.Unlock()
	if err := f(); err != nil {
		return err
	}
	return h.flush(s)
}

func (h *h2) flush(s *h2stream) error {
	p := h.out.Bytes()
	n, err := h.c.Write(p)
	if s != nil {
		s.raw[1].Write(p[:n])
	}
	h.out.Reset()
	return err
}

// readLoop reads frames until the connection ends.
func (h *h2) readLoop() {
	defer close(h.done)
	for {
		h.in.buf.Reset()
		f, err := h.fr.ReadFrame()
		raw := h.in.buf.Bytes()
		h.mu.Lock()
		if len(raw) >= 9 && err == nil {
			id := binary.BigEndian.Uint32(raw[5:]) & (1<<31 - 1)
			_, known := h.streams[id]
			if _, heads := f.(*http2.MetaHeadersFrame); heads && !known && !h.client {
				h.streams[id] = &h2stream{c: h, id: id, window: h.initial}
			}
			if s := h.streams[id]; s != nil && http2.FrameType(raw[3]) != http2.FrameWindowUpdate {
				s.raw[0].Write(raw)
			}
		}
		if err == nil {
			err = h.frameCame(f)
		}
		if err != nil {
			h.err = err
			h.cond.Broadcast()
			h.mu.Unlock()
			return
		}
		h.cond.Broadcast()
		h.mu.Unlock()
	}
}

// frameCame acts on a frame. It is called with mu held.
func (h *h2) frameCame(f http2.Frame) error {
	s := h.streams[f.Header().StreamID]
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		h.headersCame(s, f)
	case *http2.DataFrame:
		if s != nil && s.err == nil {
			s.data.Write(f.Data())
			s.ended = s.ended || f.StreamEnded()
		}
		if n := f.Header().Length; n > 0 {
			go h.credit(s, n, f.StreamEnded())
		}
	case *http2.SettingsFrame:
		return h.settingsCame(f)
	case *http2.PingFrame:
		if data := f.Data; !f.IsAck() {
			go h.write(nil, func() error { return h.fr.WritePing(true, data) })
		}
	case *http2.WindowUpdateFrame:
		if s != nil {
			s.window += int64(f.Increment)
		} else if f.StreamID == 0 {
			h.window += int64(f.Increment)
		}
	case *http2.RSTStreamFrame:
		if s != nil {
			s.err = streamReset(f.ErrCode)
		}
	case *http2.GoAwayFrame:
		h.goAway = f
		for id, s := range h.streams {
			if id > f.LastStreamID && s.err == nil {
				s.err = fmt.Errorf("not processed: GOAWAY %v", f.ErrCode)
			}
		}
	}
	return nil
}

func (h *h2) headersCame(s *h2stream, f *http2.MetaHeadersFrame) {
	if s == nil || s.err != nil {
		return
	}
	first := len(s.heads) == 0
	s.heads = append(s.heads, h2head{f.Fields, f.StreamEnded()})
	s.ended = s.ended || f.StreamEnded()
	if first && !h.client {
		h.opened(s)
	}
}

func (h *h2) settingsCame(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	var table *uint32
	f.ForeachSetting(func(v http2.Setting) error {
		switch v.ID {
		case http2.SettingInitialWindowSize:
			for _, s := range h.streams {
				s.window += int64(v.Val) - h.initial
			}
			h.initial = int64(v.Val)
		case http2.SettingMaxFrameSize:
			h.frame = int(v.Val)
		case http2.SettingHeaderTableSize:
			table = &v.Val
		}
		return nil
	})
	go h.settle(table)
	return nil
}

// settle says that the other end's SETTINGS hold from now on.
func (h *h2) settle(table *uint32) {
	h.write(nil, func() error {
		if table != nil {
			h.henc.SetMaxDynamicTableSizeLimit(*table)
			h.henc.SetMaxDynamicTableSize(min(*table, 16384))
		}
		return h.fr.WriteSettingsAck()
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled = true
	h.cond.Broadcast()
}

// credit gives back the window that n bytes took.
func (h *h2) credit(s *h2stream, n uint32, last bool) {
	h.write(nil, func() error { return h.fr.WriteWindowUpdate(0, n) })
	if s != nil && !last {
		h.write(nil, func() error { return h.fr.WriteWindowUpdate(s.id, n) })
	}
}

// open opens a stream with a header section.
func (h *h2) open(fields []hpack.HeaderField, end bool) (*h2stream, error) {
	h.wmu.Lock()
	defer h.wmu.Unlock()
	h.mu.Lock()
	s := &h2stream{c: h, id: h.next, window: h.initial}
	h.next += 2
	h.streams[s.id] = s
	h.mu.Unlock()
	return s, h.headers(s, fields, end)
}

// headers writes a header section, sometimes in several frames and padded. It
// is called with wmu held.
func (h *h2) headers(s *h2stream, fields []hpack.HeaderField, end bool) error {
	h.hbuf.Reset()
	for _, f := range fields {
		h.henc.WriteField(f)
	}
	block := append([]byte(nil), h.hbuf.Bytes()...)
	cut := len(block)
	if h.rnd.IntN(4) == 0 || cut > 16000 {
		cut = h.rnd.IntN(min(cut, 16000) + 1)
	}
	p := http2.HeadersFrameParam{StreamID: s.id, BlockFragment: block[:cut], EndStream: end, EndHeaders: cut == len(block)}
	if h.rnd.IntN(4) == 0 && cut < 16000 {
		p.PadLength = uint8(h.rnd.IntN(100))
	}
	if h.client && h.rnd.IntN(4) == 0 {
		p.Priority = http2.PriorityParam{StreamDep: 0, Weight: 20, Exclusive: true}
	}
	h.fr.WriteHeaders(p)
	for rest := block[cut:]; len(rest) > 0; {
		n := min(len(rest), 1+h.rnd.IntN(16000))
		h.fr.WriteContinuation(s.id, n == len(rest), rest[:n])
		rest = rest[n:]
	}
	return h.flush(s)
}

func (s *h2stream) headers(fields []hpack.HeaderField, end bool) error {
	s.c.wmu.Lock()
	defer s.c.wmu.Unlock()
	return s.c.headers(s, fields, end)
}

// Write sends p as DATA frames within the windows.
func (s *h2stream) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		n, pad, err := s.reserve(len(p))
		if err != nil {
			return total, err
		}
		if err := s.sendData(p[:n], pad, false); err != nil {
			return total, err
		}
		total, p = total+n, p[n:]
	}
	return total, nil
}

// reserve waits for window for up to n bytes, and maybe padding.
func (s *h2stream) reserve(n int) (int, int, error) {
	h := s.c
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case s.err != nil:
			return 0, 0, s.err
		case h.err != nil:
			return 0, 0, h.err
		}
		if room := min(h.window, s.window); room > 0 {
			n = int(min(int64(n), room, int64(h.frame)))
			pad := 0
			if n > 10 && n%7 == 0 {
				pad = min(n/2, 200)
				n -= pad + 1
			}
			took := int64(n)
			if pad > 0 {
				took += int64(pad) + 1
			}
			h.window -= took
			s.window -= took
			return n, pad, nil
		}
		h.cond.Wait()
	}
}

func (s *h2stream) sendData(p []byte, pad int, end bool) error {
	return s.c.write(s, func() error {
		if pad > 0 {
			return s.c.fr.WriteDataPadded(s.id, end, p, make([]byte, pad))
		}
		return s.c.fr.WriteData(s.id, end, p)
	})
}

// close ends what this end sends.
func (s *h2stream) close() error { return s.sendData(nil, 0, true) }

func (s *h2stream) reset(code http2.ErrCode) error {
	s.c.mu.Lock()
	if s.err == nil {
		s.err = errors.New("reset by us")
	}
	s.c.cond.Broadcast()
	s.c.mu.Unlock()
	return s.c.write(s, func() error { return s.c.fr.WriteRSTStream(s.id, code) })
}

// Read reads the data of the stream.
func (s *h2stream) Read(p []byte) (int, error) {
	h := s.c
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case s.data.Len() > 0:
			return s.data.Read(p)
		case s.ended:
			return 0, io.EOF
		case s.err != nil:
			return 0, s.err
		case h.err != nil:
			return 0, h.err
		}
		h.cond.Wait()
	}
}

// head waits for the next header section.
func (s *h2stream) head() (h2head, error) {
	h := s.c
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case len(s.heads) > 0:
			x := s.heads[0]
			s.heads = s.heads[1:]
			return x, nil
		case s.err != nil:
			return h2head{}, s.err
		case h.err != nil:
			return h2head{}, h.err
		case s.ended:
			return h2head{}, io.EOF
		}
		h.cond.Wait()
	}
}

// gone waits until the stream is reset or the connection ends.
func (s *h2stream) gone() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for s.err == nil && s.c.err == nil {
		s.c.cond.Wait()
	}
	if s.err != nil {
		return s.err
	}
	return s.c.err
}

// finish closes the connection after the other end has read all.
func (h *h2) finish() {
	h.c.SetDeadline(time.Now().Add(patience))
	h.c.closeGently()
	<-h.done
}
