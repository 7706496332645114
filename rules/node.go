package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A node is a value of the file, with its place.
type node struct {
	line    int
	token   any // string, json.Number, bool, nil, or '{' and '['
	text    []byte
	members []member
	items   []*node
}

type member struct {
	name string
	line int
	node *node
}

// blank replaces comments, and commas before a closing bracket, by spaces: every byte
// keeps its place.
func blank(text []byte) []byte {
	out := bytes.Clone(text)
	comma := -1
	wipe := func(from, to int) {
		for i := from; i < to; i++ {
			if out[i] != '\n' {
				out[i] = ' '
			}
		}
	}
	for i := 0; i < len(out); i++ {
		rest := out[i:]
		switch c := out[i]; {
		case c == '"':
			for i++; i < len(out) && out[i] != '"' && out[i] != '\n'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
			comma = -1
		case bytes.HasPrefix(rest, []byte("//")):
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				end = len(rest)
			}
			wipe(i, i+end)
			i += end - 1
		case bytes.HasPrefix(rest, []byte("/*")):
			end := bytes.Index(rest[2:], []byte("*/"))
			if end < 0 {
				return out // the parser says where
			}
			wipe(i, i+end+4)
			i += end + 3
		case c == ',':
			comma = i
		case (c == '}' || c == ']') && comma >= 0:
			wipe(comma, comma+1)
			comma = -1
		case strings.IndexByte(" \t\r\n", c) < 0:
			comma = -1
		}
	}
	return out
}

// A tree reads the file.
type tree struct {
	text []byte
	dec  *json.Decoder
}

// parse returns the file's one value.
func parse(text []byte) (*node, error) {
	t := &tree{text: blank(text)}
	t.dec = json.NewDecoder(bytes.NewReader(t.text))
	t.dec.UseNumber()
	n, err := t.value()
	if err == nil {
		if _, more := t.dec.Token(); !errors.Is(more, io.EOF) {
			return nil, t.fault(errors.New("something follows the end of the rules"))
		}
		return n, nil
	}
	return nil, t.fault(err)
}

// fault is err at the place where it was found.
func (t *tree) fault(err error) error {
	at := t.dec.InputOffset()
	var syntax *json.SyntaxError
	var own Mistake
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		at, err = int64(len(t.text)), errors.New("the file ends before the rules do")
	}
	return Mistake{Line: t.line(at), Message: "this is no JSON: " + err.Error()}
}

// line returns the number of the line of an offset, or of what follows it.
func (t *tree) line(at int64) int {
	at = min(max(at, 0), int64(len(t.text)))
	return 1 + bytes.Count(t.text[:at], []byte("\n"))
}

// next returns where the next token begins.
func (t *tree) next() int64 {
	at := t.dec.InputOffset()
	for at < int64(len(t.text)) && strings.IndexByte(" \t\r\n,:", t.text[at]) >= 0 {
		at++
	}
	return at
}

func (t *tree) value() (*node, error) {
	from := t.next()
	n := &node{line: t.line(from)}
	token, err := t.dec.Token()
	if err != nil {
		return nil, err
	}
	n.token = token
	switch token {
	case json.Delim('{'):
		err = t.object(n)
	case json.Delim('['):
		for err == nil && t.dec.More() {
			var item *node
			item, err = t.value()
			n.items = append(n.items, item)
		}
		if err == nil {
			_, err = t.dec.Token()
		}
	}
	n.text = t.text[from:t.dec.InputOffset()]
	return n, err
}

func (t *tree) object(n *node) error {
	for t.dec.More() {
		line := t.line(t.next())
		name, err := t.dec.Token()
		if err != nil {
			return err
		}
		v, err := t.value()
		if err != nil {
			return err
		}
		for _, m := range n.members {
			if m.name == name {
				return Mistake{Line: line, Message: fmt.Sprintf("%q stands here again (first in line %d)", name, m.line)}
			}
		}
		n.members = append(n.members, member{name.(string), line, v})
	}
	_, err := t.dec.Token()
	return err
}

// kind names what a node is.
func (n *node) kind() string {
	switch n.token.(type) {
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case bool:
		return "true or false"
	case json.Delim:
		if n.token == json.Delim('{') {
			return "an object"
		}
		return "an array"
	}
	return "null"
}
