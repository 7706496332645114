package llm

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// coding is a conversation as coding agents have it: marks on the tools' end,
// the system prompt and the newest message.
func coding(k *talk, at time.Duration, read, write int64, answer ...fields) *Call {
	last := k.messages[len(k.messages)-1].(fields)
	content, ok := last["content"].([]fields)
	if !ok {
		content = []fields{said(last["content"].(string))}
	}
	content[len(content)-1]["cache_control"] = fields{"type": "ephemeral"}
	last["content"] = content
	c := k.turn("", answer...)
	k.messages = k.messages[:len(k.messages)-1]
	delete(content[len(content)-1], "cache_control")
	c.Asked = began.Add(at)
	c.FirstToken = c.Asked.Add(time.Second)
	c.Usage = &Usage{Input: 3, CacheRead: read, CacheWrite: write, Output: 50}
	return c
}

func newCoding() *talk {
	k := newTalk("s", "Fix the parser")
	k.system = []any{fields{"type": "text", "text": "You are an agent.\nThe time is 09:41:07.\nBe brief."},
		fields{"type": "text", "text": "Rules: never guess.", "cache_control": fields{"type": "ephemeral"}}}
	k.tools = append(k.tools, fields{"name": "Read", "description": "Reads a file", "input_schema": fields{"type": "object"}})
	k.messages = []any{fields{"role": "user", "content": []fields{said("Fix the parser"),
		{"type": "image", "source": fields{"type": "base64", "media_type": "image/png", "data": "AAAA"}}}}}
	return k
}

func (k *talk) say(content any) {
	k.messages = append(k.messages, fields{"role": "user", "content": content})
}

// changed lists the changes in a few words.
func changed(d *Diff) string {
	var s []string
	for _, c := range d.Changes {
		s = append(s, fmt.Sprintf("%s %s", c.Place(), c.What))
	}
	return strings.Join(s, "; ")
}

func TestCompareAConversationThatGoesOn(t *testing.T) {
	k := newCoding()
	a := coding(k, 0, 0, 9000, thought("Hm"), use("t1", "Read", fields{"path": "parse.go"}))
	k.say(result("t1", "package parse"))
	b := coding(k, 20*time.Second, 9000, 400, said("Done"))
	d := Compare(a, b)
	if d.Shared != 1 || d.AppendedAt != 1 || len(d.Appended) != 2 || d.Answered != 1 || d.First != -1 {
		t.Errorf("%+v", d)
	}
	if got := changed(d); got != "message 1 (user), block 2 cache_mark" {
		t.Error(got)
	}
	v := d.Cache
	if v.Result != CacheHit || !v.Expected || !v.ExpectedAll || v.Break != -1 || v.Stored != 9000 || v.Read != 9000 || v.Prompt != 9403 || v.Age != 20*time.Second || v.Life != shortLife {
		t.Errorf("%+v", v)
	}
	if v.Why != "the prompt is unchanged up to the mark at message 1 (user): 9000 tokens were read" {
		t.Error(v.Why)
	}
	if raw, err := json.Marshal(d); err != nil || !strings.Contains(string(raw), `"appended_messages":2`) || !strings.Contains(string(raw), `"age_ms":20000,"life_ms":300000`) {
		t.Error(string(raw), err)
	}
	if d := Compare(a, a); !d.Same() || d.First != -1 || d.Shared != 1 {
		t.Errorf("%+v", d)
	}
}

// breaker is an edit between two turns, and what is to be found.
type breaker struct {
	name    string
	edit    func(k *talk)
	alter   func(b *Call) // what the client cannot say
	changes string        // beside the mark that moves on
	result  string
	read    int64
	at      time.Duration
	why     string
}

