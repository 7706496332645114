package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"trace/flow"
	"trace/store"
	"trace/web"
)

// webSource finds the sessions that the page shows: those of the state directory,
// and one that is shown first, wherever it lies.
type webSource struct {
	id     string                        // of what is shown first; "": the newest, whichever that is
	open   func() (*store.Reader, error) // that one
	prices *priceList                    // of tokens; nil: none are known
	resend replayOptions                 // how requests are sent again
	// redacted: what a session holds in secrets is not shown.
	redacted bool
}

// First names the session that is shown first.
func (s *webSource) First() (string, error) {
	if s.id != "" {
		return s.id, nil
	}
	dir, err := sessionsDir()
	if err != nil {
		return "", err
	}
	path, err := store.Find(dir, "")
	if err != nil {
		return "", notFound(whatToDo(err, dir, ""))
	}
	return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), nil
}

// Sessions lists what is recorded, newest first.
func (s *webSource) Sessions() ([]flow.Session, error) { return s.Newest(0) }

// Newest lists the n newest of what is recorded, newest first; all for 0.
func (s *webSource) Newest(n int) ([]flow.Session, error) {
	dir, err := store.Dir()
	if err != nil {
		return nil, err
	}
	list, err := store.Newest(dir, n)
	list = slices.DeleteFunc(list, func(s flow.Session) bool { return s.PID == 0 && s.Name == "" }) // unreadable
	slices.Reverse(list)
	return list, err
}

// Open opens a session by its ID.
func (s *webSource) Open(id string) (web.Record, error) {
	var r *store.Reader
	var err error
	if id == s.id {
		r, err = s.open()
	} else {
		var dir string
		if dir, err = store.Dir(); err == nil {
			r, err = store.Open(store.Path(dir, flow.Session{ID: id}))
		}
	}
	if err != nil {
		return nil, notFound(err)
	}
	if s.redacted {
		if err := redactReader(r); err != nil {
			closing(r)
			return nil, err
		}
	}
	return &webRecord{Reader: r, source: s, prices: s.prices}, nil
}

// notFound makes an answer of the error of a lookup.
func notFound(err error) error {
	return &web.Problem{Status: http.StatusNotFound, Message: err.Error(), Hint: "'trace sessions list' shows what is recorded"}
}

// A webRecord is a session as the page reads it.
type webRecord struct {
	*store.Reader
	source *webSource
	prices *priceList // nil: no costs
	calls  webCalls
}

// Flow returns a flow with its heads.
func (r *webRecord) Flow(id int64) (*flow.Exchange, error) {
	x, err := r.Reader.Flow(id)
	if errors.Is(err, store.ErrNoFlow) {
		return nil, noSuchFlow(id)
	}
	return x, err
}

func noSuchFlow(id int64) error {
	return &web.Problem{Status: http.StatusNotFound, Message: fmt.Sprintf("flow %d: there is none in this session", id)}
}

// Changed returns flows that are new or have changed.
func (r *webRecord) Changed(after int64, n int) (list []web.Revised, last int64, more bool, err error) {
	xs, last, more, err := r.Reader.Changed(after, n)
	list = make([]web.Revised, len(xs))
	for i, x := range xs {
		list[i] = web.Revised{Exchange: x.Exchange, Rev: x.Rev}
	}
	return list, last, more, err
}

// webSteps are the steps that the page hears of.
var webSteps = map[store.Step]web.Step{store.Opened: web.Opened, store.RequestDone: web.RequestDone, store.Responded: web.Responded,
	store.Streamed: web.Streamed, store.Noted: web.Noted, store.Done: web.Done}

// Follow tells what happens from now on.
func (r *webRecord) Follow(ctx context.Context, began func(rev int64), fn func(web.Change) error) error {
	return r.FollowNow(ctx, began, func(c store.Change) error {
		return fn(web.Change{Step: webSteps[c.Step], Flow: c.Flow, Piece: c.Piece, Rev: c.Rev})
	})
}

// readTime is how long calls are read of which no summary is kept, when a list is
// asked for.
const readTime = time.Second

// Calls finds out what rows tell of calls to language models. Of those that have
// ended and have no summary, from an older trace or a run that was killed, it reads
// as many as it can in a while, the newest first; with now all
// that are not too long.
func (r *webRecord) Calls(xs []*flow.Exchange, now bool) map[int64]web.Call {
	var own []*flow.Exchange // flows are shared, what is found out is ours
	for _, x := range xs {
		if recognised(x) {
			y := *x
			own = append(own, &y)
		}
	}
	if len(own) == 0 {
		return nil
	}
	missing := r.attachKnown(attachStored(r.Reader, own))
	if len(missing) > 0 && !now && r.fresh() {
		missing = nil // they are being read by the run itself
	}
	slices.Reverse(missing)
	until := time.Now().Add(readTime)
	inParallel(missing, func(x *flow.Exchange) {
		if sizeOf(x) <= summariseBytes && (now || ended(x) && time.Now().Before(until)) {
			attachRead(r.Reader, x)
		}
	})
	r.calls.mu.Lock()
	defer r.calls.mu.Unlock()
	for _, x := range missing {
		if s := callOf(x); s != nil && ended(x) {
			r.calls.read(x.ID, s)
		}
	}
	calls := make(map[int64]web.Call, len(own))
	for _, x := range own {
		call := web.Call{}
		if s := callOf(x); s != nil {
			call.Model = cmp.Or(s.Model, s.Served)
			if u := s.Usage; u != nil {
				call.Tokens = &web.Tokens{Input: u.Input, CacheRead: u.CacheRead, CacheWrite: u.CacheWrite, Output: u.Output, Reasoning: u.Reasoning}
			}
		}
		calls[x.ID] = call
	}
	return calls
}

// fresh reports whether the session is being written: its calls get summaries.
func (r *webRecord) fresh() bool {
	s, err := r.Run()
	return err == nil && s.State == "running"
}

// attachKnown attaches what was read before, and returns those of which nothing
// was.
func (r *webRecord) attachKnown(xs []*flow.Exchange) (missing []*flow.Exchange) {
	r.calls.mu.Lock()
	defer r.calls.mu.Unlock()
	for _, x := range xs {
		s := r.calls.known[x.ID]
		if s == nil {
			s = r.calls.rows[x.ID]
		}
		if s == nil {
			missing = append(missing, x)
		} else {
			x.LLM = s
		}
	}
	return missing
}
