package store

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

func flows(t *testing.T, r *Reader, q Query) []*flow.Exchange {
	t.Helper()
	xs, err := r.Flows(q)
	if err != nil {
		t.Fatal(err)
	}
	return xs
}

func TestRowsOfConnections(t *testing.T) {
	s, path := create(t, Options{})
	(&script{s: s, conn: 1}).open()
	refused := &flow.Error{Where: flow.AtUpstream, Code: flow.CodeRefused, Message: "connection refused", Hint: "start it"}
	(&script{s: s, conn: 1, now: 5}).close(refused)
	quiet := &script{s: s, conn: 2, now: 10}
	quiet.open()
	quiet.close(nil)
	pinned := &script{s: s, conn: 3, flow: 1, now: 20}
	f := conn(3)
	f.Decrypted, f.Protocol, f.Opaque = false, "tls", "tls_pinned"
	pinned.put(flow.Event{Kind: flow.ConnOpen, Facts: f})
	pinned.put(flow.Event{Kind: flow.Opaque})
	pinned.put(flow.Event{Kind: flow.Message, Side: flow.Client, Data: []byte("\x16\x03\x01"), Size: 517})
	pinned.put(flow.Event{Kind: flow.Message, Side: flow.Server, Data: []byte("\x16\x03\x03"), Size: 3})
	pinned.put(flow.Event{Kind: flow.End})
	f.Ended, f.Sent, f.Received = at(30), 517, 3
	f.Error = &flow.Error{Where: flow.AtClient, Code: flow.CodePassedThrough, Message: "carried undecrypted"}
	pinned.put(flow.Event{Kind: flow.ConnEnd, Facts: f})
	h2 := &script{s: s, conn: 4, flow: 1, now: 40}
	h2.open()
	h2.put(flow.Event{Kind: flow.Opaque, Reason: "http2"})
	h2.put(flow.Event{Kind: flow.Mark, Error: &flow.Error{Where: flow.AtDecode, Code: flow.CodeLimit}})
	h2.close(nil) // without an End
	fs := finish(t, s)
	if fs.Flows != 4 || fs.Opaque != 1 {
		t.Errorf("%d flows, %d opaque", fs.Flows, fs.Opaque)
	}
	r := open(t, path)
	xs := flows(t, r, Query{Heads: true})
	for i, want := range []struct{ state, code, opaque string }{
		{"failed", "refused", ""}, {"complete", "", ""}, {"complete", "tls_passed_through", "tls_pinned"}, {"failed", "truncated", "http2"},
	} {
		x := xs[i]
		code := ""
		if x.Error != nil {
			code = x.Error.Code
		}
		if x.ID != int64(i+1) || x.Kind != "tcp" || x.State != want.state || code != want.code || x.Conn.Opaque != want.opaque || x.Conn.Ended.IsZero() {
			t.Errorf("row %d: %s %s %s %q", x.ID, x.Kind, x.State, code, x.Conn.Opaque)
		}
	}
	if x := xs[2]; x.Conn.Sent != 517 || x.Conn.Process.Exe != "/usr/bin/curl" || !x.Started.Equal(at(0)) {
		t.Errorf("facts: %+v", x.Conn)
	}
	if len(xs[3].Marks) != 1 || xs[0].Error.Hint != "start it" {
		t.Errorf("marks %v, error %+v", xs[3].Marks, xs[0].Error)
	}
	ms, err := r.Messages(3)
	if err != nil || len(ms) != 2 || ms[0].Side != flow.Client || ms[0].Size != 517 || string(ms[1].Data) != "\x16\x03\x03" || ms[1].Side != flow.Server {
		t.Errorf("messages %v, %v", ms, err)
	}
}

func TestQueriesAreRows(t *testing.T) {
	s, path := create(t, Options{})
	dns := &flow.DNS{Name: "example.org", Type: "A", Rcode: "NOERROR", Answers: []string{"203.0.113.7"}, Took: 3 * time.Millisecond}
	s.Append(flow.Event{Kind: flow.Query, At: at(1), DNS: dns})
	f := &flow.Conn{ID: 5, Transport: "udp", Src: netip.MustParseAddrPort("198.19.255.2:5353"), Dst: netip.MustParseAddrPort("198.19.255.1:53"), Started: at(2)}
	s.Append(flow.Event{Kind: flow.Query, At: at(2), Conn: 5, Flow: 1, Facts: f, DNS: dns})
	s.Append(flow.Event{Kind: flow.Query, At: at(3), DNS: &flow.DNS{Name: "nowhere.invalid", Type: "A", Rcode: "NXDOMAIN"},
		Error: &flow.Error{Where: flow.AtUpstream, Code: flow.CodeDNS, Message: "no such host"}})
	s.Append(flow.Event{Kind: flow.ConnOpen, At: at(4), Conn: 6, Facts: &flow.Conn{ID: 6, Transport: "udp", Started: at(4)}})
	s.Append(flow.Event{Kind: flow.Opaque, At: at(4), Conn: 6, Flow: 1})
	s.Append(flow.Event{Kind: flow.End, At: at(5), Conn: 6, Flow: 1})
	fs := finish(t, s)
	r := open(t, path)
	xs := flows(t, r, Query{Heads: true, Kind: "dns"})
	if len(xs) != 3 || fs.Flows != 4 {
		t.Fatalf("%d rows, %d flows", len(xs), fs.Flows)
	}
	if x := xs[0]; x.DNS.Answers[0] != "203.0.113.7" || x.State != "complete" || x.Duration() != 3*time.Millisecond || x.Conn.ID != 0 {
		t.Errorf("%+v", x)
	}
	if x := xs[1]; x.Conn.Dst != f.Dst || x.Conn.ID != 5 {
		t.Errorf("%+v", x.Conn)
	}
	if x := xs[2]; x.State != "failed" || x.Error.Code != "dns" {
		t.Errorf("%+v", x)
	}
	if xs := flows(t, r, Query{Kind: "udp"}); len(xs) != 1 {
		t.Errorf("%d udp rows", len(xs))
	}
	if xs := flows(t, r, Query{Host: "nowhere.*"}); len(xs) != 1 || xs[0].DNS.Name != "nowhere.invalid" {
		t.Errorf("%d rows of that host", len(xs))
	}
}