var breakers = []breaker{
	{"timestamp", func(k *talk) {
		k.system[0] = fields{"type": "text", "text": "You are an agent.\nThe time is 09:42:31.\nBe brief."}
	}, nil, "system block 1 changed", CacheMiss, 0, 0,
		`system block 1 was changed ("…are an agent.\nThe time is 09:41:07.\nBe brief." → "…are an agent.\nThe time is 09:42:31.\nBe brief."), so nothing that the first call stored could be read`},
	{"tool order", func(k *talk) {
		k.tools = []any{k.tools[2], k.tools[0], k.tools[1]}
	}, nil, "tool Read moved", CacheMiss, 0, 0, "tool Read stands elsewhere among the tools, so nothing that the first call stored could be read"},
	{"tool added", func(k *talk) {
		k.tools = append(k.tools[:3:3], fields{"name": "Web", "description": "Looks it up"})
	}, nil, "tool Web added", CacheMiss, 0, 0, "tool Web was added, so nothing that the first call stored could be read"},
	{"tool removed", func(k *talk) { k.tools = k.tools[1:] }, nil,
		"tool Bash removed", CacheMiss, 0, 0, "tool Bash was removed, so nothing that the first call stored could be read"},
	{"tool changed", func(k *talk) {
		k.tools = []any{k.tools[0], k.tools[1], fields{"name": "Read", "description": "Reads one file", "input_schema": fields{"type": "object"}}}
	}, nil, "tool Read changed", CacheMiss, 0, 0, `tool Read was changed ("{\n  \"description\": \"Reads a file\",\n  \"input_schema\": {\n    \"…" → "{\n  \"description\": \"Reads one file\",\n  \"input_schema\": {\n   …"), so nothing that the first call stored could be read`},
	{"image", func(k *talk) {
		k.messages[0] = fields{"role": "user", "content": []fields{said("Fix the parser"),
			{"type": "image", "source": fields{"type": "base64", "media_type": "image/png", "data": "BBBB"}}}}
	}, nil, "message 1 (user), block 2 changed", CachePartial, 5000, 0,
		"message 1 (user), block 2 was changed, so only what stands up to system block 2 could be read; 5000 of 9000 tokens were"},
	{"model", func(k *talk) { k.model = "claude-y" }, nil,
		"parameter model changed", CacheMiss, 0, 0, `model was changed ("\"claude-x\"" → "\"claude-y\""), so nothing that the first call stored could be read`},
	{"tool choice", nil, func(b *Call) {
		b.Params = append(b.Params, Param{"tool_choice", json.RawMessage(`{"type":"any"}`)})
	}, "parameter tool_choice added", CachePartial, 5000, 0, `tool_choice was added (now "{\"type\":\"any\"}"), so only what stands up to system block 2 could be read; 5000 of 9000 tokens were`},
	{"temperature", nil, func(b *Call) {
		b.Params = append(b.Params, Param{"temperature", json.RawMessage(`0.5`)})
	}, "parameter temperature added", CacheHit, 9000, 0, "the prompt is unchanged up to the mark at message 1 (user): 9000 tokens were read"},
	{"late", nil, nil, "", CacheMiss, 0, 7*time.Minute + 12*time.Second,
		"the prompt is unchanged, but 7 min 12 s passed and what the first call stored lives 5 min unless it is read"},
	{"kept warm", nil, nil, "", CacheHit, 9000, 7 * time.Minute,
		"the prompt is unchanged, but 7 min passed and what the first call stored lives 5 min unless it is read; yet 9000 tokens were read, which another call had stored"},
	{"too soon", nil, nil, "", CacheMiss, 0, time.Second / 2,
		"the prompt is unchanged up to the mark at message 1 (user), but the first call had not begun to answer when the second was sent: it had stored nothing yet"},
	{"dropped", nil, nil, "", CacheMiss, 0, 0,
		"the prompt is unchanged up to the mark at message 1 (user): it was to be read and was not; it may have been dropped early, or another account or place served the call"},
	{"no mark", nil, func(b *Call) {
		for i := range b.Messages {
			for j := range b.Messages[i].Blocks {
				b.Messages[i].Blocks[j].Cache = nil
			}
		}
	}, "", CachePartial, 5000, 0,
		"the prompt is unchanged, but no cache_control of the second request stands within 20 blocks behind message 1 (user), where the first one's was: only what stands up to system block 2 can be read; 5000 of 9000 tokens were"},
	{"not told", nil, func(b *Call) { b.Usage = nil }, "", CacheUnknown, 0, 0,
		"the prompt is unchanged up to the mark at message 1 (user): it was to be read; the second call does not tell what was read"},
}

