package llm

import (
	"encoding/json"
	"slices"
	"time"

	"trace/flow"
)

// A responsesSocket tells apart the responses that are asked for, one after the
// other or at once, on one WebSocket. A response.create begins a call, the last
// event of its response ends it. Events name the response or the stream that
// they belong to, or neither: then it is the one that runs.
type responsesSocket struct {
	in    *input
	calls []*socketCall
	byID  map[string]*socketCall
	// Those that have not ended: that no event has named, and that one has.
	waiting, running []*socketCall
	steers           []event // that no response has taken up
}

// A socketCall is one response.
type socketCall struct {
	c        *Call
	stream   *responsesStream
	id       string // of the response, once it is told
	streamID string
	ended    bool
}

// readResponsesSocket reads the calls of a WebSocket.
func readResponsesSocket(in *input) []*Call {
	s := &responsesSocket{in: in, byID: map[string]*socketCall{}}
	for _, e := range in.messages() {
		switch {
		case e.data == nil:
		case e.side == flow.Client:
			s.client(e)
		default:
			s.server(e)
		}
	}
	var calls []*Call
	for _, sc := range s.calls {
		sc.stream.end()
		calls = append(calls, sc.c)
	}
	for _, e := range s.steers {
		s.steer(e.data)
	}
	return calls
}

// client reads a message of the client.
func (s *responsesSocket) client(e event) {
	switch o := e.data; o.text("type") {
	case "response.create":
		if inner := o.object("response"); inner != nil { // nested, as Realtime has it
			o = inner
		}
		s.begin(o, e.at)
	case "response.steer":
		s.steers = append(s.steers, e)
	default:
		s.note(e)
	}
}

// begin begins a call.
func (s *responsesSocket) begin(request object, at time.Time) {
	c := s.in.call()
	c.Asked = at
	c.Stream = true
	c.responsesRequest(object(request.without("type")))
	c.codexSession(s.in)
	sc := &socketCall{c: c, stream: newResponsesStream(c, request, 200), streamID: request.text("stream_id")}
	s.calls, s.waiting = append(s.calls, sc), append(s.waiting, sc)
}

// server reads a message of the server.
func (s *responsesSocket) server(e event) {
	sc := s.find(e)
	if sc == nil {
		s.note(e)
		return
	}
	sc.stream.event(e)
	if e.data.text("type") == "error" {
		sc.ended = true
		if status := e.data.nth("status", 0); status >= 400 && sc.c.Error != nil {
			sc.c.Error.Status = status
		}
	}
	if sc.ended = sc.ended || sc.stream.ended; sc.ended {
		if i := slices.Index(s.running, sc); i >= 0 {
			s.running = remove(s.running, i)
		} else if i := slices.Index(s.waiting, sc); i >= 0 {
			s.waiting = remove(s.waiting, i)
		}
	}
}

// note keeps a message that belongs to no response that runs.
func (s *responsesSocket) note(e event) {
	if n := len(s.calls); n > 0 {
		c := s.calls[n-1].c
		c.Extra = append(c.Extra, Param{e.data.text("type"), e.raw})
	}
}

// find returns the call that a message of the server is about.
func (s *responsesSocket) find(e event) *socketCall {
	o := e.data
	stream := o.text("stream_id")
	id := o.object("response").text("id")
	if id == "" {
		id = o.text("response_id")
	}
	if sc := s.byID[id]; sc != nil && id != "" {
		return sc
	}
	matches := func(sc *socketCall) bool { return stream == "" || sc.streamID == stream }
	running := len(s.running) - 1 // the newest of those
	for running >= 0 && !matches(s.running[running]) {
		running--
	}
	if running >= 0 && o.text("type") != "response.created" && id == "" {
		return s.running[running]
	}
	waiting := slices.IndexFunc(s.waiting, matches) // the oldest
	switch {
	case o.text("type") == "response.created" || id != "" && running < 0:
		if waiting < 0 {
			s.unasked(e)
			waiting = len(s.waiting) - 1
		}
		sc := s.waiting[waiting]
		s.waiting, s.running = remove(s.waiting, waiting), append(s.running, sc)
		sc.id, s.byID[id] = id, sc
		return sc
	case running >= 0:
		return s.running[running]
	case waiting >= 0:
		return s.waiting[waiting]
	}
	return nil
}

// remove takes an element out, at little cost where it is the first.
func remove(list []*socketCall, i int) []*socketCall {
	if i == 0 {
		return list[1:]
	}
	return slices.Delete(list, i, i+1)
}

// unasked begins a call for a response that no response.create asked for: one
// that was steered goes on under a new id.
func (s *responsesSocket) unasked(e event) {
	request, at := object{}, e.at
	if len(s.steers) > 0 {
		request, at = object(s.steers[0].data.without("type")), s.steers[0].at
		s.steers = s.steers[1:]
	}
	if n := len(s.calls); n > 0 && !request.has("model") {
		request = append(request, Param{"model", quote(s.calls[n-1].c.Model)})
	}
	s.begin(request, at)
	s.calls[len(s.calls)-1].streamID = e.data.text("stream_id")
}

// steer gives what was said in the middle to the call that it was said to.
func (s *responsesSocket) steer(o object) {
	if len(s.calls) == 0 {
		return
	}
	to := s.calls[len(s.calls)-1]
	if sc := s.byID[o.text("previous_response_id")]; sc != nil {
		to = sc
	}
	list := elements(o.get("input"))
	if list == nil {
		list = []json.RawMessage{o.get("input")}
	}
	for _, m := range items(list) {
		m.Extra = append(m.Extra, Param{"type", quote("response.steer")})
		to.c.Messages = append(to.c.Messages, m)
	}
}
