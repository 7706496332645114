package llm

import (
	"slices"
	"strings"
	"time"
)

// A query looks for the place of one call.
type query struct {
	t       *Threads
	u       *turn
	started time.Time
	call    *Call
	whole   chain  // of the request
	trail   *trail // of the call that this one goes on from, or repeats
	ends    []int  // blocks of the request up to the end of each message
	model   []bool // of each block: the model said it
	prior   int32  // the call that it names as the one before; -1 if it names none
}

// prepare makes the chain of the request. One that names its predecessor goes on
// from that one's chain.
func (q *query) prepare() {
	q.prior = -1
	if id := q.call.Previous; id != "" {
		q.u.from = none.text(id)
		if p, ok := q.t.byID[id]; ok {
			q.prior = p
			if u := &q.t.turns[p]; u.length > 0 {
				q.u.from = u.trail.chain[u.length-1]
			}
		}
	}
	blocks := 0
	for i := range q.call.Messages {
		blocks += len(q.call.Messages[i].Blocks)
	}
	q.whole, q.ends = make(chain, 0, blocks).follow(q.u.from, q.call.Messages)
	q.u.request = len(q.whole)
	q.model = make([]bool, 0, len(q.whole))
	for i := range q.ends {
		for len(q.model) < q.ends[i] {
			q.model = append(q.model, q.call.Messages[i].Role == "assistant")
		}
	}
}

// find fills in the link.
func (q *query) find() {
	if p := q.repeated(); p >= 0 {
		q.retry(p)
	} else if p, edited := q.before(); p >= 0 {
		q.join(p)
		q.u.link.Edited = edited
	} else if !q.spawned() {
		if p := q.summarized(); p >= 0 {
			q.join(p)
			q.u.link.Compacted, q.u.link.Shared = true, 0
		}
	}
}

// join makes the call one of p's conversation, and p its predecessor.
func (q *query) join(p int32) {
	u, l := &q.t.turns[p], &q.u.link
	first := &q.t.turns[q.t.byRef[u.link.Conversation]]
	l.Conversation, l.Turn, l.Previous = u.link.Conversation, int(first.calls)+1, u.link.Ref
	if l.Session == "" {
		l.Session = u.link.Session
	}
	if q.call.Previous != "" {
		return
	}
	l.Shared, q.trail = q.messages(q.whole.common(u.whole())), u.trail
}

// messages returns how many messages n blocks of the chain are.
func (q *query) messages(n int) int {
	shared := 0
	for shared < len(q.ends) && q.ends[shared] <= n {
		shared++
	}
	return shared
}

// repeated returns the call whose request this one sends again because it
// failed; -1 if there is none.
func (q *query) repeated() int32 {
	if len(q.whole) == 0 {
		return -1
	}
	p, ok := q.t.asked[q.whole[len(q.whole)-1]]
	for ; ok && p >= 0; p = q.t.turns[p].same {
		u := &q.t.turns[p]
		if u.system == q.u.system && q.related(u, true) {
			if u.failed && !u.ended.After(q.started.Add(overlap)) {
				return p
			}
			break
		}
	}
	return -1
}

// overlap is how long a failed call may outlive the beginning of its retry: that
// a connection is over is often seen late.
const overlap = time.Second

func (q *query) retry(p int32) {
	u := &q.t.turns[p]
	session := q.u.link.Session
	ref := q.u.link.Ref
	q.u.link, q.trail = u.link, u.trail
	q.u.link.Ref, q.u.link.Retry = ref, u.link.Ref
	if session != "" {
		q.u.link.Session = session
	}
}

// related reports whether a call may belong together with this one: they name
// the same session, or none, where strict asks for the same process then.
func (q *query) related(u *turn, strict bool) bool {
	if a, b := q.u.link.Session, u.link.Session; a != "" && b != "" {
		return a == b
	}
	return !strict || q.u.process == u.process
}

// before returns the call that this one goes on from, -1 if there is none, and
// whether what they share was changed.
func (q *query) before() (p int32, edited bool) {
	if q.prior >= 0 {
		return q.prior, false
	}
	p, next := q.byChain()
	if p >= 0 {
		for next < len(q.model) && !q.model[next] {
			next++
		}
		if next == len(q.model) {
			return p, false
		}
	}
	// The model said more since: the history was changed, or forked.
	if p := q.byAnswer(); p >= 0 {
		return p, true
	}
	if p >= 0 {
		return p, true
	}
	return q.byBeginning(), true
}

// byChain finds the last call whose request, and answer if it is as it was
// recorded, this one begins with; next is the first block after both.
func (q *query) byChain() (p int32, next int) {
	c := q.whole
	for i := len(c) - 1; i >= 0; i-- {
		if p, ok := q.t.answered[c[i]]; ok {
			return p, i + 1
		}
		if p, ok := q.t.asked[c[i]]; ok && i+1 < len(c) && q.model[i+1] {
			for next = i + 1; next < len(c) && q.model[next]; {
				next++
			}
			return q.best(p), next
		}
	}
	return -1, 0
}

// best chooses among the calls with the same request as p the one that was
// answered and has the same system prompt.
func (q *query) best(p int32) int32 {
	best, score := p, -1
	for ; p >= 0; p = q.t.turns[p].same {
		u, s := &q.t.turns[p], 0
		if u.system == q.u.system {
			s += 2
		}
		if !u.failed {
			s++
		}
		if q.related(u, false) {
			s += 4
		}
		if s > score {
			best, score = p, s
		}
	}
	return best
}

