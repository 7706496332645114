package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"trace/export"
	"trace/flow"
	"trace/store"
	"trace/web"
)

// webViews are the views of the commands, for the page.
func webViews() web.Views {
	return web.Views{
		Flow: viewFlow, Curl: viewCurl, Search: viewSearch, Match: viewMatch, Call: viewCall, Conversations: viewConversations,
		Stats: viewStats, Tools: viewTools, Diff: viewDiff, Compare: viewCompare, Export: viewExport, Replay: viewReplay,
	}
}

// readerOf returns the session that a record is.
func readerOf(rec web.Record) *store.Reader { return rec.(*webRecord).Reader }

// maxShown is how long a body may be to stand in the JSON of a flow, in bytes;
// maxShownPieces how many events or messages do.
const (
	maxShown       = 1 << 20
	maxShownPieces = 500
)

// errEnoughShown ends the reading of pieces.
var errEnoughShown = errors.New("enough")

// viewFlow is a flow as `flows show --json` prints it, but for what is long.
func viewFlow(ctx context.Context, rec web.Record, id int64) (any, error) {
	r := readerOf(rec)
	x, err := rec.Flow(id)
	if err != nil {
		return nil, err
	}
	d := &flow.Detail{Exchange: *x}
	if recognised(x) {
		if err := rec.(*webRecord).summaries(ctx, []*flow.Exchange{&d.Exchange}); err != nil {
			return nil, problem(err)
		}
	}
	parts := []*longBody{{member: "request", side: flow.Client, to: &d.RequestBody}, {member: "response", side: flow.Server, to: &d.ResponseBody}}
	if x.Request != nil {
		for _, p := range parts {
			if err := p.read(r, id); err != nil {
				return nil, err
			}
		}
	}
	pieces := &somePieces{x: x}
	if err := r.Pieces(id, pieces.add); err != nil && !errors.Is(err, errEnoughShown) {
		return nil, err
	}
	d.Events, d.Messages = pieces.events, pieces.messages
	text, err := d.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("flow %d: %w", id, err)
	}
	for _, p := range parts {
		if p.size > maxShown {
			if text, err = withoutBody(text, p); err != nil {
				return nil, fmt.Errorf("flow %d: %w", id, err)
			}
		}
	}
	members := []any{"pieces_more", pieces.more}
	if why := whyOpaque(x); why != nil {
		members = append(members, "why", why)
	}
	text, err = withMembers(text, members...)
	return json.RawMessage(text), err
}

// A longBody is a body that is read only as far as it may be shown.
type longBody struct {
	member string
	side   flow.Side
	to     *[]byte
	size   int64
}

func (b *longBody) read(r *store.Reader, id int64) error {
	n, err := r.WriteBody(b, id, b.side)
	b.size = n
	if n > maxShown {
		*b.to = nil
	}
	return err
}

// Write keeps what may be shown.
func (b *longBody) Write(p []byte) (int, error) {
	if room := maxShown - len(*b.to); room > 0 {
		*b.to = append(*b.to, p[:min(len(p), room)]...)
	}
	return len(p), nil
}

// withoutBody says in the JSON of a flow that a body is too long to stand there.
func withoutBody(text []byte, b *longBody) ([]byte, error) {
	members, ok := orderedMembers(text)
	if !ok {
		return text, nil
	}
	for i := range members {
		if members[i].Name != b.member {
			continue
		}
		part, ok := orderedMembers(members[i].Value)
		if !ok {
			continue
		}
		for k := range part {
			if part[k].Name == "body" {
				part[k].Value = fmt.Appendf(nil, `{"truncated":true,"size":%d}`, b.size)
			}
		}
		value, err := jsonParams(part).MarshalJSON()
		if err != nil {
			return nil, err
		}
		members[i].Value = value
	}
	return jsonParams(members).MarshalJSON()
}

// somePieces takes the first events or messages of a flow.
type somePieces struct {
	x                *flow.Exchange
	events, messages []flow.Piece
	size             int
	more             bool
}

func (s *somePieces) add(p flow.Piece) error {
	if s.more = len(s.events)+len(s.messages) == maxShownPieces || s.size > maxShown; s.more {
		return errEnoughShown
	}
	s.size += len(p.Data)
	if s.x.Request == nil || s.x.IsWebSocket() {
		s.messages = append(s.messages, p)
	} else {
		s.events = append(s.events, p)
	}
	return nil
}

// viewCurl writes the command that sends a request again.
func viewCurl(ctx context.Context, w io.Writer, rec web.Record, id int64) error {
	r := readerOf(rec)
	x, err := rec.Flow(id)
	if err != nil {
		return err
	}
	s, err := r.Run()
	if err != nil {
		return err
	}
	c := &export.Curl{W: w, Terminal: true} // it will be pasted into one
	if err = c.From(s, r); err == nil {
		err = c.Flow(x)
	}
	if errors.Is(err, export.ErrNoPlace) {
		return &web.Problem{Status: http.StatusConflict, Message: fmt.Sprintf("flow %d: it is no request that curl could send", id)}
	}
	return err
}

// viewMatch makes a condition of a jq program: a flow fits unless it makes
// false, null or nothing of it.
func viewMatch(expr string) (func(ctx context.Context, x *flow.Exchange) (bool, error), error) {
	filters, err := parseFilters([]string{expr})
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	return func(ctx context.Context, x *flow.Exchange) (bool, error) {
		text, err := x.MarshalJSON()
		if err != nil {
			return false, err
		}
		v, err := generic(text)
		if err != nil {
			return false, err
		}
		outs, err := filters[0].run(ctx, v)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			return false, nil // of a flow that lacks what is asked for
		}
		for _, out := range outs {
			if out != nil && out != false {
				return true, nil
			}
		}
		return false, nil
	}, nil
}

// viewSearch finds text in what flows carried.
func viewSearch(ctx context.Context, rec web.Record, text string, ids []int64) (map[int64]bool, error) {
	finder, err := newFinder(text, false, true)
	if err != nil {
		return nil, &web.Problem{Status: http.StatusBadRequest, Message: "filter body: " + err.Error()}
	}
	found := map[int64]bool{}
	var mu sync.Mutex
	err = readerOf(rec).Search(ctx, ids, finder, 1, func(f store.Found) error {
		mu.Lock()
		defer mu.Unlock()
		found[f.Flow] = true
		return nil
	})
	return found, err
}
