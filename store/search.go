package store

import (
	"context"
	"encoding/binary"
	"sort"

	"trace/flow"
)

// A Finder looks for text in bytes.
type Finder struct {
	// All returns where the matches in p begin and end, in their order, none of
	// them empty and none overlapping. It is called by one goroutine at a time.
	All func(p []byte) [][2]int
	// Reach is how long a match may be: a longer one may be missed or cut where
	// it lies across parts of a body that are stored apart.
	Reach int
	// Sight is how many bytes before a match All looks at.
	Sight int
	// Open says that what stands behind a match matters to it: one that ends
	// where p does is looked for again with more, up to a limit.
	Open bool
}

// excerptBytes is how much text on each side of a match is handed out.
const excerptBytes = 240

// A Match is a place where text was found.
type Match struct {
	Offset              int64 // in the body, or in the message
	Before, Text, After []byte

	// Of an event or a message: its number among the events or messages of the
	// flow, its side and time. -1 for what is none.
	Index int
	Side  flow.Side
	At    int64 // microseconds since 1970
}

// Found is what was found in one part of a flow.
type Found struct {
	Flow     int64
	Side     flow.Side // of a body
	Messages bool      // no body: the messages of a websocket or an opaque connection
	Matches  []Match   // the first ones
	Total    int       // of all
}

// Search looks for text in the bodies, events and messages of the flows with
// these ids, and calls fn for each part in which there is some, by flow. At most
// most matches of a part are handed out; the rest are counted. What many
// bodies have in common is looked at once: the work grows with what is new in
// them.
func (r *Reader) Search(ctx context.Context, ids []int64, f Finder, most int, fn func(Found) error) error {
	if r.gate != nil {
		return r.searchRedacted(ctx, ids, f, most, fn)
	}
	s := &searcher{r: r, f: f, most: most, seen: map[string][][2]int{}}
	if err := r.with(func(d *db) error { return d.snapshot(func() error { return s.load(d, ids) }) }); err != nil {
		return err
	}
	for i := 0; i < len(s.rows); {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := i
		for n < len(s.rows) && s.rows[n].flow == s.rows[i].flow && s.rows[n].part == s.rows[i].part {
			n++
		}
		found := Found{Flow: s.rows[i].flow, Side: flow.Side(s.rows[i].part & 1), Messages: s.rows[i].part == partMessages}
		if found.Messages {
			found.Side = flow.Client
		}
		err := r.with(func(d *db) error { return s.part(d, s.rows[i:n], &found) })
		if err == nil && found.Total > 0 {
			err = fn(found)
		}
		if err != nil {
			return err
		}
		i = n
	}
	return nil
}

// searcher is the state of one Search.
type searcher struct {
	r       *Reader
	f       Finder
	most    int
	rows    []searchRow
	lengths chunkLengths
	pack    *openPack

	// seen has the matches that begin in a chunk, by the ids of this and those
	// around it that can matter.
	seen map[string][][2]int
	key  []byte
	win  []byte

	ids []int64 // of the part that is being searched
}

// searchRow is a segment of a body, or the pieces of a part that are in tail.
type searchRow struct {
	flow  int64
	part  int
	seq   int64
	spans []span
	tail  []*piece
}

