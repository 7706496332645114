package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// messagesAPI answers as the Messages API does, streaming where that is asked for:
// each call takes 100 tokens in and 11 out.
func messagesAPI(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	if !strings.Contains(string(b), `"stream":true`) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"Hi."}],"stop_reason":"end_turn","usage":{"input_tokens":100,"output_tokens":11}}`)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range []string{
		`{"type":"message_start","message":{"id":"msg_2","type":"message","role":"assistant","model":"claude-x","content":[],"usage":{"input_tokens":100,"output_tokens":1}}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi."}}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":11}}`,
		`{"type":"message_stop"}`,
	} {
		_, kind, _ := strings.Cut(e, `"type":"`)
		kind, _, _ = strings.Cut(kind, `"`)
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", kind, e)
	}
}

// TestBudget: in every mode, whether anything is kept or not, the calls of a run are
// counted, the last one too, and what they used is said when it was too much.
func TestBudget(t *testing.T) {
	need(t, "curl")
	ca := newAuthority(t, "budget")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{"api.anthropic.com"}, nil)}}, messagesAPI)
	j := newJob(t, both()[0])
	road := []string{"--upstream-ca", j.file("ca.pem", ca.pem()), "--connect-to", "api.anthropic.com:443:" + o.addr}
	prices := j.file("prices.json", `{"source":"a page","date":"2026-01-02","models":{"claude-x":{"input":1000,"output":10000}}}`)
	const call = `curl -sSf "$BASE/v1/messages" -H 'content-type: application/json' -d '{"model":"claude-x","max_tokens":9,"stream":%t,"messages":[{"role":"user","content":"Hi."}]}'`
	script := fmt.Sprintf(call+"; "+call, true, false)
	const tokens = "trace: budget tokens=222 is used up: 222 tokens (200 in, 0 of them cached, 22 out) in 2 calls\n"
	const cost = "trace: budget cost=0.4 is used up: 0.4200 USD in 2 calls by the prices of a page, 2026-01-02\n"
	run := func(flags []string, base string) result {
		args := append(append([]string{traceBin, "run"}, road...), flags...)
		return j.must(j.run(append(args, "--", "sh", "-c", "BASE="+base+"; "+script)...), 0)
	}
	for _, c := range []struct {
		base  string
		flags []string
	}{
		{"$ANTHROPIC_BASE_URL", nil},
		{"https://api.anthropic.com", []string{"--proxy"}},
		{"https://api.anthropic.com", []string{"--inspect"}},
		{"https://api.anthropic.com", []string{"--inspect", "--no-save"}},
	} {
		r := run(append(c.flags, "--budget", "tokens=222", "--budget", "cost=0.4USD", "--prices", prices), c.base)
		if !strings.HasSuffix(r.stderr, tokens+cost) {
			t.Errorf("%q: %s", c.flags, r.stderr)
		}
	}
	if r := run([]string{"--budget", "tokens=223", "--budget", "cost=0.43", "--prices", prices}, "$ANTHROPIC_BASE_URL"); strings.Contains(r.stderr, "budget") {
		t.Errorf("within the budget: %s", r.stderr)
	}

	s := j.serving(append([]string{"--listen", "127.0.0.1:0", "--budget", "tokens=200"}, road...)...)
	base := s.url("reverse proxy") + "/@"
	j.must(j.run("sh", "-c", "BASE="+base+"much/anthropic; "+script+"; BASE="+base+"little/anthropic; "+fmt.Sprintf(call, false)), 0)
	if code := s.stop(); code != 0 {
		t.Errorf("exit %d: %s", code, s.said())
	}
	if said := s.said(); strings.Count(said, "budget") != 1 || !strings.Contains(said, " (much): budget tokens=200 is used up: 222 tokens (200 in, 0 of them cached, 22 out) in 2 calls\n") {
		t.Errorf("serve: %s", said)
	}

	for _, args := range [][]string{{"run", "--budget", "tokens=x", "--", "true"}, {"run", "--inspect", "--budget", "cost=1", "--", "true"},
		{"run", "--proxy", "--budget", "", "--", "true"}, {"serve", "--listen", "127.0.0.1:0", "--budget", "cost=x"}} {
		if r := j.trace(args...); r.code != 2 || !strings.Contains(r.stderr, "--budget") {
			t.Errorf("%q: exit %d, %s", args, r.code, r.stderr)
		}
	}
}
