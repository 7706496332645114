package llm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"trace/flow"
)

// The results of a [CacheVerdict].
const (
	CacheHit     = "hit"     // all that was expected was read, or more
	CachePartial = "partial" // less was read than the first call had stored
	CacheMiss    = "miss"    // nothing was read
	CacheUnknown = "unknown" // the second call does not tell
)

// A CacheVerdict says what the provider's prompt cache did for the second of two
// calls, and what it could have done with what the first one had stored there.
type CacheVerdict struct {
	Result string `json:"result"`
	// Expected: something was to be read, ExpectedAll: everything that the first
	// call had stored.
	Expected    bool `json:"expected"`
	ExpectedAll bool `json:"expected_all"`
	// Stored is what the first call had read from the cache and written to it,
	// in tokens, Read, Written and Prompt what the second one did, and all of
	// its prompt. -1 where it is not told.
	Stored  int64 `json:"stored_tokens"`
	Read    int64 `json:"read_tokens"`
	Written int64 `json:"written_tokens"`
	Prompt  int64 `json:"prompt_tokens"`
	// Age is the time between the two calls, Life how long the cache of the
	// first was to live. 0 if it is not known.
	Age  time.Duration `json:"-"`
	Life time.Duration `json:"-"`
	// Break is the index in Changes of the edit that broke the prefix; -1 if
	// there is none.
	Break int `json:"break"`
	// Why says all that in one sentence.
	Why string `json:"why"`
	// Told is the reason that the provider itself gives for a miss (Anthropic's
	// diagnostics.cache_miss_reason); "" if it gives none.
	Told string `json:"told,omitempty"`
}

// MarshalJSON writes the times in milliseconds, where they are known.
func (v CacheVerdict) MarshalJSON() ([]byte, error) {
	type plain CacheVerdict
	return flow.MarshalJSON(struct {
		plain
		Age  float64 `json:"age_ms,omitempty"`
		Life float64 `json:"life_ms,omitempty"`
	}{plain(v), *flow.MS(max(0, v.Age)), *flow.MS(v.Life)})
}

// What Anthropic's cache does.
const (
	shortLife = 5 * time.Minute // of a mark that does not say
	longLife  = time.Hour
	lookBack  = 20 // blocks before a mark where what was stored is looked for
)

// What OpenAI's does, without being asked.
const (
	automaticMinimum = 1024 // tokens
	automaticLife    = time.Hour
)

// A unit is a piece of a prompt in the order in which a cache sees it.
type unit struct {
	area         string
	index, block int
	digest       digest
	mark         json.RawMessage
}

// units lays a prompt out: tools, system, messages. Where the provider skips the
// billing line of a system prompt, it does not count.
func units(c *Call, skips bool) []unit {
	var list []unit
	for i := range c.Tools {
		list = append(list, unit{AreaTool, i, -1, c.Tools[i].digest(), c.Tools[i].Cache})
	}
	for i := range c.System {
		u := unit{AreaSystem, i, -1, none.exact(&c.System[i]), c.System[i].Cache}
		if rest, ok := unbilled(c.System[i].Text); ok && skips {
			u.digest = none.text(rest)
		}
		list = append(list, u)
	}
	for i := range c.Messages {
		m := &c.Messages[i]
		role := none.text(m.Role)
		for j := range m.Blocks {
			list = append(list, unit{AreaMessage, i, j, role.exact(&m.Blocks[j]), m.Blocks[j].Cache})
		}
	}
	// A mark on the request is one on its last block.
	if mark := object(c.Params).mark("cache_control"); mark != nil && len(list) > 0 && list[len(list)-1].mark == nil {
		list[len(list)-1].mark = mark
	}
	return list
}

// unbilled returns the text of a system prompt behind the line by which Claude
// Code says for whom it works; ok is false if it has none. The line changes with
// every request; Anthropic takes it out before it caches, others may not.
func unbilled(s string) (rest string, ok bool) {
	if !strings.HasPrefix(s, "x-anthropic-billing-header:") {
		return s, false
	}
	_, rest, _ = strings.Cut(s, "\n")
	return rest, true
}

