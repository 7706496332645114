package llm

import "slices"

// A Pair is a turn of each of two runs that corresponds to the other: of the
// same conversation, at the same point in it. One of the two is zero where the
// other run has nothing like it.
type Pair struct {
	A, B Ref
	// ConversationA and ConversationB name the conversations that were paired.
	ConversationA, ConversationB Ref
}

// Align pairs the turns of two runs, to be compared one by one. First it pairs
// conversations: those that begin with the same prompt, then those of the same
// system prompt, then of the same kind (of a user, of a sub-agent, a question
// aside), in the order in which they began. Then it pairs their turns, by what
// was said and which tools were used, in order. Of a call that was retried the
// last attempt counts. Pairs come in the order of the first run's conversations,
// what only the second has at the end.
func Align(a, b *Threads) []Pair {
	as, bs := a.conversations(), b.conversations()
	match := pairUp(as, bs)
	var list []Pair
	taken := make([]bool, len(bs))
	for i, x := range as {
		if match[i] < 0 {
			for _, n := range x.turns {
				list = append(list, Pair{A: a.turns[n].link.Ref, ConversationA: x.ref})
			}
			continue
		}
		y := bs[match[i]]
		taken[match[i]] = true
		for _, p := range alignTurns(a, b, x.turns, y.turns) {
			q := Pair{ConversationA: x.ref, ConversationB: y.ref}
			if p[0] >= 0 {
				q.A = a.turns[p[0]].link.Ref
			}
			if p[1] >= 0 {
				q.B = b.turns[p[1]].link.Ref
			}
			list = append(list, q)
		}
	}
	for j, y := range bs {
		if !taken[j] {
			for _, n := range y.turns {
				list = append(list, Pair{B: b.turns[n].link.Ref, ConversationB: y.ref})
			}
		}
	}
	return list
}

// A gist is what can be compared of a call with one of another run, whose ids
// and results are not the same.
type gist struct {
	prompt  []digest // blocks of text that are new in the request
	results digest   // the names of the tools whose results are new; 0 if none are
	tools   digest   // the names of the tools that the answer calls; 0 if none
	inputs  digest   // those and what they are called with
}

// asked notes what is new in the request: what stands behind the last answer.
func (g *gist) asked(messages []Message) {
	from := len(messages)
	for from > 0 && messages[from-1].Role != "assistant" {
		from--
	}
	names := map[string]string{}
	for i := from - 1; i >= 0 && messages[i].Role == "assistant"; i-- {
		for _, b := range messages[i].Blocks {
			if b.Kind == ToolCall {
				names[b.ID] = b.Name
			}
		}
	}
	for _, m := range messages[from:] {
		for i := range m.Blocks {
			switch b := &m.Blocks[i]; b.Kind {
			case Text:
				g.prompt = append(g.prompt, none.block(b))
			case ToolResult:
				name := b.Name
				if name == "" {
					name = names[b.ID]
				}
				g.results = g.results.text(name)
			}
		}
	}
}

// answered notes what the answer does.
func (g *gist) answered(answer []Message) {
	g.tools, g.inputs = 0, 0
	for _, m := range answer {
		for i := range m.Blocks {
			if b := &m.Blocks[i]; b.Kind == ToolCall {
				g.tools = g.tools.text(b.Name)
				g.inputs = g.inputs.text(b.Name).json(b.Input)
			}
		}
	}
}

// likeness says how much two calls are alike; below 0 they are not.
func (g *gist) likeness(o *gist) int {
	n := -1
	if (g.results == 0) == (o.results == 0) {
		n = 2
	}
	if slices.ContainsFunc(g.prompt, func(d digest) bool { return slices.Contains(o.prompt, d) }) {
		n += 8
	}
	if g.results == o.results && g.results != 0 {
		n += 4
	}
	if g.tools == o.tools {
		n += 3
		if g.tools != 0 && g.inputs == o.inputs {
			n += 4
		}
	}
	return n
}

