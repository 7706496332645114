package mcp

import (
	"errors"
	"sync"
	"time"
)

// maxOpen bounds the sessions that stay open when nobody asks about them.
const maxOpen = 4

// records are the sessions that are open: to open one may take longer than to ask it.
type records struct {
	source Source

	mu     sync.Mutex
	byID   map[string]*opened
	closed bool
}

// An opened is a session that is open.
type opened struct {
	Record
	id   string
	refs int
	used time.Time
}

// errClosed is the answer to those who come too late.
var errClosed = errors.New("server: it is being closed")

// open opens the session that ref means. It is given back with release.
func (rs *records) open(ref string) (*opened, error) {
	id, err := rs.source.Find(ref)
	if err != nil {
		return nil, err
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.closed {
		return nil, errClosed
	}
	o := rs.byID[id]
	if o == nil {
		rec, err := rs.source.Open(id)
		if err != nil {
			return nil, err
		}
		o = &opened{Record: rec, id: id}
		if rs.byID == nil {
			rs.byID = map[string]*opened{}
		}
		rs.byID[id] = o
	}
	o.refs++
	o.used = time.Now()
	return o, nil
}

// release gives a session back.
func (rs *records) release(o *opened) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	o.refs--
	o.used = time.Now()
	if rs.closed && o.refs == 0 {
		o.Close()
		return
	}
	for len(rs.byID) > maxOpen {
		var oldest *opened
		for _, o := range rs.byID {
			if o.refs == 0 && (oldest == nil || o.used.Before(oldest.used)) {
				oldest = o
			}
		}
		if oldest == nil {
			return
		}
		delete(rs.byID, oldest.id)
		oldest.Close()
	}
}

// close closes what nobody reads; the rest closes when it is given back.
func (rs *records) close() error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.closed = true
	var errs []error
	for id, o := range rs.byID {
		if o.refs == 0 {
			errs = append(errs, o.Close())
			delete(rs.byID, id)
		}
	}
	return errors.Join(errs...)
}
