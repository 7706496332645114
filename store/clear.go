package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
)

// ErrRead is returned by Clear where another process reads the session, which
// keeps old bytes in the file.
var ErrRead = errors.New("another process is reading it: what was deleted may stay in the file until it ends and flows are deleted again")

// Clear deletes the flows with these ids from the session at path, the
// connections that had no others, and every chunk of a body that no other flow
// needs: packs that hold such are written anew without them. The ids of other
// flows stay, those of the deleted are not given again. When Clear returns
// without an error, nothing of what it deleted is left in the file, nor beside
// it. It refuses a session that is being written with ErrRunning: whoever writes
// it counts on the chunks that are there. It returns the size of the file
// before and after.
func Clear(path string, ids []int64) (before, after int64, err error) {
	s, err := inspect(path)
	if err != nil {
		return 0, 0, err
	}
	if s.State == stateRunning || isRunning(path, 0, 0) {
		return 0, 0, fmt.Errorf("session %s: %w", path, ErrRunning)
	}
	before = sizeOf(path)
	d, err := openWriting(path)
	if err != nil {
		return before, before, err
	}
	err = clearOut(d, path, ids)
	if e := d.close(); err == nil {
		err = e
	}
	if err != nil && !errors.Is(err, ErrRead) {
		err = fileError(path, err)
	}
	return before, sizeOf(path), err
}

// sizeOf returns how much a session takes, with its log.
func sizeOf(path string) (n int64) {
	for _, p := range []string{path, path + "-wal"} {
		if fi, err := os.Stat(p); err == nil {
			n += fi.Size()
		}
	}
	return n
}

// clearOut deletes in one transaction, in which SQLite overwrites what is
// freed, and then folds in the log and writes the file anew: the log has the
// old pages, and the file would keep its size.
func clearOut(d *db, path string, ids []int64) error {
	if err := d.script("PRAGMA secure_delete=ON"); err != nil {
		return err
	}
	if err := d.immediate(func() error { return deleteFlows(d, path, ids) }); isBusy(err) {
		return &FileError{Path: path, Problem: "is in use by another process: nothing was deleted", Err: err}
	} else if err != nil {
		return err
	}
	if err := d.script("PRAGMA busy_timeout=1000"); err != nil {
		return err
	}
	if row, err := d.one("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil && !isBusy(err) {
		return err
	} else if err != nil || len(row) > 0 && row.int(0) != 0 {
		return fmt.Errorf("session %s: %w", path, ErrRead)
	}
	err := d.script("PRAGMA journal_mode=DELETE; VACUUM")
	if isBusy(err) {
		return nil // a reader keeps the file as large as it was, with zeros in it
	}
	return err
}

func deleteFlows(d *db, path string, ids []int64) error {
	tables := []string{"detail", "body", "tail"}
	if has, err := annotates(d); err != nil {
		return err
	} else if has {
		tables = append(tables, "call")
	}
	conns := map[int64]bool{}
	for _, id := range ids {
		conn, err := d.number("SELECT conn FROM flow WHERE id=?", id)
		if err != nil {
			return err
		}
		conns[conn] = true
		for _, table := range tables {
			if _, err := d.exec("DELETE FROM "+table+" WHERE flow=?", id); err != nil {
				return err
			}
		}
		if _, err := d.exec("DELETE FROM flow WHERE id=?", id); err != nil {
			return err
		}
	}
	used := map[int64]bool{}
	err := d.each("SELECT DISTINCT conn FROM flow", nil, func(row row) error {
		used[row.int(0)] = true
		return nil
	})
	for conn := range conns {
		if err == nil && !used[conn] {
			_, err = d.exec("DELETE FROM conn WHERE id=?", conn)
		}
	}
	if err != nil {
		return err
	}
	return sweep(d, path)
}

// sweep removes the chunks that nothing refers to.
func sweep(d *db, path string) error {
	needed, err := referred(d)
	if err != nil {
		return err
	}
	var packs []span
	err = d.each("SELECT first,count FROM pack ORDER BY first", nil, func(row row) error {
		packs = append(packs, span{row.int(0), row.int(1)})
		return nil
	})
	if err != nil {
		return err
	}
	c, err := newChunks()
	if err != nil {
		return err
	}
	defer c.enc.Close()
	dec, err := newDecoder()
	if err != nil {
		return err
	}
	defer dec.Close()
	r := &Reader{path: path, dec: dec}
	for _, p := range packs {
		keep := within(needed, p)
		if len(keep) == 1 && keep[0] == p {
			continue
		}
		var old *openPack
		if len(keep) > 0 {
			if old, err = r.unpack(d, p.first); err != nil {
				return err
			}
		}
		if _, err := d.exec("DELETE FROM pack WHERE first=?", p.first); err != nil {
			return err
		}
		for _, k := range keep {
			n := old.part(c, k)
			if _, err := d.exec("INSERT INTO pack VALUES(?,?,?,?,?)", n.first, n.count, n.raw, n.idx, n.data); err != nil {
				return err
			}
		}
	}
	return nil
}

// referred returns the chunks that bodies and certificates are made of, as runs
// in the order of their ids that do not touch.
func referred(d *db) ([]span, error) {
	var all []span
	add := func(row row) error {
		spans, err := parseRecipe(row.blob(0))
		all = append(all, spans...)
		if len(all) > 1<<20 {
			all = merged(all)
		}
		return err
	}
	err := d.each("SELECT recipe FROM body", nil, add)
	if err == nil {
		err = d.each("SELECT chain FROM conn WHERE chain IS NOT NULL", nil, add)
	}
	return merged(all), err
}

// merged sorts spans and joins those that touch or overlap.
func merged(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return int(max(-1, min(1, a.first-b.first))) })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && s.first <= out[n-1].first+out[n-1].count {
			out[n-1].count = max(out[n-1].count, s.first+s.count-out[n-1].first)
			continue
		}
		out = append(out, s)
	}
	return out
}

// within returns what of p lies in needed.
func within(needed []span, p span) (keep []span) {
	i := sort.Search(len(needed), func(i int) bool { return needed[i].first+needed[i].count > p.first })
	for ; i < len(needed) && needed[i].first < p.first+p.count; i++ {
		first, end := max(p.first, needed[i].first), min(p.first+p.count, needed[i].first+needed[i].count)
		keep = append(keep, span{first, end - first})
	}
	return keep
}

// part makes a pack of some of the chunks of p, which keep their ids.
func (p *openPack) part(c *chunks, of span) *pack {
	i := int(of.first - p.first)
	n := &pack{first: of.first, count: int(of.count)}
	start := 0
	if i > 0 {
		start = p.ends[i-1]
	}
	at := start
	for k := i; k < i+n.count; k++ {
		n.idx = append(binary.AppendUvarint(n.idx, uint64(p.ends[k]-at)), p.sums[k][:]...)
		at = p.ends[k]
	}
	n.raw = at - start
	n.data = c.enc.EncodeAll(p.data[start:at], nil)
	return n
}
