package wire

import (
	"bufio"
	"errors"
	"io"
	"iter"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
)

// windowSize is how far back deflated data can refer (RFC 1951 section 2). A
// smaller window that was agreed upon lies within it.
const windowSize = 32 << 10

// deflateTail is what RFC 7692 section 7.2.2 has appended to each message, and
// a final empty block, so that a reader sees an end.
const deflateTail = "\x00\x00\xff\xff" + "\x01\x00\x00\xff\xff"

// deflateBlank is one empty block with a code of its own for lengths and for
// distances. The decompressor keeps the last codes that it met, also beyond its
// reset, and falls back on them in data that has none where it should: without
// this, what broken data gives would depend on other connections.
const deflateBlank = "\x05\xc0\x81\x00\x00\x00\x00\x00\x90\xff\x6b\x00"

// maxFinals bounds the final blocks of a message, besides one in finalShare bytes
// of it: after each the whole window is set up again.
const (
	maxFinals  = 1000
	finalShare = 256
)

// maxWindows bounds the directions of one connection whose window is remembered
// from message to message.
const maxWindows = 1024

var (
	errIncomplete = errors.New("it is incomplete")
	errCrowd      = errors.New("too many at a time")
	errFinals     = errors.New("it has too many final blocks")
)

// An inflater undoes permessage-deflate of one message as it is pushed. It is
// a coroutine as that of a coding, and has to be stopped or ended.
type inflater struct {
	in     []byte // not read yet
	ended  bool   // in is the last
	tail   string // what follows it
	yield  func(struct{}) bool
	next   func() (struct{}, bool)
	stop   func()
	err    error   // why the coroutine ended; nil: the data was complete
	read   int64   // bytes that were read
	made   int64   // and what they became
	window *[]byte // nil: of this message only
	take   func([]byte)
}

// An inflating is what an inflater reads with: large, and used again.
type inflating struct {
	src    *bufio.Reader
	r      io.ReadCloser
	blank  strings.Reader
	window []byte // of a message whose window nobody else keeps
}

var inflatings = sync.Pool{New: func() any {
	return &inflating{src: bufio.NewReader(nil), r: flate.NewReader(nil)}
}}

// clean forgets the codes of the message before.
func (z *inflating) clean() error {
	z.blank.Reset(deflateBlank)
	z.src.Reset(&z.blank)
	if err := z.r.(flate.Resetter).Reset(z.src, nil); err != nil {
		return err
	}
	if _, err := z.r.Read(nil); err != io.EOF {
		return err
	}
	return nil
}

// newInflater begins a message. window holds the last bytes of the messages
// before and will hold those of this one; nil if none outlives its message.
// take takes what comes out.
func newInflater(window *[]byte, take func([]byte)) *inflater {
	c := &inflater{window: window, take: take}
	c.next, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		c.err = c.run()
	})
	return c
}

// inflateWhole does for a message that came whole what newInflater, feed and
// end do, without a coroutine.
func inflateWhole(p []byte, window *[]byte, take func([]byte)) error {
	c := &inflater{window: window, take: take, in: p, ended: true, tail: deflateTail}
	return c.run()
}

// feed inflates p and reports whether inflating came to its end too early.
func (c *inflater) feed(p []byte) (over bool) {
	c.in = p
	_, alive := c.next()
	c.in = nil
	return !alive
}

// end ends the message and returns what was wrong with it. whole says that all
// of its data was fed.
func (c *inflater) end(whole bool) error {
	c.ended = true
	if whole {
		c.tail = deflateTail
	}
	c.next()
	c.stop()
	if !whole && c.err == errIncomplete {
		return nil
	}
	return c.err
}

// Read gives the decompressor its input, and waits for it outside of the
// coroutine.
func (c *inflater) Read(p []byte) (int, error) {
	if !c.wait() {
		return 0, errStopped
	}
	if len(c.in) > 0 {
		n := copy(p, c.in)
		c.in = c.in[n:]
		c.read += int64(n)
		return n, nil
	}
	if c.tail == "" {
		return 0, io.EOF
	}
	n := copy(p, c.tail)
	c.tail = c.tail[n:]
	c.read += int64(n)
	return n, nil
}

// wait waits until there is more to read, or nothing more will come.
func (c *inflater) wait() bool {
	for len(c.in) == 0 && !c.ended {
		if !c.yield(struct{}{}) {
			return false
		}
	}
	return true
}

// run is the coroutine. A final block does not end a message (RFC 7692 section
// 7.2.3.4): other blocks may follow.
func (c *inflater) run() error {
	z := inflatings.Get().(*inflating)
	defer inflatings.Put(z)
	if err := z.clean(); err != nil {
		return err
	}
	if c.window == nil {
		z.window = z.window[:0]
		c.window = &z.window
	}
	out := buffers.Get().(*[outSize]byte)
	defer buffers.Put(out)
	z.src.Reset(c)
	defer z.src.Reset(nil)
	for finals := int64(0); ; finals++ {
		if finals > maxFinals+(c.read-int64(z.src.Buffered()))/finalShare {
			return errFinals
		}
		if err := z.r.(flate.Resetter).Reset(z.src, *c.window); err != nil {
			return err
		}
		if err := c.blocks(z, out[:]); err != nil {
			return err
		}
		if z.src.Buffered() > 0 {
			continue
		}
		if !c.wait() {
			return errStopped
		}
		if len(c.in) == 0 && (c.tail == "" || c.tail == deflateTail) {
			return nil
		}
	}
}

// blocks inflates up to the end of a final block.
func (c *inflater) blocks(z *inflating, out []byte) error {
	for {
		n, err := z.r.Read(out)
		if n > 0 {
			c.made += int64(n)
			if isBomb(c.made, c.read-int64(z.src.Buffered())) {
				return errBomb
			}
			c.remember(out[:n])
			c.take(out[:n])
		}
		switch err {
		case nil:
		case io.EOF:
			return nil
		case io.ErrUnexpectedEOF:
			return errIncomplete
		default:
			return err
		}
	}
}

// remember keeps the last bytes of what came out.
func (c *inflater) remember(p []byte) {
	w := *c.window
	if over := len(w) + len(p) - windowSize; over > 0 {
		if over >= len(w) {
			w, p = w[:0], p[len(p)-windowSize:]
		} else {
			w = w[:copy(w, w[over:])]
		}
	}
	*c.window = append(w, p...)
}