// name says where a unit is, counted from 1.
func (u *unit) name(c *Call) string {
	switch u.area {
	case AreaTool:
		return "tool " + c.Tools[u.index].Name
	case AreaSystem:
		return fmt.Sprintf("system block %d", u.index+1)
	}
	return fmt.Sprintf("message %d (%s)", u.index+1, c.Messages[u.index].Role)
}

// life returns how long what a mark stores is kept.
func life(mark json.RawMessage) time.Duration {
	if members(mark).text("ttl") == "1h" {
		return longLife
	}
	return shortLife
}

// A judge weighs what the cache could do.
type judge struct {
	d      *Diff
	v      *CacheVerdict
	a, b   *Call
	ua, ub []unit
	common int // units that both begin with, as far as parameters let them

	explicit bool // the cache stores what it is asked to, no more
}

// asked reports whether the cache stores only what marks ask for: Anthropic's,
// Bedrock's, and those that stand behind an API like OpenAI's and have marks.
func (j *judge) asked() bool {
	switch {
	case j.a.API == Messages, j.a.API == Converse:
		return true
	case j.a.Provider == "openai", j.a.Provider == "azure", j.a.Provider == "chatgpt":
		return false
	}
	return slices.ContainsFunc(j.ua, func(u unit) bool { return u.mark != nil })
}

// judge fills in the verdict.
func (d *Diff) judge(a, b *Call) {
	skips := b.Provider == "anthropic" || b.Usage != nil && b.Usage.CacheRead > 0
	j := judge{d: d, v: &d.Cache, a: a, b: b, ua: units(a, skips), ub: units(inFull(a, b), skips)}
	j.v.Break, j.v.Stored, j.v.Read, j.v.Written, j.v.Prompt = -1, -1, -1, -1, -1
	if !a.Asked.IsZero() && !b.Asked.IsZero() {
		j.v.Age = b.Asked.Sub(a.Asked)
	}
	if u := a.Usage; u != nil {
		j.v.Stored = u.CacheRead + u.CacheWrite
	}
	if u := b.Usage; u != nil {
		j.v.Read, j.v.Written, j.v.Prompt = u.CacheRead, u.CacheWrite, u.Input+u.CacheRead+u.CacheWrite
	}
	for j.common < len(j.ua) && j.common < len(j.ub) && j.ua[j.common].digest == j.ub[j.common].digest {
		j.common++
	}
	j.parameters()
	if d.First = j.first(skips); j.common < len(j.ua) && j.v.Break < 0 {
		j.v.Break = d.First
	}
	if j.explicit = j.asked(); j.explicit {
		j.marked()
	} else {
		j.automatic()
	}
	j.result()
}

// inFull returns b with what it names only, that is the prompt and the answer
// of a that it goes on from.
func inFull(a, b *Call) *Call {
	if !follows(a, b) {
		return b
	}
	whole := *b
	whole.Messages = slices.Concat(a.Messages, a.Answer, b.Messages)
	return &whole
}

// first returns the first change of the prompt that counts; -1 if there is none.
func (j *judge) first(skips bool) int {
	for i := range j.d.Changes {
		c := &j.d.Changes[i]
		if c.Area == AreaParam || c.What == WasMarked {
			continue
		}
		if skips && c.Area == AreaSystem && c.What == WasChanged {
			x, old := unbilled(j.a.System[c.OldIndex].Text)
			y, now := unbilled(j.b.System[c.NewIndex].Text)
			if old && now && x == y {
				continue
			}
		}
		return i
	}
	return -1
}

