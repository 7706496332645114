package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"trace/flow"
)

// An alter1 alters a connection of HTTP/1. Its goroutine reads requests, one at a time:
// the next is begun when the answer to the one before is over.
type alter1 struct {
	*hop
	buf     []byte // read from the child and not passed on
	space   []byte // for buf
	n       int64  // of requests
	ordinal int64  // of the latest

	mu     sync.Mutex // guards what follows
	turn   sync.Cond
	follow answers   // what the server sends
	alt    *answerer // alters the answer; nil: it is passed on
	local  bool      // we answer
	tunnel bool
	over   bool // the server has ended
}

// errTold ends a connection that was ended towards the child already.
var errTold = errors.New("the connection is over")

func (h *hop) http1() {
	x := &alter1{hop: h}
	x.turn.L = &x.mu
	var answering sync.WaitGroup
	answering.Go(x.answers)
	x.finish(x.requests())
	answering.Wait()
}

// finish passes on how the child's side ended.
func (x *alter1) finish(err error) {
	switch {
	case errors.Is(err, io.EOF):
		if w, ok := x.server.(interface{ CloseWrite() error }); ok {
			w.CloseWrite()
			return
		}
		x.server.Close()
	default:
		x.server.Close()
	}
}

// fill reads more from the child.
func (x *alter1) fill() error {
	if len(x.buf) == 0 {
		if x.space == nil {
			x.space = make([]byte, readSize)
		}
		x.buf = x.space[:0] // what was there has been passed on
	}
	x.buf = slices.Grow(x.buf, 4<<10)
	n, err := x.near.Read(x.buf[len(x.buf):cap(x.buf)])
	x.buf = x.buf[:len(x.buf)+n]
	if n > 0 {
		return nil
	}
	return err
}

// requests carries requests until the child has no more to say.
func (x *alter1) requests() error {
	var seek headSeeker
	for {
		n := seek.end(x.buf)
		if n == 0 && len(x.buf) <= maxHead {
			if err := x.fill(); err != nil {
				x.server.Write(x.buf)
				return err
			}
			continue
		}
		if n == 0 || x.tunnelled() {
			return x.pass()
		}
		head := bytes.Clone(x.buf[:n])
		r, err := parseRequest(head)
		if err != nil || r.method == http.MethodConnect {
			return x.pass()
		}
		x.buf = x.buf[n:]
		seek = headSeeker{}
		x.n++
		if x.ordinal = x.n; x.hop.ordinal != nil {
			x.ordinal = x.hop.ordinal(x.n)
		}
		if err := x.exchange(head, &r); err != nil {
			return err
		}
		if x.await(); x.tunnelled() {
			return x.pass()
		}
	}
}

func (x *alter1) tunnelled() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.tunnel
}

// await waits until the answer is over.
func (x *alter1) await() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.follow.busy && !x.over && !x.tunnel {
		x.turn.Wait()
	}
}

// pass carries what cannot be followed.
func (x *alter1) pass() error {
	x.mu.Lock()
	x.tunnel = true
	x.mu.Unlock()
	if _, err := x.server.Write(x.buf); err != nil {
		return err
	}
	if _, err := io.Copy(x.server, x.near); err != nil {
		return err
	}
	return io.EOF
}

// expect says that the server is asked, and what becomes of its answer.
func (x *alter1) expect(method string, alt *answerer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.follow.expect(method)
	x.alt = alt
}

// exchange carries one request.
func (x *alter1) exchange(head []byte, r *request) error {
	fields := headFields(head[r.lineEnd:])
	target := r.target
	if i := strings.Index(target, "://"); i > 0 { // as to a proxy
		target = target[i+3:]
		target = target[max(strings.IndexByte(target, '/'), 0):]
	}
	p := x.plan(r.method, target, fields)
	if p == nil {
		return x.unaltered(head, r, fields)
	}
	a := x.newAlteration(x.ordinal, p)
	if !x.delay(a) {
		return errTold
	}
	if p.Answer != nil {
		return x.answer(a, head, r, fields)
	}
	return x.forward(a, head, r, fields)
}

// unaltered passes a request on that no rule is for.
func (x *alter1) unaltered(head []byte, r *request, fields []flow.Field) error {
	x.expect(r.method, nil)
	all := x.hop.ordinal != nil
	var sum *summed
	if all {
		x.left(x.ordinal, flow.Head{Method: r.method, Target: r.target, Fields: fields, Version: "1.1"})
		sum = newSummed()
	}
	return x.send(head, &r.body, sum)
}

// delay holds an exchange up.
func (x *alter1) delay(a *alteration) bool {
	x.setLocal(true) // a server that ends meanwhile would end an answer of ours
	defer x.setLocal(false)
	return x.sleep(a.plan.Delay)
}

func (x *alter1) setLocal(is bool) {
	x.mu.Lock()
	x.local = is
	x.turn.Broadcast()
	x.mu.Unlock()
}

// send sends the beginning of a request, and passes the rest of its body on. Where there is
// a sum, the body as it leaves is recorded, before its end could be answered.
func (x *alter1) send(p []byte, b *body, sum *summed) error {
	b.got = nil
	if sum != nil {
		b.got = func(p []byte) { sum.Write(p) }
	}
	for {
		if b.over() && sum != nil {
			x.ended(x.ordinal, flow.Client, sum)
		}
		if _, err := x.server.Write(p); err != nil {
			return err
		}
		if b.over() {
			return nil
		}
		if len(x.buf) == 0 {
			if err := x.fill(); err != nil {
				return err
			}
		}
		n, err := b.take(x.buf)
		if err != nil {
			return x.pass()
		}
		p, x.buf = x.buf[:n], x.buf[n:]
	}
}

