package rules

import (
	"fmt"
	"strings"

	"trace/flow"
	"trace/replay"
)

// Fields returns the fields of a message as the edit makes them: those that it names
// stand where the first of the name stood, others at the end.
func (e *Edit) Fields(fields []flow.Field) []flow.Field {
	out := make([]flow.Field, 0, len(fields)+len(e.Set))
	done := map[string]bool{}
	for _, f := range fields {
		name := strings.ToLower(f.Name)
		switch {
		case any1(e.Set, func(s flow.Field) bool { return strings.EqualFold(s.Name, name) }):
			if !done[name] {
				done[name] = true
				out = e.put(out, name, f.Name)
			}
		case any1(e.Remove, func(s string) bool { return strings.EqualFold(s, name) }) && !isFraming(name):
		default:
			out = append(out, f)
		}
	}
	for _, s := range e.Set {
		if name := strings.ToLower(s.Name); !done[name] {
			done[name] = true
			out = e.put(out, name, s.Name)
		}
	}
	return out
}

// put adds all values that a name is set to.
func (e *Edit) put(out []flow.Field, name, as string) []flow.Field {
	for _, s := range e.Set {
		if strings.EqualFold(s.Name, name) {
			out = append(out, flow.Field{Name: as, Value: s.Value})
		}
	}
	return out
}

// mostShown bounds what is said of a value that was replaced.
const mostShown = 16 << 10

// Body returns a body with the edit's values, its content coding undone, and what stood
// where: a line each.
func (e *Edit) Body(coding string, body []byte) (out []byte, said []string, err error) {
	out = replay.DecodeBody(coding, body)
	for _, j := range e.JSON {
		var old []byte
		if out, old, err = replay.ReplaceJSON(out, j.Path, j.Value); err != nil {
			return nil, nil, err
		}
		was := "nothing"
		if old != nil {
			was = string(old)
		}
		if len(was) > mostShown {
			was = was[:mostShown] + "…"
		}
		said = append(said, fmt.Sprintf("%s: %s, was %s", j.Path, j.Value, was))
	}
	return out, said, nil
}