// parameters shortens what is common where a parameter takes part in the
// prefix: the model is before everything, and for Anthropic what has to do with
// thinking and the choice of tools comes before the messages.
func (j *judge) parameters() {
	for i := range j.d.Changes {
		c := &j.d.Changes[i]
		if c.Area != AreaParam {
			break
		}
		at := -1
		switch c.Name {
		case "provider", "api", "model", "speed":
			at = 0
		case "tool_choice", "thinking", "toolConfig":
			if j.a.API == Messages || j.a.API == Converse {
				at = len(j.a.Tools) + len(j.a.System)
			}
		}
		if at >= 0 && at < j.common {
			j.common, j.v.Break = at, i
		}
	}
}

// marked judges a cache that stores up to marks.
func (j *judge) marked() {
	v := j.v
	last, usable := -1, -1
	for i := range j.ua {
		mark := j.ua[i].mark
		if mark == nil {
			continue
		}
		if last = i; i >= j.common || !j.reached(i) {
			continue
		}
		if v.Age <= life(mark) {
			usable, v.Life = i, life(mark)
		}
	}
	v.Expected, v.ExpectedAll = usable >= 0, usable >= 0 && usable == last
	broken := v.Break >= 0 && last >= j.common
	if !broken {
		v.Break = -1
	}
	switch {
	case j.a.Error != nil && j.a.Error.Status >= 400:
		v.Expected, v.ExpectedAll = false, false
		v.Why = "the first call failed, so it stored nothing"
	case last < 0:
		v.Why = "the first request has no cache_control, so it stored nothing"
	case broken:
		v.Why = j.cause() + j.rest(usable)
	case v.ExpectedAll:
		v.Why = fmt.Sprintf("the prompt is unchanged up to the mark at %s", j.ua[last].name(j.a))
		j.unexpected()
	case !j.reached(last):
		v.Why = fmt.Sprintf("the prompt is unchanged, but no cache_control of the second request stands within %d blocks behind %s, where the first one's was", lookBack, j.ua[last].name(j.a))
		if v.Expected {
			v.Why += fmt.Sprintf(": only what stands up to %s can be read", j.ua[usable].name(j.a))
		}
	default:
		v.Life = life(j.ua[last].mark)
		v.Why = fmt.Sprintf("the prompt is unchanged, but %s passed and what the first call stored lives %s unless it is read", short(v.Age), short(v.Life))
	}
}

// reached reports whether a mark of the second request finds what is stored up
// to unit i.
func (j *judge) reached(i int) bool {
	for k := i; k < len(j.ub) && k <= i+lookBack; k++ {
		if j.ub[k].mark != nil {
			return true
		}
	}
	return false
}

// automatic judges a cache that stores every prompt by itself.
func (j *judge) automatic() {
	v := j.v
	prompt := int64(-1)
	if u := j.a.Usage; u != nil {
		prompt = u.Input + u.CacheRead + u.CacheWrite
		v.Stored = prompt
	}
	switch {
	case j.a.Error != nil:
		v.Break, v.Why = -1, "the first call failed, so nothing was stored"
	case j.b.Previous != "" && !follows(j.a, j.b):
		v.Break, v.Why = -1, "the request goes on from an earlier answer, whose prompt it does not repeat"
	case len(j.ua) == 0:
		v.Why = "the first request has no prompt"
	case v.Break >= 0:
		v.Expected = j.common > 0 && v.Age <= automaticLife
		v.Why = j.cause() + j.rest(j.common-1)
	case prompt >= 0 && prompt < automaticMinimum:
		v.Why = fmt.Sprintf("the prompt is unchanged, but with %d tokens it is shorter than the %d from which on prompts are stored", prompt, automaticMinimum)
	case v.Age > automaticLife:
		v.Life = automaticLife
		v.Why = fmt.Sprintf("the prompt is unchanged, but %s passed, and unused prompts are forgotten after %s at the latest", short(v.Age), short(automaticLife))
	default:
		v.Expected, v.ExpectedAll = true, true
		v.Why = "the whole prompt of the first call is unchanged"
		j.unexpected()
	}
}

