package main

import (
	"crypto/rand"
	"errors"
	"time"

	"trace/flow"
	"trace/llm"
	"trace/mitm"
	"trace/redact"
	"trace/store"
	"trace/wire"
)

// A recording is one session that is being written: its file, what makes events
// for it out of bytes, and what follows it.
type recording struct {
	*store.Store
	limit   bodyLimit
	secrets bool         // are kept
	calls   *summariser  // nil: nobody will read summaries
	jsonl   *jsonlWriter // nil: not asked for
	told    *telling     // by OTLP; nil: not asked for
	spent   *spending    // nil: there is no budget
}

// recordingOptions say where and how a session is recorded.
type recordingOptions struct {
	session flow.Session // who and what; record adds the rest
	file    string       // where to write it; "": in dir
	dir     string       // of sessions; "" without file: a file without a name
	jsonl   string       // the live event log, too; "": none
	limit   bodyLimit
	log     func(format string, args ...any)
	secret  string    // of ours, to be redacted wherever it occurs
	budget  *budget   // of calls; nil: none
	otlp    *otlpSink // which the session is told to; nil: none
}

// record begins a session.
func record(o recordingOptions) (*recording, error) {
	s := o.session
	s.Version = programVersion()
	if s.Started.IsZero() {
		s.Started = time.Now()
	}
	if s.ID == "" {
		s.ID = store.NewID(s.Started)
	}
	opt := store.Options{Log: o.log}
	if !s.Secrets {
		var key [32]byte
		rand.Read(key[:]) // never fails
		opt.Redact = redact.New(key)
		if o.secret != "" {
			opt.Redact.Know(o.secret, "token")
		}
	}
	r := &recording{limit: o.limit, secrets: s.Secrets, spent: o.budget.begin()}
	var err error
	switch {
	case o.file != "":
		r.Store, err = store.Create(o.file, s, opt)
	case o.dir != "":
		r.Store, err = store.Create(store.Path(o.dir, s), s, opt)
	default:
		r.Store, err = store.CreateUnlinked("", s, opt)
	}
	if err != nil {
		return nil, err
	}
	if o.file != "" || o.dir != "" || r.spent != nil {
		r.calls = newSummariser(r.Store, o.log)
		r.calls.spent = r.spent
	}
	if o.jsonl != "" {
		if r.jsonl, err = newJSONLWriter(o.jsonl, r.Store); err != nil {
			r.Finish(exitTrace, time.Now())
			return nil, err
		}
	}
	r.told = o.otlp.follow(r.Store)
	return r, nil
}

// end finishes the session with the exit code of its command.
func (r *recording) end(code int) (flow.Session, error) {
	if r.calls != nil {
		r.calls.close()
	}
	s, err := r.Finish(code, time.Now())
	if r.jsonl != nil {
		err = errors.Join(err, r.jsonl.close())
	}
	r.told.finished()
	return s, err
}

// tapInto decodes what passes on a connection into emit.
func (r *recording) tapInto(c *flow.Conn, emit func(flow.Event)) mitm.Tap {
	return &wire.Decoder{Conn: c, Emit: emit, Limit: r.limit.of, Secrets: r.secrets}
}

// emit records what a decoder tells.
func (r *recording) emit(e flow.Event) {
	if e.Kind == flow.Request && r.calls != nil && callHead(e.Head) {
		r.calls.saw()
	}
	r.Append(e)
}

// A bodyLimit is how many bytes of a body are kept; negative: all.
type bodyLimit int64

// of says how much of a body is kept. Streams of events, and what belongs to
// a call to a language model, are kept whole.
func (l bodyLimit) of(side flow.Side, req, resp *flow.Head) int64 {
	if callHead(req) {
		return -1
	}
	h := req
	if side == flow.Server {
		h = resp
	}
	if h != nil && h.Streaming && h.Framing != flow.FramingMultipart { // parts may be anything: pictures of a camera
		return -1
	}
	return int64(l)
}

// callHead reports whether the head of a request begins a call to a language
// model. Only a POST or a websocket can.
func callHead(h *flow.Head) bool {
	if h == nil || h.Method != "POST" && h.Protocol != "websocket" && h.Get("Upgrade") == "" {
		return false
	}
	_, api := llm.Recognize(h)
	return api != ""
}
