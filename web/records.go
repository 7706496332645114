package web

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxOpen bounds the sessions that stay open when nobody asks about them.
const maxOpen = 4

// records are the sessions that are open: to open one takes longer than to ask it.
type records struct {
	source Source

	mu     sync.Mutex
	byID   map[string]*opened
	closed bool
	held   sync.WaitGroup // by requests, hubs and replays
}

// An opened is a session that is open.
type opened struct {
	Record
	id   string
	refs int
	used time.Time
	hub  *hub // nil: nobody looks at it live
}

// open returns a session by its ID, that which is shown first for "".
func (rs *records) open(id string) (*opened, error) {
	if id != "" && (len(id) != 26 || strings.Trim(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "") {
		return nil, bad("session %s: want an ID, as /api/session lists them", strconv.Quote(id))
	}
	if id == "" {
		var err error
		if id, err = rs.source.First(); err != nil {
			return nil, err
		}
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
	rs.hold(o)
	return o, nil
}

// hold counts somebody who reads a session. It is called with the lock held.
func (rs *records) hold(o *opened) {
	o.refs++
	o.used = time.Now()
	rs.held.Add(1)
}

// errClosed is the answer to those who come too late.
var errClosed = &Problem{http.StatusServiceUnavailable, "server: it is being closed", ""}

// release gives a session back.
func (rs *records) release(o *opened) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	defer rs.held.Done()
	o.refs--
	o.used = time.Now()
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
		oldest.Record.Close()
	}
}

// shut lets nobody in any more.
func (rs *records) shut() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.closed = true
}

// close waits for those who read, and closes all.
func (rs *records) close() error {
	rs.held.Wait()
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var errs []error
	for _, o := range rs.byID {
		errs = append(errs, o.Record.Close())
	}
	rs.byID = nil
	return errors.Join(errs...)
}

// bye ends the streams.
func (rs *records) bye(word any, wait time.Duration) {
	rs.mu.Lock()
	var hubs []*hub
	for _, o := range rs.byID {
		if o.hub != nil {
			hubs = append(hubs, o.hub)
		}
	}
	rs.mu.Unlock()
	until := time.Now().Add(wait)
	for _, h := range hubs {
		h.bye(word, until)
	}
}
