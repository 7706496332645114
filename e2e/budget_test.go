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

// TestBudgetStop: what a session has no budget left for is answered by trace, as the
// provider would, on a connection that goes on; what is no call is carried as ever.
func TestBudgetStop(t *testing.T) {
	need(t, "curl")
	ca := newAuthority(t, "stop")
	o := serve(t, &tls.Config{NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{ca.leaf(t, []string{"api.anthropic.com"}, nil)}}, messagesAPI)
	ws := both()
	j := newJob(t, ws[len(ws)-1])
	road := []string{"--upstream-ca", j.file("ca.pem", ca.pem()), "--connect-to", "api.anthropic.com:443:" + o.addr}
	j.file("curlrc", `silent
write-out = " %{http_code} %{num_connects} %{http_version}\n"
`)
	const body = ` -H 'content-type: application/json' -d '{"model":"claude-x","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Hi."}]}'`
	script := func(base, flags string) string {
		one := " -K curlrc -o %s " + flags + " " + base
		return "curl" + fmt.Sprintf(one, "first") + "/v1/messages" + body + " --next" + fmt.Sprintf(one, "second") + "/v1/messages" + body +
			" --next" + fmt.Sprintf(one, "third") + "/v1/messages/count_tokens" + body + " --next" + fmt.Sprintf(one, "fourth") + "/v1/models; cat second"
	}
	for _, c := range []struct {
		base, curl, version string
		flags               []string
	}{
		{"$ANTHROPIC_BASE_URL", "", "1.1", nil},
		{"https://api.anthropic.com", "--http1.1", "1.1", []string{"--proxy"}},
		{"https://api.anthropic.com", "--http2", "2", []string{"--proxy"}},
		{"https://api.anthropic.com", "--http1.1", "1.1", []string{"--inspect"}},
		{"https://api.anthropic.com", "--http2", "2", []string{"--inspect"}},
		{"https://api.anthropic.com", "--http2", "2", []string{"--inspect", "--no-save"}},
	} {
		before := len(o.entries())
		args := append(append([]string{traceBin, "run", "--budget", "tokens=100", "--budget-stop"}, road...), c.flags...)
		r := j.must(j.run(append(args, "--", "sh", "-c", script(c.base, c.curl))...), 0)
		codes, said, _ := strings.Cut(r.stdout, "{")
		if want := strings.ReplaceAll(" 200 1 V\n 429 0 V\n 200 0 V\n 200 0 V\n", "V", c.version); codes != want {
			t.Errorf("%q %s: %q, want %q; %s", c.flags, c.curl, codes, want, r.stderr)
		}
		const answer = `"error":{"message":"trace: budget tokens=100 is used up: 111 tokens (100 in, 0 of them cached, 11 out) in 1 call: this call was not sent (--budget-stop)","type":"rate_limit_error"},"type":"error"}`
		if said != answer {
			t.Errorf("%q: %s", c.flags, said)
		}
		if n := len(o.entries()) - before; n != 3 {
			t.Errorf("%q: %d requests came to the server, want 3", c.flags, n)
		}
		if !strings.HasSuffix(r.stderr, "111 tokens (100 in, 0 of them cached, 11 out) in 1 call\ntrace: budget: 1 further call answered with 429 instead (--budget-stop)\n") {
			t.Errorf("%q: %s", c.flags, r.stderr)
		}
		if len(c.flags) < 2 {
			if list := j.must(j.trace("flows", "list", "--json"), 0).stdout; strings.Count(list, `"altered":true`) != 1 || strings.Count(list, `"response":{"status":429`) != 1 {
				t.Errorf("%q: %.3000s", c.flags, list)
			}
		}
	}

	s := j.serving(append([]string{"--listen", "127.0.0.1:0", "--budget", "tokens=100", "--budget-stop"}, road...)...)
	for _, name := range []string{"one", "two"} { // each has a budget of its own
		r := j.must(j.run("sh", "-c", script(s.url("reverse proxy")+"/@"+name+"/anthropic", "")), 0)
		if !strings.HasPrefix(r.stdout, " 200 1 1.1\n 429 0 1.1\n 200 0 1.1\n 200 0 1.1\n{") {
			t.Errorf("serve: %s", r.stdout)
		}
	}
	s.stop()
	if said := s.said(); strings.Count(said, "1 further call answered with 429") != 2 {
		t.Errorf("serve: %s", said)
	}
	if r := j.trace("run", "--budget-stop", "--", "true"); r.code != 2 || !strings.Contains(r.stderr, "without --budget") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}