// load reads what is known of the flows, but no bytes of them.
func (s *searcher) load(d *db, ids []int64) error {
	wanted := make(map[int64]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	err := d.each("SELECT flow,part,seq,recipe FROM body WHERE part<3 ORDER BY flow,part,seq", nil, func(row row) error {
		if !wanted[row.int(0)] {
			return nil
		}
		spans, err := parseRecipe(row.blob(3))
		s.rows = append(s.rows, searchRow{flow: row.int(0), part: int(row.int(1)), seq: row.int(2), spans: spans})
		return err
	})
	if err != nil {
		return err
	}
	var live []int64
	err = d.each("SELECT DISTINCT flow FROM tail", nil, func(row row) error {
		if wanted[row.int(0)] {
			live = append(live, row.int(0))
		}
		return nil
	})
	for _, id := range live {
		for part := partRequest; part <= partMessages && err == nil; part++ {
			var ps []*piece
			if ps, err = tailPieces(d, id, 0, part); len(ps) > 0 {
				s.rows = append(s.rows, searchRow{flow: id, part: part, seq: -1, tail: ps})
			}
		}
	}
	if err != nil {
		return err
	}
	if len(live) > 0 {
		sort.SliceStable(s.rows, func(i, j int) bool {
			a, b := &s.rows[i], &s.rows[j]
			return a.flow < b.flow || a.flow == b.flow && a.part < b.part
		})
	}
	return s.lengths.load(d)
}

// maxPartChunks bounds the chunks of a part, to which a body of 64 GB comes:
// files may come from anyone.
const maxPartChunks = 1 << 24

// part searches one part of a flow.
func (s *searcher) part(d *db, rows []searchRow, found *Found) error {
	s.ids = s.ids[:0]
	for i := range rows {
		for _, sp := range rows[i].spans {
			if int64(len(s.ids))+sp.count > maxPartChunks {
				return &FileError{Path: s.r.path, Problem: "holds a body of impossible size"}
			}
			for id := sp.first; id < sp.first+sp.count; id++ {
				s.ids = append(s.ids, id)
			}
		}
	}
	table := pieceTable{s: s, rows: rows}
	var pos, until int64
	for i, id := range s.ids {
		n, err := s.lengths.of(id)
		if err != nil {
			return &FileError{Path: s.r.path, Problem: err.Error()}
		}
		ms, err := s.chunk(d, i)
		if err != nil {
			return err
		}
		for _, m := range ms {
			at := pos + int64(m[0])
			if at < until {
				continue
			}
			until = pos + int64(m[1])
			if err := s.add(d, found, &table, i, m, at); err != nil {
				return err
			}
		}
		pos += int64(n)
	}
	for i := range rows {
		for _, p := range rows[i].tail {
			s.piece(found, p)
		}
	}
	return nil
}

// add takes a match into found: one that begins m[0] bytes into chunk i.
func (s *searcher) add(d *db, found *Found, table *pieceTable, i int, m [2]int, at int64) error {
	match := Match{Offset: at, Index: -1, Side: found.Side}
	if found.Messages || len(found.Matches) < s.most {
		p, start, err := table.at(d, at)
		if err != nil {
			return err
		}
		if p != nil {
			end := start + int64(len(p.data))
			if found.Messages && at+int64(m[1]-m[0]) > end {
				return nil // of two messages, which only lie together
			}
			if p.flags&isPlain == 0 {
				match.Index, match.At = int(p.idx), p.at
			}
			if found.Messages {
				match.Offset = at - start
				match.Side = p.public().Side
			}
		}
	}
	found.Total++
	if len(found.Matches) >= s.most {
		return nil
	}
	text, err := s.around(d, i, m[0]-excerptBytes, m[1]+excerptBytes)
	if err != nil {
		return err
	}
	match.Before, match.Text, match.After = text[0], text[1], text[2]
	found.Matches = append(found.Matches, match)
	return nil
}

// piece searches an event or a message of which no segment was written yet.
func (s *searcher) piece(found *Found, p *piece) {
	for _, m := range s.f.All(p.data) {
		found.Total++
		if len(found.Matches) >= s.most {
			continue
		}
		q := p.public()
		match := Match{Offset: int64(m[0]), Text: p.data[m[0]:m[1]], Index: q.Index, Side: q.Side, At: p.at,
			Before: p.data[max(0, m[0]-excerptBytes):m[0]], After: p.data[m[1]:min(len(p.data), m[1]+excerptBytes)]}
		if p.flags&isPlain != 0 {
			match.Index = -1
		}
		found.Matches = append(found.Matches, match)
	}
}

// maxReach bounds how far a match that goes on where the bytes at hand end is
// followed.
const maxReach = 256 << 10

// chunk returns the matches that begin in chunk i of the part.
func (s *searcher) chunk(d *db, i int) ([][2]int, error) {
	end, atEnd, err := s.window(i, s.f.Reach)
	if err != nil {
		return nil, err
	}
	s.key = s.key[:0]
	if s.f.Sight > 0 && i > 0 {
		s.key = binary.AppendUvarint(s.key, uint64(s.ids[i-1]))
	}
	s.key = append(s.key, 0) // no id
	for _, id := range s.ids[i:end] {
		s.key = binary.AppendUvarint(s.key, uint64(id))
	}
	if atEnd {
		s.key = append(s.key, 0)
	}
	if ms, ok := s.seen[string(s.key)]; ok {
		return ms, nil
	}
	ms, cut, err := s.scan(d, i, end, atEnd, s.f.Reach)
	if err != nil {
		return nil, err
	}
	if !cut {
		s.seen[string(s.key)] = ms
	}
	for reach := s.f.Reach; cut && reach < maxReach; {
		reach *= 4
		if end, atEnd, err = s.window(i, reach); err == nil {
			ms, cut, err = s.scan(d, i, end, atEnd, reach)
		}
		if err != nil {
			return nil, err
		}
	}
	return ms, nil
}

// window returns the end of the chunks that a match which begins in chunk i may
// reach, and whether the part ends with them.
func (s *searcher) window(i, reach int) (end int, atEnd bool, err error) {
	end = i + 1
	for room := reach - 1; room > 0 && end < len(s.ids); end++ {
		n, err := s.lengths.of(s.ids[end])
		if err != nil {
			return 0, false, &FileError{Path: s.r.path, Problem: err.Error()}
		}
		room -= n
	}
	return end, end == len(s.ids), nil
}

// scan looks for matches that begin in chunk i. cut tells that one ended where
// the bytes at hand did, and may go on.
func (s *searcher) scan(d *db, i, end int, atEnd bool, reach int) (ms [][2]int, cut bool, err error) {
	s.win = s.win[:0]
	if s.f.Sight > 0 && i > 0 {
		p, err := s.bytes(d, s.ids[i-1])
		if err != nil {
			return nil, false, err
		}
		s.win = append(s.win, p[max(0, len(p)-s.f.Sight):]...)
	}
	sight := len(s.win)
	size := 0
	for k := i; k < end; k++ {
		p, err := s.bytes(d, s.ids[k])
		if err != nil {
			return nil, false, err
		}
		if k == i {
			size = len(p)
		} else if room := sight + size + reach - 1 - len(s.win); len(p) > room {
			p, atEnd = p[:room], false
		}
		s.win = append(s.win, p...)
	}
	for _, m := range s.f.All(s.win) {
		switch from := m[0] - sight; {
		case from < 0: // it began in the chunk before
		case from >= size:
			return ms, cut, nil
		default:
			ms = append(ms, [2]int{from, m[1] - sight})
			cut = cut || s.f.Open && m[1] == len(s.win) && !atEnd
		}
	}
	return ms, cut, nil
}

// around returns the bytes of a part from from to to, which are counted from the
// beginning of chunk i, in three: those before the match, the match itself, and
// those behind it.
func (s *searcher) around(d *db, i, from, to int) (parts [3][]byte, err error) {
	first, base := i, 0
	for first > 0 && base > from {
		first--
		n, err := s.lengths.of(s.ids[first])
		if err != nil {
			return parts, &FileError{Path: s.r.path, Problem: err.Error()}
		}
		base -= n
	}
	start, stop := from+excerptBytes, to-excerptBytes // of the match
	for k := first; k < len(s.ids) && base < to; k++ {
		p, err := s.bytes(d, s.ids[k])
		if err != nil {
			return parts, err
		}
		for n, r := range [3][2]int{{from, start}, {start, stop}, {stop, to}} {
			if lo, hi := max(r[0]-base, 0), min(r[1]-base, len(p)); lo < hi {
				parts[n] = append(parts[n], p[lo:hi]...)
			}
		}
		base += len(p)
	}
	return parts, nil
}

// bytes returns a chunk. It is valid until the next call.
func (s *searcher) bytes(d *db, id int64) ([]byte, error) {
	if p := s.pack; p == nil || id < p.first || id >= p.first+int64(len(p.ends)) {
		if s.pack = s.r.packs.get(id); s.pack == nil {
			var err error
			if s.pack, err = s.r.unpack(d, id); err != nil {
				return nil, err
			}
			s.r.packs.put(s.pack)
		}
	}
	i := int(id - s.pack.first)
	start := 0
	if i > 0 {
		start = s.pack.ends[i-1]
	}
	return s.pack.data[start:s.pack.ends[i]], nil
}
