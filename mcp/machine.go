package mcp

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"trace/flow"
)

// An object is JSON whose shape is a command's, told in docs/cli.md.
type object map[string]any

type statsIn struct{ inSession }

type statsOut struct {
	Session string `json:"session"`
	Stats   object `json:"stats"`
	page
}

func (o *statsOut) text() string {
	text, _ := flow.MarshalJSON(o.Stats)
	return lines("session "+o.Session+", as `trace flows stats --json`:", string(text), o.page.text())
}

// How much of lists in counts is shown.
const (
	maxGroups = 6
	maxGrowth = 8
)

// stats counts what is in a session.
func (s *Server) stats(ctx context.Context, in *statsIn) (*statsOut, error) {
	rec, err := s.session(in.Session)
	if err != nil {
		return nil, err
	}
	defer rec.Release()
	text, err := s.Views.Stats(ctx, rec.Record)
	if err != nil {
		return nil, err
	}
	out := &statsOut{Session: rec.id}
	if err := json.Unmarshal(text, &out.Stats); err != nil {
		return nil, fmt.Errorf("session %s: stats: %w", rec.id, err)
	}
	for _, name := range []string{"by_model", "by_host", "by_process", "by_agent"} {
		out.shorten(name, maxGroups, false)
		groups, _ := out.Stats[name].([]any)
		for _, g := range groups {
			if m, ok := g.(map[string]any); ok {
				if name, ok := m["name"].(string); ok {
					m["name"] = clip(name, 80)
				}
				for _, part := range []string{"context", "first_event_ms", "tokens_per_second"} {
					delete(m, part)
				}
			}
		}
	}
	out.shorten("growth", maxGrowth, true)
	for _, name := range []string{"by_process", "by_agent", "growth", "by_host", "by_model"} {
		if sizeOf(out.Stats) > budget {
			delete(out.Stats, name)
			out.Notes = append(out.Notes, name+": trace flows stats")
		}
	}
	return out, nil
}

// shorten keeps n elements of a list, the first or the last.
func (o *statsOut) shorten(name string, n int, last bool) {
	list, _ := o.Stats[name].([]any)
	if len(list) <= n {
		return
	}
	o.Notes = append(o.Notes, fmt.Sprintf("%d more of %s: trace flows stats", len(list)-n, name))
	if o.Stats[name] = list[:n]; last {
		o.Stats[name] = list[len(list)-n:]
	}
}

type doctorIn struct{}

type check struct {
	Title  string `json:"title"`
	Status string `json:"status"`
	Found  string `json:"found,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

type doctorOut struct {
	OK      bool    `json:"ok"`
	Version string  `json:"version"`
	Kernel  string  `json:"kernel"`
	Checks  []check `json:"checks"`
	page
}

func (o *doctorOut) text() string {
	list := []string{fmt.Sprintf("trace %s, kernel %s", o.Version, o.Kernel)}
	for _, c := range o.Checks {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s  %s  %s", c.Status, c.Title, c.Found)), named("  hint", c.Hint))
	}
	verdict := "this machine can run: trace run --inspect -- COMMAND"
	if !o.OK {
		verdict = "this machine cannot capture transparently yet: mend what failed above"
	}
	return lines(append(list, verdict, o.page.text())...)
}

// doctor says what this machine can do.
func (s *Server) doctor(ctx context.Context, _ *doctorIn) (*doctorOut, error) {
	text, err := s.Views.Doctor(ctx)
	if err != nil {
		return nil, err
	}
	out := &doctorOut{}
	if err := json.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	for i := range out.Checks {
		c := &out.Checks[i]
		c.Found, c.Hint = clip(c.Found, 120), clip(c.Hint, 400)
	}
	if sizeOf(out) > budget {
		n := len(out.Checks)
		out.Checks = slices.DeleteFunc(out.Checks, func(c check) bool { return c.Status == "pass" })
		out.Notes = append(out.Notes, fmt.Sprintf("%d checks that passed: trace namespace doctor", n-len(out.Checks)))
	}
	if out.Checks == nil {
		out.Checks = []check{}
	}
	return out, nil
}

type replayIn struct {
	inSession
	Flow    ref               `json:"flow" jsonschema:"id of the flow whose request is sent again"`
	Method  string            `json:"method,omitempty" jsonschema:"another method"`
	URL     string            `json:"url,omitempty" jsonschema:"another URL"`
	Headers map[string]string `json:"headers,omitempty" jsonschema:"header fields to set; an empty value removes the field"`
	Body    *string           `json:"body,omitempty" jsonschema:"another body"`
}

type replayOut struct {
	Session string   `json:"session"`
	ID      string   `json:"id"`
	Of      string   `json:"replay_of"`
	State   string   `json:"state"`
	Status  int      `json:"status,omitempty"`
	Notes2  []string `json:"notes,omitempty"`
	page
}

func (o *replayOut) text() string {
	return lines(append(append([]string{fmt.Sprintf("sent again: %s/%s (%s), status %d", o.Session, o.ID, o.State, o.Status)}, o.Notes2...), o.page.text())...)
}

// replay sends a request again.
func (s *Server) replay(ctx context.Context, in *replayIn) (*replayOut, error) {
	t, err := s.target(in.Session, in.Flow)
	if err != nil {
		return nil, err
	}
	defer t.Release()
	if err := t.small(); err != nil {
		return nil, err
	}
	e := Edits{Method: in.Method, URL: in.URL, Body: in.Body}
	if len(in.Headers) > 0 {
		if t.x.Request == nil || t.x.Request.Head == nil {
			return nil, fmt.Errorf("flow %d: there is no request to send (%s)", t.x.ID, t.x.Kind)
		}
		e.Headers = withHeaders(flow.Pairs(t.x.Request.Head.Fields), in.Headers)
	}
	text, err := s.Views.Replay(ctx, t.Record, t.x.ID, e)
	if err != nil {
		return nil, err
	}
	var v struct {
		ID      string   `json:"id"`
		Session string   `json:"session"`
		State   string   `json:"state"`
		Status  int      `json:"status"`
		Notes   []string `json:"notes"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, fmt.Errorf("replay of flow %d: %w", t.x.ID, err)
	}
	out := &replayOut{Session: v.Session, ID: v.ID, Of: fmt.Sprintf("%s/%d", t.id, t.x.ID), State: v.State, Status: v.Status}
	for _, n := range v.Notes[:min(len(v.Notes), 8)] {
		out.Notes2 = append(out.Notes2, clip(n, 200))
	}
	out.Notes = append(out.Notes, fmt.Sprintf("the answer: show_flow with flow=\"%s/%s\"", v.Session, v.ID))
	return out, nil
}

// withHeaders sets fields among those that were recorded.
func withHeaders(fields [][2]string, set map[string]string) (out [][2]string) {
	done := map[string]bool{}
	for _, f := range fields {
		name := strings.ToLower(f[0])
		value, changed := "", false
		for k, v := range set {
			if strings.EqualFold(k, name) {
				value, changed = v, true
			}
		}
		switch {
		case !changed:
			out = append(out, f)
		case value != "" && !done[name]:
			out = append(out, [2]string{f[0], value})
		}
		done[name] = done[name] || changed
	}
	for _, k := range slices.Sorted(maps.Keys(set)) {
		if set[k] != "" && !done[strings.ToLower(k)] {
			out = append(out, [2]string{k, set[k]})
		}
	}
	return out
}
