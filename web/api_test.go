package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

// rows asks for flows and returns their ids, and what to go on with.
func rows(t *testing.T, base, query string) (ids string, p page) {
	t.Helper()
	resp, text := get(t, base, "/api/flows"+query)
	if err := json.Unmarshal([]byte(text), &p); resp.StatusCode != 200 || err != nil {
		t.Fatalf("%s: %d %v %s", query, resp.StatusCode, err, text)
	}
	var list []string
	for _, r := range p.Flows {
		list = append(list, r.ID)
	}
	return strings.Join(list, " "), p
}

func TestPages(t *testing.T) {
	m := &memory{}
	for i := range 10 {
		m.put(exchange(int64(i+1), "a.example", "/"))
	}
	_, base := start(t, m, Views{})
	var all []string
	after := int64(0)
	for more := true; more; {
		ids, p := rows(t, base, fmt.Sprintf("?limit=4&after=%d", after))
		all = append(all, ids)
		if p.Total != 10 || p.Next <= after {
			t.Fatalf("%+v", p)
		}
		after, more = p.Next, p.More
		if len(all) == 1 { // what changes meanwhile comes again
			m.put(exchange(2, "b.example", "/"))
		}
	}
	if got := strings.Join(all, "|"); got != "1 3 4 5|6 7 8 9|10 2" && got != "1 2 3 4|5 6 7 8|9 10 2" {
		t.Errorf("pages: %s", got)
	}
	if ids, p := rows(t, base, fmt.Sprintf("?after=%d", after)); ids != "" || p.Next != after || p.More {
		t.Errorf("behind the last: %q %+v", ids, p)
	}
}

// TestFilter: the same language as the page's own (web/ui/src/state/filter.ts).
func TestFilter(t *testing.T) {
	m := &memory{}
	m.put(exchange(1, "api.example.com", "/v1/messages"))
	bad := exchange(2, "other.test", "/x")
	bad.Response.Head.Status, bad.Conn.Process = 503, &flow.Process{PID: 77, Exe: "/usr/bin/node"}
	m.put(bad)
	failed := exchange(3, "api.example.com", "/v1/files")
	failed.Response, failed.State, failed.Error = nil, flow.StateFailed, &flow.Error{Where: flow.AtUpstream, Code: flow.CodeReset, Message: "Connection reset"}
	m.put(failed)
	views := Views{
		Match: func(expr string) (func(context.Context, *flow.Exchange) (bool, error), error) {
			if expr != `.id == "3" and "a b" != "jq:"` {
				return nil, fmt.Errorf("unexpected %q", expr)
			}
			return func(_ context.Context, x *flow.Exchange) (bool, error) { return x.ID == 3, nil }, nil
		},
		Search: func(_ context.Context, _ Record, text string, ids []int64) (map[int64]bool, error) {
			return map[int64]bool{1: text == "needle in it", 2: text == "other"}, nil
		},
	}
	_, base := start(t, m, views)
	for q, want := range map[string]string{
		"": "1 2 3", "host:api": "1 3", "host:*.com": "1 3", "host:api.example.co": "1 3", "host:*.co": "", "HOST:OTHER": "2", "-host:api": "2",
		"status:200": "1", "status:>=400": "2", "status:5xx": "2", "status:200-299": "1", "-status:200": "2 3", "status:!=200": "2",
		"has:error": "2 3", "state:failed": "3", "kind:http": "1 2 3", "kind:tcp": "", "method:get": "1 2 3", "process:node": "2", "process:77": "2", "process:7": "",
		"path:/v1/*": "1 3", "messages": "1", `"connection reset"`: "3", `"reset reset"`: "", "MESSAGES -files": "1", "id:1,3": "1 3", "size:>=26": "1 2", "size:>1kb": "",
		"time:>500ms": "1 2 3", "time:>2s": "", "host:": "1 2 3", "status:>=": "1 2 3", `body:"needle in it"`: "1", "-body:other host:*": "1 3", `jq:.id == "3" and "a b" != "jq:"`: "3",
		`host:api -jq:.id == "3" and "a b" != "jq:"`: "1", "https://x": "", "unknown:key": "",
	} {
		if ids, _ := rows(t, base, "?q="+urlEscape(q)); ids != want {
			t.Errorf("%s: %q, want %q", q, ids, want)
		}
	}
	for _, q := range []string{"status:many", "has:wings", "jq:nonsense(", "size:>1furlong"} {
		if resp, text := get(t, base, "/api/flows?q="+urlEscape(q)); resp.StatusCode != 400 || !strings.Contains(text, `"error":"filter`) {
			t.Errorf("%s: %d %s", q, resp.StatusCode, text)
		}
	}
}

