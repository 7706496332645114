package llm

import (
	"strings"
	"time"

	"trace/flow"
)

// A live is a conversation with Google's Live API: of each turn of the model a
// call, whose messages are what was said since the one before it.
type live struct {
	in      *input
	setup   object
	pending []Message
	spoken  Block     // sound and pictures that were sent and are in no message yet
	said    time.Time // when the client said something last
	calls   []*Call
	turn    *geminiStream // nil while the model is silent
	current *candidate
}

// readLive reads the calls of a WebSocket.
func readLive(in *input) []*Call {
	l := &live{in: in}
	for _, e := range in.messages() {
		switch {
		case e.data == nil:
		case e.side == flow.Client:
			l.client(e.data)
			l.said = e.at
		default:
			l.server(e)
		}
	}
	l.end(false)
	return l.calls
}

func (l *live) client(o object) {
	if setup := o.object("setup"); setup != nil {
		l.setup = setup
	}
	if content := members(o.both("clientContent")); content != nil {
		for _, raw := range content.list("turns") {
			l.pending = append(l.pending, geminiContent(raw))
		}
	}
	if input := members(o.both("realtimeInput")); input != nil {
		if s := input.text("text"); s != "" {
			l.pending = append(l.pending, Message{Role: "user", Blocks: []Block{{Kind: Text, Text: s}}})
		}
		for _, raw := range append(input.list(either(input, "mediaChunks")), input.get("audio"), input.get("video")) {
			if m := members(raw); m != nil {
				l.spoken.Type = "realtimeInput"
				l.spoken.media(m.bothText("mimeType"))
				l.spoken.Size += base64Length(m.text("data"))
			}
		}
	}
	if response := members(o.both("toolResponse")); response != nil {
		m := Message{Role: "tool"}
		for _, raw := range response.list(either(response, "functionResponses")) {
			m.Blocks = append(m.Blocks, geminiPart(object{{"functionResponse", raw}}.raw()))
		}
		l.pending = append(l.pending, m)
		if l.turn != nil && l.c().Stop == "tool_call" {
			l.end(true)
		}
	}
}

// either returns the spelling of a name that o has.
func either(o object, name string) string {
	if o.has(name) {
		return name
	}
	return snake(name)
}

// c returns the call of the turn.
func (l *live) c() *Call { return l.calls[len(l.calls)-1] }

func (l *live) server(e event) {
	o := e.data
	content := members(o.both("serverContent"))
	call := members(o.both("toolCall"))
	if l.turn == nil && (content != nil || call != nil) {
		l.begin()
	}
	if l.turn == nil {
		l.note(o)
		return
	}
	c := l.c()
	c.Last = e.at
	if u := o.both("usageMetadata"); !absent(u) {
		c.Usage = geminiUsage(u)
	}
	for _, raw := range members(content.both("modelTurn")).list("parts") {
		c.times(e.at, true)
		l.current.part(raw)
	}
	for _, raw := range call.list(either(call, "functionCalls")) {
		c.times(e.at, true)
		l.current.part(object{{"functionCall", raw}}.raw())
		c.Stop = "tool_call"
	}
	for _, name := range []string{"inputTranscription", "outputTranscription"} {
		if t := members(content.both(name)).get("text"); t != nil {
			l.turn.extra.add(name, t, appends)
		}
	}
	l.turn.extra.addAll(content, replaces, spelled("modelTurn", "inputTranscription", "outputTranscription")...)
	l.turn.extra.addAll(o, replaces, spelled("serverContent", "toolCall", "usageMetadata")...)
	if kind(content.both("turnComplete")) == 't' || kind(content.both("interrupted")) == 't' {
		l.end(true)
	}
}

// note keeps what belongs to no turn.
func (l *live) note(o object) {
	if len(l.calls) == 0 {
		return
	}
	c := l.c()
	if u := o.both("usageMetadata"); !absent(u) {
		c.Usage = geminiUsage(u)
	}
	c.Extra = append(c.Extra, o.without(spelled("usageMetadata", "setupComplete")...)...)
}

// begin begins a turn of the model.
func (l *live) begin() {
	c := l.in.call()
	c.Stream, c.Asked = true, l.said
	c.geminiRequest(object(l.setup.without("model")))
	c.Model = strings.TrimPrefix(l.setup.text("model"), "models/")
	if l.spoken.Size > 0 {
		l.pending = append(l.pending, Message{Role: "user", Blocks: []Block{l.spoken}})
	}
	c.Messages = l.pending
	l.pending, l.spoken = nil, Block{}
	l.calls = append(l.calls, c)
	l.turn, l.current = &geminiStream{c: c}, &candidate{}
}

// end ends the turn, if there is one.
func (l *live) end(whole bool) {
	if l.turn == nil {
		return
	}
	c := l.c()
	if m := l.current.message(); m.Blocks != nil {
		m.Blocks = oneSound(m.Blocks, text(object(l.turn.extra.params()).get("outputTranscription")))
		c.Answer = []Message{m}
	}
	c.Extra, c.Partial = l.turn.extra.params(), !whole
	if n := len(c.Messages) - 1; n >= 0 && len(c.Messages[n].Blocks) == 1 && c.Messages[n].Blocks[0].Kind == Audio {
		c.Messages[n].Blocks[0].Text = text(object(c.Extra).get("inputTranscription"))
	}
	if whole && c.Stop == "" {
		c.Stop = "stop"
	}
	l.turn = nil
}

// oneSound makes one block of sound that came in pieces, with the words spoken
// in it.
func oneSound(blocks []Block, words string) []Block {
	var all []Block
	for _, b := range blocks {
		if n := len(all) - 1; n >= 0 && b.Kind == Audio && all[n].Kind == Audio && b.Media == all[n].Media {
			all[n].Size, all[n].Raw = all[n].Size+b.Size, nil
			continue
		}
		if all = append(all, b); b.Kind == Audio {
			all[len(all)-1].Text, words = words, ""
		}
	}
	return all
}
