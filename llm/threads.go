package llm

import (
	"slices"
	"time"
)

// A Ref names a call: the flow that it was read from, and its index among those
// that Read made of the flow.
type Ref struct {
	Flow int64
	Call int
}

// IsZero reports whether r names no call.
func (r Ref) IsZero() bool { return r.Flow == 0 }

// A Turn is a call as [Threads] takes it.
type Turn struct {
	Ref
	Started, Ended time.Time // Ended is zero while it goes on
	Process        string    // who made it, by whatever name the caller has; "" if not known
	Call           *Call
}

// A Link says where a call stands among the others of a run.
type Link struct {
	Ref
	// Conversation names the conversation by its first call: those that go on
	// from each other share it, with retries and beyond a compaction. A
	// sub-agent has one of its own.
	Conversation Ref
	// Turn counts the calls of the conversation from 1; a retry has the number
	// of what it repeats.
	Turn int
	// Previous is the call that this one goes on from; zero for the first of a
	// conversation. Where users go back and say something else, it is the one
	// that they went back to. A retry has the predecessor of what it repeats.
	Previous Ref
	// Shared is how many messages of the request stood already in Previous, in
	// its request or as its answer: the rest is new. 0 where the request does not
	// repeat what it goes on from (previous_response_id) or replaced it.
	Shared int
	// Retry is the call that this one repeats after an error or a cut.
	Retry Ref
	// Parent is the call whose answer started this conversation as that of a
	// sub-agent, ParentTool the id of the tool call in it and ParentName the
	// tool's name. Only the first call of a conversation has it.
	Parent                 Ref
	ParentTool, ParentName string
	// Compacted: the history that Previous had was replaced by a summary.
	Compacted bool
	// Edited: the request goes on from Previous, but what both share was
	// changed on the way, see [Compare].
	Edited bool
	// Session is the conversation that the body names, or that of a call which
	// this one goes on from.
	Session string
}

// Threads joins the calls of a run to conversations, from what their bodies say
// (Previous, Session) and from their content. Calls are added in the order in
// which they started or in which they ended; the work grows with what is added,
// not with its square, and what is kept are digests. The zero value is ready. Not safe for
// concurrent use.
type Threads struct {
	turns []turn
	byRef map[Ref]int32
	byID  map[string]int32 // of answers

	// The last call by the chain of its request, of its request with its
	// answer, and by every beginning of those.
	asked, answered, seen map[digest]int32
	// The last call by its answer, and by the id of a tool call in it.
	answers, tools map[digest]int32
	// By the lines of an answer, and by the first line of what a tool call asks
	// for.
	lines  map[digest]int32
	spawns map[digest][]*spawn
	count  int // of all spawns
	// The last call with tools, by session or process.
	tooled map[string]int32
}

// A turn is what is kept of a call.
type turn struct {
	link    Link
	ended   time.Time
	process string
	system  digest
	from    digest // what the chain begins with
	trail   *trail
	length  int  // blocks of the trail that are request and answer
	request int  // those that are the request
	failed  bool // no answer, or not all of it
	tools   bool
	same    int32 // an earlier call with the same request; -1 if there is none
	calls   int32 // of its conversation so far; counted at the first
	lines   int   // of the answer
	said    int   // bytes of its text
	gist    *gist // nil of calls that take no part in conversations
}

// end returns the digest of the request.
func (u *turn) end() digest {
	if u.request == 0 {
		return u.from
	}
	return u.trail.chain[u.request-1]
}

// whole returns the chain of request and answer.
func (u *turn) whole() chain { return u.trail.chain[:u.length] }

// A trail is a chain that turns share which go on from each other: each is a
// beginning of it.
type trail struct{ chain chain }

// follow makes c the chain of u: on the trail that old has, or u itself, where
// it goes on from its end or stands there already, else on one of its own.
func (u *turn) follow(old *trail, c chain) {
	u.length = len(c)
	if old != nil {
		switch n := old.chain.common(c); n {
		case len(c):
			u.trail = old
			return
		case len(old.chain):
			old.chain = append(old.chain, c[n:]...)
			u.trail = old
			return
		}
	}
	u.trail = &trail{slices.Clone(c)}
}

// A spawn is a tool call that may have started a sub-agent.
type spawn struct {
	by       int32
	id, name string
	lines    []digest
	order    int // among all
	taken    bool
}