func TestCompareFindsWhatBrokeTheCache(t *testing.T) {
	for _, c := range breakers {
		t.Run(c.name, func(t *testing.T) {
			k := newCoding()
			a := coding(k, 0, 0, 9000, use("t1", "Read", fields{"path": "parse.go"}))
			k.say(result("t1", "package parse"))
			if c.edit != nil {
				c.edit(k)
			}
			at := c.at
			if at == 0 {
				at = 20 * time.Second
			}
			b := coding(k, at, c.read, 400, said("Done"))
			if c.alter != nil {
				c.alter(b)
			}
			d := Compare(a, b)
			var rest []string
			for _, s := range strings.Split(changed(d), "; ") {
				if !strings.HasSuffix(s, WasMarked) {
					rest = append(rest, s)
				}
			}
			if got := strings.Join(rest, "; "); got != c.changes {
				t.Error(got)
			}
			if d.Cache.Result != c.result || d.Cache.Why != c.why {
				t.Errorf("%s\n got %s\nwant %s", d.Cache.Result, d.Cache.Why, c.why)
			}
		})
	}
}

func TestCompareKnowsTheBillingLine(t *testing.T) {
	for _, c := range []struct {
		provider string
		read     int64
		result   string
		why      string
	}{
		{"anthropic", 9000, CacheHit, "the prompt is unchanged up to the mark at message 1 (user): 9000 tokens were read"},
		{"", 9000, CacheHit, "the prompt is unchanged up to the mark at message 1 (user): 9000 tokens were read"},
		{"", 0, CacheMiss, `system block 1 was changed ("…n=2.1; cc_entrypoint=cli; cch=11111;" → "…n=2.1; cc_entrypoint=cli; cch=22222;"), so nothing that the first call stored could be read`},
	} {
		k := newCoding()
		line := func(cch string) {
			k.system = []any{said("x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli; cch=" + cch + ";"), k.system[len(k.system)-1]}
		}
		line("11111")
		a := coding(k, 0, 0, 9000, use("t1", "Read", fields{"path": "parse.go"}))
		k.say(result("t1", "package parse"))
		line("22222")
		b := coding(k, time.Second*9, c.read, 400, said("Done"))
		a.Provider, b.Provider = c.provider, c.provider
		if d := Compare(a, b); d.Cache.Result != c.result || d.Cache.Why != c.why {
			t.Errorf("%s: %s", d.Cache.Result, d.Cache.Why)
		}
	}
}

func TestCompareTellsWhatTheProviderSays(t *testing.T) {
	k := newCoding()
	a := coding(k, 0, 0, 9000, said("x"))
	k.model = "claude-y"
	b := coding(k, time.Second*9, 0, 9000, said("x"))
	b.Extra = []Param{{"diagnostics", json.RawMessage(`{"cache_miss_reason":{"type":"model_changed","cache_missed_input_tokens":6751}}`)}}
	if v := Compare(a, b).Cache; v.Told != "model_changed (6751 tokens)" || !strings.HasSuffix(v.Why, "; the provider says: model_changed (6751 tokens)") {
		t.Errorf("%+v", v)
	}
}

func TestCompareShowsTheText(t *testing.T) {
	k := newCoding()
	a := coding(k, 0, 0, 9000, said("x"))
	breakers[0].edit(k)
	d := Compare(a, coding(k, time.Second, 0, 9000, said("x")))
	got, _ := json.Marshal(d.Changes[0].Spans)
	if want := `[{"op":"same","text":"You are an agent.\nThe time is 09:"},{"op":"deleted","text":"41"},{"op":"added","text":"42"},{"op":"same","text":":"},{"op":"deleted","text":"07"},{"op":"added","text":"31"},{"op":"same","text":".\nBe brief."}]`; string(got) != want {
		t.Errorf("%s", got)
	}
}

func TestCompareEditedHistories(t *testing.T) {
	text := func(role, s string) Message {
		return Message{Role: role, Blocks: []Block{{Kind: Text, Text: s}}}
	}
	call := func(messages ...Message) *Call { return &Call{API: Chat, Messages: messages} }
	u, as := func(s string) Message { return text("user", s) }, func(s string) Message { return text("assistant", s) }
	for _, c := range []struct {
		name     string
		a, b     *Call
		changes  string
		shared   int
		appended int
	}{
		{"in the middle", call(u("1"), as("2"), u("3"), as("4"), u("5")), call(u("1"), as("2"), u("three"), as("4"), u("5"), as("6"), u("7")), "message 3 (user), block 1 changed", 2, 2},
		{"the end", call(u("1"), as("2"), u("3")), call(u("1"), as("2"), u("three"), as("4")), "message 3 (user), block 1 changed", 2, 1},
		{"back", call(u("1"), as("2"), u("3"), as("4"), u("5")), call(u("1"), as("2"), u("other")), "message 3 (user), block 1 changed; message 4 (assistant) removed", 2, 0},
		{"dropped", call(u("1"), as("2"), u("3"), as("4"), u("5")), call(u("1"), u("5"), as("6")), "message 2 (assistant) removed", 1, 1},
		{"inserted", call(u("1"), as("2"), u("3")), call(u("0"), as("x"), u("1"), as("2"), u("3"), as("4")), "message 1 (user) added", 0, 1},
		{"compacted", call(u("1"), as("2"), u("3")), call(u("summary")), "message 1 (user), block 1 changed; message 2 (assistant) removed", 0, 0},
		{"nothing", call(), call(u("1")), "", 0, 1},
	} {
		d := Compare(c.a, c.b)
		if got := changed(d); got != c.changes || d.Shared != c.shared || len(d.Appended) != c.appended {
			t.Errorf("%s: %q, %d shared, %d appended", c.name, got, d.Shared, len(d.Appended))
		}
	}
}