// FuzzFilter: whatever is typed, there is a filter or an error.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{`host:a "b c" -status:>=400`, `body:"a\"b" jq:.x`, `-`, `"`, `-"`, `size:>1.5mb time:<`, `host:[*\`, `JQ:`, `path:/*?`, "\"\x00\" :x x:"} {
		f.Add(s)
	}
	all := []Revised{{exchange(1, "a.example", "/"), 1}}
	views := &Views{Match: func(string) (func(context.Context, *flow.Exchange) (bool, error), error) {
		return func(context.Context, *flow.Exchange) (bool, error) { return true, nil }, nil
	}, Search: func(context.Context, Record, string, []int64) (map[int64]bool, error) { return nil, nil }}
	f.Fuzz(func(t *testing.T, s string) {
		filter, err := parseFilter(s, views)
		if err != nil {
			var p *Problem
			if !errors.As(err, &p) || p.Status != http.StatusBadRequest {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if _, err := filter.keep(context.Background(), nil, all, []*row{rowOf(all[0].Exchange, 1, nil)}); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	})
}

// urlEscape escapes all that is no letter.
func urlEscape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

func TestBody(t *testing.T) {
	m := &memory{body: "<script>alert(1)</script>"}
	x := exchange(1, "a.example", "/")
	x.Response.ContentType = "text/html\r\nX-Evil: 1; charset=\u202eutf-8"
	m.put(x)
	_, base := start(t, m, Views{})
	for query, want := range map[string]string{"": m.body, "?offset=8": m.body[8:], "?offset=3&length=9": m.body[3:12], "?length=0": "", "?offset=999": "", "?length=7": m.body[:7]} {
		resp, text := get(t, base, "/api/flows/1/body/response"+query)
		h := resp.Header
		if text != want || h.Get("Content-Type") != "application/octet-stream" || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment;") ||
			h.Get("X-Trace-Type") != "text/htmlX-Evil: 1; charset=utf-8" || h.Get("X-Trace-Size") != "26" || h.Get("X-Evil") != "" {
			t.Errorf("%s: %q, %v", query, text, h)
		}
		if !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%s: %s", query, h.Get("Content-Security-Policy"))
		}
	}
	if resp, _ := get(t, base, "/api/flows/1/body/forwarded"); resp.StatusCode != 404 {
		t.Errorf("forwarded: %d", resp.StatusCode)
	}
}

func TestEvents(t *testing.T) {
	m := &memory{}
	m.put(exchange(1, "a.example", "/"))
	_, base := start(t, m, Views{})
	var got []int
	after := 0
	for more := true; more; {
		_, text := get(t, base, fmt.Sprintf("/api/flows/1/events?limit=4&after=%d", after))
		var p struct {
			Events []struct {
				N     int
				Event string
				Data  struct{ I int }
			}
			More bool
			Next int
		}
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		for _, e := range p.Events {
			got = append(got, e.Data.I)
			if e.N != e.Data.I || e.Event != fmt.Sprintf("e%d", e.N%3) {
				t.Errorf("%+v", e)
			}
		}
		after, more = p.Next, p.More
	}
	if fmt.Sprint(got) != "[0 1 2 3 4 5 6 7 8 9]" || after != 10 {
		t.Errorf("%v, then %d", got, after)
	}
}

// A reading reads a stream.
type reading struct {
	t *testing.T
	r *bufio.Scanner
	c io.Closer
}

func follow(t *testing.T, base, query string) *reading {
	t.Helper()
	req, _ := http.NewRequest("GET", base+"/api/stream"+query, nil)
	req.Header.Set("Authorization", "Bearer "+testToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%v %v", resp, err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &reading{t, bufio.NewScanner(resp.Body), resp.Body}
}

// until reads until an event of that name whose data has text.
func (r *reading) until(name, text string) string {
	r.t.Helper()
	event := ""
	for r.r.Scan() {
		line := r.r.Text()
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			event = v
		}
		if v, ok := strings.CutPrefix(line, "data: "); ok && event == name && strings.Contains(v, text) {
			return v
		}
	}
	r.t.Fatalf("the stream ended before %s %s: %v", name, text, r.r.Err())
	return ""
}

