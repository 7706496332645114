package llm

import (
	"time"

	"trace/flow"
)

// A realtime is a conversation with OpenAI's Realtime API: of each response a
// call, whose messages are what was said since the one before it.
type realtime struct {
	in       *input
	session  object
	pending  []Message
	sound    int64 // bytes of it that were sent and are in no message yet
	asked    object
	said     time.Time // when the client said something last
	calls    []*Call
	stream   *responsesStream // nil while no response runs
	previous string
}

// readRealtime reads the calls of a WebSocket.
func readRealtime(in *input) []*Call {
	r := &realtime{in: in}
	for _, e := range in.messages() {
		switch {
		case e.data == nil:
		case e.side == flow.Client:
			r.client(e.data)
			r.said = e.at
		default:
			r.server(e)
		}
	}
	if r.stream != nil {
		r.stream.end()
	}
	return r.calls
}

func (r *realtime) client(o object) {
	switch o.text("type") {
	case "session.update":
		r.update(o.object("session"))
	case "conversation.item.create":
		r.pending = append(r.pending, item(o.get("item")))
	case "input_audio_buffer.append":
		r.sound += base64Length(o.text("audio"))
	case "input_audio_buffer.clear":
		r.sound = 0
	case "response.create":
		r.asked = o.object("response")
	}
}

func (r *realtime) update(session object) {
	r.session = merged(r.session, session)
}

func (r *realtime) server(e event) {
	o := e.data
	switch t := o.text("type"); t {
	case "session.created", "session.updated":
		r.update(o.object("session"))
	case "conversation.item.input_audio_transcription.completed":
		r.heard(o)
	case "response.created":
		r.begin()
		r.stream.event(e)
	case "response.done":
		if r.stream == nil {
			r.begin()
		}
		r.stream.event(e)
		r.stream.end()
		r.previous, r.stream = r.stream.c.ID, nil
	default:
		if r.stream != nil {
			r.stream.event(e)
		} else if n := len(r.calls); n > 0 && t != "" {
			r.calls[n-1].Extra = append(r.calls[n-1].Extra, Param{t, e.raw})
		}
	}
}

// heard gives what a user said as text, which is known after the answer to it
// has begun.
func (r *realtime) heard(o object) {
	m := Message{Role: "user", Blocks: []Block{{Kind: Audio, Type: "input_audio", Text: o.text("transcript"), Size: r.sound}}}
	r.sound = 0
	if r.stream == nil {
		r.pending = append(r.pending, m)
		return
	}
	c := r.stream.c
	if n := len(c.Messages) - 1; n >= 0 && len(c.Messages[n].Blocks) == 1 && c.Messages[n].Blocks[0].Kind == Audio && c.Messages[n].Blocks[0].Text == "" {
		m.Blocks[0].Size += c.Messages[n].Blocks[0].Size
		c.Messages[n] = m
		return
	}
	c.Messages = append(c.Messages, m)
}

// begin begins the call of a response.
func (r *realtime) begin() {
	if r.stream != nil { // never told that it was done
		r.stream.end()
	}
	request := object(merged(r.session, r.asked))
	c := r.in.call()
	c.Stream, c.Asked = true, r.said
	if c.Model = r.in.route.query.Get("model"); c.Model == "" {
		c.Model = r.in.route.query.Get("deployment")
	}
	c.responsesRequest(request)
	if r.sound > 0 {
		r.pending = append(r.pending, Message{Role: "user", Blocks: []Block{{Kind: Audio, Type: "input_audio", Size: r.sound}}})
	}
	c.Messages = append(r.pending, c.Messages...)
	c.Previous = r.previous
	r.pending, r.sound, r.asked = nil, 0, nil
	r.calls, r.stream = append(r.calls, c), newResponsesStream(c, request, 200)
}
