package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"trace/flow"
	"trace/mcp"
	"trace/store"
	"trace/web"
)

// mcpViews are the views of the commands, for agents.
func mcpViews(replay bool) mcp.Views {
	v := mcp.Views{List: mcpList, Overview: mcpOverview, Calls: mcpCalls, Search: mcpSearch, Doctor: mcpDoctor, Explain: mcpExplain,
		Call: func(ctx context.Context, rec mcp.Record, ref string, answer bool) (json.RawMessage, error) {
			return rawView(viewCall(ctx, rec.(*webRecord), ref, answer))
		},
		Conversations: func(ctx context.Context, rec mcp.Record) (json.RawMessage, error) {
			return rawView(viewConversations(ctx, rec.(*webRecord)))
		},
		Stats: func(ctx context.Context, rec mcp.Record) (json.RawMessage, error) {
			return rawView(viewStats(ctx, rec.(*webRecord)))
		},
		Diff: func(ctx context.Context, ra mcp.Record, a string, rb mcp.Record, b string) (json.RawMessage, error) {
			return rawView(viewDiff(ctx, ra.(*webRecord), a, rb.(*webRecord), b))
		},
	}
	if replay {
		v.Replay = mcpReplay
	}
	return v
}

// rawView is what a view returned, as JSON.
func rawView(v any, err error) (json.RawMessage, error) {
	if err != nil {
		return nil, mcpProblem(err)
	}
	if text, ok := v.(json.RawMessage); ok {
		return text, nil
	}
	return flow.MarshalJSON(v)
}

// How many flows are looked at together.
const (
	fewFlows  = 256
	manyFlows = 4096
	listTime  = 5 * time.Second // after which a list ends before its time
)

// mcpQuery makes a query of a filter, and the two conditions that no column
// tells: of the first line of a request, and of all of a flow's outline.
func mcpQuery(r *store.Reader, f *mcp.Filter) (q store.Query, first, whole func(*flow.Exchange) bool, err error) {
	now := time.Now()
	s := selection{query: store.Query{Host: f.Host, Method: f.Method, Status: f.Status, Kind: f.Kind}, from: f.From, to: f.To}
	if err = s.check(now); err != nil {
		return q, nil, nil, mcpProblem(err)
	}
	session, err := r.Run()
	if err != nil {
		return q, nil, nil, err
	}
	q = s.query
	if q.From, q.To, err = s.span.in(r, session, now); err != nil {
		return q, nil, nil, mcpProblem(err)
	}
	path, process := strings.ToLower(f.Path), strings.ToLower(f.Process)
	first = func(x *flow.Exchange) bool {
		switch {
		case path != "" && (x.Request == nil || x.Request.Head == nil || !strings.Contains(strings.ToLower(x.Request.Head.Path), path)):
			return false
		}
		return !f.Calls || isCall(x)
	}
	whole = func(x *flow.Exchange) bool {
		if process != "" && (x.Conn.Process == nil || !strings.Contains(strings.ToLower(x.Conn.Process.Name()), process)) {
			return false
		}
		failed := x.Error != nil || x.State == flow.StateFailed || x.Response != nil && x.Response.Head != nil && x.Response.Head.Status >= 400
		return failed || !f.Failed
	}
	return q, first, whole, nil
}

// eachListed calls fn for the flows that f selects, in its order, some at a time,
// until it returns false or the time is over. next is where to go on; 0: nowhere.
func eachListed(ctx context.Context, r *store.Reader, f *mcp.Filter, heads bool, fn func([]*flow.Exchange) bool) (next int64, err error) {
	q, first, whole, err := mcpQuery(r, f)
	if err != nil {
		return 0, err
	}
	q.Heads = heads
	last, err := r.Last()
	if err != nil {
		return 0, err
	}
	lo, hi := f.From0, last+1 // what is left: ids between them
	if !f.Oldest {
		lo = 0
		if f.From0 > 0 {
			hi = min(hi, f.From0)
		}
	}
	until := time.Now().Add(listTime)
	for n := int64(fewFlows); hi-lo > 1; n = min(2*n, manyFlows) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if time.Now().After(until) {
			if f.Oldest {
				return lo, nil
			}
			return hi, nil
		}
		if q.After, q.Before = lo, hi; f.Oldest {
			q.Before = min(hi, lo+n+1)
			lo = q.Before - 1
		} else {
			q.After = max(lo, hi-n-1)
			hi = q.After + 1
		}
		xs, err := r.Pick(q, first)
		if err != nil {
			return 0, err
		}
		xs = slices.DeleteFunc(xs, func(x *flow.Exchange) bool { return !whole(x) })
		slices.SortFunc(xs, func(a, b *flow.Exchange) int {
			if f.Oldest {
				return int(a.ID - b.ID)
			}
			return int(b.ID - a.ID)
		})
		if !fn(xs) {
			return 0, nil
		}
	}
	return 0, nil
}

// mcpList returns a page of flows.
func mcpList(ctx context.Context, rec mcp.Record, f mcp.Filter) (list []*flow.Exchange, next int64, err error) {
	more := false
	next, err = eachListed(ctx, rec.(*webRecord).Reader, &f, false, func(xs []*flow.Exchange) bool {
		list = append(list, xs...)
		more = len(list) > f.Limit
		return !more
	})
	if more {
		list = list[:f.Limit]
		next = list[f.Limit-1].ID
	}
	return list, next, err
}

