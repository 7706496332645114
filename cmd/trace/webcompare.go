package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"

	"trace/export"
	"trace/flow"
	"trace/llm"
	"trace/store"
	"trace/web"
)

// viewDiff is the element of `flows diff --json A B`.
func viewDiff(_ context.Context, ra web.Record, a string, rb web.Record, b string) (any, error) {
	var sides [2]*diffSide
	for i, of := range []struct {
		rec web.Record
		ref string
	}{{ra, a}, {rb, b}} {
		arg, call, err := cutCall(of.ref)
		if err != nil {
			return nil, problem(err)
		}
		ref, err := parseFlowRef(arg, "")
		if err != nil {
			return nil, problem(err)
		}
		if _, err := of.rec.Flow(ref.id); err != nil {
			return nil, err
		}
		if sides[i], err = readSide(readerOf(of.rec), ref.id, call); err != nil {
			return nil, problem(err)
		}
	}
	return compareSides(sides[0], sides[1]).json(), nil
}

// maxCompared bounds the places in which two sessions are compared.
const maxCompared = 2000

// viewCompare is the array of `flows diff --session A --against B --json`.
func viewCompare(ctx context.Context, ra, rb web.Record) (any, error) {
	var chosen [2][]*flow.Exchange
	for i, rec := range []web.Record{ra, rb} {
		var err error
		if chosen[i], err = readerOf(rec).Pick(store.Query{}, isCall); err != nil {
			return nil, err
		}
	}
	list := []jsonComparison{}
	err := compareTurns(ctx, readerOf(ra), readerOf(rb), chosen[0], chosen[1], func(c *comparison) error {
		if len(list) == maxCompared {
			return errEnoughShown
		}
		list = append(list, c.json())
		return ctx.Err()
	})
	if err == errEnoughShown {
		err = nil
	}
	return list, err
}

// gatherJSON returns what a command prints, which is JSON.
func gatherJSON(print func(w *terminal) error) (any, error) {
	var b bytes.Buffer
	if err := print(newTerminal(&b, os.Getenv)); err != nil {
		return nil, problem(err)
	}
	return json.RawMessage(bytes.TrimSpace(b.Bytes())), nil
}

// viewStats is `flows stats --json`.
func viewStats(ctx context.Context, rec web.Record) (any, error) {
	r := rec.(*webRecord)
	xs, err := r.Flows(store.Query{Heads: true})
	if err != nil {
		return nil, err
	}
	if err := r.summaries(ctx, xs); err != nil {
		return nil, problem(err)
	}
	s := newStatistics(r.prices)
	s.names = namesOfAgents(xs)
	for _, x := range xs {
		s.add(x)
	}
	return gatherJSON(func(w *terminal) error { return writeStatsJSON(w, s) })
}

// viewTools is `flows tools --json`.
func viewTools(ctx context.Context, rec web.Record) (any, error) {
	r := readerOf(rec)
	xs, err := r.Pick(store.Query{}, isCall)
	if err != nil {
		return nil, err
	}
	l := newToolLog()
	err = eachCall(r, xs, func(read readCall) error {
		for _, c := range read.calls {
			l.add(read.x, c)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	return gatherJSON(func(w *terminal) error { return writeTools(w, l.uses) })
}

// viewExport writes a file, as `flows dump` does.
func viewExport(ctx context.Context, w io.Writer, rec web.Record, e web.Export) error {
	i := slices.IndexFunc(dumpFormats, func(f dumpFormat) bool { return f.name == e.Format && !f.dir })
	if i < 0 {
		return &web.Problem{Status: http.StatusBadRequest, Message: fmt.Sprintf("format %q: want one of %s", e.Format, formatNames())}
	}
	r := readerOf(rec)
	var xs []*flow.Exchange
	var err error
	for _, id := range e.Flows {
		if _, err := rec.Flow(id); err != nil {
			return err
		}
		xs = append(xs, &flow.Exchange{ID: id})
	}
	d := &dumper{format: dumpFormats[i], stderr: io.Discard, named: len(e.Flows) > 0}
	d.to = d.format.make(&stopping{ctx, w}, &dumpOptions{}, false)
	switch only := narrowed(d.to, e); {
	case only:
		xs, err = r.Pick(store.Query{}, isCall)
	case e.Thread != 0:
		if xs, err = rec.(*webRecord).threadFlows(ctx, e.Thread); err == nil && len(xs) == 0 {
			err = &web.Problem{Status: http.StatusNotFound, Message: fmt.Sprintf("conversation %d: there is none in this session", e.Thread)}
		}
	case e.Flows == nil:
		xs, err = r.Flows(store.Query{})
	}
	if err == nil {
		err = d.session(r, xs)
	}
	if err == nil {
		err = d.to.End()
	}
	if errors.Is(err, export.ErrNoCalls) {
		return &web.Problem{Status: http.StatusConflict, Message: "export: " + err.Error()}
	}
	return problem(err)
}

// narrowed makes a page of conversations one of those that are wanted.
func narrowed(to export.Writer, e web.Export) bool {
	page, ok := to.(*export.HTML)
	if !ok || e.Thread == 0 && len(e.Flows) == 0 {
		return false
	}
	if page.Only = slices.Clone(e.Flows); e.Thread != 0 {
		page.Only = append(page.Only, e.Thread)
	}
	return true
}

// threadFlows returns the flows of a conversation.
func (r *webRecord) threadFlows(ctx context.Context, first int64) ([]*flow.Exchange, error) {
	xs, err := r.Pick(store.Query{}, isCall)
	if err != nil {
		return nil, err
	}
	if err := r.summaries(ctx, xs); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(xs, func(x *flow.Exchange) bool {
		return !slices.ContainsFunc(callsIn(callOf(x)), func(s *callSummary) bool {
			return s.Thread != nil && parseRef(s.Thread.First) == llm.Ref{Flow: first}
		})
	}), nil
}

// stopping ends a writing when who wanted it is gone.
type stopping struct {
	ctx context.Context
	w   io.Writer
}

// Write writes, unless nobody reads any more.
func (s *stopping) Write(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.w.Write(p)
}
