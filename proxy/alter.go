package proxy

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"trace/flow"
	"trace/pipe"
	"trace/rules"
)

// maxWhole bounds a body that a rule must see whole.
const maxWhole = 16 << 20

// An Alter does what rules say. Where a rule may match a connection, what stands for its
// server is ours: the relay and its tap see what the child sends and gets, the server what
// is made of it, and what was changed is recorded. nil changes nothing. It is safe for
// concurrent use.
type Alter struct {
	Rules *rules.Set

	hops sync.Map // of HTTP/2, by the ID of their connection
}

// With returns an Alter that does what a has to do, and a rule behind that.
func (a *Alter) With(r *rules.Rule) *Alter {
	if a == nil {
		a = &Alter{}
	}
	return &Alter{Rules: a.Rules.With(r)}
}

// Into returns what mitm.Proxy.Alter is to be, where what is changed is recorded by record,
// which is called from several goroutines.
func (a *Alter) Into(record func(flow.Event)) func(c *flow.Conn, server net.Conn) net.Conn {
	if a == nil {
		return nil
	}
	return func(c *flow.Conn, server net.Conn) net.Conn {
		host := c.Host
		if host == "" {
			host = c.Dst.Addr().Unmap().String()
		}
		h := &hop{a: a, record: record, conn: c, host: host, port: int(c.Dst.Port()), server: server}
		if end := h.start(); end != nil {
			return end
		}
		return nil
	}
}

// start begins the hop, if any rule may match.
func (h *hop) start() net.Conn {
	if !h.a.Rules.May(h.host, h.port, h.conn.Process) {
		return nil
	}
	end, near := pipe.New()
	h.near, h.gone, h.done = near, make(chan struct{}), make(chan struct{})
	if h.conn.Protocol == "http2" {
		h.streams = map[int64]int64{}
		h.a.hops.Store(h.conn.ID, h)
	}
	go h.run()
	return &hopEnd{End: end, h: h}
}

// Watch returns what takes the events of a connection for emit, so that streams are
// known by their flows.
func (a *Alter) Watch(c *flow.Conn, emit func(flow.Event)) func(flow.Event) {
	if a == nil {
		return emit
	}
	found, ok := a.hops.Load(c.ID)
	if !ok {
		return emit
	}
	h := found.(*hop)
	return func(e flow.Event) {
		if e.Kind == flow.Request && e.Head != nil {
			h.mu.Lock()
			h.streams[e.Head.Stream] = e.Flow
			h.mu.Unlock()
		}
		emit(e)
	}
}

// A hopEnd is the relay's end of a hop.
type hopEnd struct {
	*pipe.End
	h    *hop
	once sync.Once
}

// Close ends the hop, and waits until it has ended.
func (e *hopEnd) Close() error {
	err := e.End.Close()
	e.over()
	return err
}

// Reset does what that of pipe.End does.
func (e *hopEnd) Reset() error {
	err := e.End.Reset()
	e.over()
	return err
}

func (e *hopEnd) over() {
	e.once.Do(func() { close(e.h.gone) })
	e.h.server.Close()
	<-e.h.done
}

// A hop is the altering relay of one connection.
type hop struct {
	a      *Alter
	record func(flow.Event)
	conn   *flow.Conn
	host   string
	port   int
	near   *pipe.End // towards the child
	server net.Conn
	gone   chan struct{} // closed when the relay has left
	done   chan struct{} // closed when the hop has ended
	// ordinal returns that of the exchange that was the n-th on this connection. It is set
	// where the child's connection has others too, and then all that leaves is recorded.
	ordinal func(n int64) int64

	mu      sync.Mutex
	streams map[int64]int64 // of HTTP/2: their ordinals
}

func (h *hop) run() {
	defer close(h.done)
	defer h.a.hops.Delete(h.conn.ID)
	if h.streams != nil {
		h.http2()
		return
	}
	h.http1()
}

// sleep waits, and tells whether the child is still there.
func (h *hop) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-h.gone:
		return false
	}
}

// tell records something of a flow.
func (h *hop) tell(e flow.Event) {
	if e.Flow == 0 {
		return
	}
	e.At, e.Conn = time.Now(), h.conn.ID
	h.record(e)
}

// say leaves a mark on a flow.
func (h *hop) say(ordinal int64, code, format string, args ...any) {
	h.tell(flow.Event{Kind: flow.Mark, Flow: ordinal, Error: &flow.Error{Where: flow.AtCapture, Code: code, Message: fmt.Sprintf(format, args...)}})
}

// plan decides about a request.
func (h *hop) plan(method, path string, fields []flow.Field) *rules.Plan {
	return h.a.Rules.For(&rules.Request{Host: h.host, Port: h.port, Process: h.conn.Process, Method: method, Path: path, Fields: fields})
}

