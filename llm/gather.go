package llm

import (
	"bytes"
	"encoding/json"
	"strings"
)

// A gatherer puts fields together that come in pieces and that nobody here
// knows: what is repeated is told by the last, what goes on is joined. The zero
// value is empty. It does not copy what it has at each piece, so that long
// streams cost what they are long.
type gatherer struct {
	fields []*gathered
	byName map[string]*gathered
	deep   int // within others
}

// maxMerged bounds how deep objects are merged into each other.
const maxMerged = 4

// A gathered is one such field.
type gathered struct {
	name  string
	kind  byte
	value json.RawMessage // the last
	list  bytes.Buffer    // the elements of arrays, commas between them
	text  strings.Builder // of strings
	inner gatherer        // of objects
	joins bool
}

// How fields of one name go together.
const (
	replaces = iota // the last counts
	extends         // arrays go on, objects are merged
	appends         // strings go on too
)

// add takes a piece of a field. Nulls say nothing.
func (g *gatherer) add(name string, raw json.RawMessage, how int) {
	if absent(raw) {
		return
	}
	f := g.byName[name]
	if f == nil {
		if g.byName == nil {
			g.byName = map[string]*gathered{}
		}
		f = &gathered{name: name}
		g.byName[name] = f
		g.fields = append(g.fields, f)
	}
	k := kind(raw)
	f.joins = k == '[' && how >= extends || k == '{' && how >= extends && g.deep < maxMerged || k == '"' && how == appends
	if !f.joins || f.kind != k {
		*f = gathered{name: name, kind: k, joins: f.joins}
	}
	if f.value = raw; !f.joins {
		return
	}
	switch k {
	case '[':
		in := bytes.TrimSpace(raw)
		if in = bytes.TrimSpace(in[1 : len(in)-1]); len(in) > 0 {
			if f.list.Len() > 0 {
				f.list.WriteByte(',')
			}
			f.list.Write(in)
		}
	case '"':
		f.text.WriteString(text(raw))
	case '{':
		f.inner.deep = g.deep + 1
		for _, m := range members(raw) {
			f.inner.add(m.Name, m.Value, extends)
		}
	}
}

// addAll takes the members of o but those that were read.
func (g *gatherer) addAll(o object, how int, read ...string) {
	for _, m := range o {
		if !contains(read, m.Name) {
			g.add(m.Name, m.Value, how)
		}
	}
}

// params returns the fields in the order in which they came first.
func (g *gatherer) params() []Param {
	var all []Param
	for _, f := range g.fields {
		all = append(all, Param{f.name, f.raw()})
	}
	return all
}

func (f *gathered) raw() json.RawMessage {
	if !f.joins {
		return f.value
	}
	switch f.kind {
	case '[':
		return json.RawMessage("[" + f.list.String() + "]")
	case '"':
		return quote(f.text.String())
	}
	return object(f.inner.params()).raw()
}
