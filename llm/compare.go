package llm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// The areas of a request that a [Change] lies in, in the order in which a prompt
// is made of them.
const (
	AreaParam   = "parameter"
	AreaTool    = "tool"
	AreaSystem  = "system"
	AreaMessage = "message"
)

// What a [Change] did.
const (
	WasAdded    = "added"
	WasRemoved  = "removed"
	WasChanged  = "changed"
	WasMoved    = "moved"      // a tool stands elsewhere among the others
	WasMarked   = "cache_mark" // only its mark for the cache was set, taken off or changed
	WasReplaced = "replaced"   // so many messages or blocks by so many others, with nothing in common
)

// A Diff is what a request has other than an earlier one, message by message.
//
// Let the first have n messages. Shared of them, from the beginning, stand
// unchanged in the second; what differs from there up to the end of the first is
// in Changes; what the second has behind that is Appended. Of a conversation
// that goes on, Shared is n and Changes has no messages: Appended is the answer
// of the first call, then what the user or the tools said.
type Diff struct {
	// Changes are in the order of the prompt: parameters, tools, system,
	// messages. Marks for the cache count: filter WasMarked out to see content
	// only.
	Changes []Change `json:"changes"`
	// Shared is how many messages both begin with, whatever marks for the cache
	// they bear.
	Shared int `json:"shared_messages"`
	// Appended are messages of the second request, from the one at AppendedAt
	// on; the first Answered of them repeat the answer of the first call.
	Appended   []Message `json:"-"`
	AppendedAt int       `json:"appended_at"`
	AppendedN  int       `json:"appended_messages"`
	Answered   int       `json:"appended_answer"`
	// First is the index in Changes of the first one that changes the prompt as
	// the model reads it, in its order; -1 if the second only goes on.
	First int `json:"first_change"`
	// Cache is the verdict on the provider's prompt cache.
	Cache CacheVerdict `json:"cache"`
}

// Same reports whether the requests say the same.
func (d *Diff) Same() bool { return len(d.Changes) == 0 && len(d.Appended) == 0 }

