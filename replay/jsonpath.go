package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A step of a path is a member's name or, where index is set, an element.
type step struct {
	name  string
	index bool
	n     int // of an element; negative: from the end
}

// parsePath reads a path such as model, messages[0].content, .a.b or
// ["odd.name"][-1]. Numbers between dots are indexes of arrays as well.
func parsePath(s string) ([]step, error) {
	var steps []step
	rest := strings.TrimPrefix(strings.TrimPrefix(s, "$"), ".")
	for rest != "" {
		switch {
		case rest[0] == '[':
			end := strings.IndexByte(rest, ']')
			if len(rest) > 1 && rest[1] == '"' {
				q, err := strconv.QuotedPrefix(rest[1:])
				if err != nil || !strings.HasPrefix(rest[1+len(q):], "]") {
					return nil, fmt.Errorf("path %q: a quoted name does not end with \"]", s)
				}
				name, _ := strconv.Unquote(q)
				steps, end = append(steps, step{name: name}), 1+len(q)
			} else {
				if end < 0 {
					return nil, fmt.Errorf("path %q: no ] behind [", s)
				}
				n, err := strconv.Atoi(rest[1:end])
				if err != nil {
					return nil, fmt.Errorf("path %q: %q is no index", s, rest[1:end])
				}
				steps = append(steps, step{index: true, n: n})
			}
			rest = strings.TrimPrefix(rest[end+1:], ".")
		default:
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return nil, fmt.Errorf("path %q: a name is missing", s)
			}
			steps = append(steps, step{name: rest[:end]})
			rest = strings.TrimPrefix(rest[end:], ".")
		}
	}
	if len(steps) == 0 {
		return nil, errors.New("path is empty")
	}
	return steps, nil
}

// SetJSON returns body with the value at a path replaced, and every other byte
// as it was. edit is PATH=VALUE; a VALUE that is no JSON stands for itself as a
// string. A missing member is added to its object, and an index one beyond the
// end adds to its array.
func SetJSON(body []byte, edit string) ([]byte, error) {
	path, value, ok := strings.Cut(edit, "=")
	if !ok {
		return nil, fmt.Errorf("set %q: want PATH=VALUE", edit)
	}
	steps, err := parsePath(path)
	if err != nil {
		return nil, fmt.Errorf("set %q: %w", edit, err)
	}
	if !json.Valid(body) {
		return nil, fmt.Errorf("set %q: the body is not JSON", path)
	}
	text := []byte(value)
	if !json.Valid(text) {
		if text, err = flowString(value); err != nil {
			return nil, err
		}
	}
	e := editor{b: body}
	out, err := e.set(e.space(0), steps, text)
	if err != nil {
		return nil, fmt.Errorf("set %q: %w", path, err)
	}
	return out, nil
}

// CheckPath reports whether a path of SetJSON can be read.
func CheckPath(path string) error {
	_, err := parsePath(path)
	return err
}

// ReplaceJSON does what SetJSON does with a value that is JSON, and returns also what
// stood there, nil if nothing did.
func ReplaceJSON(body []byte, path string, value []byte) (out, old []byte, err error) {
	steps, err := parsePath(path)
	if err != nil {
		return nil, nil, err
	}
	if !json.Valid(body) {
		return nil, nil, errors.New("the body is not JSON")
	}
	e := editor{b: body, old: &old}
	if out, err = e.set(e.space(0), steps, value); err != nil {
		return nil, nil, fmt.Errorf("path %q: %w", path, err)
	}
	return out, old, nil
}

// flowString writes a JSON string.
func flowString(s string) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(s)
	return []byte(strings.TrimSuffix(b.String(), "\n")), err
}

// An editor walks valid JSON.
type editor struct {
	b   []byte
	old *[]byte // gets what was replaced; may be nil
}

// space returns where the white space at i ends.
func (e editor) space(i int) int {
	for i < len(e.b) && strings.IndexByte(" \t\r\n", e.b[i]) >= 0 {
		i++
	}
	return i
}

// str returns where the string that begins at i ends.
func (e editor) str(i int) int {
	for i++; e.b[i] != '"'; i++ {
		if e.b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// value returns where the value that begins at i ends.
func (e editor) value(i int) int {
	switch e.b[i] {
	case '"':
		return e.str(i)
	case '{', '[':
		depth := 0
		for ; ; i++ {
			switch e.b[i] {
			case '"':
				i = e.str(i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for i < len(e.b) && strings.IndexByte(",]} \t\r\n", e.b[i]) < 0 {
		i++
	}
	return i
}

// put returns the text with from to to replaced.
func (e editor) put(from, to int, text ...[]byte) []byte {
	out := append(make([]byte, 0, len(e.b)+64), e.b[:from]...)
	for _, t := range text {
		out = append(out, t...)
	}
	return append(out, e.b[to:]...)
}

// set replaces what steps lead to from the value at i.
func (e editor) set(i int, steps []step, text []byte) ([]byte, error) {
	if len(steps) == 0 {
		if e.old != nil {
			*e.old = e.b[i:e.value(i)]
		}
		return e.put(i, e.value(i), text), nil
	}
	switch e.b[i] {
	case '{':
		if steps[0].index {
			return nil, fmt.Errorf("[%d] is an index, and there is an object", steps[0].n)
		}
		return e.member(i, steps, text)
	case '[':
		n, err := steps[0].n, error(nil)
		if !steps[0].index {
			if n, err = strconv.Atoi(steps[0].name); err != nil {
				return nil, fmt.Errorf("%q is a name, and there is an array", steps[0].name)
			}
		}
		return e.element(i, n, steps, text)
	}
	return nil, fmt.Errorf("%s is neither an object nor an array", shortValue(string(e.b[i:e.value(i)])))
}

func (e editor) member(i int, steps []step, text []byte) ([]byte, error) {
	i = e.space(i + 1)
	last, comma := i, []byte(nil) // of an empty object
	for e.b[i] != '}' {
		comma = []byte(",")
		end := e.str(i)
		var name string
		json.Unmarshal(e.b[i:end], &name) // valid
		at := e.space(e.space(end) + 1)   // behind the colon
		if name == steps[0].name {
			return e.set(at, steps[1:], text)
		}
		last = e.value(at)
		if i = e.space(last); e.b[i] == ',' {
			i = e.space(i + 1)
		}
	}
	if len(steps) > 1 {
		return nil, fmt.Errorf("there is no %q", steps[0].name)
	}
	name, err := flowString(steps[0].name)
	if err != nil {
		return nil, err
	}
	return e.put(last, last, comma, name, []byte(":"), text), nil
}

func (e editor) element(i, n int, steps []step, text []byte) ([]byte, error) {
	var starts []int
	i = e.space(i + 1)
	last := i
	for e.b[i] != ']' {
		starts = append(starts, i)
		last = e.value(i)
		if i = e.space(last); e.b[i] == ',' {
			i = e.space(i + 1)
		}
	}
	if n < 0 {
		n += len(starts)
	}
	switch {
	case n >= 0 && n < len(starts):
		return e.set(starts[n], steps[1:], text)
	case n == len(starts) && len(steps) == 1:
		comma := []byte(",")
		if n == 0 {
			comma = nil
		}
		return e.put(last, last, comma, text), nil
	}
	return nil, fmt.Errorf("there is no element %d of %d", n, len(starts))
}

// maxShown is how much of a value stands in a line for people.
const maxShown = 60

// shortValue cuts a value for a line.
func shortValue(s string) string {
	r := []rune(s)
	if len(r) <= maxShown {
		return s
	}
	return string(r[:maxShown]) + "…"
}
