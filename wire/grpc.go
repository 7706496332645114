package wire

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/snappy"

	"trace/flow"
)

// The flags in the prefix of a message. Trailers are of gRPC-Web, an end of
// the stream is of Connect.
const (
	grpcCompressed = 0x01
	grpcEnd        = 0x02
	grpcTrailers   = 0x80

	grpcPrefix = 5 // the flags and the length
)

var (
	errNoCoding = errors.New("the head names no coding that can be undone")
	errTooLong  = errors.New("it is too long")
)

// A grpcCutter cuts the bodies of gRPC, gRPC-Web and Connect's streams into
// their length-prefixed messages. Each message is an event, prefix included;
// one that came compressed is replaced by what it says, with a prefix that fits.
// So the sizes of what is handed over are counted here and not before. The
// trailers of gRPC-Web and the last message of Connect, which stand in the body,
// are Body, and their fields are added to the trailers.
type grpcCutter struct {
	b       *body
	head    *flow.Head
	flags   byte     // that messages of this protocol may have
	coding  string   // of compressed messages
	text    bool     // the body is base64 text
	garbled bool     // it was found not to be
	quad    []byte   // of that text, less than four letters
	out     []byte   // what was decoded of it last
	coded   []string // what was undone

	block []byte // the message with its prefix, as far as it came
	left  int64  // bytes of the message to come; 0: the prefix is not complete
	long  bool   // the message goes out in pieces
	lost  bool   // no more is a message
	noted bool   // that a message could not be decompressed

	ended    bool             // the message that ends the stream came
	trailers []flow.Field     // that stood in the body
	status   *flow.GRPCStatus // of Connect's last message
}

func newGRPCCutter(b *body, h *flow.Head) *grpcCutter {
	c := &grpcCutter{b: b, head: h, flags: grpcCompressed, coding: h.Get("Grpc-Encoding")}
	switch media, _, _ := strings.Cut(mediaType(h.Get("Content-Type")), "+"); media {
	case "application/grpc-web-text":
		c.text = true
		fallthrough
	case "application/grpc-web":
		c.flags |= grpcTrailers
	case "application/connect":
		c.flags |= grpcEnd
		c.coding = h.Get("Connect-Content-Encoding")
	}
	c.coding = strings.ToLower(strings.Trim(c.coding, " \t\r\n"))
	return c
}

// push takes the next bytes of the body.
func (c *grpcCutter) push(p []byte) {
	if c.text {
		c.undone("base64")
		c.letters(p)
	} else {
		c.frames(p)
	}
}

// letters undoes base64, which may be padded anywhere: each end of a flush may be.
func (c *grpcCutter) letters(p []byte) {
	if c.out == nil {
		c.out = make([]byte, 3<<10)
	}
	for len(p) > 0 && !c.garbled {
		if n := min(plainLetters(p), 4<<10) &^ 3; n > 0 && len(c.quad) == 0 {
			if m, err := base64.StdEncoding.Decode(c.out, p[:n]); err == nil {
				c.frames(c.out[:m])
				p = p[n:]
				continue
			}
		}
		b := p[0]
		p = p[1:]
		if b == '\r' || b == '\n' {
			continue
		}
		if c.quad = append(c.quad, b); len(c.quad) < 4 {
			continue
		}
		m, err := base64.StdEncoding.Decode(c.out, c.quad)
		if err != nil {
			c.garbled = true
			c.fail("the body is not base64 text")
			c.hand(flow.Body, c.quad)
		} else {
			c.frames(c.out[:m])
		}
		c.quad = c.quad[:0]
	}
	c.hand(flow.Body, p)
}

// plainLetters returns how many bytes of p neither pad nor end a line.
func plainLetters(p []byte) int {
	for i, b := range p {
		if b == '=' || b == '\r' || b == '\n' {
			return i
		}
	}
	return len(p)
}

// frames takes messages.
func (c *grpcCutter) frames(p []byte) {
	for len(p) > 0 && !c.lost {
		var n int
		switch {
		case c.left > 0:
			n = int(min(int64(len(p)), c.left))
			c.take(p[:n])
		case len(c.block) == 0 && c.plain(p) > 0:
			n = c.plain(p)
			c.hand(flow.StreamEvent, p[:n])
		default:
			n = min(len(p), grpcPrefix-len(c.block))
			if c.block = append(c.block, p[:n]...); len(c.block) == grpcPrefix {
				c.begin()
			}
		}
		p = p[n:]
	}
	c.hand(flow.Body, p)
}

// plain returns the size of the message that p begins, if all of it is there
// and nothing has to be done with it; else 0.
func (c *grpcCutter) plain(p []byte) int {
	if len(p) < grpcPrefix || p[0] != 0 {
		return 0
	}
	n := int64(binary.BigEndian.Uint32(p[1:])) + grpcPrefix
	if n > int64(len(p)) || n > maxEvent || !c.b.x.d.fits(int(n)-grpcPrefix) {
		return 0
	}
	return int(n)
}

// begin begins the message whose prefix is complete.
func (c *grpcCutter) begin() {
	if c.block[0]&^c.flags != 0 {
		c.fail("a message of gRPC has flags that it cannot have")
		return
	}
	c.left = int64(binary.BigEndian.Uint32(c.block[1:]))
	switch {
	case c.left == 0:
		c.finish()
	case c.left > maxEvent-grpcPrefix:
		c.tooLong()
	}
}