// A Change is one difference. Indices count from 0; -1 where there is nothing.
type Change struct {
	Area string `json:"area"`
	What string `json:"what"`
	// Name of the parameter or tool; the role of a message.
	Name string `json:"name,omitempty"`
	// OldIndex and NewIndex are places among the tools, the blocks of the system
	// prompt, or the messages; OldBlock and NewBlock those in the message.
	OldIndex int `json:"old_index"`
	NewIndex int `json:"new_index"`
	OldBlock int `json:"old_block"`
	NewBlock int `json:"new_block"`
	// Count is how many messages or blocks were added or removed at once, from
	// that place on; of replaced ones OldCount others were there.
	Count    int `json:"count,omitempty"`
	OldCount int `json:"old_count,omitempty"`
	// Kind is that of the block. Old and New are what stood there and stands
	// there as short text: the beginning. Spans is the whole difference of what
	// was changed, bounded; nil where the two are no texts.
	Kind  string `json:"kind,omitempty"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
	Spans []Span `json:"spans,omitempty"`
}

// Place names where the change is, for people: counted from 1, in the second
// request if it is there.
func (c *Change) Place() string {
	index, block := c.NewIndex, c.NewBlock
	if index < 0 || block < 0 {
		if c.OldIndex >= 0 && index < 0 {
			index = c.OldIndex
		}
		if c.OldBlock >= 0 && block < 0 {
			block = c.OldBlock
		}
	}
	switch c.Area {
	case AreaParam, AreaTool:
		return c.Area + " " + c.Name
	case AreaSystem:
		return fmt.Sprintf("system block %d", index+1)
	}
	if block >= 0 {
		return fmt.Sprintf("message %d (%s), block %d", index+1, c.Name, block+1)
	}
	return fmt.Sprintf("message %d (%s)", index+1, c.Name)
}

// Compare tells what request b has other than request a, which came before it,
// and what that means for the prompt cache. Any two calls may be compared.
func Compare(a, b *Call) *Diff {
	d := &Diff{Changes: []Change{}, First: -1}
	d.params(a, b)
	d.tools(a.Tools, b.Tools)
	d.blocks(a.System, b.System, Change{Area: AreaSystem, OldIndex: -1, NewIndex: -1})
	d.messages(a, b)
	d.judge(a, b)
	return d
}

func (d *Diff) add(c Change) { d.Changes = append(d.Changes, c) }

// params compares what is no content, who serves it and the model included.
func (d *Diff) params(a, b *Call) {
	list := func(c *Call) (o object, by map[string]json.RawMessage) {
		for _, p := range []Param{{"provider", quote(c.Provider)}, {"api", quote(c.API)}, {"model", quote(c.Model)}} {
			if string(p.Value) != `""` {
				o = append(o, p)
			}
		}
		o, by = append(o, c.Params...), map[string]json.RawMessage{}
		for _, p := range o {
			by[p.Name] = p.Value
		}
		return o, by
	}
	old, was := list(a)
	now, is := list(b)
	blank := Change{Area: AreaParam, OldIndex: -1, NewIndex: -1, OldBlock: -1, NewBlock: -1}
	seen := map[string]bool{}
	for _, p := range append(slices.Clip(old), now...) {
		if seen[p.Name] {
			continue
		}
		seen[p.Name] = true
		x, y := was[p.Name], is[p.Name]
		c := blank
		c.Name = p.Name
		switch {
		case x == nil:
			c.What, c.New = WasAdded, brief(string(y))
		case y == nil:
			c.What, c.Old = WasRemoved, brief(string(x))
		case none.json(x) == none.json(y):
			continue
		default:
			c.What, c.Old, c.New = WasChanged, brief(string(x)), brief(string(y))
			if k := kind(x); k == '{' || k == '[' {
				c.Spans = textDiff(pretty(x), pretty(y))
			}
		}
		d.add(c)
	}
}

// tools compares definitions by name.
func (d *Diff) tools(a, b []Tool) {
	old, now := toolKeys(a), toolKeys(b)
	at := map[string]int{}
	for i, k := range now {
		at[k] = i
	}
	was := map[string]int{}
	var kept, order []string // those of both, in the order of a and of b
	for i, k := range old {
		was[k] = i
		if _, ok := at[k]; ok {
			kept = append(kept, k)
		}
	}
	for _, k := range now {
		if _, ok := was[k]; ok {
			order = append(order, k)
		}
	}
	moved := map[string]bool{}
	for _, e := range edits(kept, order) {
		if !e.equal {
			for _, k := range order[e.newFrom:e.newTo] {
				moved[k] = true
			}
		}
	}
	for i, k := range old {
		if _, ok := at[k]; !ok {
			d.add(Change{Area: AreaTool, What: WasRemoved, Name: a[i].Name, OldIndex: i, NewIndex: -1, OldBlock: -1, NewBlock: -1, Old: brief(a[i].Description)})
		}
	}
	for j, k := range now {
		c := Change{Area: AreaTool, Name: b[j].Name, OldIndex: -1, NewIndex: j, OldBlock: -1, NewBlock: -1}
		i, ok := was[k]
		if !ok {
			c.What, c.New = WasAdded, brief(b[j].Description)
			d.add(c)
			continue
		}
		c.OldIndex = i
		x, y := a[i].text(), b[j].text()
		if a[i].digest() != b[j].digest() {
			c.What, c.Spans = WasChanged, textDiff(x, y)
			c.Old, c.New = around(x, y)
			d.add(c)
		}
		if moved[k] {
			c.What, c.Spans, c.Old, c.New = WasMoved, nil, "", ""
			d.add(c)
		}
		d.mark(c, a[i].Cache, b[j].Cache)
	}
}

// toolKeys tells tools apart, also those of the same name.
func toolKeys(tools []Tool) []string {
	keys, count := make([]string, len(tools)), map[string]int{}
	for i := range tools {
		n := tools[i].Name
		keys[i] = fmt.Sprint(n, "\x00", count[n])
		count[n]++
	}
	return keys
}

// mark notes that a mark for the cache is another one.
func (d *Diff) mark(c Change, old, now json.RawMessage) {
	if none.json(old) == none.json(now) {
		return
	}
	c.What, c.Spans, c.Old, c.New = WasMarked, nil, string(old), string(now)
	d.add(c)
}

// follows reports whether b goes on from the answer of a by its name, and so has
// only what is new.
func follows(a, b *Call) bool { return b.Previous != "" && b.Previous == a.ID }

// messages compares what was said.
func (d *Diff) messages(a, b *Call) {
	if follows(a, b) {
		d.Appended, d.AppendedN = b.Messages, len(b.Messages)
		return
	}
	old, now := messageDigests(a.Messages), messageDigests(b.Messages)
	for d.Shared < len(old) && d.Shared < len(now) && old[d.Shared] == now[d.Shared] {
		d.Shared++
	}
	list := edits(old, now)
	d.AppendedAt = len(now)
	for i, e := range list {
		if e.equal {
			for k := range e.oldTo - e.oldFrom {
				d.markings(e.oldFrom+k, e.newFrom+k, &a.Messages[e.oldFrom+k], &b.Messages[e.newFrom+k])
			}
			continue
		}
		d.gap(a, b, e, i == len(list)-1)
	}
	d.Appended = b.Messages[d.AppendedAt:]
	d.AppendedN = len(d.Appended)
	d.Answered = answered(a.Answer, d.Appended)
}

// gap compares messages that stand between equal ones: the first with the first
// and so on as long as they are of the same role. What the second has more at
// the very end is appended.
func (d *Diff) gap(a, b *Call, e edit, last bool) {
	blank := Change{Area: AreaMessage, OldIndex: -1, NewIndex: -1, OldBlock: -1, NewBlock: -1}
	i, j := e.oldFrom, e.newFrom
	for i < e.oldTo && j < e.newTo && a.Messages[i].Role == b.Messages[j].Role {
		x, y := &a.Messages[i], &b.Messages[j]
		c := blank
		c.Name, c.OldIndex, c.NewIndex = y.Role, i, j
		before := len(d.Changes)
		d.blocks(x.Blocks, y.Blocks, c)
		if len(d.Changes) == before { // something beside the content
			c.What, c.Old, c.New = WasChanged, brief(string(object(x.Extra).raw())), brief(string(object(y.Extra).raw()))
			d.add(c)
		}
		i, j = i+1, j+1
	}
	if last {
		d.AppendedAt = j
	} else if n := e.newTo - j; n > 0 {
		c := blank
		c.What, c.Name, c.NewIndex, c.Count, c.New = WasAdded, b.Messages[j].Role, j, n, brief(messageText(&b.Messages[j]))
		if i < e.oldTo {
			c.What, c.OldIndex, c.OldCount, c.Old = WasReplaced, i, e.oldTo-i, brief(messageText(&a.Messages[i]))
			i = e.oldTo
		}
		d.add(c)
	}
	if n := e.oldTo - i; n > 0 {
		c := blank
		c.What, c.Name, c.OldIndex, c.Count, c.Old = WasRemoved, a.Messages[i].Role, i, n, brief(messageText(&a.Messages[i]))
		d.add(c)
	}
}

// blocks compares blocks; in says where they are.
func (d *Diff) blocks(a, b []Block, in Change) {
	place := func(i, j int) Change {
		c := in
		if in.Area == AreaSystem {
			c.OldIndex, c.NewIndex, c.OldBlock, c.NewBlock = i, j, -1, -1
		} else {
			c.OldBlock, c.NewBlock = i, j
		}
		return c
	}
	for _, e := range edits(blockDigests(a), blockDigests(b)) {
		i, j := e.oldFrom, e.newFrom
		for ; i < e.oldTo && j < e.newTo; i, j = i+1, j+1 {
			c := place(i, j)
			if !e.equal {
				d.block(c, &a[i], &b[j])
			}
			d.mark(c, a[i].Cache, b[j].Cache)
		}
		if i < e.oldTo {
			c := place(i, -1)
			c.What, c.Kind, c.Count, c.Old = WasRemoved, a[i].Kind, e.oldTo-i, brief(a[i].text())
			d.add(c)
		}
		if j < e.newTo {
			c := place(-1, j)
			c.What, c.Kind, c.Count, c.New = WasAdded, b[j].Kind, e.newTo-j, brief(b[j].text())
			d.add(c)
		}
	}
}

// block notes that a block was changed.
func (d *Diff) block(c Change, a, b *Block) {
	c.What, c.Kind = WasChanged, b.Kind
	x, y := a.text(), b.text()
	c.Old, c.New = around(x, y)
	if x != y {
		c.Spans = textDiff(x, y)
	} else { // nothing that is read: a signature, a citation
		c.Old, c.New = around(string(a.Raw), string(b.Raw))
	}
	d.add(c)
}

// markings compares the marks of two messages that say the same.
func (d *Diff) markings(i, j int, a, b *Message) {
	for k := range min(len(a.Blocks), len(b.Blocks)) {
		d.mark(Change{Area: AreaMessage, Name: b.Role, OldIndex: i, NewIndex: j, OldBlock: k, NewBlock: k, Kind: b.Blocks[k].Kind}, a.Blocks[k].Cache, b.Blocks[k].Cache)
	}
}

// answered returns how many messages at the beginning of list repeat an answer.
func answered(answer, list []Message) int {
	said, _ := chain(nil).follow(none, answer)
	if len(said) == 0 {
		return 0
	}
	heard, ends := chain(nil).follow(none, list)
	if heard.common(said) < len(said) {
		// Not as it was said, but by the same.
		if len(list) > 0 && list[0].Role == answer[0].Role {
			return 1
		}
		return 0
	}
	for i, end := range ends {
		if end >= len(said) && strings.EqualFold(list[i].Role, answer[0].Role) {
			return i + 1
		}
	}
	return 0
}
