package llm

import (
	"fmt"
	"strings"
	"testing"
)

// pairs lists what was aligned, by the numbers of the calls.
func pairs(list []Pair) string {
	var s []string
	for _, p := range list {
		s = append(s, fmt.Sprintf("%d-%d", p.A.Flow, p.B.Flow))
	}
	return strings.Join(s, " ")
}

// run plays an agent: each step is a tool that the model calls, "" the end of
// its work; a step in capitals fails first.
func run(session, prompt string, steps ...string) *tester {
	var th tester
	k := newTalk(session, prompt)
	for i, s := range steps {
		if strings.ToUpper(s) == s && s != "" {
			th.add(k.ask())
			s = strings.ToLower(s)
		}
		id := fmt.Sprint(session, i)
		if s == "" {
			th.add(k.turn("Go on "+fmt.Sprint(i), said("Done with this.")))
			continue
		}
		th.add(k.turn(result(id, "result "+id), use(id, s, fields{"path": s})))
	}
	return &th
}

func TestAlignPairsTurns(t *testing.T) {
	for _, c := range []struct {
		a, b *tester
		want string
	}{
		{run("x", "Fix it", "read", "edit", "test", ""), run("y", "Fix it", "read", "edit", "test", ""), "1-1 2-2 3-3 4-4"},
		// One reads twice.
		{run("x", "Fix it", "read", "edit", "test", ""), run("y", "Fix it", "read", "list", "edit", "test", ""), "1-1 0-2 2-3 3-4 4-5"},
		{run("x", "Fix it", "read", "list", "edit", "test", ""), run("y", "Fix it", "read", "edit", "test", ""), "1-1 2-0 3-2 4-3 5-4"},
		// A retry counts once.
		{run("x", "Fix it", "read", "EDIT", ""), run("y", "Fix it", "read", "edit", ""), "1-1 3-2 4-3"},
		// Another prompt, the same system prompt.
		{run("x", "Fix it", "read", ""), run("y", "Mend it", "read", ""), "1-1 2-2"},
		{run("x", "Fix it", "read", ""), &tester{}, "1-0 2-0"},
		{&tester{}, run("x", "Fix it", "read", ""), "0-1 0-2"},
	} {
		if got := pairs(Align(&c.a.Threads, &c.b.Threads)); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestAlignPairsConversations(t *testing.T) {
	session := func(order ...string) *Threads {
		var th tester
		k := newTalk("s", "Research")
		th.add(k.turn(append(result("a", "x"), result("b", "y")...), use("a", "Task", fields{"prompt": "Tea"}), use("b", "Task", fields{"prompt": "Coffee"})))
		title := newTalk("s", "Research")
		title.tools, title.system = nil, []any{said("Write a title.")}
		th.add(title.ask(said("Research")))
		for _, prompt := range order {
			sub := newTalk("s", prompt)
			sub.system = []any{said("You are a sub-agent.")}
			th.add(sub.ask(said("About " + prompt)))
		}
		th.add(k.ask(said("Both are drinks.")))
		return &th.Threads
	}
	if got := pairs(Align(session("Tea", "Coffee"), session("Coffee", "Tea"))); got != "1-1 5-5 2-2 3-4 4-3" {
		t.Error(got)
	}
	if got := pairs(Align(session("Tea", "Coffee"), session("Coffee"))); got != "1-1 5-4 2-2 3-0 4-3" {
		t.Error(got)
	}
}

func TestAlignLongRuns(t *testing.T) {
	a, b := &Threads{}, &Threads{}
	for i := range 2500 {
		c := &Call{API: Responses, ID: fmt.Sprint(i), Messages: []Message{{Role: "user", Blocks: []Block{{Kind: Text, Text: fmt.Sprint("question ", i)}}}},
			Answer: []Message{{Role: "assistant", Blocks: []Block{{Kind: Text, Text: fmt.Sprint("answer ", i)}}}}}
		if i > 0 {
			c.Previous = fmt.Sprint(i - 1)
		}
		a.Add(Turn{Ref: Ref{Flow: int64(i + 1)}, Call: c})
		b.Add(Turn{Ref: Ref{Flow: int64(i + 1)}, Call: c})
	}
	list := Align(a, b)
	if len(list) != 2500 || list[2499].A.Flow != 2500 || list[2499].B.Flow != 2500 {
		t.Error(len(list))
	}
}