// mcpOverview counts flows.
func mcpOverview(ctx context.Context, rec mcp.Record, f mcp.Filter) (*mcp.Overview, error) {
	r := rec.(*webRecord).Reader
	v := &mcp.Overview{Hosts: map[string]int{}, Kinds: map[string]int{}}
	count := func(x *flow.Exchange) {
		v.Flows++
		v.Kinds[x.Kind]++
		if recognised(x) {
			v.Calls++
		}
		if x.Request != nil && x.Request.Head != nil {
			v.Hosts[x.Request.Head.Host]++
		}
	}
	f.From0 = 0
	if f.Failed || f.Process != "" {
		_, err := eachListed(ctx, r, &f, false, func(xs []*flow.Exchange) bool {
			for _, x := range xs {
				count(x)
			}
			return true
		})
		return v, err
	}
	q, first, _, err := mcpQuery(r, &f)
	if err != nil {
		return nil, err
	}
	_, err = r.Pick(q, func(x *flow.Exchange) bool {
		if first(x) {
			count(x)
		}
		return false
	})
	return v, err
}

// maxListed is how large a call may be that is read for its row in a list.
const maxListed = 8 << 20

// mcpCalls says what rows tell of calls to language models.
func mcpCalls(rec mcp.Record, xs []*flow.Exchange) map[int64]mcp.Call {
	r := rec.(*webRecord)
	small := slices.DeleteFunc(slices.Clone(xs), func(x *flow.Exchange) bool { return sizeOf(x) > maxListed })
	calls := map[int64]mcp.Call{}
	for _, found := range []map[int64]web.Call{r.Calls(xs, false), r.Calls(small, true)} {
		for id, c := range found {
			call := mcp.Call{Model: c.Model, Input: -1, Output: -1}
			if t := c.Tokens; t != nil {
				call.Input, call.Output = t.Input+t.CacheRead+t.CacheWrite, t.Output
			}
			calls[id] = call
		}
	}
	return calls
}

// mcpSearch finds text in the newest flows first.
func mcpSearch(ctx context.Context, rec mcp.Record, q mcp.Search) (list []mcp.Hit, next int64, err error) {
	o := &searchOptions{most: q.Most, largest: maxListed}
	if o.find, err = newFinder(q.Text, q.Regexp, q.IgnoreCase); err != nil {
		return nil, 0, &mcp.Problem{Message: "search: " + err.Error()}
	}
	r := rec.(*webRecord).Reader
	found, full := 0, int64(0)
	var failed error
	next, err = eachListed(ctx, r, &q.Filter, true, func(xs []*flow.Exchange) bool {
		var all map[int64]*hits
		if all, failed = o.search(ctx, r, xs); failed != nil {
			return false
		}
		for _, x := range xs {
			h := all[x.ID]
			if h == nil {
				continue
			}
			if found++; found > q.Filter.Limit {
				return false
			}
			list = append(list, mcpHits(x.ID, h)...)
			full = x.ID
		}
		return true
	})
	if found > q.Filter.Limit {
		next = full
	}
	return list, next, errors.Join(err, failed)
}

// mcpHits are those of one flow.
func mcpHits(id int64, h *hits) (list []mcp.Hit) {
	last := map[string]int{} // of the hits of each part
	for _, m := range h.list {
		where := m.where
		if m.dir != "" {
			where += " " + m.dir
		}
		last[m.where] = len(list)
		list = append(list, mcp.Hit{Flow: id, Where: where, Index: m.index, Offset: m.offset, Before: string(m.before), Match: string(m.text), After: string(m.after)})
	}
	for where, n := range h.more {
		for _, form := range []string{where, strings.TrimSuffix(where, ".body") + ".event"} {
			if i, ok := last[form]; ok {
				list[i].More = n
				break
			}
		}
	}
	return list
}

// mcpExplain says why a flow was not decrypted.
func mcpExplain(x *flow.Exchange) (why, mend string) {
	if w := whyOpaque(x); w != nil {
		return w.Text, w.Mend
	}
	return "", ""
}

// mcpDoctor asks the doctor in a process of its own: it tries things that change
// the one it runs in.
func mcpDoctor(ctx context.Context) (json.RawMessage, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	var out, said bytes.Buffer
	c := exec.CommandContext(ctx, self, "namespace", "doctor", "--json")
	c.Stdout, c.Stderr = &out, &said
	c.WaitDelay = time.Second
	var exit *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exit) || out.Len() == 0 {
		return nil, fmt.Errorf("doctor: %w: %s", err, printable(shorten(strings.TrimSpace(said.String()), 300)))
	}
	return out.Bytes(), ctx.Err()
}

// mcpReplay sends a request again as it was recorded, and tells nothing of what is
// secret in it.
func mcpReplay(ctx context.Context, rec mcp.Record, id int64, e mcp.Edits) (json.RawMessage, error) {
	r := rec.(*webRecord)
	s, err := r.Run()
	if err != nil {
		return nil, err
	}
	plain := *r.source
	plain.redacted = false
	whole, err := plain.Open(s.ID)
	if err != nil {
		return nil, mcpProblem(err)
	}
	defer whole.Close()
	text, err := rawView(viewReplay(ctx, whole, id, web.Edits{Method: e.Method, URL: e.URL, Headers: e.Headers, Body: e.Body}, func(any) {}))
	if err != nil {
		message, _ := newGate().String(err.Error())
		return nil, errors.New(message)
	}
	text, _ = newGate().Body("application/json", text)
	return text, nil
}