// cause names the edit that broke the prefix.
func (j *judge) cause() string {
	c := &j.d.Changes[j.v.Break]
	switch {
	case c.Area == AreaParam:
		return fmt.Sprintf("%s was %s (%s)", c.Name, c.What, fromTo(c))
	case c.What == WasMoved:
		return fmt.Sprintf("%s stands elsewhere among the tools", c.Place())
	case c.What == WasChanged && c.Kind != Image && c.Kind != Audio:
		return fmt.Sprintf("%s was changed (%s)", c.Place(), fromTo(c))
	}
	return fmt.Sprintf("%s was %s", c.Place(), c.What)
}

// fromTo tells the old and the new value in a few words.
func fromTo(c *Change) string {
	const few = 60
	cut := func(s string) string {
		if len(s) > few {
			s, _ = cutText(s, few, 0)
			s += "…"
		}
		return fmt.Sprintf("%q", s)
	}
	switch {
	case c.Old == "":
		return "now " + cut(c.New)
	case c.New == "":
		return "it was " + cut(c.Old)
	}
	return cut(c.Old) + " → " + cut(c.New)
}

// rest says what was left to be read after a break.
func (j *judge) rest(usable int) string {
	if usable < 0 {
		return ", so nothing that the first call stored could be read"
	}
	return fmt.Sprintf(", so only what stands up to %s could be read", j.ua[usable].name(j.a))
}

// unexpected adds what may have happened where nothing was read although it was
// expected.
func (j *judge) unexpected() {
	v := j.v
	switch {
	case v.Read < 0:
		v.Why += ": it was to be read"
	case v.Read >= v.Stored && v.Read > 0:
		v.Why += fmt.Sprintf(": %d tokens were read", v.Read)
	case v.Read > 0:
		v.Why += fmt.Sprintf(": %d of %d stored tokens were read", v.Read, v.Stored)
	case !j.a.FirstToken.IsZero() && !j.b.Asked.IsZero() && j.b.Asked.Before(j.a.FirstToken):
		v.Why += ", but the first call had not begun to answer when the second was sent: it had stored nothing yet"
	case v.Stored == 0 && j.explicit:
		v.Why += ", but the first call stored nothing: the prompt may be shorter than the model's minimum"
	default:
		v.Why += ": it was to be read and was not; it may have been dropped early, or another account or place served the call"
	}
}

// result compares what was read with what was to be read.
func (j *judge) result() {
	v := j.v
	switch {
	case v.Read < 0:
		v.Result = CacheUnknown
		v.Why += "; the second call does not tell what was read"
	case v.Read == 0:
		v.Result = CacheMiss
	case v.Stored > 0 && v.Read < j.enough():
		v.Result = CachePartial
	default:
		v.Result = CacheHit
	}
	if v.Read > 0 && !v.Expected {
		v.Why += fmt.Sprintf("; yet %d tokens were read, which another call had stored", v.Read)
	} else if v.Read > 0 && !v.ExpectedAll {
		v.Why += fmt.Sprintf("; %d of %d tokens were", v.Read, max(v.Stored, v.Read))
	}
	if v.Told = told(j.b); v.Told != "" {
		v.Why += "; the provider says: " + v.Told
	}
}

// told returns the reason for a miss that an answer gives.
func told(c *Call) string {
	reason := members(object(c.Extra).get("diagnostics")).get("cache_miss_reason")
	if o := members(reason); o != nil {
		s := o.text("type")
		if n := o.integer("cache_missed_input_tokens"); n > 0 {
			s += fmt.Sprintf(" (%d tokens)", n)
		}
		return s
	}
	return text(reason)
}

// enough is how much is as good as all: automatic caches work in steps of
// tokens.
func (j *judge) enough() int64 {
	if j.explicit {
		return j.v.Stored
	}
	return j.v.Stored - j.v.Stored/10 - 128
}

// short writes a duration as people say it.
func short(d time.Duration) string {
	switch {
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute && d%time.Minute < time.Second:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
