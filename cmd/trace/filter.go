package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"trace/flow"
	"trace/store"
)

// A selection is the flags that say which flows a command is about. Every
// command that reads several flows takes the same ones:
//
//	var sel selection
//	sel.register(cmd.Flags())              // sel.register(f, "limit", "all") leaves those out
//	…
//	c, err := sel.choose(ctx, stderr)      // flags checked, sessions read, --jq applied
//	err = c.each(func(r *store.Reader, xs []*flow.Exchange) error { … })
//	return c.end(err)                      // exit 1 if a session could not be read
//
// A command that prints the array of flows itself, perhaps with something added
// to each, calls sel.read in place of sel.choose and gives its JSON to
// sel.print, which passes it through the --jq filters. One that follows flows
// as they come asks sel.fits, after sel.begin.
type selection struct {
	session  string
	all      bool
	query    store.Query
	llm      bool
	from, to string
	jq       []string

	// bare leaves out what is found out about calls to language models, which
	// may have to be read for it: for commands that do not show it.
	bare bool

	span    span
	filters []filter
}

// register declares the flags on f, but those named in without.
func (s *selection) register(f *pflag.FlagSet, without ...string) {
	add := func(name string, declare func()) {
		if !slices.Contains(without, name) {
			declare()
		}
	}
	add("session", func() { f.StringVar(&s.session, "session", "", "read the session with this `ID, NAME or FILE`") })
	add("all", func() { f.BoolVar(&s.all, "all", false, "read all sessions") })
	add("host", func() { f.StringVar(&s.query.Host, "host", "", "only flows to hosts that match `GLOB`") })
	add("method", func() { f.StringVar(&s.query.Method, "method", "", "only requests with this `METHOD`") })
	add("status", func() {
		f.StringVar(&s.query.Status, "status", "", "only answers with this `STATUS`, such as 404 or 4xx")
	})
	add("kind", func() {
		f.StringVar(&s.query.Kind, "kind", "", "only flows of this `KIND`: http, websocket, tcp, udp or dns")
	})
	add("llm", func() { f.BoolVar(&s.llm, "llm", false, "only calls to language models") })
	add("from", func() { f.StringVar(&s.from, "from", "", "only flows that started at `TIME` or later") })
	add("to", func() { f.StringVar(&s.to, "to", "", "only flows that started before `TIME`") })
	add("limit", func() { f.IntVar(&s.query.Limit, "limit", 0, "only the newest `N`") })
	add("jq", func() {
		f.StringArrayVar(&s.jq, "jq", nil, "pass the JSON array of flows through this `FILTER`; repeatable")
	})
}

var statusPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[1-5](\d\d|[xX]{2})$`)
})

// check reads the flags and reports the first that makes no sense, as a
// usageError.
func (s *selection) check(now time.Time) error {
	q := &s.query
	q.Method, q.Status = strings.ToUpper(q.Method), strings.ToLower(q.Status)
	usage := func(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }
	if q.Status != "" && !statusPattern().MatchString(q.Status) {
		return usage("--status %q: want a status such as 404 or 4xx", q.Status)
	}
	kinds := []string{flow.KindHTTP, flow.KindWebSocket, flow.KindTCP, flow.KindUDP, flow.KindDNS}
	if q.Kind != "" && !slices.Contains(kinds, q.Kind) {
		return usage("--kind %q: want %s", q.Kind, strings.Join(kinds, ", "))
	}
	if q.Limit < 0 {
		return usage("--limit %d: want a number of flows", q.Limit)
	}
	if s.all && s.session != "" {
		return usageError{errors.New("--all and --session exclude each other")}
	}
	s.span = span{parseMoment(s.from, now), parseMoment(s.to, now)}
	var err error
	s.filters, err = parseFilters(s.jq)
	return err
}

// unfiltered reports whether no flow is left out but by --limit.
func (s *selection) unfiltered() bool {
	q := s.query
	q.Heads, q.Limit = false, 0
	return q == (store.Query{}) && !s.llm && s.from == "" && s.to == "" && len(s.jq) == 0
}

// nothing says why there is nothing to show.
func (s *selection) nothing() string {
	if !s.unfiltered() {
		return "trace: no flow fits these filters"
	}
	return "trace: no flows recorded (yet)"
}

// A choice is what a selection comes to.
type choice struct {
	flows   []*flow.Exchange // oldest first by their start, with heads
	marks   []sessionMark    // between --from and --to, in the order of their times
	limited bool             // --limit may have left flows out
	files   map[string]string
	broken  bool // a session could not be read, which was said
}

// choose returns the flows that the flags select and, if there are --jq
// filters, that the last of them puts out.
func (s *selection) choose(ctx context.Context, stderr io.Writer) (*choice, error) {
	c, err := s.read(stderr)
	if err != nil || len(s.filters) == 0 {
		return c, err
	}
	text, err := flowsJSON(c.flows)
	if err != nil {
		return nil, err
	}
	outs, err := s.filter(ctx, text)
	if err != nil {
		return nil, err
	}
	c.flows, err = pick(c.flows, outs)
	return c, err
}

// read checks the flags and returns the flows that they select, without --jq.
func (s *selection) read(stderr io.Writer) (*choice, error) {
	now := time.Now()
	if err := s.check(now); err != nil {
		return nil, err
	}
	c := &choice{files: map[string]string{}, limited: s.query.Limit > 0}
	if !s.all {
		r, err := openSession(s.session)
		if err != nil {
			return nil, err
		}
		defer closing(r)
		return c, s.readFrom(r, now, c)
	}
	dir, err := sessionsDir()
	if err != nil {
		return nil, err
	}
	sessions, err := store.List(dir)
	if err != nil {
		return nil, err
	}
	unknown := 0 // sessions that do not have the mark that was asked for
	for _, session := range sessions {
		err := s.readFile(session.File, now, c)
		var missing noMarkError
		switch {
		case errors.As(err, &missing):
			if unknown++; unknown == len(sessions) {
				return nil, usageError{fmt.Errorf("%s: neither a time nor a mark of any session", missing.flag())}
			}
		case err != nil:
			fmt.Fprintf(stderr, "trace: %v\n", err)
			c.broken = true
		}
	}
	slices.SortStableFunc(c.flows, func(a, b *flow.Exchange) int { return a.Started.Compare(b.Started) })
	slices.SortStableFunc(c.marks, func(a, b sessionMark) int { return a.At.Compare(b.At) })
	c.flows = newest(c.flows, s.query.Limit)
	return c, nil
}

func (s *selection) readFile(file string, now time.Time, c *choice) error {
	r, err := store.Open(file)
	if err != nil {
		return err
	}
	defer closing(r)
	return s.readFrom(r, now, c)
}

// readFrom adds what the session of r has.
func (s *selection) readFrom(r *store.Reader, now time.Time, c *choice) error {
	session, err := r.Run()
	if err != nil {
		return err
	}
	q := s.query
	q.Heads = true
	if q.From, q.To, err = s.span.in(r, session, now); err != nil {
		return err
	}
	var xs []*flow.Exchange
	if s.llm {
		xs, err = r.Pick(q, isCall)
	} else {
		xs, err = r.Flows(q)
	}
	if !s.bare {
		attachCalls(r, xs)
	}
	c.flows = append(c.flows, xs...)
	c.files[session.ID] = session.File
	marks, e := r.Marks()
	for _, m := range marks {
		if !m.At.Before(q.From) && (q.To.IsZero() || m.At.Before(q.To)) {
			c.marks = append(c.marks, sessionMark{m, session.ID})
		}
	}
	return cmp.Or(err, e)
}

func newest(xs []*flow.Exchange, n int) []*flow.Exchange {
	if n > 0 && len(xs) > n {
		return xs[len(xs)-n:]
	}
	return xs
}

// each calls fn for every session that has chosen flows, with a reader of it
// that is closed afterwards. An error of fn ends it.
func (c *choice) each(fn func(r *store.Reader, xs []*flow.Exchange) error) error {
	by := map[string][]*flow.Exchange{}
	var order []string
	for _, x := range c.flows {
		if by[x.Session] == nil {
			order = append(order, x.Session)
		}
		by[x.Session] = append(by[x.Session], x)
	}
	for _, session := range order {
		r, err := store.Open(c.files[session])
		if err != nil {
			return exitError{1, err}
		}
		err = fn(r, by[session])
		closing(r)
		if err != nil {
			return err
		}
	}
	return nil
}

// end returns how the command ends: with err, or with exit status 1 if a
// session could not be read.
func (c *choice) end(err error) error {
	if err == nil && c.broken {
		return exitError{Code: 1}
	}
	return err
}

// filter passes a JSON array through the filters.
func (s *selection) filter(ctx context.Context, text []byte) ([]any, error) {
	v, err := generic(text)
	if err != nil {
		return nil, err
	}
	if ctx == nil {
		ctx = context.Background()
	}
	return applyFilters(ctx, s.filters, v)
}

// print prints a JSON array of flows: as it is, or what the filters make of it.
func (s *selection) print(ctx context.Context, w *terminal, text []byte) error {
	if len(s.filters) > 0 {
		outs, err := s.filter(ctx, text)
		if err != nil {
			return err
		}
		return writeValues(w, outs)
	}
	if w.tty {
		return writeJSON(w, text)
	}
	_, err := w.Write(append(text, '\n'))
	return err
}

// pick returns those of xs that outs, which filters put out, name by id and
// session.
func pick(xs []*flow.Exchange, outs []any) ([]*flow.Exchange, error) {
	type name struct{ session, id string }
	by := make(map[name]*flow.Exchange, len(xs))
	several := false
	for _, x := range xs {
		by[name{x.Session, fmt.Sprint(x.ID)}] = x
		several = several || x.Session != xs[0].Session
	}
	var picked []*flow.Exchange
	taken := map[*flow.Exchange]bool{}
	array, _ := gathered(outs).([]any)
	for i, v := range array {
		m, _ := v.(map[string]any)
		id, ok := m["id"].(string)
		if !ok {
			return nil, exitError{1, fmt.Errorf("--jq: number %d of what it puts out is no flow: want objects with their id, as select() leaves them", i+1)}
		}
		session, _ := m["session"].(string)
		if session == "" && !several && len(xs) > 0 {
			session = xs[0].Session
		}
		x := by[name{session, id}]
		if x == nil {
			return nil, exitError{1, fmt.Errorf("--jq: number %d of what it puts out is none of the flows: id %s, session %s", i+1, printable(id), printable(session))}
		}
		if !taken[x] {
			taken[x] = true
			picked = append(picked, x)
		}
	}
	slices.SortStableFunc(picked, func(a, b *flow.Exchange) int { return a.Started.Compare(b.Started) })
	return picked, nil
}

// begin prepares fits for the flows of r's session.
func (s *selection) begin(r *store.Reader) error {
	now := time.Now()
	if err := s.check(now); err != nil {
		return err
	}
	session, err := r.Run()
	if err != nil {
		return err
	}
	s.query.From, s.query.To, err = s.span.in(r, session, now)
	return err
}

// fits reports whether x, as far as it has come, is one of those that are
// selected; sure tells that nothing to come will change that. --jq and --limit
// are left to the caller.
func (s *selection) fits(x *flow.Exchange) (fits, sure bool) {
	q := &s.query
	over := x.State != flow.StateOpen
	switch {
	case !q.From.IsZero() && x.Started.Before(q.From), !q.To.IsZero() && !x.Started.Before(q.To):
		return false, true
	case q.Method != "" && (x.Request == nil || x.Request.Head == nil || !strings.EqualFold(x.Request.Head.Method, q.Method)):
		return false, true
	case q.Host != "" && !globbed(q.Host, hostOf(x)):
		return false, x.Request != nil || over // a connection may still tell its name
	case s.llm && !isCall(x):
		return false, x.Request == nil || over
	case q.Kind != "" && x.Kind != q.Kind:
		return false, over // it may become a websocket
	case q.Kind == flow.KindHTTP && x.Kind == q.Kind && x.Response == nil && !over:
		return true, false
	case q.Status != "":
		if x.Response == nil || x.Response.Head == nil {
			return false, over
		}
		status := fmt.Sprint(x.Response.Head.Status)
		return status == q.Status || q.Status[1:] == "xx" && status[0] == q.Status[0], true
	}
	return true, true
}

// hostOf is the name that --host is compared with.
func hostOf(x *flow.Exchange) string {
	switch {
	case x.DNS != nil:
		return x.DNS.Name
	case x.Request != nil && x.Request.Head != nil && x.Request.Head.Host != "":
		return x.Request.Head.Host
	case x.Conn.Host != "":
		return x.Conn.Host
	}
	return addrText(x.Conn.Dst.Addr())
}

// globbed compares as the GLOB of the store does: * spans everything, case
// does not matter.
func globbed(glob, name string) bool {
	ok, err := path.Match(strings.ToLower(glob), strings.ToLower(name))
	return ok && err == nil
}
