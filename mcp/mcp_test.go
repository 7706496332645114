package mcp

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"trace/flow"
)

const huge = 1 << 30

// hugeJSON writes an object of 1 GiB, whose last member is small.
func hugeJSON(w io.Writer) error {
	filler := bytes.Repeat([]byte("lorem ipsum é "), 5000)
	if _, err := io.WriteString(w, `{"model":"m","big":"`); err != nil {
		return err
	}
	for n := 0; n < huge; n += len(filler) {
		if _, err := w.Write(filler); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, `","tail":[1,{"x":"the end"},3]}`)
	return err
}

// TestHuge asks for parts of a body of 1 GiB: memory stays small.
func TestHuge(t *testing.T) {
	rec := &aSession{flows: map[int64]*flow.Exchange{1: exchange(1, huge, 100)}, bodies: map[int64][2]func(io.Writer) error{1: {hugeJSON, text(`{"ok":true}`)}}}
	c := connect(t, &Server{Source: rec, Views: rec.views()})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	said, over := ask[map[string]any](t, c, "show_flow", map[string]any{"flow": 1})
	if !strings.Contains(said, "1.07 GB") || !strings.Contains(said, "show_flow with body=") || len(said) > 6000 {
		t.Errorf("overview of %d bytes: %s", len(said), said)
	}
	_ = over
	_, out := ask[flowOut](t, c, "show_flow", map[string]any{"flow": "1", "body": "request", "path": "tail[1].x"})
	if out.Body.Text != "the end" || out.Body.Kind != "string" || out.Body.Next != nil {
		t.Errorf("%+v", out.Body)
	}
	_, out = ask[flowOut](t, c, "show_flow", map[string]any{"flow": 1, "body": "request", "path": "tail[-1]"})
	if out.Body.Text != "3" {
		t.Errorf("%+v", out.Body)
	}
	said, out = ask[flowOut](t, c, "show_flow", map[string]any{"flow": 1, "body": "request", "path": "big"})
	if b := out.Body; !strings.HasPrefix(b.Text, "lorem ipsum é") || b.Length < 3900 || b.Length > 4000 || b.Next == nil || b.Total < huge || len(said) > 6000 {
		t.Errorf("%d %d %d %v, %d bytes of text", b.Length, b.Offset, b.Total, b.Next, len(said))
	}
	_, out = ask[flowOut](t, c, "show_flow", map[string]any{"flow": 1, "body": "request", "offset": huge / 2, "length": 100})
	if b := out.Body; b.Length < 90 || b.Next == nil || !strings.Contains(b.Text, "lorem ipsum") {
		t.Errorf("%+v", b)
	}
	_, out = ask[flowOut](t, c, "show_flow", map[string]any{"flow": 1, "body": "request", "path": "$"})
	if b := out.Body; b.Count != 3 || len(b.Members) != 3 || b.Members[2].Name != "tail" || b.Members[1].Size < huge {
		t.Errorf("%+v", b.Members)
	}
	refused(t, c, "conversation", map[string]any{"flow": 1}, "too long to be read as a call")
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("%d MB were taken", n>>20)
	}
}

// TestRanges pages through a body: the pieces are the whole of it, in letters.
func TestRanges(t *testing.T) {
	body := strings.Repeat("añ😀\n", 3000)
	bin := string(bytes.Repeat([]byte{0xff, 0, 1, 2}, 2000))
	rec := &aSession{flows: map[int64]*flow.Exchange{1: exchange(1, int64(len(body)), int64(len(bin)))},
		bodies: map[int64][2]func(io.Writer) error{1: {text(body), text(bin)}}}
	c := connect(t, &Server{Source: rec, Views: rec.views()})
	for side, all := range map[string]string{"request": body, "response": bin} {
		for _, length := range []int{0, 7, 999, 65536} {
			got, want, offset := "", all, int64(0)
			for range 5000 {
				_, out := ask[flowOut](t, c, "show_flow", map[string]any{"flow": 1, "body": side, "offset": offset, "length": length})
				part := out.Body.Text
				if out.Body.Base64 {
					p, err := base64.StdEncoding.DecodeString(part)
					if err != nil {
						t.Fatal(err)
					}
					part = string(p)
				}
				if got += part; out.Body.Next == nil {
					break
				}
				if len(got) > 20*length && length == 7 {
					want = want[:len(got)]
					break
				}
				offset = *out.Body.Next
			}
			if got != want {
				t.Errorf("%s in pieces of %d: %d bytes, not %d", side, length, len(got), len(want))
			}
		}
	}
	res, err := c.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: "trace://" + sessionID + "/1/request-body?offset=0&length=8"})
	if err != nil || res.Contents[0].Text != "añ😀\n" || len(res.Contents) != 2 || !strings.Contains(res.Contents[1].URI, "?offset=8") {
		t.Errorf("%+v, %v", res, err)
	}
	res, err = c.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: "trace://" + sessionID + "/1/response-body"})
	if err != nil || string(res.Contents[0].Blob) != bin || len(res.Contents) != 1 {
		t.Errorf("%.300v, %v", res, err)
	}
	for _, uri := range []string{"trace://" + sessionID + "/9/request-body", "trace://" + sessionID + "/x/request-body", "trace://nope/1/request-body",
		"trace://" + sessionID + "/1/request-body?offset=-1", "trace://" + sessionID + "/1/elsewhere", "file:///etc/passwd", "trace://%zz/1/request-body"} {
		if res, err := c.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: uri}); err == nil {
			t.Errorf("%s: %+v", uri, res)
		}
	}
}

