package web

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"trace/flow"
)

// body answers with the bytes of a body, as a file: nothing in it is to run here.
func (q *request) body() error {
	id, err := q.id()
	if err != nil {
		return err
	}
	offset, err := q.number("offset", 0)
	if err != nil {
		return err
	}
	length, err := q.number("length", math.MaxInt64)
	if err != nil {
		return err
	}
	x, err := q.rec.Flow(id)
	if err != nil {
		return err
	}
	which := q.URL.Path[strings.LastIndexByte(q.URL.Path, '/')+1:]
	part, side := x.Request, flow.Client
	switch which {
	case "response":
		part, side = x.Response, flow.Server
	case "forwarded":
		// What left for the server differs in its head only, unless a rule changed its body,
		// of which nothing but the marks is kept then.
		if part = x.Forwarded; part != nil && part.Body != nil && x.Request != nil && x.Request.Body != nil && (part.Body.Size != x.Request.Body.Size || part.Body.SHA256 != x.Request.Body.SHA256) {
			part = nil
		}
	}
	if part == nil {
		return &Problem{http.StatusNotFound, fmt.Sprintf("flow %d: it has no %s", id, which), ""}
	}
	h := q.Header()
	kind := part.ContentType
	if kind == "" {
		kind = part.Head.Get("Content-Type")
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="`+q.name(id)+"-"+which+`.bin"`)
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("X-Trace-Type", fieldText(kind))
	if b := part.Body; b != nil {
		size := b.Kept
		if !b.Truncated && b.Encoding == "" {
			size = b.Size
		} else if !b.Truncated {
			size = b.Decoded
		}
		h.Set("X-Trace-Size", strconv.FormatInt(size, 10))
		h.Set("X-Trace-Truncated", strconv.FormatBool(b.Truncated || b.Cut))
	}
	if q.Method == http.MethodHead {
		return nil
	}
	w := &window{w: q, skip: offset, left: length}
	if _, err := q.rec.WriteBody(w, id, side); err != nil && !errors.Is(err, errFull) {
		if w.begun {
			panic(http.ErrAbortHandler) // what came is not all: the client must see it
		}
		return err
	}
	return nil
}

// fieldText makes of what was captured something that may stand in a field.
func fieldText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 200)]
}

// A window lets a part of what is written through.
type window struct {
	w          io.Writer
	skip, left int64
	begun      bool
}

// errFull ends the writing behind the window.
var errFull = errors.New("the window is full")

// Write writes what of p lies in the window.
func (v *window) Write(p []byte) (int, error) {
	n := len(p)
	if v.skip >= int64(n) {
		v.skip -= int64(n)
		return n, nil
	}
	p = p[v.skip:]
	v.skip = 0
	full := v.left <= int64(len(p))
	if full {
		p = p[:v.left]
	}
	v.left -= int64(len(p))
	if len(p) > 0 {
		v.begun = true
		if _, err := v.w.Write(p); err != nil {
			return 0, err
		}
	}
	if full {
		return n, errFull
	}
	return n, nil
}

// An event is one of a stream, or a message, in /api/flows/ID/events.
type event struct {
	N         int               `json:"n"`
	AtMS      float64           `json:"at_ms"`
	Dir       string            `json:"dir,omitempty"`
	Event     string            `json:"event"`
	ID        string            `json:"id,omitempty"`
	Retry     string            `json:"retry,omitempty"`
	Framing   string            `json:"framing,omitempty"`
	Headers   map[string]string `json:"frame_headers,omitempty"`
	Opcode    *uint8            `json:"opcode,omitempty"`
	Code      int               `json:"code,omitempty"`
	Reason    string            `json:"reason,omitempty"`
	Size      int64             `json:"size"`
	Truncated *int64            `json:"truncated,omitempty"`
	Partial   bool              `json:"partial,omitempty"`
	Data      any               `json:"data"`
}

// How many events an answer has, and about how many bytes of them.
const (
	defaultEvents = 500
	maxEvents     = 5000
	maxEventBytes = 4 << 20
)

// events answers with events of a stream or messages, also while they come.
func (q *request) events() error {
	id, err := q.id()
	if err != nil {
		return err
	}
	after, err := q.number("after", 0)
	if err != nil {
		return err
	}
	limit, err := q.number("limit", defaultEvents)
	if err != nil {
		return err
	}
	limit = min(max(limit, 1), maxEvents)
	x, err := q.rec.Flow(id)
	if err != nil {
		return err
	}
	list, more, next := []event{}, false, after
	size := int64(0)
	err = q.rec.PiecesFrom(id, int(min(after, math.MaxInt32)), func(p flow.Piece) error {
		if more = int64(len(list)) >= limit || size > maxEventBytes; more {
			return errFull
		}
		next = int64(p.Index) + 1
		if p.Partial {
			next-- // it will be longer
		}
		if e, ok := eventOf(x, &p); ok {
			list = append(list, e)
			size += int64(len(p.Data))
		}
		return q.Context().Err()
	})
	if err != nil && !errors.Is(err, errFull) {
		return err
	}
	return q.json(map[string]any{"events": list, "more": more, "next": next, "state": x.State}, nil)
}

// eventOf makes an event of a piece; ok is false for what is none, such as a
// comment in a stream.
func eventOf(x *flow.Exchange, p *flow.Piece) (e event, ok bool) {
	e = event{N: p.Index, AtMS: *flow.MS(max(0, p.At.Sub(x.Started))), Size: p.Size, Partial: p.Partial}
	if x.Request == nil || x.IsWebSocket() {
		e.Dir, e.Event, e.Data, e.Truncated = p.Side.Dir(), "bytes", flow.BodyValue(p.Data), p.Truncated()
		if x.IsWebSocket() {
			e.Event, e.Opcode = flow.OpcodeName(p.Opcode), &p.Opcode
			if p.Opcode == flow.OpClose {
				e.Code, e.Reason = flow.ParseClose(p.Data)
			}
		}
		return e, true
	}
	framing := x.Framing(p.Side)
	parsed := flow.ParseEvent(framing, p.Data)
	if framing != flow.FramingSSE {
		e.Framing = framing
	}
	if framing == flow.FramingGRPC || p.Side == flow.Client {
		e.Dir = p.Side.Dir()
	}
	e.Event, e.ID, e.Retry, e.Headers, e.Data = parsed.Name(), parsed.ID, parsed.Retry, parsed.HeaderMap(), parsed.Value()
	if e.Size == 0 {
		e.Size = int64(len(p.Data))
	}
	return e, parsed.Dispatched
}
