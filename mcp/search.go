package mcp

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

type searchIn struct {
	inSession
	filters
	Text       string `json:"text" jsonschema:"what to look for in names, URLs, headers, bodies, events, messages and answers"`
	Regexp     bool   `json:"regexp,omitempty" jsonschema:"text is a regular expression (RE2)"`
	IgnoreCase bool   `json:"ignore_case,omitempty" jsonschema:"take capital and small letters for the same"`
	Limit      number `json:"limit,omitempty" jsonschema:"how many flows with hits, 20 if left out, at most 100"`
	Cursor     string `json:"cursor,omitempty" jsonschema:"next_cursor of the answer before"`
}

type hitRow struct {
	Flow   string `json:"flow"`
	Where  string `json:"where"`
	Index  *int   `json:"index,omitempty"`
	Offset int64  `json:"offset"`
	Text   string `json:"text"` // the match between «», with what is around it
	More   int    `json:"more_there,omitempty"`
}

type searchOut struct {
	Session string   `json:"session"`
	Hits    []hitRow `json:"hits"`
	page
}

func (o *searchOut) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "session %s:\n", o.Session)
	for _, h := range o.Hits {
		fmt.Fprintf(&b, "#%s  %s", h.Flow, h.Where)
		if h.Index != nil {
			fmt.Fprintf(&b, " %d", *h.Index)
		}
		fmt.Fprintf(&b, "  at %d  %s", h.Offset, h.Text)
		if h.More > 0 {
			fmt.Fprintf(&b, "  (%d more here)", h.More)
		}
		b.WriteByte('\n')
	}
	if len(o.Hits) == 0 {
		b.WriteString("nothing found\n")
	}
	return lines(b.String(), o.page.text())
}

// The limits of a search.
const (
	maxText  = 1000 // bytes of what is looked for
	around   = 60   // bytes on each side of a hit
	hitsEach = 3    // of each part of a flow
)

// search finds text, in the newest flows first.
func (s *Server) search(ctx context.Context, in *searchIn) (*searchOut, error) {
	if in.Text == "" {
		return nil, &Problem{"search: what is to be found?", "give a text"}
	}
	if len(in.Text) > maxText {
		return nil, fmt.Errorf("search: a text of %d bytes: want %d at most", len(in.Text), maxText)
	}
	rec, err := s.session(in.Session)
	if err != nil {
		return nil, err
	}
	defer rec.Release()
	q := Search{Text: in.Text, Regexp: in.Regexp, IgnoreCase: in.IgnoreCase, Most: hitsEach, Filter: in.filter()}
	q.Filter.Limit = in.Limit.within(defaultRows, maxRows)
	if in.Cursor != "" {
		if q.Filter.From0, err = strconv.ParseInt(in.Cursor, 10, 64); err != nil || q.Filter.From0 < 1 {
			return nil, fmt.Errorf("cursor %q: none of search", clip(in.Cursor, 40))
		}
	}
	hits, next, err := s.Views.Search(ctx, rec.Record, q)
	if err != nil {
		return nil, err
	}
	out := &searchOut{Session: rec.id, Hits: []hitRow{}}
	room := roomFor(in.Limit) - 300
	for i := range hits {
		h := &hits[i]
		row := hitRow{Flow: strconv.FormatInt(h.Flow, 10), Where: h.Where, Offset: h.Offset, More: h.More, Text: h.excerpt()}
		if h.Index >= 0 {
			row.Index = &h.Index
		}
		if room -= sizeOf(row) + 1; room < 0 && i > 0 {
			next = out.cutAt(hits[i].Flow, hits[i-1].Flow)
			break
		}
		out.Hits = append(out.Hits, row)
	}
	if next > 0 {
		what := "older flows may have more"
		if len(out.Hits) == 0 {
			what = "nothing was found so far; there are older flows"
		}
		out.more(strconv.FormatInt(next, 10), what)
	}
	if len(out.Hits) > 0 {
		out.Notes = append(out.Notes, "show_flow with body and offset shows more around a hit in a body, flow_events with after=index around one in an event, conversation the answer")
	}
	return out, nil
}

// cutAt leaves out the flow of which not all hits fit, unless it is the only one, and
// returns where to go on.
func (o *searchOut) cutAt(flow, before int64) int64 {
	if flow != before {
		return before
	}
	name := strconv.FormatInt(flow, 10)
	n := len(o.Hits)
	for n > 0 && o.Hits[n-1].Flow == name {
		n--
	}
	if n == 0 {
		o.Notes = append(o.Notes, "not all hits of this flow are shown")
		return flow
	}
	o.Hits = o.Hits[:n]
	before, _ = strconv.ParseInt(o.Hits[n-1].Flow, 10, 64)
	return before
}

// excerpt is the hit with what is around it, on one line.
func (h *Hit) excerpt() string {
	before, after := strings.ToValidUTF8(h.Before, "�"), strings.ToValidUTF8(h.After, "�")
	if over := len(before) - around; over > 0 {
		for over < len(before) && before[over]&0xc0 == 0x80 {
			over++
		}
		before = "…" + before[over:]
	}
	if len(after) > around {
		after = after[:cut(after, around)] + "…"
	}
	match := clip(strings.ToValidUTF8(h.Match, "�"), 200)
	return strings.NewReplacer("\n", "⏎", "\r", "", "\t", " ").Replace(before + "«" + match + "»" + after)
}
