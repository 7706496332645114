package rules

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"trace/flow"
)

const example = `// comment with "quotes" and , ]
{
  "rules": [
    {"name": "a // b", "match": {"host": ["API.example.*", "[::1]:8080"], "path": "/v1/*", "method": "POST", "process": "claude", "header": {"x-a": "*b*"}},
     "first": 2, "answer": {"status": 429, "body": {"a": [1, 2, /* here */ 3,],},}},
    {"match": {"path_regexp": "^/v1/x\\?"}, "request": {"set_header": {"A": ["1", "2"]}, "remove_header": "b", "set_json": {"m.n[0]": {"x": 1.50}}}},
    {"fraction": 0.5, "seed": 7, "delay": "1.5s", "throttle": "2K", "cut_after_events": 3}, /* last */
  ],
}`

func TestParse(t *testing.T) {
	s, err := Parse("r.json", []byte(example), Loader{})
	if err != nil || s.Len() != 3 {
		t.Fatal(s, err)
	}
	p := &flow.Process{Exe: "/usr/bin/claude"}
	q := &Request{Host: "api.example.com", Port: 443, Process: p, Method: "POST", Path: "/v1/x?y", Fields: []flow.Field{{Name: "X-A", Value: "abc"}}}
	plan := s.rules[0]
	if !plan.connection(q.Host, q.Port, p) || !plan.connection("[::1]", 8080, p) || plan.connection("api.example.com", 443, nil) || plan.connection("example.com", 443, p) {
		t.Error("connections")
	}
	got := s.For(q)
	if got == nil || got.Answer == nil || got.Answer.Status != 429 || string(got.Answer.Body) != `{"a":[1,2,3]}` || fieldsText(got.Answer.Fields) != "Content-Type: application/json\n" || got.String() != `rule "a // b" (r.json:4)` {
		t.Errorf("%+v %v", got, got)
	}
	s.For(q)
	if got = s.For(q); got == nil || got.Answer != nil || len(got.Request.JSON) != 1 || string(got.Request.JSON[0].Value) != `{"x":1.50}` {
		t.Errorf("the third: %+v", got)
	}
	in := []flow.Field{{Name: "x", Value: "0"}, {Name: "a", Value: "old"}, {Name: "B", Value: "y"}, {Name: "a", Value: "older"}}
	if text := fieldsText(got.Request.Fields(in)); text != "x: 0\na: 1\na: 2\n" {
		t.Error(text)
	}
}

func fieldsText(fields []flow.Field) string {
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
	}
	return b.String()
}

// TestFraction: the same seed chooses the same calls, and about the right part.
func TestFraction(t *testing.T) {
	choose := func(seed string) string {
		s, err := Parse("r.json", []byte(`{"rules": [{"fraction": 0.25, "seed": `+seed+`, "delay": "1s"}]}`), Loader{})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for range 400 {
			if s.For(&Request{}) != nil {
				b.WriteByte('1')
			} else {
				b.WriteByte('0')
			}
		}
		return b.String()
	}
	a, n := choose("1"), strings.Count(choose("1"), "1")
	if a != choose("1") || a == choose("2") || n < 70 || n > 130 {
		t.Errorf("%d of 400: %s", n, a)
	}
}

// TestMistakes: each is said, with its line.
func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "1: this is no JSON",
		"{\n \"rules\": [ {\"delay\" 1} ]\n}":  "2: this is no JSON",
		"{\"rules\": [\n\n{\"delay\": \"1s\"}": "3: this is no JSON: the file ends",
		"{\"rules\": []} 1":                    "1: this is no JSON: something follows",
		"[]":                                   "1: the file: want an object, not an array",
		"{}":                                   `1: "rules" is missing`,
		"{\"rules\":\n{}}":                     "2: rules: want an array, not an object",
		"{\"rules\": [\n1]}":                   "2: a rule: want an object, not a number",
		"{\"rules\": [\n{}]}":                  "2: the rule does nothing",
		"{\"rules\": [{\"delay\":\n\"1s\",\n\"delay\": \"2s\"}]}":                  "3: \"delay\" stands here again (first in line 1)",
		"{\"rules\": [{\"throttle\":\n\"fast\"}]}":                                 "2: throttle: want",
		"{\"rules\": [{\"first\": 0.5, \"delay\": \"1s\"}]}":                       "1: first: want a whole number from 1",
		"{\"rules\": [{\"fraction\": 1.5, \"delay\": \"1s\"}]}":                    "1: fraction: want",
		"{\"rules\": [{\"match\": {\"host\": []}, \"delay\": \"1s\"}]}":            "1: host is empty",
		"{\"rules\": [{\"request\": {\"set_header\": {\"a\": \"b\\nc\"}}}]}":       "1: set_header: the value of \"a\"",
		"{\"rules\": [{\"request\": {\"set_header\": {\"Host\": \"b\"}}}]}":        "1: Host frames",
		"{\"rules\": [{\"response\": {\"set_json\": {\"a[\": 1}}}]}":               "1: set_json: path",
		"{\"rules\": [{\"answer\": {}, \"request\": {\"remove_header\": \"a\"}}]}": "1: answer excludes",
		"{\"rules\": [{\"answer\":\n {\"file\": \"a\", \"body\": \"b\"}}]}":        "2: answer: body, file and flow exclude",
	} {
		_, err := Parse("f", []byte(text), Loader{})
		var ms Mistakes
		if !errors.As(err, &ms) || !strings.HasPrefix(err.Error(), "f:"+want) {
			t.Errorf("%s\n→ %v, want %s", text, err, want)
		}
	}
	_, err := Parse("f", []byte(`{"rules": [{"answer": {"file": "x"}}, {"answer": {"flow": "s/1"}}, {"dealy": 1}]}`), Loader{
		File: func(string) ([]byte, error) { return nil, errors.New("no file") },
		Flow: func(string) (*Answer, error) { return nil, errors.New("no flow") },
	})
	if n := strings.Count(fmt.Sprint(err), "f:1: "); n != 3 {
		t.Errorf("%d mistakes: %v", n, err)
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		glob, s string
		want    bool
	}{
		{"*", "", true}, {"", "", true}, {"", "a", false}, {"a*c", "abbc", true}, {"a*c", "abcd", false}, {"*b*", "abc", true}, {"a?c", "abc", true}, {"a?c", "ac", false},
		{"*.example.com", "api.example.com", true}, {"*.example.com", "example.com", false}, {"/v1/*/x", "/v1/a/b/x", true}, {"**a", "ba", true},
	} {
		if globMatches(c.glob, c.s) != c.want {
			t.Errorf("%q %q", c.glob, c.s)
		}
	}
}

// TestAdded: what others add decides by a function, and may answer by one.
func TestAdded(t *testing.T) {
	var s Set
	over := false
	s.Add(&Rule{Name: "budget", Host: []string{"api.*"}, When: func(q *Request) bool { return over && q.Method == "POST" },
		Give: func(q *Request) *Answer { return &Answer{Status: 429, Body: []byte(q.Path)} }})
	q := &Request{Host: "api.x", Method: "POST", Path: "/p"}
	if s.For(q) != nil || !s.May("api.x", 1, nil) || s.May("x", 1, nil) {
		t.Error("before")
	}
	over = true
	if p := s.For(q); p == nil || p.Answer == nil || string(p.Answer.Body) != "/p" {
		t.Errorf("%+v", p)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("{\"rules\": [{\"delay\": /*"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := Parse("f", text, Loader{}); err == nil {
			s.For(&Request{Host: "a", Path: "/"})
		}
		if len(blank(text)) != len(text) {
			t.Error("blank moved something")
		}
	})
}
