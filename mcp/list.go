package mcp

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"trace/flow"
)

// How many rows an answer has.
const (
	defaultRows = 20
	maxRows     = 100
)

// A page says where a list goes on.
type page struct {
	Next  string   `json:"next_cursor,omitempty"` // as the cursor of the next question
	Notes []string `json:"left_out,omitempty"`    // what is not there, and how to get it
}

func (p *page) text() string { return strings.Join(p.Notes, "\n") }

// more says that a list goes on.
func (p *page) more(cursor, what string) {
	p.Next = cursor
	p.Notes = append(p.Notes, fmt.Sprintf("%s: the same question with cursor=%q goes on", what, cursor))
}

type sessionsIn struct {
	Limit  number `json:"limit,omitempty" jsonschema:"how many, 20 if left out, at most 100"`
	Cursor string `json:"cursor,omitempty" jsonschema:"next_cursor of the answer before"`
	Name   string `json:"name,omitempty" jsonschema:"only those whose name or command has this in it"`
}

type sessionRow struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Source  string `json:"source"`
	State   string `json:"state"`
	Started string `json:"started"`
	Flows   int64  `json:"flows"`
	Bytes   int64  `json:"bytes"`
	Exit    *int   `json:"exit,omitempty"`
	Command string `json:"command,omitempty"`
}

type sessionsOut struct {
	Sessions []sessionRow `json:"sessions"`
	Total    int          `json:"total"`
	page
}

func (o *sessionsOut) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d sessions, newest first:\n", o.Total)
	for _, s := range o.Sessions {
		fmt.Fprintf(&b, "%s  %s  %s  %d flows, %s  %s  %s\n", s.ID, s.Started[:19], s.State, s.Flows, bytesText(s.Bytes), s.Source, strings.TrimSpace(s.Name+"  "+s.Command))
	}
	return lines(b.String(), o.page.text())
}

// listSessions lists the sessions, newest first.
func (s *Server) listSessions(_ context.Context, in *sessionsIn) (*sessionsOut, error) {
	all, err := s.Source.Sessions()
	if err != nil {
		return nil, err
	}
	if in.Name != "" {
		part := strings.ToLower(in.Name)
		all = slices.DeleteFunc(slices.Clone(all), func(f flow.Session) bool {
			return !strings.Contains(strings.ToLower(f.Name+" "+strings.Join(f.Argv, " ")), part)
		})
	}
	out := &sessionsOut{Sessions: []sessionRow{}, Total: len(all)}
	room := roomFor(in.Limit)
	for _, f := range all {
		if in.Cursor != "" && f.ID >= in.Cursor {
			continue
		}
		row := sessionRow{ID: f.ID, Name: clip(f.Name, 100), Source: string(f.Source), State: f.State, Started: flow.Stamp(f.Started), Flows: f.Flows, Bytes: f.Bytes,
			Command: clip(strings.Join(f.Argv, " "), 160)}
		if !f.Ended.IsZero() {
			row.Exit = &f.Exit
		}
		if room -= sizeOf(row) + 1; len(out.Sessions) == in.Limit.within(defaultRows, maxRows) || room < 0 {
			out.more(out.Sessions[len(out.Sessions)-1].ID, "more sessions")
			break
		}
		out.Sessions = append(out.Sessions, row)
	}
	return out, nil
}

// roomFor is the budget of a list, larger for who says how long it shall be.
func roomFor(limit number) int {
	if limit > 0 {
		return largeBudget
	}
	return budget
}

// filters are the arguments that select flows.
type filters struct {
	Host    string `json:"host,omitempty" jsonschema:"only flows to hosts that match this glob, such as *.example.com"`
	Method  string `json:"method,omitempty" jsonschema:"only requests with this method"`
	Status  string `json:"status,omitempty" jsonschema:"only answers with this status, such as 404 or 4xx"`
	Kind    string `json:"kind,omitempty" jsonschema:"http, websocket, tcp, udp or dns"`
	LLM     bool   `json:"llm,omitempty" jsonschema:"only calls to language models"`
	Failed  bool   `json:"failed,omitempty" jsonschema:"only flows with an error, or a status of 400 or more"`
	Process string `json:"process,omitempty" jsonschema:"only flows of processes whose name has this in it"`
	Path    string `json:"path,omitempty" jsonschema:"only requests whose path has this in it"`
	From    string `json:"from,omitempty" jsonschema:"only flows that started then or later: 2026-01-02T15:04:05Z, 15:04, 10m (ago), start+30s, or the name of a mark"`
	To      string `json:"to,omitempty" jsonschema:"only flows that started before"`
}