func TestQuery(t *testing.T) {
	s, path := create(t, Options{})
	c := &script{s: s, conn: 1}
	c.open()
	for i, m := range []string{"GET", "POST", "GET", "DELETE"} {
		c.now = 100 * i
		c.request(m, fmt.Sprint("/", i), "", nil)
		c.response([]int{200, 404, 500, 204}[i], "text/plain", false)
		c.end(nil)
	}
	early := &script{s: s, conn: 2, now: 50} // appended last, started second
	early.open()
	early.close(nil)
	finish(t, s)
	r := open(t, path)
	for _, c := range []struct {
		q    Query
		want []int64
	}{
		{Query{}, []int64{1, 5, 2, 3, 4}},
		{Query{Limit: 2}, []int64{3, 4}},
		{Query{Limit: 4, Heads: true}, []int64{5, 2, 3, 4}},
		{Query{After: 3}, []int64{5, 4}},
		{Query{Method: "get"}, []int64{1, 3}},
		{Query{Status: "404"}, []int64{2}},
		{Query{Status: "2xx"}, []int64{1, 4}},
		{Query{Status: "5XX", Method: "GET"}, []int64{3}},
		{Query{Kind: "tcp"}, []int64{5}},
		{Query{Host: "*.EXAMPLE.org"}, []int64{1, 5, 2, 3, 4}},
		{Query{Host: "example.org"}, nil},
		{Query{From: at(100), To: at(250)}, []int64{2, 3}},
	} {
		var got []int64
		for _, x := range flows(t, r, c.q) {
			got = append(got, x.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.q, got, c.want)
		}
	}
	for _, bad := range []string{"x", "4x", "44xx", "-1", "1000"} {
		if _, err := r.Flows(Query{Status: bad}); err == nil || !strings.Contains(err.Error(), "status") {
			t.Errorf("status %q: %v", bad, err)
		}
	}
	x := flows(t, r, Query{Limit: 1})[0]
	if x.Request.Head.Method != "DELETE" || x.Request.Head.Host != "api.example.org" || x.Response.Head.Status != 204 || x.Request.Head.Fields != nil {
		t.Errorf("outline: %+v %+v", x.Request.Head, x.Response.Head)
	}
	if last, err := r.Last(); err != nil || last != 5 {
		t.Errorf("last %d, %v", last, err)
	}
}

func TestOpenFlowsAreReadAndEnded(t *testing.T) {
	was := slowEvery
	slowEvery = 20 * time.Millisecond
	t.Cleanup(func() { slowEvery = was })
	s, path := create(t, Options{})
	r := open(t, path)
	c := &script{s: s, conn: 1}
	c.open()
	c.request("GET", "/", "", nil)
	c.put(flow.Event{Kind: flow.Informational, Side: flow.Server, Head: &flow.Head{Status: 103}})
	flush(t, s)
	x, err := r.Flow(1)
	if err != nil || x.State != "open" || x.Response.Head != nil || len(x.Response.Informational) != 1 || !x.Ended.IsZero() {
		t.Errorf("open: %+v, %v", x, err)
	}
	c.response(200, "text/plain", false)
	c.put(flow.Event{Kind: flow.Body, Side: flow.Server, Data: []byte("so far")})
	deadline := time.Now().Add(10 * time.Second)
	for { // what is silent for a while is committed
		if b, err := r.Body(1, flow.Server); err != nil || time.Now().After(deadline) {
			t.Fatalf("%q, %v", b, err)
		} else if string(b) == "so far" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.put(flow.Event{Kind: flow.Body, Side: flow.Server, Data: []byte(", and the rest")})
	finish(t, s)
	x, err = r.Flow(1)
	if err != nil || x.State != "failed" || x.Error.Code != "truncated" || len(x.Response.Informational) != 1 || x.Response.Head.Status != 200 {
		t.Errorf("ended: %+v, %v", x, err)
	}
	if b, err := r.Body(1, flow.Server); err != nil || string(b) != "so far, and the rest" {
		t.Errorf("%q, %v", b, err)
	}
}
