package wire

import (
	"encoding/base64"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"trace/flow"
)

// reasonHTTP2 is the reason of a connection that says it speaks HTTP/2 and
// does not.
const reasonHTTP2 = "http2"

// clientPreface is what a client says first (RFC 9113 section 3.4).
const clientPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// maxEarly bounds what the server may say before the client has proved, by its
// preface, that the connection speaks HTTP/2: its SETTINGS and the like.
const maxEarly = 16 << 10

// maxStreams bounds the streams that are followed at a time, like maxQueue, and
// maxQueueBytes the heads of their requests. Others are left out of the record.
const maxStreams = 10000

// maxGoAways bounds the GOAWAY frames of a side that are acted on: each looks at
// all streams. One or two are usual.
const maxGoAways = 100

// An http2Conn decodes a connection that speaks HTTP/2 (RFC 9113).
type http2Conn struct {
	d       *Decoder
	sides   [2]frameReader
	streams map[uint32]*stream // that are open
	most    int                // streams that were open at a time since none was
	size    int                // bytes of the heads of their requests
	waiting int                // bytes that streams hold back
	silent  [2]*flow.Error     // why no more of a side can be read; nil while it can
	away    [2]*goAway         // what a side said last in GOAWAY
	aways   [2]int             // how often it did
	told    []string           // marks that were made on the connection

	prefaced bool   // the client has said its preface
	early    []byte // of the server, before
	earlyAt  time.Time
}

// goAway is what a side says when it takes no more streams (section 6.8).
type goAway struct {
	last uint32 // the last stream that it takes
	code uint32
}

func newHTTP2(d *Decoder) *http2Conn {
	c := &http2Conn{d: d, streams: map[uint32]*stream{}}
	for i := range c.sides {
		c.sides[i].init(c, flow.Side(i))
	}
	return c
}

// data takes bytes of side.
func (c *http2Conn) data(side flow.Side, at time.Time, p []byte) {
	if side == flow.Server && !c.prefaced {
		if len(c.early) == 0 {
			c.earlyAt = at
		}
		n := min(len(p), maxEarly-len(c.early))
		c.early = append(c.early, p[:n]...)
		if len(c.early) == maxEarly {
			c.begun()
		}
		p = p[n:]
	}
	if c.sides[side].lost {
		c.d.dirs[side].push(at, p) // what came before had it give up
		return
	}
	c.sides[side].push(at, p)
}

// begun lets the server's first bytes be decoded.
func (c *http2Conn) begun() {
	early := c.early
	c.prefaced, c.early = true, nil
	c.sides[flow.Server].push(c.earlyAt, early)
}

// noHTTP2 makes the connection opaque, because the client does not begin as
// one of HTTP/2 does. held is what it said, since.
func (c *http2Conn) noHTTP2(at time.Time, held []byte, since time.Time) {
	client, server := &c.d.dirs[flow.Client], &c.d.dirs[flow.Server]
	err := client.fault(flow.CodeMalformed, "the client does not begin with the preface of HTTP/2")
	for i := range c.sides {
		c.sides[i].lost = true
	}
	c.stop(flow.Client, at, err) // an upgraded exchange, if there is one
	c.stop(flow.Server, at, err)
	client.rest, client.since = held, since
	first, second := client, server
	if len(c.early) > 0 {
		server.rest, server.since = c.early, c.earlyAt
		if c.earlyAt.Before(since) {
			first, second = server, client
		}
	}
	c.early, c.prefaced = nil, true
	first.leave(reasonHTTP2, err)
	second.leave(reasonHTTP2, nil)
}

// upgradesHTTP2 reports whether h, a 101, answers the complete request of x by
// switching to HTTP/2 in cleartext.
func (d *Decoder) upgradesHTTP2(x *exchange, h *flow.Head) bool {
	return x.upgrade == "upgrade:h2c" && (count(h, "Upgrade") == 0 || upgradeReason(h) == x.upgrade) && x.ended[flow.Client]
}

// upgradeHTTP2 goes on in HTTP/2, where x gets its answer.
func (d *Decoder) upgradeHTTP2(at time.Time, x *exchange) {
	d.dequeue(x)
	d.dirs[flow.Server].msg = nil
	c := newHTTP2(d)
	c.upgraded(at, x)
	d.become(at, c)
}

// upgraded takes over x, whose request asked for h2c in HTTP/1 and is answered
// on stream 1 (RFC 7540 section 3.2).
func (c *http2Conn) upgraded(at time.Time, x *exchange) {
	s := &stream{c: c, id: 1, x: x}
	s.half[flow.Client].headed = true
	c.streams[1], c.sides[flow.Client].last = s, 1
	c.size += x.size
	settings, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(x.req.Get("HTTP2-Settings"), "="))
	if err != nil || len(settings)%settingSize != 0 {
		x.mark(flow.Client, at, flow.AtClient, flow.CodeMalformed, "HTTP2-Settings is not valid")
		return
	}
	for ; len(settings) > 0; settings = settings[settingSize:] {
		c.setting(flow.Client, settings)
	}
}

