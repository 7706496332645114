package mcp

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"trace/flow"
)

// How much of a body an answer has, in bytes.
const (
	defaultRange = 4000
	maxRange     = 64 << 10
)

// errFull ends the reading of what nobody wants.
var errFull = errors.New("enough")

// A window keeps a range of the bytes that are written to it.
type window struct {
	from, length int64
	at           int64 // bytes written so far
	kept         []byte
}

func (w *window) put(p []byte) {
	if skip := w.from - w.at; skip < int64(len(p)) && int64(len(w.kept)) < w.length {
		part := p[max(0, skip):]
		w.kept = append(w.kept, part[:min(int64(len(part)), w.length-int64(len(w.kept)))]...)
	}
	w.at += int64(len(p))
}

func (w *window) full() bool { return w.at > w.from+w.length }

// A bodyOut is a range of a body, or of a value in it.
type bodyOut struct {
	Of      string `json:"of"` // request or response
	Path    string `json:"path,omitempty"`
	Kind    string `json:"json_kind,omitempty"`
	Matches int    `json:"matches,omitempty"` // of a path that may lead to several values
	Offset  int64  `json:"offset"`
	Length  int64  `json:"length"`
	Total   int64  `json:"total"` // bytes of the body or value; -1: not known
	Next    *int64 `json:"next_offset,omitempty"`
	Base64  bool   `json:"base64,omitempty"` // the text is that, since the bytes are no UTF-8
	Text    string `json:"text"`
	// Members are the children of an object or array.
	Members []member `json:"members,omitempty"`
	Count   int      `json:"member_count,omitempty"`
	URI     string   `json:"uri,omitempty"`
}

// sideOf reads which body is meant.
func sideOf(name string) (flow.Side, error) {
	switch name {
	case "request", "request-body":
		return flow.Client, nil
	case "response", "response-body":
		return flow.Server, nil
	}
	return 0, fmt.Errorf("body %q: want request or response", clip(name, 40))
}

// partOf returns a side of a flow.
func (t *target) partOf(side flow.Side) (*flow.Part, error) {
	part, name := t.x.Request, "request"
	if side == flow.Server {
		part, name = t.x.Response, "response"
	}
	if t.x.Request == nil {
		return nil, &Problem{fmt.Sprintf("flow %d: it is no HTTP exchange (%s) and has no body", t.x.ID, t.x.Kind), "flow_events has what was carried"}
	}
	if part == nil {
		return nil, fmt.Errorf("flow %d: it has no %s (yet)", t.x.ID, name)
	}
	return part, nil
}

// keptSize is how long the decoded body is that was kept; -1: not known yet.
func keptSize(part *flow.Part) int64 {
	switch b := part.Body; {
	case b == nil:
		return -1
	case b.Truncated:
		return b.Kept
	case b.Encoding == "":
		return b.Size
	default:
		return b.Decoded
	}
}

// uri names a body as a resource.
func (t *target) uri(side flow.Side) string {
	return fmt.Sprintf("trace://%s/%d/%s-body", t.id, t.x.ID, [2]string{"request", "response"}[side])
}

// writer calls put for each piece of a body, as long as ctx allows.
type bodyWriter struct {
	ctx context.Context
	put func(p []byte) error
}

// Write passes a piece on.
func (w *bodyWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return len(p), w.put(p)
}

// readRange returns a range of a body.
func (t *target) readRange(ctx context.Context, side flow.Side, offset, length int64) (*bodyOut, error) {
	part, err := t.partOf(side)
	if err != nil {
		return nil, err
	}
	w := &window{from: offset, length: length + utf8.UTFMax}
	n, err := t.WriteBody(&bodyWriter{ctx, func(p []byte) error {
		if w.put(p); w.full() {
			return errFull
		}
		return nil
	}}, t.x.ID, side)
	if err != nil && !errors.Is(err, errFull) {
		return nil, fmt.Errorf("flow %d: body: %w", t.x.ID, err)
	}
	out := &bodyOut{Of: [2]string{"request", "response"}[side], Total: keptSize(part), URI: t.uri(side)}
	if err == nil {
		out.Total = n // redaction changes the length
	} else if out.Total <= w.at {
		out.Total = -1
	}
	out.take(w, length, err != nil)
	return out, nil
}

