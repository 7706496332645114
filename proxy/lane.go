package proxy

import (
	"bytes"
	"strings"

	"trace/flow"
	"trace/mitm"
)

// A Lane is where the connections of one client are recorded, and by what they
// are carried.
type Lane struct {
	Record func(flow.Event) // takes events, from several goroutines
	Leave  func()           // the connection is over. nil: nobody minds

	// Proxy carries the tunnels of an Explicit. How it reaches servers, NextID, which
	// must be set, Process, Only and Bypass serve plain requests too.
	Proxy *mitm.Proxy
	// Alter does what rules say to requests to a Reverse, and to plain ones to an Explicit. nil: there
	// are none.
	Alter *Alter
	// NewTap returns what decodes plain requests to an Explicit into emit.
	NewTap func(c *flow.Conn, emit func(flow.Event)) mitm.Tap
}

// maxHeld bounds the events of a connection that wait for its first request. Before
// that there are few.
const maxHeld = 256

// A cut is a target whose label was cut off.
type cut struct {
	label, token string
	target       string // without the label
	shown        string // with it, without the token
}

// cutLabel cuts the label off the target of a request: the first segment of its
// path, where that begins with @, as in /@NAME/anthropic/v1/messages. A token
// may follow the name: /@NAME:TOKEN/….
func cutLabel(target string) cut {
	at := 0
	if i := strings.Index(target, "://"); i > 0 && !strings.HasPrefix(target, "/") {
		at = i + 3
		at += max(strings.IndexByte(target[at:], '/'), 0)
	}
	path, ok := strings.CutPrefix(target[at:], "/@")
	if !ok {
		return cut{target: target, shown: target}
	}
	end := strings.IndexAny(path, "/?")
	if end < 0 {
		end = len(path)
	}
	c := cut{target: target[:at] + path[end:], shown: target}
	if rest := path[end:]; rest == "" || rest[0] != '/' {
		c.target = target[:at] + "/" + rest
	}
	if c.label, c.token, ok = strings.Cut(path[:end], ":"); ok {
		c.shown = target[:at] + "/@" + c.label + path[end:]
	}
	return c
}

// cut cuts the label off a target, where labels are looked for.
func (p *Reverse) cut(target string) cut {
	if p.Enter == nil {
		return cut{target: target, shown: target}
	}
	return cutLabel(target)
}

// emitted records an event, or holds it until it is known where. The lock is held.
func (s *session) emitted(e flow.Event) {
	switch {
	case s.lane.Record != nil:
		s.lane.Record(e)
	case len(s.held) < maxHeld:
		e.Data = bytes.Clone(e.Data)
		s.held = append(s.held, e)
	}
}

// begun has the first request of a connection say where that is recorded. HTTP/2
// brings many at once, and each of them is an event: they are not held.
func (p *Reverse) begun(s *session, target string) { s.choose(p, p.cut(target)) }

// choose finds out where the connection is recorded, unless that is known. The lock
// is held.
func (s *session) choose(p *Reverse, c cut) {
	if s.lane.Record != nil {
		return
	}
	s.label, s.token = c.label, c.token
	var lane Lane
	lane, s.denied = p.Enter(c.label, c.token)
	s.take(lane)
}

// enter reports why a request is not let in: every one needs a token of its own.
func (s *session) enter(p *Reverse, c cut) *flow.Error {
	if p.Enter == nil {
		return nil
	}
	s.mu.Lock()
	s.choose(p, c)
	known, denied := s.label == c.label && s.token == c.token, s.denied
	s.mu.Unlock()
	if known {
		return denied
	}
	lane, denied := p.Enter(c.label, c.token)
	if lane.Leave != nil { // a connection has one, that of its first request
		lane.Leave()
	}
	return denied
}

// take records in a lane, from the beginning of the connection. The lock is held.
func (s *session) take(lane Lane) {
	s.lane = lane
	for _, e := range s.held {
		lane.Record(e)
	}
	s.held = nil
}

// settle sees to it that there is a lane also where no request came.
func (s *session) settle(p *Reverse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.choose(p, cut{})
}