// setting takes one setting that side announces.
func (c *http2Conn) setting(side flow.Side, p []byte) {
	const headerTableSize = 1 // section 6.5.2
	if binary.BigEndian.Uint16(p) == headerTableSize {
		d := &c.sides[side.Other()].hpack
		d.allowed = max(d.allowed, uint64(binary.BigEndian.Uint32(p[2:])))
	}
}

// tell marks the connection, once with each message.
func (c *http2Conn) tell(side flow.Side, at time.Time, err *flow.Error) {
	if !slices.Contains(c.told, err.Message) && len(c.told) < 16 {
		c.told = append(c.told, err.Message)
		c.d.mark(0, side, at, err)
	}
}

// open returns the streams that are open in the order of their identifiers.
func (c *http2Conn) open() []*stream {
	return slices.SortedFunc(maps.Values(c.streams), func(a, b *stream) int { return int(a.id) - int(b.id) })
}

// forget lets go of a stream that is over.
func (c *http2Conn) forget(s *stream) {
	c.size -= s.x.size
	delete(c.streams, s.id)
	if len(c.streams) == 0 && c.most > 100 { // an idle connection holds nothing
		c.streams, c.most = map[uint32]*stream{}, 0
	}
}

// reset ends a stream by the word of side (section 6.4).
func (c *http2Conn) reset(side flow.Side, at time.Time, id, code uint32) {
	s := c.streams[id]
	if s == nil {
		return
	}
	name := errorName(code)
	err := &flow.Error{
		Where: where(side), Code: flow.CodeReset, Detail: name,
		Message: "the " + side.String() + " reset the stream: " + name,
	}
	answered := s.x.ended[flow.Server]
	switch {
	case side == flow.Server && answered && code == codeNone:
		err = nil // the rest of the request is not wanted: section 8.1
	case side == flow.Client && answered && s.declined() && (code == codeNone || code == codeCancel):
		err = nil
	}
	s.abandon(side, at, err)
}

// goAway takes a GOAWAY of side.
func (c *http2Conn) goAway(side flow.Side, at time.Time, last, code uint32, debug []byte) {
	if c.aways[side]++; c.aways[side] > maxGoAways {
		return
	}
	c.away[side] = &goAway{last, code}
	if code != codeNone {
		name := errorName(code)
		message := "the " + side.String() + " gives the connection up: " + name
		if len(debug) > 0 {
			message += ": " + strconv.QuoteToASCII(string(debug))
		}
		c.tell(side, at, &flow.Error{Where: where(side), Code: flow.CodeReset, Detail: name, Message: message})
	}
	for _, s := range c.open() {
		if c.refused(s) {
			s.refuse(at)
		}
	}
}

// refused reports whether a GOAWAY says that s is not dealt with.
func (c *http2Conn) refused(s *stream) bool {
	away := c.away[flow.Server]
	if s.id%2 == 0 {
		away = c.away[flow.Client]
	}
	return away != nil && s.id > away.last && !s.half[flow.Server].headed
}

// stop ends what is open of side, because no more of it can be read.
func (c *http2Conn) stop(side flow.Side, at time.Time, err *flow.Error) {
	c.silent[side] = err
	for _, s := range c.open() {
		s.stop(side, at, err)
	}
}

// end says that side has ended.
func (c *http2Conn) end(side flow.Side, at time.Time) {
	f := &c.sides[side]
	switch {
	case f.lost:
		return
	case side == flow.Client && !c.prefaced && f.n > 0:
		c.noHTTP2(at, slices.Clone(f.head[:f.n]), f.since)
		return
	case side == flow.Server && !c.prefaced:
		c.begun()
	}
	err := c.d.dirs[side].cut()
	for by, away := range c.away {
		if side := flow.Side(by); away != nil && away.code != codeNone && err.Where == where(side) {
			err.Detail = errorName(away.code)
			err.Message += ", after a GOAWAY: " + err.Detail
		}
	}
	f.partial(at, err)
	c.stop(side, at, err)
	f.lost = true
}

// close has nothing to do: streams end with the sides.
func (c *http2Conn) close(time.Time) {}

// free frees what the bodies hold.
func (c *http2Conn) free() {
	for _, s := range c.streams {
		s.free()
	}
}

// The error codes that are looked at, and the names of all (section 7).
const (
	codeNone   = 0
	codeCancel = 8
)

var errorNames = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
	"STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR",
	"CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

func errorName(code uint32) string {
	if code < uint32(len(errorNames)) {
		return errorNames[code]
	}
	return "0x" + strconv.FormatUint(uint64(code), 16)
}
