package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"trace/flow"
	"trace/llm"
	"trace/store"
)

// showJSON prints a flow as JSON; of calls to a language model also what they
// say.
func (o *showOptions) showJSON(w *terminal, r *store.Reader, d *flow.Detail) error {
	calls := llm.Read(d)
	chosen, err := chooseCall(calls, o.call, d.ID)
	if err != nil {
		return err
	}
	if s := summarize(&d.Exchange, calls); s != nil {
		d.LLM = s
		if s.Thread = storedThread(r, d.ID); s.Thread == nil && len(s.Calls) == 0 {
			s.Thread = searchThread(r, &d.Exchange, calls)
		}
	}
	text, err := d.MarshalJSON()
	if err != nil {
		return fmt.Errorf("flow %d: %w", d.ID, err)
	}
	if len(calls) > 0 {
		if o.call > 0 {
			calls = calls[chosen : chosen+1]
		}
		if text, err = withCalls(text, d, calls); err != nil {
			return fmt.Errorf("flow %d: %w", d.ID, err)
		}
	}
	if len(o.filters) > 0 {
		v, err := generic(fmt.Appendf(nil, "[%s]", text))
		if err != nil {
			return fmt.Errorf("flow %d: %w", d.ID, err)
		}
		outs, err := applyFilters(context.Background(), o.filters, v)
		if err != nil {
			return err
		}
		return writeValues(w, outs)
	}
	return writeJSON(w, text)
}

// withCalls adds call, that is the last of several, and then calls.
func withCalls(text []byte, d *flow.Detail, calls []*llm.Call) ([]byte, error) {
	var all []*jsonCall
	for _, c := range calls {
		all = append(all, toJSONCall(&d.Exchange, c))
	}
	members := []any{"call", all[len(all)-1]}
	if len(all) > 1 {
		members = append(members, "calls", all)
	}
	return withMembers(text, members...)
}

// showPart prints what --prompt or --answer ask for.
func (o *showOptions) showPart(w *terminal, stderr io.Writer, r *store.Reader, d *flow.Detail) error {
	calls := llm.Read(d)
	if len(calls) == 0 {
		return exitError{1, fmt.Errorf("flow %d is no call to a language model: see 'trace flows list --llm'", d.ID)}
	}
	chosen, err := chooseCall(calls, o.call, d.ID)
	if err != nil {
		return err
	}
	c := calls[chosen]
	if o.prompt {
		m := findPrompt(r, d, calls)
		if m == nil {
			return exitError{1, fmt.Errorf("flow %d has no prompt of a user: see 'trace flows show %[1]d'", d.ID)}
		}
		return writeText(w, promptText(m)+"\n")
	}
	text := answerText(c)
	if text == "" {
		switch {
		case c.Error != nil:
			return exitError{1, fmt.Errorf("flow %d has no answer: %s", d.ID, printable(errorLine(c.Error)))}
		case len(c.Answer) == 0:
			return exitError{1, fmt.Errorf("flow %d has no answer%s", d.ID, map[bool]string{true: " yet"}[!ended(&d.Exchange)])}
		}
		fmt.Fprintf(stderr, "trace: the answer of flow %d has no text%s\n", d.ID, callsOf(c))
		return nil
	}
	if w.tty && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if err := writeText(w, text); err != nil {
		return err
	}
	if c.Partial && ended(&d.Exchange) {
		fmt.Fprintf(stderr, "trace: this answer is cut off\n")
	}
	return nil
}

func writeText(w *terminal, text string) error {
	_, err := io.WriteString(w, w.text(text))
	return err
}

// answerText is the text of the answer as it was put together from its stream:
// of several answers that were asked for, the first.
func answerText(c *llm.Call) string {
	var b strings.Builder
	if len(c.Answer) > 0 {
		for i := range c.Answer[0].Blocks {
			if k := c.Answer[0].Blocks[i].Kind; k == llm.Text || k == llm.Refusal {
				b.WriteString(c.Answer[0].Blocks[i].Text)
			}
		}
	}
	return b.String()
}

// callsOf names the tools that an answer calls, for a sentence.
func callsOf(c *llm.Call) string {
	var names []string
	for _, m := range c.Answer {
		for i := range m.Blocks {
			if m.Blocks[i].Kind == llm.ToolCall {
				names = append(names, printable(m.Blocks[i].Name))
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	return ": it calls " + strings.Join(names, ", ")
}

// showForReading prints a call as a conversation, anything else as an exchange.
func (o *showOptions) showForReading(w *terminal, r *store.Reader, d *flow.Detail) error {
	if o.call == 0 && (o.http || !recognised(&d.Exchange)) {
		return writeDetail(w, d)
	}
	calls := llm.Read(d)
	if _, err := chooseCall(calls, o.call, d.ID); err != nil {
		return err
	}
	if len(calls) == 0 {
		return writeDetail(w, d)
	}
	v := &callView{detail: d, calls: calls, only: o.call, full: o.full, thread: findThread(r, &d.Exchange, calls)}
	v.before = findEarlier(r, &d.Exchange, v.thread)
	return v.write(w)
}

var errExclusive = errors.New("--json, --request-body, --response-body, --raw, --prompt, --answer and --http exclude each other")
