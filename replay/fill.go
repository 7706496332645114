package replay

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"trace/flow"
)

func itoa(n int) string { return strconv.Itoa(n) }

// A MissingError names a placeholder that nothing fills.
type MissingError struct {
	Place     Place
	Text      string   // the placeholder
	Variables []string // any of which would fill it
}

// Error says what was redacted and how to give it.
func (e *MissingError) Error() string {
	what := e.Place.In
	if e.Place.Name != "" {
		what += " " + e.Place.Name
	}
	how := "set " + strings.Join(e.Variables, " or ")
	switch e.Place.In {
	case "header":
		how += ", or give --header '" + e.Place.Name + ": …'"
	case "cookie":
		how += ", or give --header 'Cookie: …'"
	case "body":
		how += ", or give the value with --set or --edit"
	}
	return fmt.Sprintf("%s was redacted in the record (%s): %s", what, e.Text, how)
}

// A filler puts values where redaction left placeholders.
type filler struct {
	head   *flow.Head
	env    func(string) (string, bool)
	names  bool     // $NAME instead of the value
	keep   bool     // placeholders of bodies that nothing fills are sent as they stand
	used   []string // variables, for notes
	values []string // secrets that were put in
	kept   int
}

// fill replaces the placeholders of s. escape writes a value so that it can
// stand there.
func (f *filler) fill(s string, at func(start int, kind string) Place, escape func(string) string) (string, error) {
	found := placeholder().FindAllStringSubmatchIndex(s, -1)
	if found == nil {
		return s, nil
	}
	var b strings.Builder
	done := 0
	for _, m := range found {
		p := at(m[0], s[m[2]:m[3]])
		vars := Variables(f.head, p)
		v, ok := f.lookup(vars)
		switch {
		case ok && f.names:
			b.WriteString(s[done:m[0]] + v)
		case ok:
			b.WriteString(s[done:m[0]] + escape(v))
		case f.keep && p.In == "body":
			f.kept++
			b.WriteString(s[done:m[1]])
		default:
			return "", &MissingError{Place: p, Text: s[m[0]:m[1]], Variables: vars}
		}
		done = m[1]
	}
	b.WriteString(s[done:])
	return b.String(), nil
}

func (f *filler) lookup(vars []string) (string, bool) {
	for _, name := range vars {
		if f.env == nil {
			break
		}
		if v, ok := f.env(name); ok && v != "" {
			if !slices.Contains(f.used, name) {
				f.used = append(f.used, name)
			}
			f.values = append(f.values, v)
			if f.names {
				v = "$" + name
			}
			return v, true
		}
	}
	if f.names {
		return "$" + vars[0], true
	}
	return "", false
}

func same(s string) string { return s }

// fields fills header or trailer fields in place.
func (f *filler) fields(fs []flow.Field, in string) error {
	for i, field := range fs {
		place := func(_ int, kind string) Place { return Place{In: in, Name: field.Name, Kind: kind} }
		if strings.EqualFold(field.Name, "cookie") {
			place = func(start int, kind string) Place {
				return Place{In: "cookie", Name: nameBefore(field.Value[:start], ";"), Kind: kind}
			}
		}
		v, err := f.fill(field.Value, place, same)
		if err != nil {
			return err
		}
		fs[i].Value = v
	}
	return nil
}

// nameBefore returns the name in "…SEP name=" at the end of s.
func nameBefore(s, seps string) string {
	s = s[strings.LastIndexAny(s, seps)+1:]
	name, _, _ := strings.Cut(s, "=")
	return strings.TrimSpace(name)
}

// target fills a request target: the values of its query.
func (f *filler) target(s string) (string, error) {
	return f.fill(s, func(start int, kind string) Place {
		if !strings.Contains(s[:start], "?") {
			return Place{In: "target", Kind: kind}
		}
		return Place{In: "query", Name: nameBefore(s[:start], "?&"), Kind: kind}
	}, url.QueryEscape)
}

// body fills a body: JSON, a form, or text.
func (f *filler) body(contentType string, p []byte) ([]byte, error) {
	s := string(p)
	if !isRedacted(s) {
		return p, nil
	}
	place := func(_ int, kind string) Place { return Place{In: "body", Kind: kind} }
	escape := same
	switch media := mediaType(contentType); {
	case media == "application/x-www-form-urlencoded":
		place = func(start int, kind string) Place {
			return Place{In: "body", Name: nameBefore(s[:start], "&"), Kind: kind}
		}
		escape = url.QueryEscape
	case json.Valid(p):
		place = func(start int, kind string) Place {
			return Place{In: "body", Name: memberBefore(s, start), Kind: kind}
		}
		escape = func(v string) string {
			text, err := flowString(v)
			if err != nil {
				return v
			}
			return string(text[1 : len(text)-1])
		}
	}
	s, err := f.fill(s, place, escape)
	return []byte(s), err
}

// memberBefore returns the name of the JSON member whose value is exactly the
// placeholder at start, "" where it stands within other text.
func memberBefore(s string, start int) string {
	head, ok := strings.CutSuffix(s[:start], `"`)
	if !ok {
		return ""
	}
	head = strings.TrimRight(head, " \t\r\n")
	if head, ok = strings.CutSuffix(head, ":"); !ok {
		return ""
	}
	head = strings.TrimRight(head, " \t\r\n")
	if head, ok = strings.CutSuffix(head, `"`); !ok {
		return ""
	}
	return head[strings.LastIndexByte(head, '"')+1:]
}

// mediaType returns the type without parameters, in lower case.
func mediaType(contentType string) string {
	t, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(t))
}
