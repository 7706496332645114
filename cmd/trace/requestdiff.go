package main

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"trace/flow"
	"trace/replay"
)

// A requestDiff is what differs between two requests.
type requestDiff struct {
	Head []difference
	Body []difference
	// Skipped are places that differ as they do from request to request, and
	// so say nothing: dates, ids, lengths.
	Skipped []string
}

// diffRequests compares two requests: the line, the fields, the body. What
// marks names of the first is skipped, besides what changes with each request.
func diffRequests(a, b *flow.Detail, marks *replay.TemplateMarks) requestDiff {
	var d requestDiff
	x, y := a.Request.Head, b.Request.Head
	line := func(what, p, q string) {
		if p != q {
			d.Head = append(d.Head, difference{what, quoted(p), quoted(q)})
		}
	}
	line("method", x.Method, y.Method)
	line("scheme", x.Scheme, y.Scheme)
	line("host", hostPort(x), hostPort(y))
	line("http_version", x.Version, y.Version)
	d.path(x.Path, y.Path)
	skip := append(replay.VolatileFields(x), replay.VolatileFields(y)...)
	if marks != nil {
		skip = append(skip, marks.Headers...)
	}
	d.fields(x, y, skip)
	for _, change := range diffBodies(a.RequestBody, b.RequestBody) {
		if marks != nil && marked(change.Path, marks.Body) {
			d.Skipped = append(d.Skipped, change.Path)
			continue
		}
		d.Body = append(d.Body, change)
	}
	return d
}

// path compares two paths, and their queries parameter by parameter.
func (d *requestDiff) path(a, b string) {
	x, p, _ := strings.Cut(a, "?")
	y, q, _ := strings.Cut(b, "?")
	if x != y {
		d.Head = append(d.Head, difference{"path", quoted(x), quoted(y)})
	}
	if p == q {
		return
	}
	v, err1 := url.ParseQuery(p)
	w, err2 := url.ParseQuery(q)
	if err1 != nil || err2 != nil {
		d.Head = append(d.Head, difference{"query", quoted(p), quoted(q)})
		return
	}
	for _, name := range namesOf(v, w) {
		if !slices.Equal(v[name], w[name]) {
			d.Head = append(d.Head, difference{"query " + name, quotedList(v[name]), quotedList(w[name])})
		}
	}
	if v.Encode() == w.Encode() {
		d.Head = append(d.Head, difference{"query", quoted(p), quoted(q)}) // in another order, or spelling
	}
}

func namesOf(v, w url.Values) []string {
	var names []string
	for _, m := range []url.Values{v, w} {
		for name := range m {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

func quotedList(list []string) []byte { return quoted(strings.Join(list, ", ")) }

// fields compares header fields by name, and their order.
func (d *requestDiff) fields(x, y *flow.Head, skip []string) {
	var seen []string
	for _, h := range []*flow.Head{x, y} {
		for _, f := range h.Fields {
			name := strings.ToLower(f.Name)
			if slices.Contains(seen, name) {
				continue
			}
			seen = append(seen, name)
			p, q := x.Values(name), y.Values(name)
			switch {
			case slices.Equal(p, q):
			case len(p) > 0 && len(q) > 0 && slices.ContainsFunc(skip, func(s string) bool { return strings.EqualFold(s, name) }):
				d.Skipped = append(d.Skipped, "header "+name)
			default:
				d.Head = append(d.Head, difference{"header " + name, quotedList(p), quotedList(q)})
			}
		}
	}
	p, q := fieldNames(x), fieldNames(y)
	if !slices.Equal(p, q) && slices.Equal(slices.Sorted(slices.Values(p)), slices.Sorted(slices.Values(q))) {
		d.Head = append(d.Head, difference{"header order", quotedList(p), quotedList(q)})
	}
}

func fieldNames(h *flow.Head) []string {
	var names []string
	for _, f := range h.Fields {
		names = append(names, f.Name)
	}
	return names
}

// marked reports whether a path lies at or below one of marks.
func marked(path string, marks []string) bool {
	path = strings.TrimPrefix(strings.TrimPrefix(path, "body"), ".")
	return slices.ContainsFunc(marks, func(m string) bool {
		rest, ok := strings.CutPrefix(path, m)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// same reports whether nothing differs.
func (d *requestDiff) same() bool { return len(d.Head)+len(d.Body) == 0 }

// differences prints places that differ, a sign and what was and is there.
func (p *printer) differences(ds []difference) {
	for _, d := range ds {
		sign := "~"
		switch {
		case d.Old == nil:
			sign = "+"
		case d.New == nil:
			sign = "-"
		}
		p.line("  %s %s", p.w.paint(signStyle(sign[0]), sign), p.w.paint(bold, w1(p.w, d.Path)))
		p.change(d, "      ")
	}
}

func signStyle(op byte) style {
	switch op {
	case '-':
		return red
	case '+':
		return green
	}
	return yellow
}

// change prints what was and what is in one place. Of long texts, the lines
// that changed.
func (p *printer) change(d difference, indent string) {
	old, now := valueText(d.Old), valueText(d.New)
	if d.Old == nil || d.New == nil || !strings.Contains(old+now, "\n") {
		p.signed('-', old, indent, d.Old == nil)
		p.signed('+', now, indent, d.New == nil)
		return
	}
	shown := hunks(diffLines(old, now), 2)
	for i, e := range shown {
		if p.w.tty && i == maxBodyLines {
			p.line("%s%s", indent, p.w.paint(faint, fmt.Sprintf("… %d more", len(shown)-i)))
			return
		}
		if e == nil {
			p.line("%s%s", indent, p.w.paint(faint, "…"))
			continue
		}
		p.signed(e.op, e.line, indent, false)
	}
}

// signed prints a value with its sign before each line.
func (p *printer) signed(op byte, text, indent string, absent bool) {
	if absent {
		return
	}
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if p.w.tty && i == maxBodyLines {
			p.line("%s%s", indent, p.w.paint(faint, fmt.Sprintf("… %d more", len(lines)-i)))
			return
		}
		st := signStyle(op)
		if op == ' ' {
			st = plain
		}
		l = w1(p.w, l)
		if p.w.tty {
			l = shorten(l, 1000)
		}
		p.line("%s%s", indent, strings.TrimRight(p.w.paint(st, string(op)+" "+l), " "))
	}
}

// valueText is a JSON value for reading: a string as it is, others indented.
func valueText(raw []byte) string {
	if raw == nil {
		return ""
	}
	v, err := generic(raw)
	if s, ok := v.(string); ok && err == nil {
		return s
	}
	return pretty(raw)
}
