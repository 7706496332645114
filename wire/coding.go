package wire

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"iter"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// maxZstdWindow bounds what a zstd frame may ask us to remember. RFC 9659
// allows 8 MiB in HTTP; the highest levels of the tool go beyond.
const maxZstdWindow = 32 << 20

// outSize is how much is decoded at a time.
const outSize = 32 << 10

var (
	errEnough   = errors.New("enough was decoded")
	errBomb     = errors.New("grows beyond measure")
	errStopped  = errors.New("decoding was stopped")
	errTrailing = errors.New("bytes after the end")

	errBrotliEnd = errors.New("the end of brotli data")
)

// openers make the readers that undo a coding. They may read at once.
var openers = map[string]func(*bufio.Reader) (io.Reader, func(), error){
	"gzip":    openGzip,
	"deflate": openDeflate,
	"br":      openBrotli,
	"zstd":    openZstd,
}

// resembles tells from its first bytes whether p can be of a coding. For codings
// without a signature everything can.
func resembles(name string, p []byte) outcome {
	switch name {
	case "gzip":
		return begins(p, "\x1f\x8b")
	case "zstd":
		if len(p) > 0 && p[0]&0xf0 == 0x50 { // skippable frame: RFC 8878 section 3.1.2
			return begins(p[1:], "\x2a\x4d\x18")
		}
		return begins(p, "\x28\xb5\x2f\xfd")
	}
	if len(p) == 0 {
		return more
	}
	return done
}

func begins(p []byte, magic string) outcome {
	n := min(len(p), len(magic))
	switch {
	case string(p[:n]) != magic[:n]:
		return invalid
	case n < len(magic):
		return more
	}
	return done
}

// A coding is a chain of decompressors that is pushed. The decompressors are
// readers and want to pull: they run in a coroutine, which gives the control
// back whenever it has used up its input. It has to be stopped.
type coding struct {
	in    []byte // not read yet
	ended bool   // in is the last
	yield func(struct{}) bool
	next  func() (struct{}, bool)
	stop  func()
	err   error // why the coroutine ended; nil: the data was complete
	read  int64 // bytes of in that were read
	first *bufio.Reader
}

// buffers are what decoded bytes are handed over in.
var buffers = sync.Pool{New: func() any { return new([outSize]byte) }}

// newCoding undoes names, the last of them first. deliver takes what comes out
// and ends the decoding by an error.
func newCoding(names []string, deliver func([]byte) error) *coding {
	c := new(coding)
	c.next, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		c.err = c.run(names, deliver)
	})
	return c
}

// feed decodes p and reports whether the decoding came to its end.
func (c *coding) feed(p []byte) (over bool) {
	c.in = p
	_, alive := c.next()
	if alive {
		c.in = nil
	}
	return !alive
}

// end decodes what is left once no more input comes.
func (c *coding) end() {
	c.ended = true
	c.next()
}

// trailing reports whether input was left over when the data was complete.
func (c *coding) trailing() bool {
	return len(c.in) > 0 || c.first != nil && c.first.Buffered() > 0
}

// Read gives the decompressors their input, and waits for it outside of the
// coroutine.
func (c *coding) Read(p []byte) (int, error) {
	for len(c.in) == 0 {
		if c.ended {
			return 0, io.EOF
		}
		if !c.yield(struct{}{}) {
			return 0, errStopped
		}
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	c.read += int64(n)
	return n, nil
}

// run is the coroutine.
func (c *coding) run(names []string, deliver func([]byte) error) error {
	out := buffers.Get().(*[outSize]byte)
	defer buffers.Put(out)
	var r io.Reader = c
	for i := len(names) - 1; i >= 0; i-- {
		br := bufio.NewReader(r)
		if c.first == nil {
			c.first = br
		}
		next, free, err := openers[names[i]](br)
		if err != nil {
			return early(err)
		}
		defer free()
		r = &meter{r: next, c: c}
	}
	for {
		n, err := r.Read(out[:])
		if n > 0 {
			if err := deliver(out[:n]); err != nil {
				return err
			}
		}
		switch err {
		case nil:
		case io.EOF:
			return nil
		default:
			return early(err)
		}
	}
}

// early turns the end of file that a decompressor meets at its very beginning
// into what it is.
func early(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A meter watches what comes out of one decompressor, so that a bomb inside a
// bomb is found before it reaches deliver.
type meter struct {
	r io.Reader
	c *coding
	n int64
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if m.n += int64(n); isBomb(m.n, m.c.read) {
		return n, errBomb
	}
	return n, err
}

// gzipReader reads the members of a gzip file (RFC 1952 section 2.2) one by
// one: gzip.Reader would hold the end of each back until the next begins.
type gzipReader struct {
	gzip.Reader
	src  *bufio.Reader
	over bool // at the end of a member
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		if g.over {
			if _, err := g.src.Peek(1); err != nil {
				return 0, err
			}
			if magic, _ := g.src.Peek(2); string(magic) != "\x1f\x8b" {
				return 0, errTrailing
			}
			if err := g.Reset(g.src); err != nil {
				return 0, early(err)
			}
			g.Multistream(false)
			g.over = false
		}
		n, err := g.Reader.Read(p)
		if g.over = err == io.EOF; g.over {
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// The readers are large: those of gzip and zstd are used again.
var (
	gzips = sync.Pool{New: func() any { return new(gzipReader) }}
	zstds = sync.Pool{New: func() any {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			panic(err) // the options are constant
		}
		return z
	}}
)

func openGzip(br *bufio.Reader) (io.Reader, func(), error) {
	g := gzips.Get().(*gzipReader)
	free := func() {
		g.src = nil
		gzips.Put(g)
	}
	if err := g.Reset(br); err != nil {
		free()
		return nil, nil, err
	}
	g.Multistream(false)
	g.src, g.over = br, false
	return g, free, nil
}

// openDeflate takes both what deflate means (zlib, RFC 9110 section 8.4.1.2)
// and what some servers send under that name (the raw data of RFC 1951).
func openDeflate(br *bufio.Reader) (io.Reader, func(), error) {
	p, err := br.Peek(2)
	if len(p) == 0 {
		return nil, nil, err
	}
	if len(p) == 2 && p[0]&0x0f == 8 && p[0]>>4 <= 7 && (int(p[0])<<8|int(p[1]))%31 == 0 {
		r, err := zlib.NewReader(br)
		return r, func() {}, err
	}
	return flate.NewReader(br), func() {}, nil
}

func openBrotli(br *bufio.Reader) (io.Reader, func(), error) {
	return brotliReader{brotli.NewReader(br)}, func() {}, nil
}

// brotliReader takes "excessive input" for a good end: depending on the split,
// the package says it of data that has nothing after its end, too.
type brotliReader struct{ r *brotli.Reader }

func (b brotliReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err.Error() == "brotli: excessive input" {
		err = errBrotliEnd
	}
	return n, err
}

func openZstd(br *bufio.Reader) (io.Reader, func(), error) {
	z := zstds.Get().(*zstd.Decoder)
	if err := z.Reset(br); err != nil {
		return nil, nil, err
	}
	return z, func() {
		if z.Reset(nil) == nil {
			zstds.Put(z)
		}
	}, nil
}
