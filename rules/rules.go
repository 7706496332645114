// Package rules says what is to be changed of chosen requests and answers.
//
//	set, err := rules.Parse("rules.json", text, rules.Loader{})
//	plan := set.For(&rules.Request{Host: "api.example.com", Method: "POST", Path: "/v1/messages"})
//
// A [Set] is read from a file (docs/rules.md) or made of [Rule]s. It decides and
// counts; it carries nothing and waits for nothing: whoever relays does what a [Plan]
// says, and says so in the record.
package rules

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"time"

	"trace/flow"
)

// A Request is what rules choose by.
type Request struct {
	Host    string // of the connection: server name, else the name looked up, else the address
	Port    int
	Process *flow.Process // nil: not known
	Method  string
	Path    string // with the query
	Fields  []flow.Field
}

// A Rule says which requests it is for, and what becomes of them. Its fields are set
// before it is added to a Set.
type Rule struct {
	Name string // for people

	// Globs, of which one must match; none: all do. A * stands for any characters, a
	// ? for one.
	Host    []string // host, or host:port where the glob has a colon
	Path    []string // without the query
	Method  []string
	Process []string         // path of the executable, its base name, or the command line
	Regexp  []*regexp.Regexp // of the path with its query; one must match
	Header  []flow.Field     // name, and glob of a value; all must match
	When    func(*Request) bool

	First    int64   // applies to so many of the matching requests, then no more; 0: all
	Fraction float64 // applies to this part of them; 0: all
	Seed     uint64  // of the choice

	Request  Edit
	Response Edit
	Answer   *Answer                // instead of the server's
	Give     func(*Request) *Answer // as Answer; nil result: the rule does not apply
	Delay    time.Duration          // before the request goes on, or is answered
	Throttle int64                  // bytes a second of the answer's body; 0: all that goes
	CutAfter int                    // events of the answer; 0: it is not cut

	mu    sync.Mutex // guards what follows
	calls int64
	dice  *rand.Rand
}

// An Edit changes a message.
type Edit struct {
	Set    []flow.Field
	Remove []string // names of fields
	JSON   []JSONEdit
}

// A JSONEdit puts a value at a path of a JSON body.
type JSONEdit struct {
	Path  string
	Value []byte // JSON
}

// An Answer is what a request is answered with.
type Answer struct {
	Status int
	Fields []flow.Field // without those that frame the body
	Body   []byte       // without content coding
}

// A Set is the rules of a run. The zero value has none. It is safe for concurrent use
// once its rules were added.
type Set struct{ rules []*Rule }

// Add adds a rule behind the others.
func (s *Set) Add(r *Rule) {
	r.dice = rand.New(rand.NewPCG(r.Seed, 0))
	s.rules = append(s.rules, r)
}

// With returns a set of the rules of s, which goes on counting them, and one behind them.
func (s *Set) With(r *Rule) *Set {
	w := &Set{}
	if s != nil {
		w.rules = append(w.rules, s.rules...)
	}
	w.Add(r)
	return w
}

// Len returns how many rules there are.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.rules)
}

// May tells whether any rule can match a request on a connection.
func (s *Set) May(host string, port int, p *flow.Process) bool {
	if s == nil {
		return false
	}
	for _, r := range s.rules {
		if r.connection(host, port, p) {
			return true
		}
	}
	return false
}

// A Plan is what is to be done with a request.
type Plan struct {
	Names    []string // of the rules that apply
	Request  Edit
	Response Edit
	Answer   *Answer // nil: the server answers
	Delay    time.Duration
	Throttle int64
	CutAfter int
}

// For returns what is to be done with a request, nil if no rule applies. Rules apply in
// their order, up to the first that answers.
func (s *Set) For(q *Request) *Plan {
	var p *Plan
	for _, r := range s.rules {
		if !r.connection(q.Host, q.Port, q.Process) || !r.matches(q) || !r.counts() {
			continue
		}
		answer := r.Answer
		if r.Give != nil {
			if answer = r.Give(q); answer == nil {
				continue
			}
		}
		if p == nil {
			p = &Plan{}
		}
		p.add(r)
		if answer != nil {
			p.Answer = answer
			break
		}
	}
	return p
}

func (p *Plan) add(r *Rule) {
	p.Names = append(p.Names, r.Name)
	p.Request.add(&r.Request)
	p.Response.add(&r.Response)
	p.Delay += r.Delay
	if r.Throttle > 0 && (p.Throttle == 0 || r.Throttle < p.Throttle) {
		p.Throttle = r.Throttle
	}
	if r.CutAfter > 0 && (p.CutAfter == 0 || r.CutAfter < p.CutAfter) {
		p.CutAfter = r.CutAfter
	}
}

func (e *Edit) add(more *Edit) {
	e.Set = append(e.Set, more.Set...)
	e.Remove = append(e.Remove, more.Remove...)
	e.JSON = append(e.JSON, more.JSON...)
}

// String names the rules.
func (p *Plan) String() string {
	if len(p.Names) == 1 {
		return "rule " + p.Names[0]
	}
	return "rules " + strings.Join(p.Names, ", ")
}

// connection tells whether the rule may match on a connection.
func (r *Rule) connection(host string, port int, p *flow.Process) bool {
	return (len(r.Host) == 0 || any1(r.Host, func(g string) bool {
		if strings.Contains(g, ":") && globMatches(lower(g), fmt.Sprintf("%s:%d", lower(host), port)) {
			return true
		}
		return globMatches(lower(g), lower(host))
	})) && (len(r.Process) == 0 || p != nil && any1(r.Process, func(g string) bool {
		return globMatches(g, p.Exe) || globMatches(g, p.Name()) || globMatches(g, strings.Join(p.Argv, " "))
	}))
}

// matches tells whether a request on such a connection is one for the rule.
func (r *Rule) matches(q *Request) bool {
	path, _, _ := strings.Cut(q.Path, "?")
	switch {
	case len(r.Method) > 0 && !any1(r.Method, func(g string) bool { return globMatches(g, q.Method) }):
		return false
	case len(r.Path) > 0 && !any1(r.Path, func(g string) bool { return globMatches(g, path) }):
		return false
	case len(r.Regexp) > 0 && !any1(r.Regexp, func(x *regexp.Regexp) bool { return x.MatchString(q.Path) }):
		return false
	}
	for _, h := range r.Header {
		if !any1(q.Fields, func(f flow.Field) bool { return strings.EqualFold(f.Name, h.Name) && globMatches(h.Value, f.Value) }) {
			return false
		}
	}
	return r.When == nil || r.When(q)
}

// counts counts a matching request, and tells whether the rule is for it.
func (r *Rule) counts() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.First > 0 && r.calls >= r.First {
		return false
	}
	if r.Fraction > 0 && r.dice.Float64() >= r.Fraction {
		return false
	}
	r.calls++
	return true
}

func lower(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

func any1[T any](all []T, is func(T) bool) bool {
	for _, one := range all {
		if is(one) {
			return true
		}
	}
	return false
}

// globMatches matches the whole of s.
func globMatches(glob, s string) bool {
	star, back := -1, 0
	g, i := 0, 0
	for i < len(s) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, back = g, i
			g++
		case g < len(glob) && (glob[g] == '?' || glob[g] == s[i]):
			g++
			i++
		case star >= 0:
			back++
			g, i = star+1, back
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}