// take puts the range into an answer: text between letters, or base64.
func (o *bodyOut) take(w *window, length int64, more bool) {
	p, from := w.kept, w.from
	for range utf8.UTFMax - 1 { // the offset may lie within a letter
		if len(p) == 0 || utf8.RuneStart(p[0]) || from == 0 {
			break
		}
		p, from = p[1:], from+1
	}
	if int64(len(p)) > length {
		p, more = p[:length], true
		for cut := len(p); cut > 0 && cut > len(p)-utf8.UTFMax; cut-- {
			if utf8.RuneStart(p[cut-1]) {
				if !utf8.FullRune(p[cut-1:]) {
					p = p[:cut-1]
				}
				break
			}
		}
	}
	if utf8.Valid(p) {
		o.Text = string(p)
	} else {
		p, from = w.kept[:min(int64(len(w.kept)), length*3/4)], w.from
		more = more || len(p) < len(w.kept)
		o.Base64, o.Text = true, base64.StdEncoding.EncodeToString(p)
	}
	o.Offset, o.Length = from, int64(len(p))
	if end := from + int64(len(p)); more && len(p) > 0 {
		o.Next = &end
	}
}

// errNoPlace is returned where a path leads nowhere.
func noPlace(t *target, path string, at *scanner) error {
	hint := "show_flow with body and path=\"$\" lists the members of the outermost value"
	if at.over {
		hint = "the body ends before it does"
	}
	return &Problem{fmt.Sprintf("flow %d: path %q: there is no such value", t.x.ID, clip(path, 100)), hint}
}

// readPath returns what a path into a JSON body leads to: the text of a string, or
// JSON as it was sent; of several values a line each.
func (t *target) readPath(ctx context.Context, side flow.Side, path string, offset, length int64) (*bodyOut, error) {
	part, err := t.partOf(side)
	if err != nil {
		return nil, err
	}
	steps, several, err := parsePath(path)
	if err != nil {
		return nil, err
	}
	if err := t.fromTheEnd(ctx, side, steps, path); err != nil {
		return nil, err
	}
	w := &window{from: offset, length: length + utf8.UTFMax}
	s := newScanner(steps)
	s.sink = w.put
	s.begun = func(kind string) {
		switch {
		case s.matches > 1:
			w.put([]byte{'\n'})
		case kind == "string" && !several:
			u := &unescaper{to: w.put}
			s.sink = u.write
		}
	}
	s.done = func() { s.over = !several }
	err = t.scan(ctx, side, s, func() bool { return s.over || several && w.full() })
	switch {
	case err != nil && s.matches == 0:
		return nil, t.noJSON(part, err)
	case s.matches == 0:
		return nil, noPlace(t, path, s)
	}
	out := &bodyOut{Of: [2]string{"request", "response"}[side], Path: path, Kind: s.kind, Total: w.at, URI: t.uri(side)}
	if several {
		out.Matches, out.Kind = s.matches, ""
		if w.full() {
			out.Matches, out.Total = 0, -1
		}
	} else if out.Members, out.Count = s.members, s.children; s.target >= 0 {
		out.Total = -1 // the body ends within it
	}
	out.take(w, length, w.full())
	return out, nil
}

// scan writes a body to a scanner until enough is known.
func (t *target) scan(ctx context.Context, side flow.Side, s *scanner, enough func() bool) error {
	_, err := t.WriteBody(&bodyWriter{ctx, func(p []byte) error {
		if _, err := s.Write(p); err != nil {
			return err
		}
		if enough() {
			return errFull
		}
		return nil
	}}, t.x.ID, side)
	if err == nil && !s.finish() && !enough() {
		s.over = true
		err = errors.New("it ends too soon")
	}
	if errors.Is(err, errFull) {
		err = nil
	}
	return err
}

// noJSON says why a body cannot be asked by a path.
func (t *target) noJSON(part *flow.Part, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	hint := "ask for a range of it: offset and length"
	if strings.HasPrefix(part.ContentType, "text/event-stream") || part.Body != nil && part.Body.Events > 0 {
		hint = "it is a stream of events: flow_events lists them, conversation reads them as an answer"
	}
	return &Problem{fmt.Sprintf("flow %d: body by path: %v", t.x.ID, err), hint}
}

// fromTheEnd turns indexes that count from the end into others.
func (t *target) fromTheEnd(ctx context.Context, side flow.Side, steps []step, path string) error {
	for i := range steps {
		if steps[i].from == 0 {
			continue
		}
		s := newScanner(steps[:i])
		s.done = func() { s.over = true }
		if err := t.scan(ctx, side, s, func() bool { return s.over }); err != nil && !s.over {
			return t.noJSON(t.x.Request, err)
		}
		n := s.children + steps[i].from
		if s.matches != 1 || s.kind != "array" || n < 0 {
			return noPlace(t, path, s)
		}
		steps[i].lo, steps[i].hi, steps[i].from = n, n+1, 0
	}
	return nil
}