func TestCompareAutomaticCaches(t *testing.T) {
	text := func(role, s string) Message {
		return Message{Role: role, Blocks: []Block{{Kind: Text, Text: s}}}
	}
	base := func() *Call {
		return &Call{API: Chat, Provider: "openai", Model: "gpt", Asked: began, System: []Block{{Kind: Text, Text: "Be brief."}},
			Messages: []Message{text("user", "1")}, Usage: &Usage{Input: 2000}}
	}
	answered := func(id string) *Call {
		c := base()
		c.ID, c.Answer = id, []Message{text("assistant", "2")}
		return c
	}
	next := func(edit func(c *Call)) *Call {
		c := base()
		c.Asked = began.Add(time.Minute)
		c.Messages = append(c.Messages, text("assistant", "2"), text("user", "3"))
		c.Usage = &Usage{Input: 2100}
		edit(c)
		return c
	}
	for _, c := range []struct {
		a, b   *Call
		result string
		why    string
	}{
		{base(), next(func(c *Call) { c.Usage = &Usage{Input: 180, CacheRead: 1920} }), CacheHit, "the whole prompt of the first call is unchanged: 1920 of 2000 stored tokens were read"},
		{base(), next(func(*Call) {}), CacheMiss, "the whole prompt of the first call is unchanged: it was to be read and was not; it may have been dropped early, or another account or place served the call"},
		{base(), next(func(c *Call) { c.System[0].Text = "Be long." }), CacheMiss, `system block 1 was changed ("Be brief." → "Be long."), so nothing that the first call stored could be read`},
		{base(), next(func(c *Call) { c.Asked = began.Add(3 * time.Hour) }), CacheMiss, "the prompt is unchanged, but 3 h passed, and unused prompts are forgotten after 1 h at the latest"},
		{func() *Call { c := base(); c.Usage.Input = 500; return c }(), next(func(*Call) {}), CacheMiss, "the prompt is unchanged, but with 500 tokens it is shorter than the 1024 from which on prompts are stored"},
		{base(), next(func(c *Call) { c.Previous = "resp_1" }), CacheMiss, "the request goes on from an earlier answer, whose prompt it does not repeat"},
		{answered("resp_1"), next(func(c *Call) {
			c.Previous, c.Messages, c.Usage = "resp_1", []Message{text("user", "3")}, &Usage{Input: 180, CacheRead: 1920}
		}), CacheHit, "the whole prompt of the first call is unchanged: 1920 of 2000 stored tokens were read"},
		{answered("resp_1"), next(func(c *Call) {
			c.Previous, c.Messages, c.System[0].Text = "resp_1", []Message{text("user", "3")}, "Be long."
		}), CacheMiss, `system block 1 was changed ("Be brief." → "Be long."), so nothing that the first call stored could be read`},
		{func() *Call { c := base(); c.Error = &Error{Status: 500}; return c }(), next(func(*Call) {}), CacheMiss, "the first call failed, so nothing was stored"},
	} {
		d := Compare(c.a, c.b)
		if d.Cache.Result != c.result || d.Cache.Why != c.why {
			t.Errorf("%s: %s", d.Cache.Result, d.Cache.Why)
		}
		if goesOn := c.a.ID != ""; goesOn && (strings.Contains(changed(d), "message") || d.AppendedN != 1 || d.AppendedAt != 0) {
			t.Errorf("%s, %d appended", changed(d), d.AppendedN)
		}
	}
}
