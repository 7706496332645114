package replay

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The windows that we open: large, since nothing here is slower than the
// network.
const (
	ourWindow     = 1 << 30
	defaultWindow = 1<<16 - 1
	theStream     = 1
)

// An http2Sending is the HTTP/2 side of a sending: one request on stream 1.
type http2Sending struct {
	s *sending

	write  sync.Mutex // serialises frames
	framer *http2.Framer

	mu      sync.Mutex // guards what follows
	changed *sync.Cond
	conn    int64 // how much more may be sent on the connection
	stream  int64 // and on the stream
	initial int64
	frame   int   // the largest that the server takes
	ended   error // nothing more is to be sent
}

// http2 sends the request and reads until the tap has seen all of the answer.
func (s *sending) http2() error {
	c := &http2Sending{s: s, conn: defaultWindow, stream: defaultWindow, initial: defaultWindow, frame: 16 << 10}
	c.changed = sync.NewCond(&c.mu)
	c.framer = http2.NewFramer(sender{s}, receiver{s})
	c.framer.SetMaxReadFrameSize(1<<24 - 1)
	if err := c.preface(); err != nil { // before anything that the reader may answer
		return err
	}
	return s.both(c.request, c.read)
}

// sender and receiver show what passes to the tap.
type sender struct{ s *sending }

func (w sender) Write(p []byte) (int, error) { return len(p), w.s.send(p) }

type receiver struct{ s *sending }

func (r receiver) Read(p []byte) (int, error) { return r.s.receive(p) }

// preface writes what a client begins with (RFC 9113 section 3.4).
func (c *http2Sending) preface() error {
	if err := c.s.send([]byte(http2.ClientPreface)); err != nil {
		return err
	}
	return c.locked(func() error {
		err := c.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: ourWindow})
		if err != nil {
			return err
		}
		return c.framer.WriteWindowUpdate(0, ourWindow-defaultWindow)
	})
}

// request writes the request.
func (c *http2Sending) request() error {
	r := c.s.r
	if err := c.block(c.head(), len(r.Body) == 0 && len(r.Trailers) == 0); err != nil {
		return err
	}
	if len(r.Body) > 0 {
		if err := c.data(r.Body, len(r.Trailers) == 0); err != nil {
			return err
		}
	}
	if len(r.Trailers) == 0 {
		return nil
	}
	var fs []hpack.HeaderField
	for _, f := range r.Trailers {
		fs = append(fs, hpack.HeaderField{Name: strings.ToLower(f.Name), Value: f.Value})
	}
	return c.block(fs, true)
}

// head lists the fields of the request: pseudo-header fields in the order of
// RFC 9113 section 8.3.1, the others as they were.
func (c *http2Sending) head() []hpack.HeaderField {
	h := &c.s.r.Head
	fs := []hpack.HeaderField{{Name: ":method", Value: h.Method}, {Name: ":scheme", Value: h.Scheme}}
	if h.Authority != "" {
		fs = append(fs, hpack.HeaderField{Name: ":authority", Value: h.Authority})
	}
	fs = append(fs, hpack.HeaderField{Name: ":path", Value: h.Target})
	for _, f := range h.Fields {
		fs = append(fs, hpack.HeaderField{Name: f.Name, Value: f.Value, Sensitive: strings.EqualFold(f.Name, "authorization")})
	}
	return fs
}

// block writes a header block in as many frames as it needs.
func (c *http2Sending) block(fs []hpack.HeaderField, end bool) error {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	enc.SetMaxDynamicTableSize(0) // one block is all there is; and no table of the server is too small
	for _, f := range fs {
		if err := enc.WriteField(f); err != nil {
			return err
		}
	}
	const most = 16 << 10 // every endpoint takes this
	return c.locked(func() error {
		p := b.Bytes()
		first := true
		for first || len(p) > 0 {
			n := min(len(p), most)
			last := n == len(p)
			var err error
			if first {
				err = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: theStream, BlockFragment: p[:n], EndStream: end, EndHeaders: last})
			} else {
				err = c.framer.WriteContinuation(theStream, last, p[:n])
			}
			if err != nil {
				return err
			}
			p, first = p[n:], false
		}
		return nil
	})
}

// data writes the body as the server's windows allow.
func (c *http2Sending) data(p []byte, end bool) error {
	for len(p) > 0 {
		n, err := c.reserve(len(p))
		if err != nil {
			return err
		}
		if err := c.locked(func() error { return c.framer.WriteData(theStream, end && n == len(p), p[:n]) }); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// reserve waits until some of n bytes may be sent.
func (c *http2Sending) reserve(n int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.ended == nil && min(c.conn, c.stream) <= 0 {
		c.changed.Wait()
	}
	if c.ended != nil {
		return 0, c.ended
	}
	n = int(min(int64(n), c.conn, c.stream, int64(c.frame)))
	c.conn -= int64(n)
	c.stream -= int64(n)
	return n, nil
}

func (c *http2Sending) locked(f func() error) error {
	c.write.Lock()
	defer c.write.Unlock()
	return f()
}

// read answers what the server says about the connection, until it ends or the
// exchange is over.
func (c *http2Sending) read() error {
	for {
		f, err := c.framer.ReadFrame()
		var stream http2.StreamError
		if errors.As(err, &stream) {
			continue
		}
		if err == nil {
			err = c.frameIn(f)
		}
		if err != nil {
			c.stop(err)
			return err
		}
		select {
		case <-c.s.done:
			c.stop(io.EOF)
			return nil
		default:
		}
	}
}

func (c *http2Sending) stop(err error) {
	c.mu.Lock()
	c.ended = err
	c.changed.Broadcast()
	c.mu.Unlock()
}

func (c *http2Sending) frameIn(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		c.mu.Lock()
		f.ForeachSetting(func(s http2.Setting) error {
			switch s.ID {
			case http2.SettingInitialWindowSize:
				c.stream += int64(s.Val) - c.initial
				c.initial = int64(s.Val)
			case http2.SettingMaxFrameSize:
				c.frame = int(s.Val)
			}
			return nil
		})
		c.changed.Broadcast()
		c.mu.Unlock()
		return c.locked(c.framer.WriteSettingsAck)
	case *http2.WindowUpdateFrame:
		c.mu.Lock()
		if f.StreamID == 0 {
			c.conn += int64(f.Increment)
		} else if f.StreamID == theStream {
			c.stream += int64(f.Increment)
		}
		c.changed.Broadcast()
		c.mu.Unlock()
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.locked(func() error { return c.framer.WritePing(true, f.Data) })
		}
	case *http2.DataFrame:
		return c.renew(f.Length)
	case *http2.RSTStreamFrame:
		c.stop(errors.New("the server reset the stream: " + f.ErrCode.String()))
	}
	return nil
}

// renew opens the windows again by what a frame took.
func (c *http2Sending) renew(n uint32) error {
	if n == 0 {
		return nil
	}
	return c.locked(func() error {
		if err := c.framer.WriteWindowUpdate(0, n); err != nil {
			return err
		}
		return c.framer.WriteWindowUpdate(theStream, n)
	})
}
