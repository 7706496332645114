package main

import (
	"context"
	"errors"
	"strings"

	"trace/flow"
	"trace/llm"
	"trace/store"
)

// smallRequest is the size up to which the request of a call is read with its
// answer. Of larger ones a stand-in tells that it is a call: the answer does not
// depend on them, and conversations are sent whole with every turn.
const smallRequest = 64 << 10

// standIn is a request in which each API finds what it needs to be one of its
// own.
const standIn = `{"model":"-","max_tokens":1,"stream":true,"messages":[{"role":"user","content":"-"}],"input":"-","prompt":"-",` +
	`"contents":[{"role":"user","parts":[{"text":"-"}]}],"request":{"contents":[{"role":"user","parts":[{"text":"-"}]}]},"project":"-"}`

// searchAnswers calls in with the answers of the calls among xs, as they read
// when their pieces are put together, in the order of xs.
func (o *searchOptions) searchAnswers(ctx context.Context, r *store.Reader, xs []*flow.Exchange, in func(id int64, text string)) error {
	answers := make([][]*llm.Call, len(xs))
	errs := make([]error, len(xs))
	var calls []int
	for i, x := range xs {
		if isCall(x) && x.Response != nil && (o.largest == 0 || sizeOf(x) <= o.largest) {
			calls = append(calls, i)
		}
	}
	inParallel(calls, func(i int) {
		if errs[i] = ctx.Err(); errs[i] == nil {
			answers[i], errs[i] = answersOf(r, xs[i])
		}
	})
	for i, x := range xs {
		if errs[i] != nil && !errors.Is(errs[i], store.ErrNoFlow) { // deleted meanwhile
			return errs[i]
		}
		for _, c := range answers[i] {
			for _, m := range c.Answer {
				in(x.ID, blocksText(m.Blocks))
			}
		}
	}
	return nil
}

// answersOf reads the answers of a call.
func answersOf(r *store.Reader, x *flow.Exchange) ([]*llm.Call, error) {
	d := &flow.Detail{Exchange: *x}
	var err error
	if d.ResponseBody, err = r.Body(x.ID, flow.Server); err != nil {
		return nil, err
	}
	if d.Events, err = r.Events(x.ID); err != nil {
		return nil, err
	}
	if d.Messages, err = r.Messages(x.ID); err != nil {
		return nil, err
	}
	if b := x.Request.Body; b == nil || b.Size > smallRequest {
		d.RequestBody = []byte(standIn)
		if calls := llm.Read(d); calls != nil {
			return calls, nil
		}
	}
	if d.RequestBody, err = r.Body(x.ID, flow.Client); err != nil {
		return nil, err
	}
	return llm.Read(d), nil
}

// blocksText joins the texts of blocks, and what tools are called with.
func blocksText(blocks []llm.Block) string {
	var b strings.Builder
	for i := range blocks {
		k := &blocks[i]
		for _, s := range []string{k.Name, k.Text, string(k.Input), blocksText(k.Content)} {
			if s == "" {
				continue
			}
			if b.Len() > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(s)
		}
	}
	return b.String()
}
