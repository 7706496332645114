package web

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"trace/shelf"
)

// maxOpen bounds the sessions that stay open when nobody asks about them.
const maxOpen = 4

// An opened is a session that is open, and an item one that somebody reads: a
// request, a hub or a replay.
type (
	opened struct {
		Record
		hub *hub // guarded by Server.hubs; nil: nobody looks at it live
	}
	item = shelf.Item[*opened]
)

// errClosed is the answer to those who come too late.
var errClosed = &Problem{http.StatusServiceUnavailable, shelf.ErrShut.Error(), ""}

// session returns a session by its ID, that which is shown first for "". It is
// given back with Release.
func (s *Server) session(id string) (*item, error) {
	if id != "" && (len(id) != 26 || strings.Trim(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "") {
		return nil, bad("session %s: want an ID, as /api/session lists them", strconv.Quote(id))
	}
	if id == "" {
		var err error
		if id, err = s.Source.First(); err != nil {
			return nil, err
		}
	}
	o, err := s.records.Take(id)
	if errors.Is(err, shelf.ErrShut) {
		return nil, errClosed
	}
	return o, err
}

// bye ends the streams.
func (s *Server) bye(word any, wait time.Duration) {
	var open []*opened
	s.records.Each(func(o *opened) { open = append(open, o) })
	var hubs []*hub
	s.hubs.Lock()
	for _, o := range open {
		if o.hub != nil {
			hubs = append(hubs, o.hub)
		}
	}
	s.hubs.Unlock()
	until := time.Now().Add(wait)
	for _, h := range hubs {
		h.bye(word, until)
	}
}