// left records the head of a request as it left.
func (h *hop) left(ordinal int64, head flow.Head) {
	head.Scheme, head.Host, head.Port, head.Path = h.scheme(), h.host, h.port, head.Target
	h.tell(flow.Event{Kind: flow.Forwarded, Flow: ordinal, Side: flow.Client, Head: &head})
}

func (h *hop) scheme() string {
	if h.conn.Decrypted || h.conn.Upstream.Version != "" {
		return "https"
	}
	return "http"
}

// ended records a body as it left, or came.
func (h *hop) ended(ordinal int64, side flow.Side, sum *summed) {
	h.tell(flow.Event{Kind: flow.Forwarded, Flow: ordinal, Side: side,
		Ended: &flow.Ended{Size: sum.size, SHA256: [sha256.Size]byte(sum.sum.Sum(nil))}})
}

// An alteration is what becomes of one exchange.
type alteration struct {
	*hop
	ordinal int64
	plan    *rules.Plan

	sum    *summed // of the answer as it came; nil: it goes on as it came
	upSum  *summed // of the request as it leaves, in HTTP/2; nil: as it came
	hold   bool    // the answer is held until it is whole
	held   []byte
	coding string
	events *eventCutter // nil: the answer is not cut
	began  time.Time    // of the answer's body
	paced  int64        // bytes of it that were given
}

// newAlteration says that an exchange is altered.
func (h *hop) newAlteration(ordinal int64, p *rules.Plan) *alteration {
	h.say(ordinal, flow.CodeAltered, "altered by %s%s", p, altered(p))
	return &alteration{hop: h, ordinal: ordinal, plan: p}
}

// altered says what a plan does.
func altered(p *rules.Plan) string {
	var all []string
	add := func(does bool, what string) {
		if does {
			all = append(all, what)
		}
	}
	edits := func(e *rules.Edit) bool { return len(e.Set)+len(e.Remove)+len(e.JSON) > 0 }
	add(edits(&p.Request), "the request")
	add(edits(&p.Response), "the answer")
	if p.Answer != nil {
		add(true, fmt.Sprintf("answered with %d instead of the server", p.Answer.Status))
	}
	add(p.Delay > 0, "delayed by "+p.Delay.String())
	add(p.Throttle > 0, fmt.Sprintf("throttled to %d bytes a second", p.Throttle))
	add(p.CutAfter > 0, fmt.Sprintf("to be cut after %d events", p.CutAfter))
	return ": " + strings.Join(all, ", ")
}

// requestEdit is the plan's for the request, with what its edit of the answer needs.
func (x *alteration) requestEdit(fields []flow.Field) rules.Edit {
	e := x.plan.Request
	if len(x.plan.Response.JSON) > 0 || x.plan.CutAfter > 0 {
		for _, f := range fields {
			if strings.EqualFold(f.Name, "accept-encoding") {
				e.Set = append(e.Set[:len(e.Set):len(e.Set)], flow.Field{Name: "accept-encoding", Value: "identity"})
				break
			}
		}
	}
	return e
}

// request changes the body of a request. ok says that it was changed.
func (x *alteration) request(coding string, body []byte) (out []byte, ok bool) {
	out, said, err := x.plan.Request.Body(coding, body)
	if err != nil {
		x.say(x.ordinal, flow.CodeRuleNotApplied, "%s was not applied to the body of the request: %v", x.plan, err)
		return body, false
	}
	for _, s := range said {
		x.say(x.ordinal, flow.CodeAltered, "request body: %s", s)
	}
	return out, true
}

// head begins an answer of the server, and returns its fields as the child gets them, until
// its body is known where that is held.
func (x *alteration) head(status int, version string, fields []flow.Field, bodied bool) []flow.Field {
	kind, coding := fieldOf(fields, "content-type"), fieldOf(fields, "content-encoding")
	p := x.plan
	changes := len(p.Response.Set)+len(p.Response.Remove)+len(p.Response.JSON) > 0
	if changes || p.CutAfter > 0 {
		x.sum = newSummed()
		x.tell(flow.Event{Kind: flow.Forwarded, Flow: x.ordinal, Side: flow.Server, Head: &flow.Head{Status: status, Version: version, Fields: fields}})
	}
	if len(p.Response.JSON) > 0 && bodied {
		if x.hold = strings.Contains(kind, "json") && !strings.Contains(kind, "ndjson"); !x.hold {
			x.say(x.ordinal, flow.CodeRuleNotApplied, "%s was not applied to the body of the answer: it is %q, not JSON", p, kind)
		}
	}
	if p.CutAfter > 0 && bodied {
		switch x.events = newEventCutter(kind, p.CutAfter); {
		case coding != "" && !strings.EqualFold(coding, "identity"):
			x.events = nil
			x.say(x.ordinal, flow.CodeRuleNotApplied, "%s: the answer was not cut: its content coding is %q", p, coding)
		case x.events == nil:
			x.say(x.ordinal, flow.CodeRuleNotApplied, "%s: the answer was not cut: %q is no stream of events", p, kind)
		}
	}
	x.coding = coding
	x.begin()
	return p.Response.Fields(fields)
}

