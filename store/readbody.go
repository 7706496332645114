package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"

	"trace/flow"
)

// Body returns the decoded, redacted body of one side of a flow as far as it
// was kept; of an open flow what is committed so far. Of an event stream it
// is the blocks of its events.
func (r *Reader) Body(id int64, side flow.Side) ([]byte, error) {
	var b bytes.Buffer
	_, err := r.WriteBody(&b, id, side)
	return b.Bytes(), err
}

// WriteBody writes what Body returns to w, a segment at a time, and returns
// the count of bytes.
func (r *Reader) WriteBody(w io.Writer, id int64, side flow.Side) (n int64, err error) {
	if r.gate != nil {
		return r.writeRedacted(w, id, side)
	}
	var recipes [][]span
	var rest []byte
	err = r.with(func(d *db) error {
		return d.snapshot(func() error {
			if err := exists(d, id); err != nil {
				return err
			}
			var err error
			if recipes, err = bodyRecipes(d, id, int(side)); err != nil {
				return err
			}
			ps, err := tailPieces(d, id, 0, int(side))
			for _, p := range ps {
				rest = append(rest, p.data...)
			}
			return err
		})
	})
	if err != nil {
		return 0, err
	}
	if n, err = r.writeRecipes(w, recipes); err != nil {
		return n, err
	}
	k, err := w.Write(rest)
	return n + int64(k), err
}

// bodyRecipes returns the recipes of the segments of a part.
func bodyRecipes(d *db, id int64, part int) (recipes [][]span, err error) {
	err = d.each("SELECT recipe FROM body WHERE flow=? AND part=? ORDER BY seq", []any{id, part}, func(row row) error {
		spans, err := parseRecipe(row.blob(0))
		recipes = append(recipes, spans)
		return err
	})
	return recipes, err
}

// writeRecipes writes what recipes yield, one at a time. Packs never change:
// no transaction is needed.
func (r *Reader) writeRecipes(w io.Writer, recipes [][]span) (n int64, err error) {
	for _, spans := range recipes {
		var p []byte
		err := r.with(func(d *db) (err error) {
			p, err = r.read(d, nil, spans)
			return err
		})
		if err != nil {
			return n, err
		}
		k, err := w.Write(p)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func exists(d *db, id int64) error {
	row, err := d.one("SELECT 1 FROM flow WHERE id=?", id)
	if err == nil && row == nil {
		err = ErrNoFlow
	}
	return err
}

// Events returns the events of the event streams of both sides in the order in
// which they came, also while they come: the last ones may be partial then.
func (r *Reader) Events(id int64) ([]flow.Piece, error) {
	return r.pieces(id, partRequest, partResponse)
}

// Messages returns the messages of a websocket, or the pieces of an opaque
// connection, in order.
func (r *Reader) Messages(id int64) ([]flow.Piece, error) { return r.pieces(id, partMessages) }

func (r *Reader) pieces(id int64, parts ...int) (out []flow.Piece, err error) {
	if r.gate != nil {
		x, err := r.Flow(id)
		if err != nil {
			return nil, err
		}
		err = r.redactedPieces(x, parts, func(p *piece) error {
			if p.flags&isPlain == 0 {
				out = append(out, p.public())
			}
			return nil
		})
		return out, err
	}
	err = r.with(func(d *db) error {
		return d.snapshot(func() error {
			if err := exists(d, id); err != nil {
				return err
			}
			for _, part := range parts {
				ps, err := r.partPieces(d, id, part)
				if err != nil {
					return err
				}
				for _, p := range ps {
					if p.flags&isPlain == 0 {
						out = append(out, p.public())
					}
				}
			}
			return nil
		})
	})
	slices.SortStableFunc(out, func(a, b flow.Piece) int { return a.Index - b.Index })
	return out, err
}

// partPieces returns all pieces of a part.
func (r *Reader) partPieces(d *db, id int64, part int) ([]*piece, error) {
	ps, _, err := r.segments(d, id, part, 0, 0)
	if err != nil {
		return nil, err
	}
	more, err := tailPieces(d, id, 0, part)
	return append(ps, more...), err
}

// segments returns the pieces in the segments of a part, from that on which
// holds index from, of which about limit bytes are read (0: all). more tells
// that there are others.
func (r *Reader) segments(d *db, id int64, part int, from int64, limit int) (ps []*piece, more bool, err error) {
	type seg struct {
		first int64
		spans []span
		times []byte
	}
	var segs []seg
	size := 0
	err = d.each("SELECT first,recipe,times,size FROM body WHERE flow=? AND part=? AND times IS NOT NULL AND first+count>? ORDER BY seq",
		[]any{id, part, from}, func(row row) error {
			if more = limit > 0 && size >= limit; more {
				return nil
			}
			size += int(row.int(3))
			spans, err := parseRecipe(row.blob(1))
			segs = append(segs, seg{row.int(0), spans, row.blob(2)})
			return err
		})
	for _, s := range segs {
		if err != nil {
			return nil, false, err
		}
		var body, times []byte
		var some []*piece
		if body, err = r.read(d, nil, s.spans); err != nil {
			return nil, false, err
		}
		if times, err = unsqueeze(r.dec, s.times); err == nil {
			some, err = parseTimes(times, body, s.first)
		}
		if err != nil {
			return nil, false, fmt.Errorf("flow %d: %w", id, err)
		}
		ps = append(ps, some...)
	}
	return ps, more, err
}

// tailPieces returns the pieces of a part whose rows in tail came after seq,
// the newest row of each, in order.
func tailPieces(d *db, id, seq int64, part int) ([]*piece, error) {
	newest := map[int64]*piece{}
	err := d.each("SELECT seq,ord,idx,at,flags,opcode,size,sum,data FROM tail WHERE flow=? AND seq>? ORDER BY seq", []any{id, seq}, func(r row) error {
		p := &piece{seq: r.int(0), ord: r.int(1), idx: r.int(2), at: r.int(3), flags: byte(r.int(4)),
			opcode: uint8(r.int(5)), size: r.int(6), sum: r.blob(7), data: r.blob(8)}
		if partOf(p.flags) == part {
			newest[p.ord] = p
		}
		return nil
	})
	ps := make([]*piece, 0, len(newest))
	for _, p := range newest {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b *piece) int { return int(a.ord - b.ord) })
	return ps, err
}

// maxPacks bounds the packs that a reader keeps unpacked: 4 MB.
const maxPacks = 32

// packCache keeps the packs read last.
type packCache struct {
	mu   sync.Mutex
	list []*openPack // most recently used last
}

// openPack is an unpacked pack.
type openPack struct {
	first int64
	ends  []int // of each chunk in data
	sums  []hash
	data  []byte
}

func (c *packCache) get(id int64) *openPack {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.list) - 1; i >= 0; i-- {
		if p := c.list[i]; id >= p.first && id < p.first+int64(len(p.ends)) {
			c.list = append(append(c.list[:i], c.list[i+1:]...), p)
			return p
		}
	}
	return nil
}