// byAnswer finds the call whose answer is the last that the request has from the
// model: it stays as it was where the history before it was shortened.
func (q *query) byAnswer() int32 {
	for i := len(q.call.Messages) - 1; i >= 0; i-- {
		m := &q.call.Messages[i]
		if m.Role != "assistant" {
			continue
		}
		if d, ok := telling(m); ok {
			if p, ok := q.t.answers[d]; ok && q.related(&q.t.turns[p], false) {
				return p
			}
		}
		for j := range m.Blocks {
			if b := &m.Blocks[j]; b.Kind == ToolCall && b.ID != "" {
				if p, ok := q.t.tools[none.text(b.ID).text(b.Name)]; ok && q.related(&q.t.turns[p], true) {
					return p
				}
			}
		}
		return -1
	}
	return -1
}

// byBeginning finds the call that begins as this one does, for longer than one
// question: a conversation whose end was changed.
func (q *query) byBeginning() int32 {
	answered := slices.Index(q.model, true)
	for i := len(q.whole) - 1; i >= answered && answered >= 0; i-- {
		if p, ok := q.t.seen[q.whole[i]]; ok && q.related(&q.t.turns[p], true) {
			return p
		}
	}
	return -1
}

// summarized finds the call whose answer, a summary, stands in the first
// messages of this one.
func (q *query) summarized() int32 {
	const first = 3 // messages; some put instructions before it
	var here []digest
	for i := range q.call.Messages[:min(first, len(q.call.Messages))] {
		for _, b := range q.call.Messages[i].Blocks {
			if b.Kind == Text || b.Kind == Other {
				here = lines(here, b.Text)
			}
		}
	}
	hits := map[int32]int{}
	best := int32(-1)
	for _, d := range here {
		p, ok := q.t.lines[d]
		if !ok || !q.related(&q.t.turns[p], true) {
			continue
		}
		if hits[p]++; best < 0 || hits[p] > hits[best] || hits[p] == hits[best] && p > best {
			best = p
		}
	}
	if best < 0 || 2*hits[best] < q.t.turns[best].lines || q.t.turns[best].said < minSummary {
		return -1
	}
	// Who has tools goes on with them; what has none is a question about the
	// conversation. And who asked for the summary may have had none himself.
	if last, ok := q.t.tooled[q.u.scope()]; ok {
		if !q.u.tools {
			return -1
		}
		if u := &q.t.turns[best]; !u.tools && u.link.Previous.IsZero() {
			return last
		}
	}
	return best
}

// minSummary is the length from which on an answer is taken for a summary.
const minSummary = 120

// spawned finds the tool call that asks for what this conversation begins with.
func (q *query) spawned() bool {
	here := map[digest]bool{}
	for i := range q.call.Messages {
		m := &q.call.Messages[i]
		if m.Role == "assistant" {
			break
		}
		for _, b := range m.Blocks {
			if b.Kind != Text {
				continue
			}
			here[none.text(strings.TrimSpace(b.Text))] = true
			for _, d := range lines(nil, b.Text) {
				here[d] = true
			}
		}
	}
	var found *spawn
	for d := range here { // better decides, whatever the order
		for _, s := range q.t.spawns[d] {
			if s.stands(here) && (found == nil || better(s, found)) {
				found = s
			}
		}
	}
	if found == nil {
		return false
	}
	found.taken = true
	u := &q.t.turns[found.by]
	q.u.link.Parent, q.u.link.ParentTool, q.u.link.ParentName = u.link.Ref, found.id, found.name
	if q.u.link.Session == "" {
		q.u.link.Session = u.link.Session
	}
	return true
}

// better prefers what asks for more, what nobody has taken, what came last, and
// of one answer the first.
func better(a, b *spawn) bool {
	switch {
	case a.taken != b.taken:
		return b.taken
	case len(a.lines) != len(b.lines):
		return len(a.lines) > len(b.lines)
	case a.by != b.by:
		return a.by > b.by
	}
	return a.order < b.order
}

func (s *spawn) stands(here map[digest]bool) bool {
	for _, d := range s.lines {
		if !here[d] {
			return false
		}
	}
	return true
}

// spawning remembers what a tool call asks for, if that is somebody's task.
func (t *Threads) spawning(n int32, b *Block) {
	const enough = 20 // what is shorter is an argument
	agent := agentTool(b.Name)
	for _, m := range members(b.Input) {
		if kind(m.Value) != '"' {
			continue
		}
		s := strings.TrimSpace(text(m.Value))
		prompt := agent && (m.Name == "prompt" || m.Name == "task" || m.Name == "message" || m.Name == "instructions")
		if s == "" || len(s) < enough && !prompt || !agent && !prompt && m.Name != "prompt" && m.Name != "task" && m.Name != "instructions" {
			continue
		}
		p := &spawn{by: n, id: b.ID, name: b.Name, lines: lines(nil, s), order: t.count}
		t.count++
		t.spawns[p.lines[0]] = append(t.spawns[p.lines[0]], p)
	}
}

// agentTool reports whether a tool is named as those that start agents are.
func agentTool(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"task", "agent", "delegat", "spawn", "dispatch"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