// A conversation is the turns of one, without those that were retried.
type conversation struct {
	ref    Ref
	turns  []int32
	first  *turn
	parent bool // a sub-agent's
}

func (t *Threads) conversations() []conversation {
	var list []conversation
	at := map[Ref]int{}
	retried := map[Ref]bool{}
	for i := range t.turns {
		if r := t.turns[i].link.Retry; !r.IsZero() {
			retried[r] = true
		}
	}
	for n := range t.turns {
		u := &t.turns[n]
		if u.gist == nil || retried[u.link.Ref] {
			continue
		}
		i, ok := at[u.link.Conversation]
		if !ok {
			i = len(list)
			at[u.link.Conversation] = i
			list = append(list, conversation{ref: u.link.Conversation, first: u, parent: !u.link.Parent.IsZero()})
		}
		list[i].turns = append(list[i].turns, int32(n))
	}
	return list
}

// pairUp returns for each conversation of a the index of b's, or -1.
func pairUp(a, b []conversation) []int {
	match := slices.Repeat([]int{-1}, len(a))
	taken := make([]bool, len(b))
	prompt := func(x, y *turn) bool {
		return slices.ContainsFunc(x.gist.prompt, func(d digest) bool { return slices.Contains(y.gist.prompt, d) })
	}
	for _, fits := range []func(x, y *conversation) bool{
		func(x, y *conversation) bool { return x.first.system == y.first.system && prompt(x.first, y.first) },
		func(x, y *conversation) bool { return prompt(x.first, y.first) && x.first.tools == y.first.tools },
		func(x, y *conversation) bool { return x.first.system == y.first.system },
		func(x, y *conversation) bool { return true },
	} {
		for i := range a {
			for j := range b {
				if match[i] < 0 && !taken[j] && a[i].parent == b[j].parent && (a[i].first.tools == b[j].first.tools || prompt(a[i].first, b[j].first)) && fits(&a[i], &b[j]) {
					match[i], taken[j] = j, true
				}
			}
		}
	}
	return match
}

// maxAligned bounds the table of alignTurns; beyond it turns are paired by their
// number.
const maxAligned = 4 << 20

// alignTurns pairs turns in order so that those that are paired are as much
// alike as can be (Needleman and Wunsch, 1970). -1 stands for none.
func alignTurns(a, b *Threads, x, y []int32) [][2]int32 {
	w := len(y) + 1
	if (len(x)+1)*w > maxAligned {
		var list [][2]int32
		for i := range max(len(x), len(y)) {
			p := [2]int32{-1, -1}
			if i < len(x) {
				p[0] = x[i]
			}
			if i < len(y) {
				p[1] = y[i]
			}
			list = append(list, p)
		}
		return list
	}
	best := make([]int32, (len(x)+1)*w) // of the rest, from i and j on
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			both := best[(i+1)*w+j+1] + int32(a.turns[x[i]].gist.likeness(b.turns[y[j]].gist))
			best[i*w+j] = max(both, best[(i+1)*w+j], best[i*w+j+1])
		}
	}
	var list [][2]int32
	for i, j := 0, 0; i < len(x) || j < len(y); {
		switch {
		case i < len(x) && j < len(y) && best[i*w+j] > max(best[(i+1)*w+j], best[i*w+j+1]),
			i < len(x) && j < len(y) && best[i*w+j] == best[(i+1)*w+j+1]+int32(a.turns[x[i]].gist.likeness(b.turns[y[j]].gist)):
			list = append(list, [2]int32{x[i], y[j]})
			i, j = i+1, j+1
		case i < len(x) && (j == len(y) || best[(i+1)*w+j] >= best[i*w+j+1]):
			list = append(list, [2]int32{x[i], -1})
			i++
		default:
			list = append(list, [2]int32{-1, y[j]})
			j++
		}
	}
	return list
}
