package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"trace/flow"
)

// A request is one to the API.
type request struct {
	http.ResponseWriter
	*http.Request
	s   *Server
	o   *item  // the session that it names
	rec Record // of it
	arg string // the flow that the path names
}

// query returns a parameter.
func (q *request) query(name string) string { return q.URL.Query().Get(name) }

// An endpoint answers requests of one kind.
type endpoint struct {
	post bool
	// bare: no session is opened.
	bare bool
	do   func(*request) error
}

// endpoints by their paths; ID stands for the flow.
var endpoints = map[string]endpoint{
	"session":                 {do: (*request).session},
	"flows":                   {do: (*request).flows},
	"stream":                  {do: (*request).stream},
	"conversations":           {do: (*request).conversations},
	"stats":                   {do: (*request).stats},
	"tools":                   {do: (*request).tools},
	"diff":                    {do: (*request).diff},
	"compare":                 {do: (*request).compare, bare: true},
	"export":                  {do: (*request).export},
	"flows/ID":                {do: (*request).flow},
	"flows/ID/events":         {do: (*request).events},
	"flows/ID/call":           {do: (*request).call},
	"flows/ID/curl":           {do: (*request).curl},
	"flows/ID/replay":         {do: (*request).replay, post: true},
	"flows/ID/body/request":   {do: (*request).body},
	"flows/ID/body/response":  {do: (*request).body},
	"flows/ID/body/forwarded": {do: (*request).body},
}

// handler answers everything.
func (s *Server) handler() http.Handler {
	return s.guard(func(w http.ResponseWriter, r *http.Request) {
		if !isAPI(r.URL.Path) {
			static(w, r)
			return
		}
		// Who has the token may take the time it takes.
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
		q := &request{ResponseWriter: w, Request: r, s: s}
		if err := q.answer(); err != nil {
			q.fail(err)
		}
	})
}

func (q *request) answer() error {
	name, ok := strings.CutPrefix(q.URL.Path, "/api/")
	if words := strings.Split(name, "/"); len(words) > 1 && words[0] == "flows" {
		q.arg, words[1] = words[1], "ID"
		name = strings.Join(words, "/")
	}
	e := endpoints[name]
	switch {
	case !ok || e.do == nil || q.URL.RawPath != "":
		return &Problem{http.StatusNotFound, "API: there is no such path", "docs/cli.md, trace web"}
	case e.post && q.Method != http.MethodPost:
		q.Header().Set("Allow", "POST")
		return &Problem{http.StatusMethodNotAllowed, "method " + q.Method + ": want POST", ""}
	case !e.post && q.Method != http.MethodGet && q.Method != http.MethodHead:
		q.Header().Set("Allow", "GET, HEAD")
		return &Problem{http.StatusMethodNotAllowed, "method " + q.Method + ": want GET", ""}
	case e.bare:
		return e.do(q)
	}
	o, err := q.s.session(q.query("session"))
	if err != nil {
		return err
	}
	defer o.Release()
	q.o, q.rec = o, o.Value.Record
	if !e.post {
		http.NewResponseController(q.ResponseWriter).SetReadDeadline(time.Time{})
	}
	return e.do(q)
}

// Header is that of the answer: both parts of a request have one.
func (q *request) Header() http.Header { return q.ResponseWriter.Header() }

// Write writes to the answer. Who does not read is given up.
func (q *request) Write(p []byte) (int, error) {
	if err := q.Context().Err(); err != nil {
		return 0, err
	}
	http.NewResponseController(q.ResponseWriter).SetWriteDeadline(time.Now().Add(writeTime))
	return q.ResponseWriter.Write(p)
}

// fail answers with an error.
func (q *request) fail(err error) {
	var p *Problem
	switch {
	case errors.Is(err, context.Canceled): // gone, or we are closing
		return
	case !errors.As(err, &p):
		q.s.log("web: %s: %v", q.URL.Path, err)
		p = &Problem{Status: http.StatusInternalServerError, Message: err.Error()}
	}
	refuse(q.ResponseWriter, p)
}

// refuse writes an error.
func refuse(w http.ResponseWriter, p *Problem) {
	text, err := flow.MarshalJSON(map[string]string{"error": p.Message, "hint": p.Hint})
	if err != nil {
		text = []byte(`{"error":"error: it cannot be told","hint":""}`)
	}
	w.Header().Del("Content-Disposition")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.Status)
	w.Write(append(text, '\n'))
}

// json answers with a value.
func (q *request) json(v any, err error) error {
	if err != nil {
		return err
	}
	text, ok := v.(json.RawMessage)
	if !ok {
		if text, err = flow.MarshalJSON(v); err != nil {
			return err
		}
	}
	q.Header().Set("Content-Type", "application/json")
	for part := range slices.Chunk(text, 256<<10) { // each has its time
		if _, err := q.Write(part); err != nil {
			return nil // there is nobody to tell
		}
	}
	return nil
}

// number reads a parameter that is a number not below zero; missing if it is not
// there.
func (q *request) number(name string, missing int64) (int64, error) {
	v := q.query(name)
	if v == "" {
		return missing, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return 0, bad("%s %q: want a number", name, v)
	}
	return n, nil
}

// id reads the number of a flow; that of a call is cut off.
func (q *request) id() (int64, error) { return flowID(q.arg) }

func flowID(arg string) (int64, error) {
	number, _, _ := strings.Cut(arg, "#")
	id, err := strconv.ParseInt(number, 10, 64)
	if err != nil || id < 1 {
		return 0, &Problem{http.StatusNotFound, "flow " + strconv.Quote(arg) + ": no number of a flow", ""}
	}
	return id, nil
}

// list reads numbers between commas.
func list(v string) (ids []int64, err error) {
	if v == "" {
		return nil, nil
	}
	for s := range strings.SplitSeq(v, ",") {
		id, err := flowID(s)
		if err != nil {
			return nil, bad("flows %q: want numbers between commas", v)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// bad is the error of a request that makes no sense.
func bad(format string, args ...any) error {
	return &Problem{Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}
