package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/klauspost/compress/zstd"
)

// packSize bounds the raw bytes of a pack: what must be decompressed to read
// one chunk.
const packSize = 128 << 10

// hashSize is how much of the SHA-256 of a chunk names it.
const hashSize = 16

type hash [hashSize]byte

// A pack is a run of new chunks with consecutive ids. Its bytes know nothing
// of SQLite, so that it can be kept elsewhere one day.
type pack struct {
	first int64
	count int
	raw   int
	idx   []byte // per chunk: uvarint length, hash
	data  []byte // zstd
}

// A span is a run of chunk ids; a recipe is the spans that make up a body.
type span struct{ first, count int64 }

// appendRecipe encodes spans: per span the distance from the end of the one
// before it (zigzag) and the count, as varints.
func appendRecipe(b []byte, spans []span) []byte {
	var end int64
	for _, s := range spans {
		b = binary.AppendVarint(b, s.first-end)
		b = binary.AppendUvarint(b, uint64(s.count))
		end = s.first + s.count
	}
	return b
}

var errRecipe = errors.New("damaged recipe")

func parseRecipe(b []byte) ([]span, error) {
	var spans []span
	var end int64
	for len(b) > 0 {
		d, n := binary.Varint(b)
		if n <= 0 {
			return nil, errRecipe
		}
		c, m := binary.Uvarint(b[n:])
		if m <= 0 || c == 0 || c > math.MaxInt32 || end+d <= 0 {
			return nil, errRecipe
		}
		spans = append(spans, span{end + d, int64(c)})
		end += d + int64(c)
		b = b[n+m:]
	}
	return spans, nil
}

// join adds a chunk to the end of spans.
func join(spans []span, id int64) []span {
	if n := len(spans); n > 0 && spans[n-1].first+spans[n-1].count == id {
		spans[n-1].count++
		return spans
	}
	return append(spans, span{id, 1})
}

// maxKnown bounds each of the two generations of the hash map: together they
// remember about 500 MB of distinct content in some 6 MB.
const maxKnown = 1 << 16

// chunks cuts, hashes and packs. Not safe for concurrent use.
type chunks struct {
	next     int64 // id of the next new chunk
	now, old map[hash]int64
	enc      *zstd.Encoder
	sealed   []*pack // not committed yet
	buf      []byte  // raw bytes of the pack being built
	squeezed []byte  // room to compress it
	open     pack
}

func newChunks() (*chunks, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithWindowSize(packSize), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	return &chunks{next: 1, now: map[hash]int64{}, enc: enc}, err
}

func (c *chunks) find(h hash) (int64, bool) {
	id, ok := c.now[h]
	if !ok {
		if id, ok = c.old[h]; ok {
			c.learn(h, id)
		}
	}
	return id, ok
}

// learn remembers a chunk. When a generation is full, the older is forgotten:
// what was not met since is then stored again.
func (c *chunks) learn(h hash, id int64) {
	if len(c.now) >= maxKnown {
		c.old, c.now = c.now, make(map[hash]int64, maxKnown/4)
	}
	c.now[h] = id
}

// add cuts p, of which at bytes of the same body came before, and appends its
// chunks to spans. Unless the body ends with p it leaves the bytes after the
// last sure cut and returns how many it took. The caller seals what was added
// before it is committed: what comes together is packed together, and much of
// it is alike.
func (c *chunks) add(spans []span, p []byte, at int64, last bool) ([]span, int) {
	taken := 0
	for taken < len(p) {
		s := &smallChunks
		if at+int64(taken) >= largeAfter {
			s = &largeChunks
		}
		if !last && len(p)-taken < s.max {
			break
		}
		n := cut(p[taken:], s)
		spans = join(spans, c.put(p[taken:taken+n]))
		taken += n
	}
	return spans, taken
}

// put returns the id of a chunk with these bytes.
func (c *chunks) put(p []byte) int64 {
	sum := sha256.Sum256(p)
	h := hash(sum[:hashSize])
	if id, ok := c.find(h); ok {
		return id
	}
	if len(c.buf) > 0 && len(c.buf)+len(p) > packSize {
		c.seal()
	}
	if c.open.count == 0 {
		c.open.first = c.next
	}
	id := c.next
	c.next++
	c.open.count++
	c.open.idx = append(binary.AppendUvarint(c.open.idx, uint64(len(p))), h[:]...)
	c.buf = append(c.buf, p...)
	c.learn(h, id)
	return id
}

// seal ends the pack being built.
func (c *chunks) seal() {
	if c.open.count == 0 {
		return
	}
	p := c.open
	p.raw = len(c.buf)
	c.squeezed = c.enc.EncodeAll(c.buf, c.squeezed[:0])
	p.data = bytes.Clone(c.squeezed)
	c.sealed = append(c.sealed, &p)
	c.open, c.buf = pack{}, c.buf[:0]
}

// shift moves every id from on by d: another process has taken them
// meanwhile. The caller shifts the spans that it keeps.
func (c *chunks) shift(from, d int64) {
	for _, m := range []map[hash]int64{c.now, c.old} {
		for h, id := range m {
			if id >= from {
				m[h] = id + d
			}
		}
	}
	for _, p := range c.sealed {
		p.first += d
	}
	c.next += d
}

// shiftSpans moves the ids from on by d. A span never straddles from, since
// it is the first id that was not committed when the spans were built, unless
// it joined the two sides: then it is split.
func shiftSpans(spans []span, from, d int64) []span {
	out := spans[:0:0]
	for _, s := range spans {
		if old := from - s.first; old > 0 && old < s.count {
			out = append(out, span{s.first, old}, span{from + d, s.count - old})
			continue
		}
		if s.first >= from {
			s.first += d
		}
		out = append(out, s)
	}
	return out
}

// The first byte of a blob says how the rest is to be read.
const (
	plainBlob = 0
	zstdBlob  = 1
)

// squeezeFrom is the size from which compressing a document is worth its time.
const squeezeFrom = 1 << 10

// squeeze compresses a small blob where that helps. Its first byte tells.
func squeeze(enc *zstd.Encoder, p []byte) []byte {
	out := enc.EncodeAll(p, append(make([]byte, 0, len(p)/2+64), zstdBlob))
	if len(out) > len(p) {
		return append([]byte{plainBlob}, p...)
	}
	return out
}

// maxBlob bounds what a squeezed blob may expand to: files may come from
// anyone.
const maxBlob = 64 << 20

func newDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxBlob))
}

func unsqueeze(dec *zstd.Decoder, p []byte) ([]byte, error) {
	switch {
	case len(p) == 0:
		return nil, nil
	case p[0] == plainBlob:
		return p[1:], nil
	case p[0] == zstdBlob:
		return dec.DecodeAll(p[1:], nil)
	}
	return nil, fmt.Errorf("blob of unknown form %d", p[0])
}
