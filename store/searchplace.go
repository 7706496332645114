package store

import (
	"encoding/binary"
	"fmt"
	"sort"
)

// chunkLengths knows how long each chunk of a file is.
type chunkLengths struct {
	packs []packLengths // by first
	last  int           // the pack that was asked for last
}

type packLengths struct {
	first int64
	sizes []uint32
}

func (l *chunkLengths) load(d *db) error {
	return d.each("SELECT first,idx FROM pack ORDER BY first", nil, func(row row) error {
		p := packLengths{first: row.int(0)}
		for idx := row.blob(1); len(idx) > 0; {
			n, w := binary.Uvarint(idx)
			if w <= 0 || n > maxBlob || len(idx) < w+hashSize {
				return fmt.Errorf("pack %d has a damaged index", p.first)
			}
			p.sizes = append(p.sizes, uint32(n))
			idx = idx[w+hashSize:]
		}
		l.packs = append(l.packs, p)
		return nil
	})
}

// of returns the length of a chunk.
func (l *chunkLengths) of(id int64) (int, error) {
	for i := l.last; i < len(l.packs) && i < l.last+2; i++ { // mostly the same or the next
		if p := &l.packs[i]; id >= p.first && id < p.first+int64(len(p.sizes)) {
			l.last = i
			return int(p.sizes[id-p.first]), nil
		}
	}
	i := sort.Search(len(l.packs), func(i int) bool { return l.packs[i].first > id }) - 1
	if i < 0 || id-l.packs[i].first >= int64(len(l.packs[i].sizes)) {
		return 0, fmt.Errorf("chunk %d is missing", id)
	}
	l.last = i
	return int(l.packs[i].sizes[id-l.packs[i].first]), nil
}

// pieceTable finds the event or message that a byte of a part belongs to.
type pieceTable struct {
	s      *searcher
	rows   []searchRow
	starts []int64 // of the segments, in the part

	row    int // whose pieces these are
	loaded bool
	pieces []*piece
}

// at returns the piece that holds the byte at offset at of the part, and where
// it begins; nil where the part is a plain body.
func (t *pieceTable) at(d *db, at int64) (*piece, int64, error) {
	if err := t.measure(); err != nil {
		return nil, 0, err
	}
	i := sort.Search(len(t.starts), func(i int) bool { return t.starts[i] > at }) - 1
	if i < 0 {
		return nil, 0, nil
	}
	if !t.loaded || t.row != i {
		if err := t.load(d, i); err != nil {
			return nil, 0, err
		}
	}
	start := t.starts[i]
	for _, p := range t.pieces {
		if at < start+int64(len(p.data)) {
			return p, start, nil
		}
		start += int64(len(p.data))
	}
	return nil, 0, nil
}

// measure finds out where the segments begin.
func (t *pieceTable) measure() error {
	if t.starts != nil {
		return nil
	}
	var pos int64
	for i := range t.rows {
		if t.rows[i].tail != nil {
			break
		}
		t.starts = append(t.starts, pos)
		for _, sp := range t.rows[i].spans {
			for id := sp.first; id < sp.first+sp.count; id++ {
				n, err := t.s.lengths.of(id)
				if err != nil {
					return &FileError{Path: t.s.r.path, Problem: err.Error()}
				}
				pos += int64(n)
			}
		}
	}
	return nil
}

// load reads the table of segment i.
func (t *pieceTable) load(d *db, i int) error {
	t.row, t.loaded, t.pieces = i, true, nil
	row, err := d.one("SELECT first,times,size FROM body WHERE flow=? AND part=? AND seq=?", t.rows[i].flow, t.rows[i].part, t.rows[i].seq)
	if err != nil || row == nil || row.null(1) {
		return err
	}
	times, err := unsqueeze(t.s.r.dec, row.blob(1))
	if err == nil && row.int(2) >= 0 && row.int(2) <= maxSegment {
		// Only the lengths of the pieces are wanted.
		t.pieces, err = parseTimes(times, make([]byte, row.int(2)), row.int(0))
	}
	if err != nil {
		return fmt.Errorf("flow %d: %w", t.rows[i].flow, err)
	}
	return nil
}
