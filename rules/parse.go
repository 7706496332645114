package rules

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"trace/flow"
	"trace/replay"
)

// A Mistake is what is wrong in a file of rules, and where.
type Mistake struct {
	File    string
	Line    int
	Message string
}

// Error implements error.
func (m Mistake) Error() string { return fmt.Sprintf("%s:%d: %s", m.File, m.Line, m.Message) }

// Mistakes are all of a file's.
type Mistakes []Mistake

// Error is a line each.
func (ms Mistakes) Error() string {
	lines := make([]string, len(ms))
	for i, m := range ms {
		lines[i] = m.Error()
	}
	return strings.Join(lines, "\n")
}

// A Loader reads what rules name. Where a function is nil there is nothing to be named.
type Loader struct {
	File func(path string) ([]byte, error) // an answer's body
	Flow func(id string) (*Answer, error)  // the answer of a recorded flow
}

// Parse reads a file of rules. The error is Mistakes.
func Parse(name string, text []byte, l Loader) (*Set, error) {
	p := &parser{name: name, load: l}
	root, err := parse(text)
	if err != nil {
		m := err.(Mistake)
		p.wrong(m.Line, "%s", m.Message)
		return nil, p.all
	}
	set := &Set{}
	p.members(root, "the file", map[string]func(*node){"rules": func(n *node) {
		for _, item := range p.array(n, "rules") {
			set.Add(p.rule(item))
		}
	}})
	if root.token == json.Delim('{') && len(root.members) == 0 {
		p.wrong(root.line, `"rules" is missing`)
	}
	if len(p.all) > 0 {
		return nil, p.all
	}
	return set, nil
}

// A parser collects mistakes.
type parser struct {
	name string
	load Loader
	all  Mistakes
}

func (p *parser) wrong(line int, format string, args ...any) {
	p.all = append(p.all, Mistake{p.name, line, fmt.Sprintf(format, args...)})
}

// members calls what takes each member of an object.
func (p *parser) members(n *node, what string, take map[string]func(*node)) {
	if n.token != json.Delim('{') {
		p.wrong(n.line, "%s: want an object, not %s", what, n.kind())
		return
	}
	for _, m := range n.members {
		if f := take[m.name]; f != nil {
			f(m.node)
			continue
		}
		p.wrong(m.line, "%s has no %q%s", what, m.name, nearest(m.name, take))
	}
}

// nearest offers the name that was probably meant.
func nearest(name string, take map[string]func(*node)) string {
	flat := func(s string) string {
		return strings.NewReplacer("_", "", "-", "", "s", "").Replace(strings.ToLower(s))
	}
	for known := range take {
		if flat(known) == flat(name) {
			return fmt.Sprintf(" (did you mean %q?)", known)
		}
	}
	return ""
}

func (p *parser) array(n *node, what string) []*node {
	if n.token != json.Delim('[') {
		p.wrong(n.line, "%s: want an array, not %s", what, n.kind())
	}
	return n.items
}

func (p *parser) str(n *node, what string) string {
	s, ok := n.token.(string)
	switch {
	case !ok:
		p.wrong(n.line, "%s: want a string, not %s", what, n.kind())
	case s == "":
		p.wrong(n.line, "%s is empty", what)
	}
	return s
}

// strs takes a string, or an array of them.
func (p *parser) strs(n *node, what string) (all []string) {
	if n.token != json.Delim('[') {
		return []string{p.str(n, what)}
	}
	for _, item := range n.items {
		all = append(all, p.str(item, what))
	}
	if len(all) == 0 {
		p.wrong(n.line, "%s is empty", what)
	}
	return all
}

func (p *parser) whole(n *node, what string, least, most int64) int64 {
	number, ok := n.token.(json.Number)
	i, err := number.Int64()
	if !ok || err != nil || i < least || i > most {
		if most == math.MaxInt64 {
			p.wrong(n.line, "%s: want a whole number from %d, not %s", what, least, short(n))
		} else {
			p.wrong(n.line, "%s: want a whole number from %d to %d, not %s", what, least, most, short(n))
		}
		return least
	}
	return i
}

// short is a value for a message.
func short(n *node) string {
	if len(n.text) > 40 {
		return n.kind()
	}
	return string(n.text)
}