// TestPages pages through lists, each answer small.
func TestPages(t *testing.T) {
	rec := &aSession{flows: map[int64]*flow.Exchange{}, pieces: map[int64][]flow.Piece{}}
	for id := int64(1); id <= 130; id++ {
		rec.flows[id] = exchange(id, 10, 10)
		rec.flows[id].Request.Head.Path = "/" + strings.Repeat("p", 500)
	}
	for i := range 500 {
		rec.pieces[1] = append(rec.pieces[1], flow.Piece{Index: i, At: epoch, Side: flow.Server, Data: fmt.Appendf(nil, "event: e%d\ndata: %s\n\n", i, strings.Repeat("d", 2000))})
	}
	c := connect(t, &Server{Source: rec, Views: rec.views()})
	count := func(tool string, args map[string]any, of string) (n, pages int) {
		for cursor := ""; pages < 100; pages++ {
			if cursor != "" {
				args["cursor"] = cursor
			}
			said, out := ask[map[string]any](t, c, tool, args)
			if limit := map[bool]int{true: 40000, false: 7000}[args["limit"] != nil]; len(said) > limit || sizeOf(out) > limit {
				t.Errorf("%s %v: %d bytes of text, %d of JSON", tool, args, len(said), sizeOf(out))
			}
			n += len(out[of].([]any))
			next, _ := out["next_cursor"].(string)
			if cursor = next; cursor == "" {
				return n, pages + 1
			}
			if !strings.Contains(said, "cursor=") {
				t.Errorf("%s does not say how it goes on: %s", tool, said)
			}
		}
		t.Fatalf("%s does not end", tool)
		return
	}
	for _, x := range []struct {
		tool, of string
		args     map[string]any
		want     int
	}{{"list_flows", "flows", nil, 130}, {"list_flows", "flows", map[string]any{"limit": 100}, 130}, {"list_flows", "flows", map[string]any{"limit": "1000"}, 130},
		{"list_sessions", "sessions", nil, 50}, {"list_sessions", "sessions", map[string]any{"name": "XXXX", "limit": 7}, 50},
		{"flow_events", "events", map[string]any{"flow": "1"}, 500}, {"flow_events", "events", map[string]any{"flow": "1", "data_bytes": 8000, "limit": 100}, 500}} {
		if x.args == nil {
			x.args = map[string]any{}
		}
		if n, pages := count(x.tool, x.args, x.of); n != x.want || pages < 2 {
			t.Errorf("%s %v: %d on %d pages, want %d", x.tool, x.args, n, pages, x.want)
		}
	}
}