func (f *filters) filter() Filter {
	return Filter{Host: f.Host, Method: f.Method, Status: f.Status, Kind: f.Kind, Calls: f.LLM, Failed: f.Failed, Process: f.Process, Path: f.Path, From: f.From, To: f.To}
}

type flowsIn struct {
	inSession
	filters
	Oldest bool   `json:"oldest_first,omitempty" jsonschema:"begin with the oldest; the newest come first otherwise"`
	Limit  number `json:"limit,omitempty" jsonschema:"how many, 20 if left out, at most 100"`
	Cursor string `json:"cursor,omitempty" jsonschema:"next_cursor of the answer before"`
}

// A row is a flow in a list.
type row struct {
	ID       string   `json:"id"`
	Started  string   `json:"started"`
	Kind     string   `json:"kind"`
	State    string   `json:"state"`
	Method   string   `json:"method,omitempty"`
	Host     string   `json:"host,omitempty"`
	Path     string   `json:"path,omitempty"`
	Status   int      `json:"status,omitempty"`
	Type     string   `json:"content_type,omitempty"`
	Sent     int64    `json:"request_bytes"`
	Received int64    `json:"response_bytes"`
	Events   int64    `json:"events,omitempty"`
	Took     *float64 `json:"duration_ms,omitempty"`
	Process  string   `json:"process,omitempty"`
	Model    string   `json:"model,omitempty"`
	Input    *int64   `json:"input_tokens,omitempty"`
	Output   *int64   `json:"output_tokens,omitempty"`
	Error    string   `json:"error,omitempty"`
	Opaque   string   `json:"not_decrypted,omitempty"`
}

// rowOf makes the row of a flow.
func rowOf(x *flow.Exchange, call *Call) row {
	r := row{ID: strconv.FormatInt(x.ID, 10), Started: flow.Stamp(x.Started), Kind: x.Kind, State: x.State, Opaque: x.Conn.Opaque}
	if !x.Ended.IsZero() {
		r.Took = flow.MS(x.Duration())
	}
	if p := x.Conn.Process; p != nil {
		r.Process = clip(fmt.Sprintf("%s[%d]", p.Name(), p.PID), 60)
	}
	if x.Error != nil {
		r.Error = clip(x.Error.Message, 160)
	}
	if call != nil {
		r.Model = clip(call.Model, 60)
		if call.Input >= 0 {
			r.Input, r.Output = &call.Input, &call.Output
		}
	}
	r.Sent, r.Received = x.Conn.Sent, x.Conn.Received
	switch {
	case x.Request != nil && x.Request.Head != nil:
		h := x.Request.Head
		r.Method, r.Host, r.Path, r.Sent, r.Received = clip(h.Method, 40), clip(h.Host, 120), clip(h.Path, 120), 0, 0
		if port := map[string]int{"http": 80, "https": 443}[h.Scheme]; h.Port != 0 && h.Port != port {
			r.Host += ":" + strconv.Itoa(h.Port)
		}
		if b := x.Request.Body; b != nil {
			r.Sent = b.Size
		}
	case x.DNS != nil:
		r.Method, r.Host, r.Path = x.DNS.Type, clip(x.DNS.Name, 120), clip(x.DNS.Rcode+" "+strings.Join(x.DNS.Answers, ", "), 120)
	default:
		r.Host = clip(cmp.Or(x.Conn.Host, x.Conn.Dst.Addr().String()), 120)
		r.Host += ":" + strconv.Itoa(int(x.Conn.Dst.Port()))
	}
	r.answer(x)
	return r
}

// answer says what came back.
func (r *row) answer(x *flow.Exchange) {
	if p := x.Response; p != nil {
		r.Type = clip(p.ContentType, 60)
		if p.Head != nil {
			r.Status = p.Head.Status
		}
		if b := p.Body; b != nil {
			r.Received, r.Events = b.Size, b.Events
		}
	}
	if x.IsWebSocket() {
		sent, received := x.Tally[flow.Client], x.Tally[flow.Server]
		r.Sent, r.Received, r.Events = sent.Bytes, received.Bytes, sent.Messages+received.Messages
	}
}

// line is a row for reading.
func (r *row) line() string {
	words := []string{"#" + r.ID, r.Started[11:19], cmp.Or(r.Method, r.Kind), r.Host + r.Path}
	switch {
	case r.Status != 0:
		words = append(words, strconv.Itoa(r.Status))
	case r.Opaque != "":
		words = append(words, "not decrypted: "+r.Opaque)
	}
	if r.State != flow.StateComplete {
		words = append(words, r.State)
	}
	words = append(words, bytesText(r.Sent)+" → "+bytesText(r.Received))
	if r.Took != nil {
		words = append(words, fmt.Sprintf("%.4gms", *r.Took))
	}
	if r.Process != "" {
		words = append(words, r.Process)
	}
	if r.Model != "" {
		words = append(words, r.Model)
	}
	if r.Input != nil {
		words = append(words, fmt.Sprintf("%d tokens in, %d out", *r.Input, *r.Output))
	}
	if r.Error != "" {
		words = append(words, "! "+r.Error)
	}
	return strings.Join(words, "  ")
}