// rule reads one rule.
func (p *parser) rule(n *node) *Rule {
	r := &Rule{Name: fmt.Sprintf("%s:%d", p.name, n.line)}
	before := len(p.all)
	p.members(n, "a rule", map[string]func(*node){
		"name":             func(n *node) { r.Name = fmt.Sprintf("%q (%s)", p.str(n, "name"), r.Name) },
		"match":            func(n *node) { p.match(r, n) },
		"first":            func(n *node) { r.First = p.whole(n, "first", 1, math.MaxInt64) },
		"fraction":         func(n *node) { r.Fraction = p.fraction(n) },
		"seed":             func(n *node) { r.Seed = uint64(p.whole(n, "seed", 0, math.MaxInt64)) },
		"delay":            func(n *node) { r.Delay = p.duration(n) },
		"throttle":         func(n *node) { r.Throttle = p.rate(n) },
		"cut_after_events": func(n *node) { r.CutAfter = int(p.whole(n, "cut_after_events", 1, math.MaxInt32)) },
		"request":          func(n *node) { r.Request = p.edit(n, "request") },
		"response":         func(n *node) { r.Response = p.edit(n, "response") },
		"answer":           func(n *node) { r.Answer = p.answer(n) },
	})
	idle := r.Delay == 0 && r.Throttle == 0 && r.CutAfter == 0 && r.Answer == nil && r.Request.empty() && r.Response.empty()
	if idle && len(p.all) == before {
		p.wrong(n.line, "the rule does nothing: want request, response, answer, delay, throttle or cut_after_events")
	}
	if r.Answer != nil && !(r.Request.empty() && r.Response.empty()) {
		p.wrong(n.line, "answer excludes request and response: nothing is sent to the server")
	}
	return r
}

func (e *Edit) empty() bool { return len(e.Set) == 0 && len(e.Remove) == 0 && len(e.JSON) == 0 }

func (p *parser) match(r *Rule, n *node) {
	p.members(n, "match", map[string]func(*node){
		"host":    func(n *node) { r.Host = p.strs(n, "host") },
		"path":    func(n *node) { r.Path = p.strs(n, "path") },
		"method":  func(n *node) { r.Method = p.strs(n, "method") },
		"process": func(n *node) { r.Process = p.strs(n, "process") },
		"header":  func(n *node) { r.Header = p.fields(n, "header") },
		"path_regexp": func(n *node) {
			for _, s := range p.strs(n, "path_regexp") {
				x, err := regexp.Compile(s)
				if err != nil {
					p.wrong(n.line, "path_regexp: %v", err)
					continue
				}
				r.Regexp = append(r.Regexp, x)
			}
		},
	})
}

func (p *parser) fraction(n *node) float64 {
	number, _ := n.token.(json.Number)
	f, err := number.Float64()
	if err != nil || !(f > 0 && f <= 1) {
		p.wrong(n.line, "fraction: want a number above 0, at most 1, not %s", short(n))
	}
	return f
}

func (p *parser) duration(n *node) time.Duration {
	s, _ := n.token.(string)
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		p.wrong(n.line, `delay: want a duration such as "1.5s" or "200ms", not %s`, short(n))
	}
	return d
}

// rate is a number of bytes a second, as a number or with K or M behind it.
func (p *parser) rate(n *node) int64 {
	if s, ok := n.token.(string); ok {
		digits, shift := strings.ToUpper(s), 0
		for i, unit := range []string{"K", "M", "G"} {
			if d, ok := strings.CutSuffix(digits, unit); ok {
				digits, shift = d, 10*(i+1)
				break
			}
		}
		if v, err := strconv.ParseInt(digits, 10, 32); err == nil && v > 0 {
			return v << shift
		}
		p.wrong(n.line, `throttle: want bytes a second such as 2000, "64K" or "1M", not %s`, short(n))
		return 1
	}
	return p.whole(n, "throttle", 1, math.MaxInt64)
}

// edit reads what is to be changed of a message.
func (p *parser) edit(n *node, what string) (e Edit) {
	p.members(n, what, map[string]func(*node){
		"set_header": func(n *node) { e.Set = p.unframed(n, p.fields(n, "set_header")) },
		"remove_header": func(n *node) {
			e.Remove = p.strs(n, "remove_header")
			for _, name := range e.Remove {
				p.fieldName(n.line, name)
			}
		},
		"set_json": func(n *node) {
			if n.token != json.Delim('{') {
				p.wrong(n.line, "set_json: want an object of paths and values, not %s", n.kind())
			}
			for _, m := range n.members {
				if err := replay.CheckPath(m.name); err != nil {
					p.wrong(m.line, "set_json: %v", err)
				}
				e.JSON = append(e.JSON, JSONEdit{m.name, compact(m.node.text)})
			}
		},
	})
	return e
}

