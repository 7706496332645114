package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

// ask answers with what a view of a session makes.
func (q *request) ask(view func(context.Context, Record) (any, error)) error {
	if view == nil {
		return notOffered
	}
	v, err := view(q.Context(), q.rec)
	return q.json(v, err)
}

func (q *request) conversations() error { return q.ask(q.s.Views.Conversations) }

func (q *request) stats() error { return q.ask(q.s.Views.Stats) }

func (q *request) tools() error { return q.ask(q.s.Views.Tools) }

// call answers with a call to a language model, as far as it has come.
func (q *request) call() error {
	if _, err := q.id(); err != nil {
		return err
	}
	if q.s.Views.Call == nil {
		return notOffered
	}
	v, err := q.s.Views.Call(q.Context(), q.rec, q.arg, q.query("part") == "answer")
	return q.json(v, err)
}

// diff compares two requests: of one session, or of others named as SESSION/ID.
func (q *request) diff() error {
	if q.query("a") == "" || q.query("b") == "" {
		return bad("diff: want a=ID and b=ID")
	}
	if q.s.Views.Diff == nil {
		return notOffered
	}
	var recs [2]Record
	var refs [2]string
	for i, name := range []string{"a", "b"} {
		session, ref, named := strings.Cut(q.query(name), "/")
		if recs[i], refs[i] = q.rec, session; named {
			o, err := q.s.session(session)
			if err != nil {
				return err
			}
			defer o.Release()
			recs[i], refs[i] = o.Value.Record, ref
		}
		if _, err := flowID(refs[i]); err != nil {
			return err
		}
	}
	v, err := q.s.Views.Diff(q.Context(), recs[0], refs[0], recs[1], refs[1])
	return q.json(v, err)
}

// compare compares two sessions.
func (q *request) compare() error {
	if q.s.Views.Compare == nil {
		return notOffered
	}
	if q.query("a") == "" || q.query("b") == "" {
		return bad("compare: want a=SESSION and b=SESSION")
	}
	a, err := q.s.session(q.query("a"))
	if err != nil {
		return err
	}
	defer a.Release()
	b, err := q.s.session(q.query("b"))
	if err != nil {
		return err
	}
	defer b.Release()
	v, err := q.s.Views.Compare(q.Context(), a.Value.Record, b.Value.Record)
	return q.json(v, err)
}

// curl answers with a command.
func (q *request) curl() error {
	id, err := q.id()
	if err != nil {
		return err
	}
	if q.s.Views.Curl == nil {
		return notOffered
	}
	w := &late{q: q, kind: "text/plain; charset=utf-8"}
	return w.end(q.s.Views.Curl(q.Context(), w, q.rec, id))
}

var formatName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z]{2,20}$`) })

// export answers with a file.
func (q *request) export() error {
	e := Export{Format: q.query("format")}
	if !formatName().MatchString(e.Format) {
		return bad("format %q: want har, jsonl or html", e.Format)
	}
	var err error
	if e.Flows, err = list(q.query("flows")); err != nil {
		return err
	}
	if v := q.query("thread"); v != "" {
		if e.Thread, err = flowID(v); err != nil {
			return err
		}
	}
	if q.s.Views.Export == nil {
		return notOffered
	}
	name := "trace-" + q.o.ID
	switch {
	case e.Thread != 0:
		name += fmt.Sprintf("-conversation-%d", e.Thread)
	case len(e.Flows) == 1:
		name += fmt.Sprintf("-%d", e.Flows[0])
	}
	w := &late{q: q, kind: "application/octet-stream", file: name + "." + e.Format}
	return w.end(q.s.Views.Export(q.Context(), w, q.rec, e))
}

// A late answer begins with its first bytes: what fails before them has a status.
type late struct {
	q     *request
	kind  string
	file  string // name of an attachment; "": it is none
	begun bool
}

// Write writes a part of the answer.
func (w *late) Write(p []byte) (int, error) {
	if !w.begun {
		w.begun = true
		h := w.q.Header()
		h.Set("Content-Type", w.kind)
		if w.file != "" {
			h.Set("Content-Disposition", `attachment; filename="`+w.file+`"`)
			h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
		}
	}
	return w.q.Write(p)
}

// end ends the answer.
func (w *late) end(err error) error {
	switch {
	case err != nil && w.begun:
		w.q.s.log("web: %s: %v", w.q.URL.Path, err)
		panic(http.ErrAbortHandler) // what came is not all: the client must see it
	case err == nil && !w.begun:
		_, err = w.Write(nil)
	}
	return err
}

// The limits of replays.
const (
	maxEdits   = 64 << 20
	replayTime = 30 * time.Minute
	replaySoon = time.Second // after which the answer is not waited for
)

// replay sends a request again. Where that takes long, it answers when the flow
// stands in the record: the page looks at it as at any other that goes on.
func (q *request) replay() error {
	id, err := q.id()
	if err != nil {
		return err
	}
	if q.s.Views.Replay == nil {
		return notOffered
	}
	kind, _, err := mime.ParseMediaType(q.Request.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return &Problem{http.StatusUnsupportedMediaType, "replay: want Content-Type: application/json", ""}
	}
	var e Edits
	d := json.NewDecoder(http.MaxBytesReader(q.ResponseWriter, q.Body, maxEdits))
	d.DisallowUnknownFields()
	var long *http.MaxBytesError
	switch err := d.Decode(&e); {
	case errors.As(err, &long):
		return &Problem{http.StatusRequestEntityTooLarge, fmt.Sprintf("replay: longer than %d bytes", maxEdits), ""}
	case err != nil:
		return bad("replay: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("replay: more than one JSON value")
	}
	http.NewResponseController(q.ResponseWriter).SetReadDeadline(time.Time{})
	begun, done, err := q.s.send(q.o, id, e)
	if err != nil {
		return err
	}
	var early any
	soon := time.NewTimer(replaySoon)
	defer soon.Stop()
	for wait := soon.C; ; {
		select {
		case early = <-begun:
			if wait == nil {
				return q.json(early, nil)
			}
		case <-wait:
			if wait = nil; early != nil {
				return q.json(early, nil)
			}
		case r := <-done:
			return q.json(r.v, r.err)
		case <-q.Context().Done():
			return q.Context().Err()
		}
	}
}

// A sent is what came of a replay.
type sent struct {
	v   any
	err error
}

// send sends a request again, beside the one who asks: it goes on when that one is
// gone.
func (s *Server) send(o *item, id int64, e Edits) (begun chan any, done chan sent, err error) {
	if !o.Share() {
		return nil, nil, errClosed
	}
	begun, done = make(chan any, 1), make(chan sent, 1)
	go s.resend(o, id, e, begun, done)
	return begun, done, nil
}

func (s *Server) resend(o *item, id int64, e Edits, begun chan<- any, done chan<- sent) {
	defer o.Release()
	ctx, cancel := context.WithTimeout(s.ctx, replayTime)
	defer cancel()
	v, err := s.Views.Replay(ctx, o.Value.Record, id, e, func(v any) { begun <- v })
	done <- sent{v, err}
}
