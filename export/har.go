package export

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"trace/flow"
)

// A HAR writes an HTTP Archive 1.2, with the fields by which Chrome tells of
// event streams and WebSockets, and fields of its own whose names begin with an
// underscore (docs/export.md). It holds HTTP exchanges and WebSockets only.
//
// Entries are written as they are handed over; viewers sort them by their
// start. No body is held in memory, and neither are events and messages.
type HAR struct {
	W       io.Writer
	Version string // of trace

	source   Source
	out      jsonWriter
	begun    bool
	n        int
	sessions []string
}

type harLog struct {
	Version string   `json:"version"`
	Creator harMaker `json:"creator"`
	Pages   []string `json:"pages"` // none, but importers want the list
}

type harMaker struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// From says of which session the next flows are.
func (h *HAR) From(s flow.Session, src Source) error {
	h.source = src
	label := "session " + s.ID
	if s.Name != "" {
		label += " (" + text(s.Name) + ")"
	}
	h.sessions = append(h.sessions, label)
	h.begin()
	return h.failed()
}

// begin writes what stands before the entries.
func (h *HAR) begin() {
	if h.begun {
		return
	}
	h.begun = true
	h.out.w = h.W
	h.out.raw(`{"log":`)
	h.out.open(harLog{"1.2", harMaker{"trace", h.Version}, []string{}})
	h.out.raw(`,"entries":[`)
}

// End writes what stands after the entries.
func (h *HAR) End() error {
	h.begin()
	h.out.raw("\n],\"comment\":")
	h.out.value(strings.Join(h.sessions, ", "))
	h.out.raw("}}\n")
	return h.failed()
}

func (h *HAR) failed() error {
	if h.out.err != nil {
		return fmt.Errorf("write the HAR: %w", h.out.err)
	}
	return nil
}

// Flow writes an entry.
func (h *HAR) Flow(x *flow.Exchange) error {
	if x.Request == nil || x.Request.Head == nil {
		return ErrNoPlace
	}
	var bodies [2]*content
	var errs []error
	for side := range bodies {
		c, err := contentOf(h.source, x.ID, flow.Side(side))
		if err != nil {
			errs = append(errs, err)
			c = &content{}
		}
		bodies[side] = c
	}
	if h.n++; h.n > 1 {
		h.out.raw(",")
	}
	h.out.raw("\n")
	h.out.open(harStartOf(x))
	h.request(x, bodies[flow.Client])
	h.response(x, bodies[flow.Server])
	h.out.raw(`,"cache":{},"timings":`)
	h.out.value(harTimingsOf(x))
	h.out.raw(",")
	rest, err := flow.MarshalJSON(harRestOf(x))
	if err != nil {
		return fmt.Errorf("flow %d: %w", x.ID, err)
	}
	h.out.raw(strings.TrimSuffix(string(rest[1:]), "}"))
	if err := h.pieces(x); err != nil {
		errs = append(errs, &BodyError{x.ID, err})
	}
	h.out.raw("}")
	if err := h.failed(); err != nil {
		return err
	}
	return errors.Join(errs...)
}

func (h *HAR) request(x *flow.Exchange, body *content) {
	h.out.raw(`,"request":`)
	h.out.open(harRequestOf(x))
	if size := x.Request.Body; body.size > 0 || size != nil && size.Size > 0 {
		h.out.raw(`,"postData":`)
		post := harPostData{MimeType: x.Request.Head.Get("content-type"), Encoding: encodingOf(body)}
		if post.MimeType == "" {
			post.MimeType = "application/octet-stream"
		}
		post.Truncated, post.Comment = truncation(x.Request, body)
		h.out.open(post)
		h.out.text(body)
		h.out.raw("}")
	}
	h.out.raw("}")
}

func (h *HAR) response(x *flow.Exchange, body *content) {
	h.out.raw(`,"response":`)
	h.out.open(harResponseOf(x))
	h.out.raw(`,"content":`)
	c := harContentOf(x, body)
	if body.size == 0 {
		h.out.value(c)
	} else {
		h.out.open(c)
		h.out.text(body)
		h.out.raw("}")
	}
	h.out.raw("}")
}

// truncation says how much of a body was kept, where that is not all.
func truncation(p *flow.Part, body *content) (*int64, string) {
	if p == nil || p.Body == nil || !p.Body.Truncated && !p.Body.Cut {
		return nil, ""
	}
	return &body.size, fmt.Sprintf("not all of it: the first %d bytes", body.size)
}

func encodingOf(c *content) string {
	if c.size == 0 || c.text {
		return ""
	}
	return "base64"
}

// pieces writes the events of a stream or the messages of a WebSocket.
func (h *HAR) pieces(x *flow.Exchange) error {
	of := func(flow.Piece) any { return nil }
	name := ""
	switch {
	case x.IsWebSocket():
		name, of = "_webSocketMessages", harMessageOf
	case x.Framing(flow.Server) == flow.FramingSSE && x.Framing(flow.Client) == flow.FramingSSE:
		name, of = "_eventSourceMessages", harEventOf
	default:
		name, of = "_streamEvents", harBlockOf
	}
	n := 0
	err := h.source.Pieces(x.ID, func(p flow.Piece) error {
		v := of(p)
		if v == nil {
			return nil
		}
		if n++; n == 1 {
			h.out.raw(`,"` + name + `":[`)
		} else {
			h.out.raw(",")
		}
		h.out.value(v)
		return h.out.err
	})
	if n > 0 {
		h.out.raw("]")
	} else if x.IsWebSocket() {
		h.out.raw(`,"_webSocketMessages":[]`)
	}
	if h.out.err != nil {
		return nil // said by whoever writes
	}
	return err
}
