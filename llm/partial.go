package llm

import (
	"encoding/json"
	"strconv"
	"strings"
)

// A partialCall is a call of a function whose arguments are streamed: each
// piece names a place in them by a JSONPath and what stands there.
type partialCall struct {
	o    object // as it was told, without the arguments
	args node
	any  bool
	open bool
	odd  []json.RawMessage // pieces whose place is not understood
}

// piece takes a functionCall.
func (c *partialCall) piece(f object) {
	c.open = false
	for _, m := range f {
		switch m.Name {
		case "willContinue", "will_continue":
			c.open = kind(m.Value) == 't'
		case "partialArgs", "partial_args":
			for _, raw := range elements(m.Value) {
				c.any = true
				if !c.put(members(raw)) {
					c.odd = append(c.odd, raw)
				}
			}
		default:
			if s := text(m.Value); kind(m.Value) != '"' || s != "" {
				c.o = c.o.set(m.Name, m.Value)
			}
		}
	}
}

// raw returns the functionCall as it would be without streaming.
func (c *partialCall) raw() json.RawMessage {
	o := c.o
	if c.any && !o.has("args") {
		if c.args.kind == 0 {
			c.args.kind = '{'
		}
		o = o.set("args", c.args.raw())
	}
	if c.odd != nil {
		o = o.set("partialArgs", array(c.odd))
	}
	return o.raw()
}

// put writes the value of an element of partialArgs.
func (c *partialCall) put(o object) bool {
	path, ok := jsonPath(o.bothText("jsonPath"))
	if !ok {
		return false
	}
	n := &c.args
	for _, step := range path {
		if n = n.child(step); n == nil {
			return false
		}
	}
	for _, m := range o {
		switch m.Name {
		case "stringValue", "string_value":
			if n.kind != '"' {
				*n = node{kind: '"'}
			}
			n.text.WriteString(text(m.Value))
		case "numberValue", "number_value", "boolValue", "bool_value":
			if k := kind(m.Value); k == '{' || k == '[' {
				return false
			}
			n.kind, n.value = '0', m.Value
		case "nullValue", "null_value":
			n.kind, n.value = '0', json.RawMessage("null")
		}
	}
	return true
}

// A node is a JSON value that is being written. Its kind is that of kind, '0'
// for whatever value holds.
type node struct {
	kind  byte
	value json.RawMessage
	text  strings.Builder
	names []string
	inner []*node
	index map[string]int
}

// maxPlaces bounds the index of an array that a server names.
const maxPlaces = 16

// child returns the value under a name, or under a number in an array.
func (n *node) child(step string) *node {
	if number, isIndex := strings.CutPrefix(step, "#"); isIndex {
		i, err := strconv.Atoi(number)
		if n.kind == 0 {
			n.kind = '['
		}
		if err != nil || n.kind != '[' || i < 0 || i > len(n.inner)+maxPlaces {
			return nil
		}
		for len(n.inner) <= i {
			n.inner = append(n.inner, &node{})
		}
		return n.inner[i]
	}
	if n.kind == 0 {
		n.kind, n.index = '{', map[string]int{}
	}
	if n.kind != '{' {
		return nil
	}
	i, ok := n.index[step]
	if !ok {
		i = len(n.inner)
		n.index[step] = i
		n.names, n.inner = append(n.names, step), append(n.inner, &node{})
	}
	return n.inner[i]
}

func (n *node) raw() json.RawMessage {
	switch n.kind {
	case '{':
		var o object
		for i, c := range n.inner {
			o = append(o, Param{n.names[i], c.raw()})
		}
		return o.raw()
	case '[':
		var list []json.RawMessage
		for _, c := range n.inner {
			list = append(list, c.raw())
		}
		return array(list)
	case '"':
		return quote(n.text.String())
	case '0':
		return n.value
	}
	return json.RawMessage("null")
}

// maxPath bounds how deep a path goes: it is followed by recursion.
const maxPath = 200

// jsonPath splits a JSONPath (RFC 9535) of names and indexes: numbers are
// returned with "#" before them, and so no name may begin with it.
func jsonPath(s string) (path []string, ok bool) {
	s, ok = strings.CutPrefix(s, "$")
	for ok && s != "" {
		var step string
		switch {
		case s[0] == '.':
			end := strings.IndexAny(s[1:], ".[") + 1
			if end == 0 {
				end = len(s)
			}
			step, s = s[1:end], s[end:]
		case strings.HasPrefix(s, "['"), strings.HasPrefix(s, `["`):
			end := strings.Index(s[2:], s[1:2]+"]")
			if end < 0 {
				return nil, false
			}
			step, s = s[2:2+end], s[4+end:]
		case s[0] == '[':
			end := strings.IndexByte(s, ']')
			if end < 0 {
				return nil, false
			}
			path = append(path, "#"+s[1:end])
			s = s[end+1:]
			continue
		default:
			return nil, false
		}
		if step == "" || step[0] == '#' || len(path) == maxPath {
			return nil, false
		}
		path = append(path, step)
	}
	return path, ok && len(path) > 0 && len(path) <= maxPath
}