// forward sends a request on as it is altered.
func (x *alter1) forward(a *alteration, head []byte, r *request, fields []flow.Field) error {
	edit := a.requestEdit(fields)
	edited := len(edit.Set)+len(edit.Remove)+len(edit.JSON) > 0 || x.hop.ordinal != nil
	out, sum := head, newSummed()
	sent := fields
	if len(edit.Set)+len(edit.Remove) > 0 {
		sent = edit.Fields(fields)
		out = writeHead(head[r.lead:r.lineEnd], sent)
	}
	var raw []byte
	if len(edit.JSON) > 0 && !r.body.over() {
		whole, rest, err := x.collect(&r.body, fields)
		if err != nil {
			return err
		}
		raw = rest
		sent = dropExpect(sent)
		if len(whole) > maxWhole {
			x.say(x.ordinal, flow.CodeRuleNotApplied, "%s was not applied to the body of the request: it is longer than %d bytes", a.plan, maxWhole)
		} else if changed, ok := a.request(fieldOf(fields, "content-encoding"), whole); ok {
			raw, sent = changed, framedAs(sent, len(changed), true)
			whole = changed
		}
		sum.Write(whole)
		out = writeHead(head[r.lead:r.lineEnd], sent)
	}
	x.expect(r.method, x.answererFor(a, r.method))
	if edited {
		x.left(x.ordinal, flow.Head{Method: r.method, Target: r.target, Fields: sent, Version: "1.1"})
	}
	if !edited {
		sum = nil
	}
	return x.send(append(out, raw...), &r.body, sum)
}

// collect reads a request's body, as far as a rule may see it: its data, and the bytes that
// frame them too.
func (x *alter1) collect(b *body, fields []flow.Field) (whole, raw []byte, err error) {
	if strings.EqualFold(fieldOf(fields, "expect"), "100-continue") && len(x.buf) == 0 {
		if _, err := io.WriteString(x.near, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return nil, nil, err
		}
	}
	b.got = func(p []byte) { whole = append(whole, p...) }
	for !b.over() && len(whole) <= maxWhole {
		if len(x.buf) == 0 {
			if err := x.fill(); err != nil {
				x.server.Write(raw)
				return nil, nil, err
			}
		}
		n, err := b.take(x.buf)
		raw = append(raw, x.buf[:n]...)
		if x.buf = x.buf[n:]; err != nil {
			return nil, nil, err
		}
	}
	return whole, raw, nil
}

func dropExpect(fields []flow.Field) []flow.Field {
	return slices.DeleteFunc(slices.Clone(fields), func(f flow.Field) bool { return strings.EqualFold(f.Name, "expect") })
}

// answer answers a request ourselves.
func (x *alter1) answer(a *alteration, head []byte, r *request, fields []flow.Field) error {
	x.setLocal(true)
	defer x.setLocal(false)
	last := strings.EqualFold(fieldOf(fields, "connection"), "close") || bytes.Contains(head[:r.lineEnd], []byte("HTTP/1.0"))
	if strings.EqualFold(fieldOf(fields, "expect"), "100-continue") && len(x.buf) == 0 && !r.body.over() {
		last = true // whether the body comes is not known
	} else if err := x.discard(&r.body); err != nil {
		return err
	}
	ans := a.plan.Answer
	if a.plan.CutAfter > 0 {
		a.events = newEventCutter(fieldOf(ans.Fields, "content-type"), a.plan.CutAfter)
	}
	out := framedAs(ans.Fields, len(ans.Body), true)
	if last {
		out = append(out, flow.Field{Name: "connection", Value: "close"})
	}
	if _, err := x.near.Write(writeHead(fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n", ans.Status, http.StatusText(ans.Status)), out)); err != nil {
		return err
	}
	cut := false
	if r.method != http.MethodHead && ans.Status != 204 && ans.Status != 304 {
		body := ans.Body
		a.begin()
		body, cut = a.data(body)
		if err := a.give(body, x.toChild); err != nil {
			return err
		}
	}
	if last || cut {
		x.near.CloseWrite()
		io.Copy(io.Discard, x.near) // until the child has left
		return errTold
	}
	return nil
}

// discard reads a body that nobody is sent.
func (x *alter1) discard(b *body) error {
	for !b.over() {
		if len(x.buf) == 0 {
			if err := x.fill(); err != nil {
				return err
			}
		}
		n, err := b.take(x.buf)
		if x.buf = x.buf[n:]; err != nil {
			return err
		}
	}
	return nil
}

func (x *alter1) toChild(p []byte) error {
	_, err := x.near.Write(p)
	return err
}

// answererFor returns what alters the answer, nil if nothing does.
func (x *alter1) answererFor(a *alteration, method string) *answerer {
	p := a.plan
	if len(p.Response.Set)+len(p.Response.Remove)+len(p.Response.JSON) == 0 && p.Throttle == 0 && p.CutAfter == 0 {
		return nil
	}
	return &answerer{alteration: a, x: x, framing: answers{method: method}}
}