// begin begins the answer's body.
func (x *alteration) begin() { x.began = time.Now() }

// data takes a piece of the answer's body. It returns what goes on, and whether the
// answer ends with that. Of an answer that is held nothing goes on until it is too long.
func (x *alteration) data(p []byte) (out []byte, cut bool) {
	if x.sum != nil {
		x.sum.Write(p)
	}
	if x.hold {
		x.held = append(x.held, p...)
		if len(x.held) <= maxWhole {
			return nil, false
		}
		x.say(x.ordinal, flow.CodeRuleNotApplied, "%s was not applied to the body of the answer: it is longer than %d bytes", x.plan, maxWhole)
		x.hold = false
		p, x.held = x.held, nil
	}
	if x.events == nil {
		return p, false
	}
	n, cut := x.events.take(p)
	if cut {
		x.say(x.ordinal, flow.CodeAltered, "the answer was cut after %d events", x.plan.CutAfter)
		x.over()
	}
	return p[:n], cut
}

// whole returns the body of an answer that was held, as the child gets it, and whether
// its content coding was undone.
func (x *alteration) whole() (body []byte, changed bool) {
	out, said, err := x.plan.Response.Body(x.coding, x.held)
	if err != nil {
		x.say(x.ordinal, flow.CodeRuleNotApplied, "%s was not applied to the body of the answer: %v", x.plan, err)
		return x.held, false
	}
	for _, s := range said {
		x.say(x.ordinal, flow.CodeAltered, "answer body: %s", s)
	}
	return out, true
}

// over records the body of the answer as it came.
func (x *alteration) over() {
	if x.sum != nil {
		x.ended(x.ordinal, flow.Server, x.sum)
		x.sum = nil
	}
}

// give hands p to write as fast as the plan lets it.
func (x *alteration) give(p []byte, write func([]byte) error) error {
	rate := x.plan.Throttle
	if rate == 0 {
		if len(p) == 0 {
			return nil
		}
		return write(p)
	}
	for len(p) > 0 {
		n := int(min(int64(len(p)), max(rate/20, 1)))
		due := x.began.Add(time.Duration(float64(x.paced+int64(n)) / float64(rate) * float64(time.Second)))
		if !x.sleep(time.Until(due)) {
			return net.ErrClosed
		}
		if err := write(p[:n]); err != nil {
			return err
		}
		x.paced += int64(n)
		p = p[n:]
	}
	return nil
}

func fieldOf(fields []flow.Field, name string) string {
	var all []string
	for _, f := range fields {
		if strings.EqualFold(f.Name, name) {
			all = append(all, f.Value)
		}
	}
	return strings.Join(all, ", ")
}

// framedAs returns fields with the length of a body instead of how it was framed.
func framedAs(fields []flow.Field, length int, plain bool) []flow.Field {
	var out []flow.Field
	for _, f := range fields {
		name := strings.ToLower(f.Name)
		if name == "content-length" || name == "transfer-encoding" || plain && name == "content-encoding" {
			continue
		}
		out = append(out, f)
	}
	return append(out, flow.Field{Name: "content-length", Value: fmt.Sprint(length)})
}

// headFields reads the fields of a head of HTTP/1.
func headFields(lines []byte) (all []flow.Field) {
	for line := range bytes.Lines(lines) {
		text := strings.TrimRight(string(line), "\r\n")
		if n := len(all); n > 0 && text != "" && (text[0] == ' ' || text[0] == '\t') {
			all[n-1].Value += "\r\n" + text // obs-fold (RFC 9112 section 5.2)
			continue
		}
		if name, value, ok := strings.Cut(text, ":"); ok {
			all = append(all, flow.Field{Name: name, Value: strings.Trim(value, " \t")})
		}
	}
	return all
}

// writeHead writes a head of HTTP/1.
func writeHead(line []byte, fields []flow.Field) []byte {
	out := append([]byte(nil), line...)
	for _, f := range fields {
		out = append(out, f.Name+": "+f.Value+"\r\n"...)
	}
	return append(out, "\r\n"...)
}
