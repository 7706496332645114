package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"trace/flow"
)

type eventsIn struct {
	inSession
	Flow   ref    `json:"flow" jsonschema:"id of the flow: 12, SESSION/12, or last"`
	After  number `json:"after,omitempty" jsonschema:"next_cursor of the answer before; also the number of an event to begin with"`
	Cursor string `json:"cursor,omitempty" jsonschema:"the same as after"`
	Limit  number `json:"limit,omitempty" jsonschema:"how many, 20 if left out, at most 100"`
	Data   number `json:"data_bytes,omitempty" jsonschema:"how much of the data of each, 200 if left out, at most 8000"`
}

// An eventRow is an event of a stream, or a message.
type eventRow struct {
	N      int     `json:"n"`
	AtMS   float64 `json:"at_ms"`
	Dir    string  `json:"dir,omitempty"`
	Event  string  `json:"event"`
	Size   int64   `json:"bytes"`
	Data   string  `json:"data"`
	Binary bool    `json:"binary,omitempty"`
}

type eventsOut struct {
	Session string     `json:"session"`
	ID      string     `json:"id"`
	State   string     `json:"state"`
	Events  []eventRow `json:"events"`
	page
}

func (o *eventsOut) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "flow %s/%s (%s):\n", o.Session, o.ID, o.State)
	for _, e := range o.Events {
		fmt.Fprintf(&b, "%d  +%.1fms  %s  %s\n", e.N, e.AtMS, strings.TrimSpace(e.Dir+" "+e.Event), e.Data)
	}
	if len(o.Events) == 0 {
		b.WriteString("no events or messages here\n")
	}
	return lines(b.String(), o.page.text())
}

// flowEvents lists the events of a stream, or messages.
func (s *Server) flowEvents(ctx context.Context, in *eventsIn) (*eventsOut, error) {
	t, err := s.target(in.Session, in.Flow)
	if err != nil {
		return nil, err
	}
	defer t.Release()
	if in.Cursor != "" {
		if err := in.After.UnmarshalJSON([]byte(in.Cursor)); err != nil {
			return nil, fmt.Errorf("cursor: %w", err)
		}
	}
	if in.After > 1<<31-1 {
		return nil, fmt.Errorf("after %d: no flow has so many events", in.After)
	}
	return t.events(ctx, int(in.After), in.Limit, in.Data.within(200, 8000))
}

// events returns a page of events.
func (t *target) events(ctx context.Context, after int, limit number, data int) (*eventsOut, error) {
	out := &eventsOut{Session: t.id, ID: fmt.Sprint(t.x.ID), State: t.x.State, Events: []eventRow{}}
	room := roomFor(limit) - 300
	if data > 1000 {
		room = largeBudget
	}
	err := t.PiecesFrom(t.x.ID, after, func(p flow.Piece) error {
		e, ok := t.event(&p, data)
		if !ok {
			return ctx.Err()
		}
		if room -= sizeOf(e) + 1; len(out.Events) > 0 && (room < 0 || len(out.Events) == limit.within(defaultRows, maxRows)) {
			out.more(fmt.Sprint(p.Index), "more events")
			return errFull
		}
		out.Events = append(out.Events, e)
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, errFull) {
		return nil, fmt.Errorf("flow %d: events: %w", t.x.ID, err)
	}
	for _, e := range out.Events {
		if int64(len(e.Data)) < e.Size {
			out.Notes = append(out.Notes, fmt.Sprintf("long data is begun: data_bytes shows up to 8000 bytes of each, after=%d and limit=1 one alone", e.N))
			break
		}
	}
	return out, nil
}

// event makes a row of a piece; ok is false for what is no event, such as a comment.
func (t *target) event(p *flow.Piece, data int) (e eventRow, ok bool) {
	x := t.x
	e = eventRow{N: p.Index, AtMS: *flow.MS(max(0, p.At.Sub(x.Started))), Size: p.Size}
	text := ""
	if x.Request == nil || x.IsWebSocket() {
		e.Dir, e.Event = p.Side.Dir(), "bytes"
		if x.IsWebSocket() {
			e.Event = flow.OpcodeName(p.Opcode)
		}
		text = string(p.Data)
		if p.Opcode == flow.OpClose && x.IsWebSocket() {
			code, reason := flow.ParseClose(p.Data)
			text = strings.TrimSpace(fmt.Sprintf("%d %s", code, reason))
		}
	} else {
		framing := x.Framing(p.Side)
		parsed := flow.ParseEvent(framing, p.Data)
		if !parsed.Dispatched {
			return e, false
		}
		if framing == flow.FramingGRPC || p.Side == flow.Client {
			e.Dir = p.Side.Dir()
		}
		e.Event = parsed.Name()
		switch v := parsed.Value().(type) {
		case string:
			text = v
		case json.RawMessage:
			text = string(v)
		default:
			raw, _ := flow.MarshalJSON(v)
			text = string(raw)
		}
	}
	if e.Size = int64(len(text)); !utf8.ValidString(text) {
		e.Binary, text = true, fmt.Sprintf("%q", text[:min(len(text), data)])
	}
	e.Data = clip(text, data)
	return e, true
}