// TestNonsense gives tools arguments that make no sense.
func TestNonsense(t *testing.T) {
	rec := &aSession{flows: map[int64]*flow.Exchange{1: exchange(1, 10, 10), 2: {ID: 2, Kind: flow.KindDNS, DNS: &flow.DNS{Name: "x"}}}, bodies: map[int64][2]func(io.Writer) error{1: {text(`{"a":[1,2]}`), text(`no JSON`)}}}
	rec.flows[3] = &flow.Exchange{ID: 3, Kind: flow.KindHTTP, State: flow.StateOpen, Request: &flow.Part{}}
	rec.flows[4] = &flow.Exchange{ID: 4, Kind: flow.KindTCP, State: flow.StateOpen}
	c := connect(t, &Server{Source: rec, Views: rec.views()})
	for _, x := range []struct {
		tool string
		args any
		why  string
	}{
		{"show_flow", map[string]any{}, "which one"},
		{"show_flow", map[string]any{"flow": "x"}, "no id"},
		{"show_flow", map[string]any{"flow": -3}, "no id"},
		{"show_flow", map[string]any{"flow": 1.5}, "want an id"},
		{"show_flow", map[string]any{"flow": []int{1}}, "want an id"},
		{"show_flow", map[string]any{"flow": "99"}, "there is none"},
		{"show_flow", map[string]any{"flow": "1#x"}, "no number of a call"},
		{"show_flow", map[string]any{"flow": "/1"}, "names no session"},
		{"show_flow", map[string]any{"flow": "nope/1"}, "there is none"},
		{"show_flow", map[string]any{"flow": 1, "session": "nope"}, "there is none"},
		{"show_flow", map[string]any{"flow": 1, "body": "both"}, "want request or response"},
		{"show_flow", map[string]any{"flow": 1, "path": "a"}, "are of a body"},
		{"show_flow", map[string]any{"flow": 1, "body": "request", "path": "a[7]"}, "no such value"},
		{"show_flow", map[string]any{"flow": 1, "body": "request", "path": "a[-7]"}, "no such value"},
		{"show_flow", map[string]any{"flow": 1, "body": "request", "path": "a[-1][-1]"}, "no such value"},
		{"show_flow", map[string]any{"flow": 1, "body": "request", "path": "a["}, "has no end"},
		{"show_flow", map[string]any{"flow": 1, "body": "response", "path": "a"}, "no JSON"},
		{"show_flow", map[string]any{"flow": 1, "body": "request", "offset": -1}, "not below zero"},
		{"show_flow", map[string]any{"flow": 1, "body": "request", "offset": 1e300}, "whole number"},
		{"show_flow", map[string]any{"flow": 2, "body": "request"}, "no HTTP exchange"},
		{"show_flow", map[string]any{"flow": 3, "body": "response"}, "has no response"},
		{"show_flow", map[string]any{"flow": 1, "extra": 1}, "unknown field"},
		{"show_flow", "text", "arguments"},
		{"show_flow", []int{1}, "arguments"},
		{"list_flows", map[string]any{"cursor": "x"}, "none of list_flows"},
		{"list_flows", map[string]any{"limit": "many"}, "whole number"},
		{"list_flows", map[string]any{"host": 7}, "host"},
		{"flow_events", map[string]any{"flow": 1, "cursor": "x"}, "whole number"},
		{"flow_events", map[string]any{"flow": 1, "after": 1 << 40}, "so many events"},
	} {
		refused(t, c, x.tool, x.args, x.why)
	}
	for _, id := range []int{2, 3, 4} {
		said, _ := ask[flowOut](t, c, "show_flow", map[string]any{"flow": id})
		if !strings.Contains(said, fmt.Sprintf("#%d", id)) {
			t.Error(said)
		}
		ask[eventsOut](t, c, "flow_events", map[string]any{"flow": id})
	}
	if _, err := c.CallTool(t.Context(), &sdk.CallToolParams{Name: "rm"}); err == nil {
		t.Error("a tool that is none answers")
	}
	// A range behind the end is empty and says how long the body is.
	said, out := ask[flowOut](t, c, "show_flow", map[string]any{"flow": 1, "body": "request", "offset": 500})
	if out.Body.Length != 0 || out.Body.Next != nil || !strings.Contains(said, "11 bytes") {
		t.Errorf("%s: %+v", said, out.Body)
	}
}

// TestTurns: a question waits for those before it, and one that its client gives up
// makes room.
func TestTurns(t *testing.T) {
	rec := &aSession{flows: map[int64]*flow.Exchange{1: exchange(1, 10, 10)}}
	c := connect(t, &Server{Source: rec, Views: rec.views()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 20)
	for range 20 {
		go func() {
			_, err := c.CallTool(ctx, &sdk.CallToolParams{Name: "conversation", Arguments: map[string]any{"flow": 1}})
			done <- err
		}()
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := c.CallTool(t.Context(), &sdk.CallToolParams{Name: "list_flows"})
		waiting <- err
	}()
	select {
	case err := <-waiting:
		t.Logf("answered between the others: %v", err)
		waiting <- err
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	for range 20 {
		if err := <-done; err == nil {
			t.Error("a question that was given up is answered")
		}
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}