func (c *packCache) put(p *openPack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) >= maxPacks {
		c.list = append(c.list[:0], c.list[1:]...)
	}
	c.list = append(c.list, p)
}

// maxSegment bounds what one recipe may yield: files may come from anyone.
const maxSegment = 2 * maxWhole

// read appends the bytes of a recipe to b.
func (r *Reader) read(d *db, b []byte, spans []span) ([]byte, error) {
	for _, s := range spans {
		for s.count > 0 {
			p := r.packs.get(s.first)
			if p == nil {
				var err error
				if p, err = r.unpack(d, s.first); err != nil {
					return b, err
				}
				r.packs.put(p)
			}
			i := int(s.first - p.first)
			n := min(s.count, int64(len(p.ends)-i))
			var err error
			if b, err = p.take(b, i, int(n)); err != nil {
				return b, &FileError{Path: r.path, Problem: err.Error()}
			}
			if len(b) > maxSegment {
				return b, &FileError{Path: r.path, Problem: "holds a body of impossible size"}
			}
			s.first += n
			s.count -= n
		}
	}
	return b, nil
}

// take appends n chunks from number i on, whose hashes it checks.
func (p *openPack) take(b []byte, i, n int) ([]byte, error) {
	start := 0
	if i > 0 {
		start = p.ends[i-1]
	}
	at := start
	for k := i; k < i+n; k++ {
		sum := sha256.Sum256(p.data[at:p.ends[k]])
		if hash(sum[:hashSize]) != p.sums[k] {
			return b, fmt.Errorf("chunk %d is damaged", p.first+int64(k))
		}
		at = p.ends[k]
	}
	return append(b, p.data[start:at]...), nil
}

// unpack reads the pack that holds a chunk.
func (r *Reader) unpack(d *db, id int64) (*openPack, error) {
	row, err := d.one("SELECT first,count,raw,idx,data FROM pack WHERE first<=? ORDER BY first DESC LIMIT 1", id)
	if err != nil {
		return nil, err
	}
	bad := &FileError{Path: r.path, Problem: fmt.Sprintf("chunk %d is missing or damaged", id)}
	if row == nil || id >= row.int(0)+row.int(1) || row.int(2) > maxBlob {
		return nil, bad
	}
	p := &openPack{first: row.int(0)}
	if p.data, err = r.dec.DecodeAll(row.blob(4), make([]byte, 0, row.int(2))); err != nil || int64(len(p.data)) != row.int(2) {
		return nil, bad
	}
	at := 0
	for idx := row.blob(3); len(idx) > 0; {
		n, w := binary.Uvarint(idx)
		if w <= 0 || n > uint64(len(p.data)-at) || len(idx) < w+hashSize {
			return nil, bad
		}
		at += int(n)
		p.ends = append(p.ends, at)
		p.sums = append(p.sums, hash(idx[w:w+hashSize]))
		idx = idx[w+hashSize:]
	}
	if len(p.ends) == 0 || int64(len(p.ends)) != row.int(1) {
		return nil, bad
	}
	return p, nil
}
