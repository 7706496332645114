package main

import (
	"context"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"trace/flow"
	"trace/store"
)

func TestParseMoment(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]moment{
		"2h ago":       {at: now.Add(-2 * time.Hour)},
		"3 days ago":   {at: now.Add(-72 * time.Hour)},
		"1.5h":         {at: now.Add(-90 * time.Minute)},
		"1w":           {at: now.Add(-7 * 24 * time.Hour)},
		"-90s":         {at: now.Add(-90 * time.Second)},
		"now":          {at: now},
		"today":        {at: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)},
		"yesterday":    {at: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)},
		"start":        {base: "start"},
		"End":          {base: "end"},
		"start+30s":    {base: "start", off: 30 * time.Second},
		"end-1m30s":    {base: "end", off: -90 * time.Second},
		"end-1d":       {base: "end", off: -24 * time.Hour},
		"start of run": {},
		"startup":      {},
		"start5s":      {},
		"3 apples":     {},
		"2026-13-01":   {},
	} {
		want.text = in
		if got := parseMoment(in, now); got != want {
			t.Errorf("%q: %+v, want %+v", in, got, want)
		}
	}
}

// TestSelection takes the flags of one command for those of all: --jq selects
// flows where the command is about flows.
func TestSelection(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	first := sampleSession(t)
	first.finish()
	second := sampleSession(t)
	choose := func(s selection) (string, error) {
		t.Helper()
		c, err := s.choose(context.Background(), io.Discard)
		if err != nil {
			return "", err
		}
		var names []string
		err = c.each(func(r *store.Reader, xs []*flow.Exchange) error {
			for _, x := range xs {
				got, err := r.Flow(x.ID)
				if err != nil || got.Session != x.Session {
					t.Errorf("%s/%d: %v", x.Session, x.ID, err)
				}
				name := "A"
				if x.Session == second.id {
					name = "B"
				}
				names = append(names, name+strconv.FormatInt(x.ID, 10))
			}
			return nil
		})
		return strings.Join(names, " "), err
	}
	for _, c := range []struct {
		s    selection
		want string
	}{
		{selection{}, "B1 B2 B3 B4"},
		{selection{session: first.id}, "A1 A2 A3 A4"},
		{selection{all: true}, "A1 A2 A3 A4 B1 B2 B3 B4"},
		{selection{all: true, query: store.Query{Limit: 2}}, "A4 B4"},
		{selection{jq: []string{`map(select(.kind=="http"))`, `.[]|select(.response.status==404)`}}, "B1"},
		{selection{jq: []string{`.[1], .[0], .[1]`}}, "B1 B2"},
		{selection{jq: []string{`.[1] | {id}`}}, "B2"},
		{selection{all: true, jq: []string{`map(select(.response.status==404))`}}, "A1 B1"},
		{selection{jq: []string{`[]`}}, ""},
		{selection{llm: true}, ""},
		{selection{from: "start", to: "end"}, "B1 B2 B3 B4"},
		{selection{to: "start"}, ""},
		{selection{from: "start+190ms"}, "B3 B4"},
	} {
		if got, err := choose(c.s); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v, want %q", c.s, got, err, c.want)
		}
	}
	for _, c := range []struct {
		s    selection
		code int
		want string
	}{
		{selection{jq: []string{`map(.id)`}}, 1, "no flow"},
		{selection{jq: []string{`length`}}, 1, "no flow"},
		{selection{jq: []string{`[{"id":"77"}]`}}, 1, "id 77"},
		{selection{jq: []string{`error("x")`}}, 1, "x"},
		{selection{all: true, jq: []string{`.[0]|{id}`}}, 1, "none of the flows"},
		{selection{jq: []string{`map(`}}, 2, "map("},
		{selection{from: "never"}, 2, "never"},
		{selection{all: true, to: "never"}, 2, "any session"},
	} {
		if _, err := choose(c.s); codeOf(err) != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want exit %d with %q", c.s, err, c.code, c.want)
		}
	}
}

func TestFits(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	open := flow.Exchange{Kind: flow.KindHTTP, State: flow.StateOpen, Started: at, Request: &flow.Part{Head: &flow.Head{Method: "POST", Host: "API.example", Path: "/v1/messages?beta=true"}}}
	over := open
	over.State, over.Response = flow.StateComplete, &flow.Part{Head: &flow.Head{Status: 404}}
	for _, c := range []struct {
		s          selection
		x          flow.Exchange
		fits, sure bool
	}{
		{selection{}, open, true, true},
		{selection{query: store.Query{Method: "post"}}, open, true, true},
		{selection{query: store.Query{Method: "GET"}}, open, false, true},
		{selection{query: store.Query{Host: "api.*"}}, open, true, true},
		{selection{query: store.Query{Host: "*.org"}}, open, false, true},
		{selection{query: store.Query{Status: "404"}}, open, false, false},
		{selection{query: store.Query{Status: "404"}}, over, true, true},
		{selection{query: store.Query{Status: "4xx"}}, over, true, true},
		{selection{query: store.Query{Status: "5xx"}}, over, false, true},
		{selection{query: store.Query{Kind: flow.KindHTTP}}, open, true, false},
		{selection{query: store.Query{Kind: flow.KindHTTP}}, over, true, true},
		{selection{query: store.Query{Kind: flow.KindWebSocket}}, open, false, false},
		{selection{query: store.Query{Kind: flow.KindWebSocket}}, over, false, true},
		{selection{query: store.Query{From: at}}, open, true, true},
		{selection{query: store.Query{To: at}}, open, false, true},
		{selection{llm: true}, open, true, true},
	} {
		if fits, sure := c.s.fits(&c.x); fits != c.fits || sure != c.sure {
			t.Errorf("%+v of %s: %v, %v, want %v, %v", c.s, c.x.State, fits, sure, c.fits, c.sure)
		}
	}
}
