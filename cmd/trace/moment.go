package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"trace/store"

	"trace/flow"
)

// A moment is what --from or --to says: a point in time, or one that only a
// session knows.
type moment struct {
	text string        // as given; "" for none
	at   time.Time     // if it is a time
	off  time.Duration // from base
	base string        // sessionStart, sessionEnd or "": a mark's name, unless at is set
}

// The points that every session has.
const (
	sessionStart = "start"
	sessionEnd   = "end"
)

// A span is --from and --to.
type span struct{ from, to moment }

// parseMoment reads a point in time as people write it. What is none may be a
// mark.
func parseMoment(s string, now time.Time) moment {
	m := moment{text: s}
	if s == "" {
		return m
	}
	if at, ok := parseTime(s, now); ok {
		m.at = at
		return m
	}
	for _, base := range []string{sessionStart, sessionEnd} {
		rest, ok := strings.CutPrefix(strings.ToLower(s), base)
		if rest == "" && ok {
			m.base = base
			return m
		}
		if d, is := parseSpan(rest); ok && is && (rest[0] == '+' || rest[0] == '-') {
			m.base, m.off = base, d
			return m
		}
	}
	return m
}

// timeForms are the forms of a time without its zone; dayForms of one today.
var (
	timeForms = []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly}
	dayForms  = []string{"15:04:05", "15:04"}
)

// parseTime reads an absolute time, or one relative to now.
func parseTime(s string, now time.Time) (time.Time, bool) {
	s = strings.TrimSpace(s)
	if before, ok := strings.CutSuffix(s, " ago"); ok {
		d, ok := parseSpan(strings.TrimSpace(before))
		return now.Add(-d.Abs()), ok
	}
	if d, ok := parseSpan(s); ok {
		return now.Add(-d.Abs()), true
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, true
	}
	for _, form := range timeForms {
		if t, err := time.ParseInLocation(form, s, now.Location()); err == nil {
			return t, true
		}
	}
	y, m, d := now.Date()
	for _, form := range dayForms {
		if t, err := time.ParseInLocation(form, s, now.Location()); err == nil {
			return time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location()), true
		}
	}
	switch strings.ToLower(s) {
	case "now":
		return now, true
	case "today":
		return time.Date(y, m, d, 0, 0, 0, 0, now.Location()), true
	case "yesterday":
		return time.Date(y, m, d-1, 0, 0, 0, 0, now.Location()), true
	}
	return time.Time{}, false
}

var spanPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([+-]?)(\d+(?:\.\d+)?) ?(s|sec|secs|seconds?|m|min|mins|minutes?|h|hours?|d|days?|w|weeks?)$`)
})

// parseSpan reads a duration: as Go writes them, and in words up to weeks.
func parseSpan(s string) (time.Duration, bool) {
	if d, err := time.ParseDuration(s); err == nil {
		return d, true
	}
	m := spanPattern().FindStringSubmatch(strings.ToLower(s))
	if m == nil {
		return 0, false
	}
	unit := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}[m[3][0]]
	n, err := strconv.ParseFloat(m[2], 64)
	if err != nil || n > 1e6 {
		return 0, false
	}
	d := time.Duration(n * float64(unit))
	if m[1] == "-" {
		d = -d
	}
	return d, true
}

// noMarkError says that a session has no mark of a name.
type noMarkError struct {
	name, text, session string
}

func (e noMarkError) flag() string { return fmt.Sprintf("%s %q", e.name, printable(e.text)) }

// Error says what would be understood.
func (e noMarkError) Error() string {
	return fmt.Sprintf("%s: neither a time nor a mark of %s: want 2026-01-02T15:04:05Z, 2026-01-02, 15:04, 10m (ago), start, end or a mark's name", e.flag(), e.session)
}

// in returns the times that the span means in the session of r, zero where it
// has no bound.
func (p span) in(r *store.Reader, s flow.Session, now time.Time) (from, to time.Time, err error) {
	if from, err = p.from.in(r, s, now, "--from"); err != nil {
		return from, to, err
	}
	if p.to.base == sessionEnd && p.to.off == 0 {
		return from, to, nil // also what started with the last microsecond
	}
	to, err = p.to.in(r, s, now, "--to")
	return from, to, err
}

func (m *moment) in(r *store.Reader, s flow.Session, now time.Time, name string) (time.Time, error) {
	switch {
	case m.text == "" || !m.at.IsZero():
		return m.at, nil
	case m.base == sessionStart:
		return s.Started.Add(m.off), nil
	case m.base == sessionEnd:
		end, err := endOf(r, s, now)
		return end.Add(m.off), err
	}
	marks, err := r.Marks()
	if err != nil {
		return time.Time{}, err
	}
	var found []store.Mark
	for _, k := range marks {
		if k.Text == m.text {
			found = append(found, k)
		}
	}
	if len(found) == 0 {
		for _, k := range marks {
			if k.Name() == m.text {
				found = append(found, k)
			}
		}
	}
	switch len(found) {
	case 0:
		return time.Time{}, usageError{noMarkError{name, m.text, sessionLabel(r)}}
	case 1:
		return found[0].At, nil
	}
	var names []string
	for _, k := range found {
		names = append(names, k.Name()+" at "+k.At.Local().Format("15:04:05"))
	}
	return time.Time{}, exitError{1, fmt.Errorf("%s %q: %d marks of %s have this name: say %s", name, printable(m.text), len(found), sessionLabel(r), strings.Join(names, " or "))}
}

// endOf returns when a session ended: now if it runs, and of a crashed one when
// the last that is known of it began.
func endOf(r *store.Reader, s flow.Session, now time.Time) (time.Time, error) {
	switch {
	case !s.Ended.IsZero():
		return s.Ended, nil
	case s.State == "running":
		return now, nil
	}
	xs, err := r.Flows(store.Query{Limit: 1})
	if err != nil || len(xs) == 0 {
		return s.Started, err
	}
	if x := xs[0]; x.Ended.After(x.Started) {
		return x.Ended, nil
	}
	return xs[0].Started, errors.Join(err)
}