// tooLong gives up the message, but not what follows.
func (c *grpcCutter) tooLong() {
	c.long = true
	c.b.mark(flow.CodeLimit, "a message of the stream is too long: it is kept as part of the body")
	c.drop()
}

// take takes bytes of the message.
func (c *grpcCutter) take(p []byte) {
	c.left -= int64(len(p))
	if !c.long && !c.b.x.d.fits(len(p)) {
		c.tooLong()
	}
	switch {
	case c.long:
		c.hand(flow.Body, p)
		c.long = c.left > 0
	default:
		c.b.x.d.gathered += len(p)
		if c.block = append(c.block, p...); c.left == 0 {
			c.finish()
		}
	}
}

// fail gives up: what follows cannot be understood.
func (c *grpcCutter) fail(why string) {
	c.b.mark(flow.CodeMalformed, why)
	c.lost = true
	c.drop()
}

// drop hands over what is held of a message as part of the body.
func (c *grpcCutter) drop() {
	c.hand(flow.Body, c.block)
	c.release()
}

// release forgets the message that is held.
func (c *grpcCutter) release() {
	c.b.x.d.gathered -= max(0, len(c.block)-grpcPrefix)
	if c.block = c.block[:0]; cap(c.block) > 64<<10 {
		c.block = nil
	}
}

// finish hands over the message that is complete.
func (c *grpcCutter) finish() {
	block := c.block
	flags := block[0]
	if flags&grpcCompressed != 0 && !c.b.truncated {
		block = c.inflate(block)
	}
	switch {
	case flags&grpcTrailers != 0:
		c.readTrailers(block)
		c.hand(flow.Body, block)
	case flags&grpcEnd != 0:
		c.readEnd(block)
		c.hand(flow.Body, block)
	default:
		c.hand(flow.StreamEvent, block)
	}
	c.release()
}

// end hands over what is left of a message.
func (c *grpcCutter) end(cut bool) {
	within := len(c.quad) > 0 || len(c.block) > 0 || c.left > 0
	c.drop()
	c.hand(flow.Body, c.quad)
	if within && !cut && !c.lost {
		c.b.mark(flow.CodeTruncated, "the body ends within a message")
	}
}

// hand hands over bytes of the body and counts them.
func (c *grpcCutter) hand(kind flow.Kind, p []byte) {
	b := c.b
	if b.decoded += int64(len(p)); b.truncated || len(p) == 0 {
		return
	}
	if b.limit >= 0 && int64(len(p)) > b.limit-b.kept {
		kind, p, b.truncated = flow.Body, p[:b.limit-b.kept], true
	}
	if b.kept += int64(len(p)); len(p) > 0 {
		b.piece(kind, p)
	}
	if isBomb(b.decoded, b.size) && !b.truncated {
		b.bomb()
	}
}

// inflate returns what the compressed message block says, or block if nobody
// knows.
func (c *grpcCutter) inflate(block []byte) []byte {
	payload, err := inflate(c.coding, block[grpcPrefix:])
	if err != nil {
		if !c.noted {
			code := flow.CodeMalformed
			if err == errTooLong {
				code = flow.CodeLimit
			}
			c.noted = true
			c.b.mark(code, "a compressed message stays as it is: "+err.Error())
		}
		return block
	}
	c.undone("grpc:" + c.coding)
	whole := make([]byte, grpcPrefix, grpcPrefix+len(payload))
	whole[0] = block[0] &^ grpcCompressed
	binary.BigEndian.PutUint32(whole[1:], uint32(len(payload)))
	return append(whole, payload...)
}

// undone notes that a coding was undone.
func (c *grpcCutter) undone(name string) {
	if !slices.Contains(c.coded, name) {
		c.coded = append(c.coded, name)
	}
}

// bufios are what the messages to be decompressed are read through.
var bufios = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

// inflate undoes the coding of one message.
func inflate(coding string, p []byte) ([]byte, error) {
	const most = maxEvent - grpcPrefix
	if len(p) == 0 {
		return nil, nil
	}
	var r io.Reader
	open, known := openers[coding]
	switch {
	case known:
		br := bufios.Get().(*bufio.Reader)
		defer func() {
			br.Reset(nil)
			bufios.Put(br)
		}()
		br.Reset(bytes.NewReader(p))
		opened, free, err := open(br)
		if err != nil {
			return nil, early(err)
		}
		defer free()
		r = opened
	case coding == "snappy" && bytes.HasPrefix(p, []byte("\xff\x06\x00\x00sNaPpY")):
		r = snappy.NewReader(bytes.NewReader(p))
	case coding == "snappy": // a block without a frame
		if n, err := snappy.DecodedLen(p); err == nil && n > most {
			return nil, errTooLong
		}
		return snappy.Decode(nil, p)
	default:
		return nil, errNoCoding
	}
	out, err := io.ReadAll(io.LimitReader(r, most+1))
	switch {
	case len(out) > most:
		return nil, errTooLong
	case err == errBrotliEnd:
		err = nil
	}
	return out, err
}
