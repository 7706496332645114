package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"trace/llm"
	"trace/replay"
)

// A difference is one place where two requests are not the same. Old and New
// are nil where there is nothing. Values are JSON.
type difference struct {
	Path string          `json:"path"` // "method", "header anthropic-beta", "body.messages[3].content", …
	Old  json.RawMessage `json:"old"`
	New  json.RawMessage `json:"new"`
}

// maxDifferences bounds what diffJSON returns, maxDiffDepth how deep it looks:
// deeper values are compared as text.
const (
	maxDifferences = 10_000
	maxDiffDepth   = 100
)

// A jsonDiffer gathers the differences of two JSON values.
type jsonDiffer struct {
	found []difference
}

// diffJSON returns where two JSON values differ, by path. In arrays, elements
// that were added or removed in one place do not shift the others.
func diffJSON(path string, a, b json.RawMessage) []difference {
	d := &jsonDiffer{}
	d.compare(path, a, b, 0)
	return d.found
}

func (d *jsonDiffer) add(path string, a, b json.RawMessage) {
	if len(d.found) < maxDifferences {
		d.found = append(d.found, difference{path, a, b})
	}
}

func (d *jsonDiffer) compare(path string, a, b json.RawMessage, depth int) {
	if sameJSON(a, b) {
		return
	}
	if depth < maxDiffDepth {
		if ma, ok := orderedMembers(a); ok {
			if mb, ok := orderedMembers(b); ok {
				d.objects(path, ma, mb, depth)
				return
			}
		}
		if ea, ok := elementsOf(a); ok {
			if eb, ok := elementsOf(b); ok {
				d.arrays(path, ea, eb, depth)
				return
			}
		}
	}
	d.add(path, a, b)
}

func (d *jsonDiffer) arrays(path string, a, b []json.RawMessage, depth int) {
	head := 0
	for head < len(a) && head < len(b) && sameJSON(a[head], b[head]) {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && sameJSON(a[len(a)-1-tail], b[len(b)-1-tail]) {
		tail++
	}
	left, right := a[head:len(a)-tail], b[head:len(b)-tail]
	for i := range max(len(left), len(right)) {
		at := path + "[" + strconv.Itoa(head+i) + "]"
		switch {
		case i >= len(left):
			d.add(at, nil, right[i])
		case i >= len(right):
			d.add(at, left[i], nil)
		default:
			d.compare(at, left[i], right[i], depth+1)
		}
	}
}

// sameJSON reports whether two JSON texts say the same, but for the order of
// members and the text of numbers.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	return bytes.Equal(plainJSON(a), plainJSON(b))
}

// plainJSON writes JSON without spaces and needless escapes.
func plainJSON(raw json.RawMessage) []byte {
	v, err := generic(raw)
	if err != nil {
		return raw
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return raw
	}
	return b.Bytes()
}

func elementsOf(raw json.RawMessage) (list []json.RawMessage, ok bool) {
	if p := bytes.TrimSpace(raw); len(p) == 0 || p[0] != '[' {
		return nil, false
	}
	err := json.Unmarshal(raw, &list)
	return list, err == nil
}

// diffBodies compares two bodies: JSON by its values, text and bytes as a whole.
func diffBodies(a, b []byte) []difference {
	if bytes.Equal(a, b) {
		return nil
	}
	if isJSON(a) && isJSON(b) {
		return diffJSON("body", a, b)
	}
	return []difference{{"body", bodyJSON(a), bodyJSON(b)}}
}

func isJSON(p []byte) bool {
	d := json.NewDecoder(bytes.NewReader(p))
	var v json.RawMessage
	if !utf8.Valid(p) || d.Decode(&v) != nil {
		return false
	}
	_, err := d.Token()
	return err == io.EOF
}

func bodyJSON(p []byte) json.RawMessage {
	if len(p) == 0 {
		return nil
	}
	if !utf8.Valid(p) {
		return quoted(fmt.Sprintf("%d bytes that are no text", len(p)))
	}
	return quoted(string(p))
}

// quoted is a string as JSON; nil for "".
func quoted(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	text, _ := json.Marshal(s)
	return text
}

// objects compares two objects; what one has more than once is compared in the
// order in which it comes.
func (d *jsonDiffer) objects(path string, a, b []llm.Param, depth int) {
	left := map[string][]json.RawMessage{}
	for _, m := range b {
		left[m.Name] = append(left[m.Name], m.Value)
	}
	for _, m := range a {
		at := replay.JoinPath(path, m.Name)
		if list := left[m.Name]; len(list) > 0 {
			left[m.Name] = list[1:]
			d.compare(at, m.Value, list[0], depth+1)
		} else {
			d.add(at, m.Value, nil)
		}
	}
	for _, m := range b {
		if list := left[m.Name]; len(list) > 0 {
			left[m.Name] = list[1:]
			d.add(replay.JoinPath(path, m.Name), nil, list[0])
		}
	}
}