func compact(text []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return text // it was read already
	}
	return b.Bytes()
}

// fields reads an object of names and values, of which each may be an array.
func (p *parser) fields(n *node, what string) (all []flow.Field) {
	if n.token != json.Delim('{') {
		p.wrong(n.line, "%s: want an object of names and values, not %s", what, n.kind())
	}
	for _, m := range n.members {
		p.fieldName(m.line, m.name)
		items := m.node.items
		if m.node.token != json.Delim('[') {
			items = []*node{m.node}
		}
		for _, v := range items {
			s, ok := v.token.(string)
			if !ok || strings.ContainsAny(s, "\r\n\x00") {
				p.wrong(v.line, "%s: the value of %q: want a string without line breaks", what, m.name)
			}
			all = append(all, flow.Field{Name: m.name, Value: s})
		}
	}
	return all
}

// framing are the fields that say where a body ends, or how a connection goes on.
var framing = []string{"content-length", "transfer-encoding", "connection", "upgrade", "trailer", "te", "host"}

func isFraming(name string) bool {
	return any1(framing, func(s string) bool { return strings.EqualFold(s, name) })
}

// unframed reports fields that are not for rules to set.
func (p *parser) unframed(n *node, fields []flow.Field) []flow.Field {
	for _, f := range fields {
		if isFraming(f.Name) {
			p.wrong(n.line, "%s frames the message or names the server, and cannot be set", f.Name)
		}
	}
	return fields
}

func (p *parser) fieldName(line int, name string) {
	valid := name != ""
	for _, c := range []byte(name) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		valid = valid && (letter || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0)
	}
	if !valid {
		p.wrong(line, "%q is no name of a header field", name)
	}
}

// answer reads what a request is answered with.
func (p *parser) answer(n *node) *Answer {
	a := &Answer{}
	var recorded *Answer
	sources, typed := 0, false
	var kind string
	p.members(n, "answer", map[string]func(*node){
		"status": func(n *node) { a.Status = int(p.whole(n, "status", 200, 599)) },
		"header": func(n *node) { a.Fields = p.unframed(n, p.fields(n, "header")) },
		"body": func(n *node) {
			sources++
			if s, ok := n.token.(string); ok {
				a.Body, kind = []byte(s), "text/plain; charset=utf-8"
				return
			}
			a.Body, kind = compact(n.text), "application/json"
		},
		"file": func(n *node) {
			sources++
			name := p.str(n, "file")
			kind = kindOf(name)
			if p.load.File == nil || name == "" {
				return
			}
			var err error
			if a.Body, err = p.load.File(name); err != nil {
				p.wrong(n.line, "file: %v", err)
			}
		},
		"flow": func(n *node) {
			sources++
			id := p.str(n, "flow")
			if p.load.Flow == nil || id == "" {
				return
			}
			var err error
			if recorded, err = p.load.Flow(id); err != nil {
				p.wrong(n.line, "flow: %v", err)
			}
		},
	})
	if sources > 1 {
		p.wrong(n.line, "answer: body, file and flow exclude each other")
	}
	if recorded != nil {
		own := Edit{Set: a.Fields}
		a.Fields, a.Body = own.Fields(recorded.Fields), recorded.Body
		a.Status = cmp.Or(a.Status, recorded.Status)
	}
	a.Status = cmp.Or(a.Status, 200)
	for _, f := range a.Fields {
		typed = typed || strings.EqualFold(f.Name, "content-type")
	}
	if !typed && kind != "" {
		a.Fields = append([]flow.Field{{Name: "Content-Type", Value: kind}}, a.Fields...)
	}
	return a
}

// kindOf guesses the type of a file that an answer's body is read from.
func kindOf(name string) string {
	switch name[strings.LastIndexByte(name, '.')+1:] {
	case "json":
		return "application/json"
	case "sse", "events":
		return "text/event-stream"
	case "ndjson", "jsonl":
		return "application/x-ndjson"
	case "html":
		return "text/html; charset=utf-8"
	case "txt":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}
