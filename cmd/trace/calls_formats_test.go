package main

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"trace/flow"
	"trace/llm"
)

// formatSamples are the exchanges that llm is tested with, of every provider:
// streams as bodies that were not cut into events.
func formatSamples(t *testing.T) map[string]*flow.Detail {
	t.Helper()
	names, err := filepath.Glob("../../llm/testdata/*.txtar")
	if err != nil || len(names) < 30 {
		t.Fatalf("%d samples, %v", len(names), err)
	}
	samples := map[string]*flow.Detail{}
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		d := &flow.Detail{Exchange: *sampleFlow(1, "POST", "", "/", 200)}
		for _, f := range a.Files {
			fillSample(d, f.Name, string(f.Data))
		}
		samples[strings.TrimSuffix(filepath.Base(name), ".txtar")] = d
	}
	return samples
}

// fillSample sets what a file of a sample says.
func fillSample(d *flow.Detail, name, text string) {
	head, body, _ := strings.Cut(text, "\n\n")
	line, rest, _ := strings.Cut(head, "\n")
	var fields []flow.Field
	for l := range strings.SplitSeq(rest, "\n") {
		if name, value, ok := strings.Cut(l, ": "); ok {
			fields = append(fields, flow.Field{Name: name, Value: value})
		}
	}
	switch name {
	case "request":
		h := &flow.Head{Scheme: "https", Version: "1.1", Port: 443, Fields: fields}
		h.Method, h.Path, _ = strings.Cut(line, " ")
		h.Target = h.Path
		host, port, _ := strings.Cut(h.Get("Host"), ":")
		h.Host = host
		if n, err := strconv.Atoi(port); err == nil {
			h.Port = n
		}
		d.Request.Head, d.RequestBody = h, []byte(strings.TrimSuffix(body, "\n"))
	case "response":
		h := &flow.Head{Version: "1.1", Fields: fields}
		h.Status, _ = strconv.Atoi(line)
		d.Response.Head, d.Response.ContentType, d.ResponseBody = h, h.Get("Content-Type"), []byte(body)
	case "messages":
		d.Kind, d.RequestBody = flow.KindWebSocket, nil
		for i, l := range strings.Split(strings.TrimSpace(text), "\n") {
			side, data, _ := strings.Cut(l, " ")
			p := flow.Piece{Index: i, At: later(float64(10 * i)), Opcode: flow.OpText, Data: []byte(data), Size: int64(len(data))}
			if side == "<" {
				p.Side = flow.Server
			}
			d.Messages = append(d.Messages, p)
		}
	}
}

// TestEveryFormat shows calls of every provider in every way: nothing breaks,
// JSON is JSON, and what is shown as a conversation has all that was said.
func TestEveryFormat(t *testing.T) {
	inUTC(t)
	read := 0
	var before *llm.Call
	for name, d := range formatSamples(t) {
		calls := llm.Read(d)
		if len(calls) == 0 {
			continue
		}
		read++
		d.LLM = summarize(&d.Exchange, calls)
		doc, err := encodeSummary(callOf(&d.Exchange))
		if s, ok := decodeSummary(doc); err != nil || !ok || s == nil {
			t.Errorf("%s: summary %s, %v", name, doc, err)
		}
		for _, width := range []int{0, 70} {
			for _, full := range []bool{false, true} {
				w, out := screen(width, false)
				if err := (&callView{detail: d, calls: calls, full: full}).write(w); err != nil {
					t.Fatal(err)
				}
				if full {
					complete(t, name, out.String(), calls)
				}
			}
		}
		text, err := d.MarshalJSON()
		if err == nil {
			text, err = withMembers(text, "call", toJSONCall(&d.Exchange, calls[0]))
		}
		if err != nil || !json.Valid(text) {
			t.Errorf("%s: %v in %s", name, err, text)
		}
		l := newToolLog()
		for _, c := range calls {
			l.add(&d.Exchange, c)
		}
		w, _ := screen(0, false)
		if err := writeTools(w, l.uses); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if before == nil {
			before = calls[0]
		}
		c := &comparison{a: &diffSide{d: d, call: before}, b: &diffSide{d: d, call: calls[0]}, diff: llm.Compare(before, calls[0])}
		p := &printer{w: w}
		c.print(p, 10)
		if err := writeList(w, []jsonComparison{c.json()}); err != nil || p.err != nil {
			t.Errorf("%s: %v, %v", name, err, p.err)
		}
		before = calls[0]
	}
	if read < 30 {
		t.Errorf("only %d samples are calls", read)
	}
}

// complete checks that the text of every message is shown.
func complete(t *testing.T, name, shown string, calls []*llm.Call) {
	t.Helper()
	for _, c := range calls {
		for _, m := range append(append([]llm.Message{}, c.Messages...), c.Answer...) {
			for _, b := range m.Blocks {
				line := strings.TrimSpace(printable(firstLine(b.Text)))
				if b.Kind == llm.Text && !strings.Contains(line, "<") && !strings.Contains(shown, line) {
					t.Errorf("%s: %q is missing in\n%s", name, line, shown)
				}
			}
		}
	}
}
