package proxy

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"trace/flow"
)

// An alter2 alters a connection of HTTP/2. Both ends have windows and header compression
// of their own; streams that no rule is for keep their fields and their data.
type alter2 struct {
	*hop
	up, down *link
	latest   chan struct{} // closed when the latest stream has been begun, or will not be
	carried  atomic.Int64
	streams  sync.WaitGroup
}

func (h *hop) http2() {
	if _, err := io.ReadFull(h.near, make([]byte, len(preface))); err != nil {
		h.server.Close()
		h.near.Close()
		return
	}
	x := &alter2{hop: h, up: newLink(h.server, true, nil)}
	go x.up.run()
	defer x.up.close()
	connect, err := x.up.await(context.Background())
	if err != nil {
		h.near.Reset()
		return
	}
	x.down = newLinkFor(h.near, false, connect, x.opened)
	var watching sync.WaitGroup
	watching.Go(x.watch)
	x.down.run()
	x.streams.Wait()
	x.up.close()
	watching.Wait()
}

// watch tells the child when the server takes no new streams, or has ended.
func (x *alter2) watch() {
	l := x.up
	l.mu.Lock()
	for !l.away && l.err == nil {
		l.room.Wait()
	}
	l.mu.Unlock()
	d := x.down
	d.mu.Lock()
	d.ordered(func() error {
		d.mu.Lock()
		last := d.last
		d.mu.Unlock()
		return d.fr.WriteGoAway(last, http2.ErrCodeNo, nil)
	})
	d.mu.Unlock()
	<-l.ended
	x.streams.Wait() // they end with it
	d.conn.Close()
}

// opened takes a stream of the child's. The lock of its link is held.
func (x *alter2) opened(st *stream) bool {
	if x.carried.Add(1) > mostCarried {
		x.carried.Add(-1)
		return false
	}
	before, begun := x.latest, make(chan struct{})
	x.latest = begun
	x.streams.Go(func() {
		defer x.carried.Add(-1)
		x.carry(st, before, begun)
	})
	return true
}

// carry carries one stream.
func (x *alter2) carry(st *stream, before, begun chan struct{}) {
	next := inOrder(before, begun) // streams are begun in the child's order, but for those that wait
	defer next()
	first, err := st.next()
	if err != nil {
		return
	}
	q, ok := readAsked(st, first)
	q.ordinal = x.ordinalOf(st.id)
	var a *alteration
	if ok {
		fields := plainFields(first.fields)
		if p := x.plan(q.method, q.path, fields); p != nil {
			a = x.newAlteration(q.ordinal, p)
		}
	}
	if a == nil {
		x.say(q.ordinal, flow.CodeReencoded, "other streams of this connection may be altered by rules: the fields and the body of this one are as they were sent, their frames are not")
		if before != nil {
			<-before
		}
		x.cross(q, first.fields, nil, next, nil)
		return
	}
	next()
	switch {
	case !x.sleep(a.plan.Delay):
	case a.plan.Answer != nil:
		x.answer(q, a)
	default:
		x.forward(q, a, first.fields)
	}
}

func (x *alter2) ordinalOf(id uint32) int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := x.hop.streams[int64(id)]
	delete(x.hop.streams, int64(id))
	return n
}

// cross carries a stream to the server, behind those items of it that have come already.
func (x *alter2) cross(q *asked, fields []hpack.HeaderField, items []item, begun func(), a *alteration) {
	end := q.end
	for _, it := range items {
		end = end || it.end
	}
	st, err := x.up.open(fields, end && len(items) == 0)
	begun()
	if err != nil {
		q.reset(http2.ErrCodeRefusedStream) // nothing has left
		return
	}
	for _, it := range items {
		if it.fields != nil {
			err = st.headers(it.fields, it.end)
		} else {
			err = st.write(it.data, it.end)
		}
		if err != nil {
			break
		}
	}
	there, back := make(chan struct{}), make(chan struct{})
	up := &half{from: q.stream, to: st, done: there, other: back, over: end}
	down := &half{from: st, to: q.stream, done: back, other: there}
	if a != nil {
		up.saw = a.leaving
		r := &answer2{alteration: a, method: q.method}
		down.alter, down.pace = r.take, a.give
		if a.plan.Throttle == 0 {
			down.pace = nil
		}
	}
	var both sync.WaitGroup
	both.Go(up.carry)
	down.carry()
	both.Wait()
}

// forward sends a request on as it is altered.
func (x *alter2) forward(q *asked, a *alteration, section []hpack.HeaderField) {
	fields := plainFields(section)
	edit := a.requestEdit(fields)
	edited := len(edit.Set)+len(edit.Remove)+len(edit.JSON) > 0
	sent := fields
	if edited {
		sent = edit.Fields(fields)
	}
	var items []item
	if len(edit.JSON) > 0 && !q.end {
		whole, rest, ok := x.collect(q)
		if !ok {
			return
		}
		if len(whole) > maxWhole {
			x.say(q.ordinal, flow.CodeRuleNotApplied, "%s was not applied to the body of the request: it is longer than %d bytes", a.plan, maxWhole)
		} else if changed, ok := a.request(fieldOf(fields, "content-encoding"), whole); ok {
			whole, sent = changed, framedAs(sent, len(changed), true)
		}
		items = append([]item{{data: whole, end: len(rest) == 1 && rest[0].fields == nil}}, trailersOf(rest)...)
	}
	if edited {
		x.left(q.ordinal, flow.Head{Method: q.method, Target: q.path, Authority: q.authority, Fields: sent, Version: "2", Protocol: q.protocol})
		a.upSum = newSummed()
		for _, it := range items {
			a.leaving(it)
		}
		if q.end {
			a.leaving(item{end: true})
		}
	}
	x.cross(q, slices.Concat(slices.Clone(q.pseudo), packed(sent, section)), items, func() {}, a)
}