// Add takes a call and says where it stands. Adding one again, by its Ref, tells
// how it went on: its answer counts from then on, its link stays.
func (t *Threads) Add(c Turn) Link {
	if t.byRef == nil {
		t.byRef, t.byID = map[Ref]int32{}, map[string]int32{}
		t.asked, t.answered, t.seen = map[digest]int32{}, map[digest]int32{}, map[digest]int32{}
		t.answers, t.tools, t.lines = map[digest]int32{}, map[digest]int32{}, map[digest]int32{}
		t.spawns, t.tooled = map[digest][]*spawn{}, map[string]int32{}
	}
	if n, ok := t.byRef[c.Ref]; ok {
		t.turns[n].ended = c.Ended
		t.learn(n, c.Call)
		return t.turns[n].link
	}
	n := int32(len(t.turns))
	t.byRef[c.Ref] = n
	u := turn{link: Link{Ref: c.Ref, Conversation: c.Ref, Turn: 1, Session: c.Call.Session}, ended: c.Ended, process: c.Process, same: -1, tools: len(c.Call.Tools) > 0}
	switch c.Call.API {
	case CountTokens, Embeddings: // nothing goes on from these
		t.turns = append(t.turns, u)
		return u.link
	}
	for i := range c.Call.System {
		b := c.Call.System[i]
		b.Text, _ = unbilled(b.Text)
		u.system = u.system.block(&b)
	}
	u.gist = &gist{}
	u.gist.asked(c.Call.Messages)
	q := query{t: t, u: &u, started: c.Started, call: c.Call}
	q.prepare()
	q.find()
	u.follow(q.trail, q.whole)
	t.turns = append(t.turns, u)
	t.register(n)
	t.learn(n, c.Call)
	return u.link
}

// Links returns the links of all calls, in the order in which they were added.
func (t *Threads) Links() []Link {
	list := make([]Link, len(t.turns))
	for i := range t.turns {
		list[i] = t.turns[i].link
	}
	return list
}

// Link returns the link of a call; ok is false if it was not added.
func (t *Threads) Link(r Ref) (l Link, ok bool) {
	n, ok := t.byRef[r]
	if ok {
		l = t.turns[n].link
	}
	return l, ok
}

// register makes the request of turn n known to those that come after it.
func (t *Threads) register(n int32) {
	u := &t.turns[n]
	if u.link.Retry.IsZero() {
		t.turns[t.byRef[u.link.Conversation]].calls++
	}
	if u.tools {
		t.tooled[u.scope()] = n
	}
	if u.request == 0 {
		return
	}
	for _, d := range u.whole()[:u.request] {
		t.seen[d] = n
	}
	if before, ok := t.asked[u.end()]; ok {
		u.same = before
	}
	t.asked[u.end()] = n
}

// scope names who a call belongs with where its content does not tell.
func (u *turn) scope() string {
	if u.link.Session != "" {
		return "s" + u.link.Session
	}
	return "p" + u.process
}

// learn takes the answer of turn n.
func (t *Threads) learn(n int32, c *Call) {
	u := &t.turns[n]
	u.failed = c.Error != nil || c.Partial
	if c.API == CountTokens || c.API == Embeddings {
		return
	}
	if c.ID != "" {
		t.byID[c.ID] = n
	}
	answer := c.Answer
	if len(answer) > 1 && c.API != Responses && c.API != Interactions {
		answer = answer[:1] // these are choices, those follow each other
	}
	said, _ := u.trail.chain[:u.request:u.request].follow(u.from, answer)
	u.follow(u.trail, said)
	for _, d := range said[u.request:] {
		t.seen[d] = n
	}
	if len(said) > u.request {
		t.answered[said[len(said)-1]] = n
	}
	u.gist.answered(answer)
	t.listen(n, c)
}

// listen remembers what an answer says, to know it again.
func (t *Threads) listen(n int32, c *Call) {
	u := &t.turns[n]
	u.said = 0
	var said []digest
	for i := range c.Answer {
		m := &c.Answer[i]
		if d, ok := telling(m); ok {
			t.answers[d] = n
		}
		for j := range m.Blocks {
			b := &m.Blocks[j]
			switch {
			case b.Kind == ToolCall && !b.Server:
				if b.ID != "" {
					t.tools[none.text(b.ID).text(b.Name)] = n
				}
				t.spawning(n, b)
			case b.Kind == Text, b.Kind == Other:
				u.said += len(b.Text)
				said = lines(said, b.Text)
			}
		}
	}
	u.lines = len(said)
	for _, d := range said {
		t.lines[d] = n
	}
}

// telling returns the digest of a message by which it can be known again: one
// that has a tool call or says more than a word.
func telling(m *Message) (d digest, ok bool) {
	const enough = 16
	for i := range m.Blocks {
		b := &m.Blocks[i]
		ok = ok || b.Kind == ToolCall && b.ID != "" || len(b.Text) >= enough && b.Kind != Thinking
	}
	return none.blocks(m.Blocks), ok
}