func TestStream(t *testing.T) {
	m := &memory{live: make(chan Change), began: make(chan struct{})}
	m.put(exchange(1, "old.example", "/"))
	s, base := start(t, m, Views{})
	all, now := follow(t, base, "?after=0"), follow(t, base, "")
	all.until("flow", "old.example")
	<-m.began
	say := func(x *flow.Exchange, step Step, p *flow.Piece) {
		r := m.put(x)
		m.live <- Change{Step: step, Flow: x, Piece: p, Rev: r.Rev}
	}
	x := exchange(2, "new.example", "/")
	x.State, x.Ended = flow.StateOpen, time.Time{}
	say(x, Opened, nil)
	say(x, Streamed, &flow.Piece{Index: 4, Side: flow.Server, At: x.Started.Add(1500 * time.Millisecond), Data: []byte("event: tick\ndata: " + strings.Repeat("€", 3000) + "\n\n")})
	say(exchange(2, "new.example", "/"), Done, nil)
	for _, r := range []*reading{all, now} {
		if row := r.until("flow", `"id":"2"`); strings.Contains(row, "old.example") {
			t.Errorf("%s", row)
		}
		var e liveEvent
		if err := json.Unmarshal([]byte(r.until("event", `"type":"sse"`)), &e); err != nil || e.Flow != "2" || e.N != 4 || e.Name != "tick" || e.AtMS != 1500 ||
			len(e.Data) > maxSnippet+3 || !strings.HasPrefix(e.Data, "€€") {
			t.Errorf("%v %+v", err, e)
		}
		r.until("event", `"type":"end","name":"complete"`)
	}
	s.Bye(3, "trace web X", 5*time.Second)
	for _, r := range []*reading{all, now} {
		r.until("bye", `"exit":3`)
		if r.r.Scan() && r.r.Text() != "" {
			t.Errorf("after the end: %s", r.r.Text())
		}
	}
}

// TestStalledReader: a page that does not read for a while gets all rows all the
// same, and hears that events were left out.
func TestStalledReader(t *testing.T) {
	m := &memory{live: make(chan Change), began: make(chan struct{})}
	_, base := start(t, m, Views{}, func(s *Server) { s.room = 64 << 10 })
	r := follow(t, base, "?after=0")
	<-m.began
	const flows = 4000
	host := strings.Repeat("x", 5000) // more than what connections hold
	for i := range int64(flows) {
		x := exchange(i+1, host, "/")
		m.live <- Change{Step: Done, Flow: x, Rev: m.put(x).Rev}
	}
	r.r.Buffer(nil, 1<<20)
	seen := map[string]bool{}
	resync := false
	enough := time.AfterFunc(20*time.Second, func() { r.c.Close() })
	defer enough.Stop()
	for event := ""; (len(seen) < flows || !resync) && r.r.Scan(); {
		line := r.r.Text()
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			event = v
		}
		resync = resync || event == "resync"
		if v, ok := strings.CutPrefix(line, `data: {"id":"`); ok && event == "flow" {
			id, _, _ := strings.Cut(v, `"`)
			seen[id] = true
		}
	}
	if len(seen) != flows || !resync {
		t.Errorf("%d of %d flows, resync %v", len(seen), flows, resync)
	}
}

// TestSlowReader: who falls behind is made good from the record, and is told.
func TestSlowReader(t *testing.T) {
	sub := newSubscriber(maxQueued)
	text := make([]byte, maxQueued/4)
	for i := range 3 {
		sub.put(block{text, int64(i)})
	}
	if blocks, lost, _ := sub.take(); len(blocks) != 3 || lost {
		t.Errorf("%d blocks, lost %v", len(blocks), lost)
	}
	for i := range 9 {
		sub.put(block{text, int64(i)})
	}
	if blocks, lost, _ := sub.take(); len(blocks) != 0 || !lost {
		t.Errorf("%d blocks, lost %v", len(blocks), lost)
	}
	sub.put(block{text, 10})
	if blocks, lost, _ := sub.take(); len(blocks) != 1 || lost {
		t.Errorf("%d blocks, lost %v", len(blocks), lost)
	}
}