// collect reads the body of a request, as far as a rule may see it. rest is its last item
// without data, nil if more is to come.
func (x *alter2) collect(q *asked) (whole []byte, rest []item, ok bool) {
	for len(whole) <= maxWhole {
		it, err := q.next()
		if err != nil {
			return nil, nil, false
		}
		whole = append(whole, it.data...)
		q.took(len(it.data))
		if it.end {
			return whole, []item{{fields: it.fields, end: true}}, true
		}
	}
	return whole, nil, true
}

func trailersOf(rest []item) []item {
	if len(rest) == 1 && rest[0].fields != nil {
		return rest
	}
	return nil
}

// leaving sums what leaves of an altered request.
func (x *alteration) leaving(it item) {
	if x.upSum == nil {
		return
	}
	if x.upSum.Write(it.data); it.end {
		x.ended(x.ordinal, flow.Client, x.upSum)
		x.upSum = nil
	}
}

// answer answers a stream ourselves.
func (x *alter2) answer(q *asked, a *alteration) {
	ans := a.plan.Answer
	if a.plan.CutAfter > 0 {
		a.events = newEventCutter(fieldOf(ans.Fields, "content-type"), a.plan.CutAfter)
	}
	fields := append([]hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(ans.Status)}}, packed(framedAs(ans.Fields, len(ans.Body), true), nil)...)
	bodiless := q.method == http.MethodHead || ans.Status == 204 || ans.Status == 304 || len(ans.Body) == 0
	err := q.headers(fields, bodiless)
	if err == nil && !bodiless {
		a.begin()
		body, cut := a.data(ans.Body)
		err = a.give(body, func(p []byte) error { return q.write(p, false) })
		if cut {
			x.sleep(cutGrace)
			q.reset(http2.ErrCodeInternal)
			return
		}
		if err == nil {
			err = q.write(nil, true)
		}
	}
	if err == nil { // it may have more to say before it reads
		q.drain()
	}
	q.reset(http2.ErrCodeNo)
}

// packed returns fields as HTTP/2 has them. Those that like has as sensitive stay so.
func packed(fields []flow.Field, like []hpack.HeaderField) (all []hpack.HeaderField) {
	for _, f := range fields {
		name := strings.ToLower(f.Name)
		if strings.HasPrefix(name, ":") || slices.Contains(ofConnection, name) {
			continue
		}
		sensitive := slices.ContainsFunc(like, func(l hpack.HeaderField) bool { return l.Name == name && l.Sensitive })
		all = append(all, hpack.HeaderField{Name: name, Value: f.Value, Sensitive: sensitive})
	}
	return all
}

// ofConnection are the fields that HTTP/2 has no place for (RFC 9113 section 8.2.2).
var ofConnection = []string{"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}

// An answer2 alters one answer of HTTP/2.
type answer2 struct {
	*alteration
	method  string
	in      bool // the head came
	section []hpack.HeaderField
	fields  []flow.Field
}

// take takes what came of the answer.
func (r *answer2) take(it item) ([]item, error) {
	switch {
	case it.fields != nil && !r.in:
		return r.begin(it), nil
	case it.fields != nil: // trailers
		out := r.flush(false)
		r.over()
		return append(out, it), nil
	}
	held := r.hold
	data, cut := r.data(it.data)
	var out []item
	if held && !r.hold { // it was too long
		out = append(out, r.headers(r.fields, false))
	}
	if len(data) > 0 && (!it.end || cut) {
		out = append(out, item{data: data})
	}
	if cut {
		return out, errCut
	}
	if it.end {
		r.over()
		if r.hold {
			return append(out, r.flush(true)...), nil
		}
		out = append(out, item{data: data, end: true})
	}
	return out, nil
}

// begin takes a head.
func (r *answer2) begin(it item) []item {
	status := 0
	for _, f := range it.fields {
		if f.Name == ":status" {
			status, _ = strconv.Atoi(f.Value)
		}
	}
	if status >= 100 && status < 200 {
		return []item{it}
	}
	r.in, r.section = true, it.fields
	r.fields = r.head(status, "2", plainFields(it.fields), !it.end)
	if r.hold {
		return nil
	}
	if it.end {
		r.over()
	}
	return []item{r.headers(r.fields, it.end)}
}

func (r *answer2) headers(fields []flow.Field, end bool) item {
	var section []hpack.HeaderField
	for _, f := range r.section {
		if f.IsPseudo() {
			section = append(section, f)
		}
	}
	return item{fields: append(section, packed(fields, r.section)...), end: end}
}

// flush gives an answer that was held.
func (r *answer2) flush(end bool) []item {
	if !r.hold {
		return nil
	}
	body, plain := r.whole()
	r.hold = false
	r.alteration.begin()
	return []item{r.headers(framedAs(r.fields, len(body), plain), false), {data: body, end: end}}
}
