package mcp

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

type diffIn struct {
	inSession
	A ref `json:"a,omitempty" jsonschema:"the earlier flow; the turn before b in its conversation if left out"`
	B ref `json:"b" jsonschema:"the later flow: 12, SESSION/12, 12#2 or last"`
}

// A change is a place in which two requests differ.
type change struct {
	Where string `json:"where"`
	What  string `json:"what"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

type diffOut struct {
	A        string        `json:"a"`
	B        string        `json:"b"`
	Same     bool          `json:"same"`
	Changes  []change      `json:"changes"`
	Total    int           `json:"change_count"`
	Shared   int           `json:"shared_messages,omitempty"`
	Appended []said        `json:"appended,omitempty"`
	Cache    *cacheVerdict `json:"cache,omitempty"`
	page
}

func (o *diffOut) text() string {
	list := []string{o.A + " → " + o.B}
	if o.Same {
		list = append(list, "the requests are the same")
	}
	for _, c := range o.Changes {
		line := "~ " + c.Where + " " + c.What
		switch {
		case c.Old != "" && c.New != "":
			line += fmt.Sprintf(": %q → %q", c.Old, c.New)
		case c.Old+c.New != "":
			line += fmt.Sprintf(": %q", c.Old+c.New)
		}
		list = append(list, line)
	}
	if o.Shared > 0 {
		list = append(list, fmt.Sprintf("= %d messages as before", o.Shared))
	}
	for i := range o.Appended {
		list = append(list, "+ "+o.Appended[i].line(""))
	}
	if c := o.Cache; c != nil {
		list = append(list, fmt.Sprintf("prompt cache: %s. %s", c.Result, c.Why))
	}
	return lines(append(list, o.page.text())...)
}

// A comparison is what a view tells of two requests (docs/cli.md).
type comparison struct {
	Same    bool `json:"same"`
	Changes []struct {
		Area string `json:"area"`
		What string `json:"what"`
		Name string `json:"name"`
		Old  string `json:"old"`
		New  string `json:"new"`
		OldI int    `json:"old_index"`
		NewI int    `json:"new_index"`
	} `json:"changes"`
	Shared   int           `json:"shared_messages"`
	At       int           `json:"appended_at"`
	Appended []turn        `json:"appended"`
	Cache    *cacheVerdict `json:"cache"`
	Head     []difference  `json:"head"`
	Body     []difference  `json:"body"`
}

type difference struct {
	Path string `json:"path"`
	Old  any    `json:"old"`
	New  any    `json:"new"`
}

// diff compares two requests.
func (s *Server) diff(ctx context.Context, in *diffIn) (*diffOut, error) {
	b, err := s.target(in.Session, in.B)
	if err != nil {
		return nil, err
	}
	defer b.Release()
	if in.A == "" {
		c, err := s.read(ctx, b, true)
		if err != nil {
			return nil, err
		}
		if c.Previous == "" {
			return nil, &Problem{fmt.Sprintf("flow %s: it is the first of its conversation", b.call), "name the flow to compare it with as a"}
		}
		in.A = ref(b.id + "/" + c.Previous)
	}
	a, err := s.target(in.Session, in.A)
	if err != nil {
		return nil, err
	}
	defer a.Release()
	for _, t := range []*target{a, b} {
		if err := t.small(); err != nil {
			return nil, err
		}
	}
	text, err := s.Views.Diff(ctx, a.Record, a.call, b.Record, b.call)
	if err != nil {
		return nil, err
	}
	var c comparison
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("diff: %w", err)
	}
	out := &diffOut{A: a.id + "/" + a.call, B: b.id + "/" + b.call, Same: c.Same, Shared: c.Shared, Cache: c.Cache, Changes: []change{}}
	if out.Cache != nil {
		out.Cache.Why = clip(out.Cache.Why, 400)
	}
	out.fill(&c)
	return out, nil
}

// fill takes what there is room for.
func (o *diffOut) fill(c *comparison) {
	var all []change
	for _, d := range c.Changes {
		where := d.Area
		if i := max(d.NewI, d.OldI); i >= 0 {
			where += fmt.Sprintf(" %d", i)
		}
		all = append(all, change{clip(strings.TrimSpace(where+" "+d.Name), 100), d.What, clip(d.Old, 200), clip(d.New, 200)})
	}
	for _, d := range append(c.Head, c.Body...) {
		what := "changed"
		switch {
		case d.Old == nil:
			what = "added"
		case d.New == nil:
			what = "removed"
		}
		all = append(all, change{clip(d.Path, 160), what, plain(d.Old), plain(d.New)})
	}
	o.Total = len(all)
	room := budget - sizeOf(o) - 300
	for i, d := range all {
		if room -= sizeOf(d) + 1; room < 0 && i > 0 {
			o.Notes = append(o.Notes, fmt.Sprintf("%d more changes; trace flows diff %s %s shows all", len(all)-i, o.A, o.B))
			return
		}
		o.Changes = append(o.Changes, d)
	}
	in := &conversationIn{MaxText: 300}
	n := 0
	for i := range c.Appended {
		for k := range c.Appended[i].Blocks {
			b := in.flat(c.At+i, c.Appended[i].Role, &c.Appended[i].Blocks[k])
			if room -= sizeOf(b) + 1; room >= 0 {
				o.Appended = append(o.Appended, b)
			} else {
				n++
			}
		}
	}
	if n > 0 {
		o.Notes = append(o.Notes, fmt.Sprintf("%d more blocks that were appended: conversation with flow=%q, from=%d", n, o.B, c.At))
	}
}

// plain is a value of JSON for reading.
func plain(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return clip(v, 200)
	}
	text, _ := json.Marshal(v)
	return clip(string(text), 200)
}