// tally is how many flows there are of something.
type tally struct {
	Name  string `json:"name"`
	Flows int    `json:"flows"`
}

type outline struct {
	Flows int     `json:"flows"`
	Calls int     `json:"llm_calls"`
	Hosts []tally `json:"hosts"`
	Kinds []tally `json:"kinds"`
}

type flowsOut struct {
	Session string   `json:"session"`
	State   string   `json:"session_state"`
	Outline *outline `json:"outline,omitempty"` // of all flows that the filters select; of the first page only
	Flows   []row    `json:"flows"`
	page
}

func (o *flowsOut) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "session %s (%s)", o.Session, o.State)
	if l := o.Outline; l != nil {
		fmt.Fprintf(&b, ": %d flows, %d calls to language models", l.Flows, l.Calls)
		for _, t := range []struct {
			name string
			list []tally
		}{{"kinds", l.Kinds}, {"hosts", l.Hosts}} {
			var words []string
			for _, k := range t.list {
				words = append(words, fmt.Sprintf("%s %d", k.Name, k.Flows))
			}
			fmt.Fprintf(&b, "\n%s: %s", t.name, strings.Join(words, ", "))
		}
	}
	b.WriteByte('\n')
	for i := range o.Flows {
		b.WriteString(o.Flows[i].line() + "\n")
	}
	if len(o.Flows) == 0 {
		b.WriteString("no flow fits\n")
	}
	return lines(b.String(), o.page.text())
}

// ranked returns the largest counts.
func ranked(counts map[string]int, n int) []tally {
	list := []tally{}
	for name, flows := range counts {
		list = append(list, tally{clip(name, 80), flows})
	}
	slices.SortFunc(list, func(a, b tally) int {
		return cmp.Or(cmp.Compare(b.Flows, a.Flows), cmp.Compare(a.Name, b.Name))
	})
	if rest := len(list) - n; rest > 0 {
		list = append(list[:n], tally{fmt.Sprintf("and %d others", rest), 0})
		for _, flows := range counts {
			list[n].Flows += flows
		}
		for _, t := range list[:n] {
			list[n].Flows -= t.Flows
		}
	}
	return list
}

// maxNamed is how many hosts an outline names.
const maxNamed = 8

// listFlows lists flows: an outline of all, then a page of rows.
func (s *Server) listFlows(ctx context.Context, in *flowsIn) (*flowsOut, error) {
	rec, err := s.session(in.Session)
	if err != nil {
		return nil, err
	}
	defer rec.Release()
	session, err := rec.Session()
	if err != nil {
		return nil, err
	}
	f := in.filter()
	f.Oldest, f.Limit = in.Oldest, in.Limit.within(defaultRows, maxRows)
	if in.Cursor != "" {
		if f.From0, err = strconv.ParseInt(in.Cursor, 10, 64); err != nil || f.From0 < 1 {
			return nil, &Problem{fmt.Sprintf("cursor %q: none of list_flows", clip(in.Cursor, 40)), "give the next_cursor of the answer before, or none"}
		}
	}
	out := &flowsOut{Session: session.ID, State: session.State, Flows: []row{}}
	if in.Cursor == "" {
		v, err := s.Views.Overview(ctx, rec.Record, f)
		if err != nil {
			return nil, err
		}
		out.Outline = &outline{Flows: v.Flows, Calls: v.Calls, Hosts: ranked(v.Hosts, maxNamed), Kinds: ranked(v.Kinds, maxNamed)}
	}
	xs, next, err := s.Views.List(ctx, rec.Record, f)
	if err != nil {
		return nil, err
	}
	calls := s.Views.Calls(rec.Record, xs)
	room := roomFor(in.Limit) - sizeOf(out)
	for _, x := range xs {
		var call *Call
		if c, ok := calls[x.ID]; ok {
			call = &c
		}
		r := rowOf(x, call)
		if room -= sizeOf(r) + 1; room < 0 && len(out.Flows) > 0 {
			next = xs[len(out.Flows)-1].ID
			break
		}
		out.Flows = append(out.Flows, r)
	}
	if next > 0 {
		out.more(strconv.FormatInt(next, 10), "more flows")
	}
	return out, nil
}
