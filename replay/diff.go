package replay

import (
	"bytes"
	"fmt"
	"strings"

	"trace/flow"
)

// maxChanges bounds the lines of Diff about one thing.
const maxChanges = 20

// A Change is one difference between two answers. Old and New are "" where
// there is nothing.
type Change struct {
	What string `json:"what"` // "status", "header content-type", "body content[0].text", "events", …
	Old  string `json:"old"`
	New  string `json:"new"`
}

// answerVolatile are fields of answers that differ each time.
var answerVolatile = map[string]bool{
	"date": true, "age": true, "expires": true, "last-modified": true, "etag": true, "request-id": true, "x-request-id": true, "cf-ray": true, "set-cookie": true,
	"server-timing": true, "content-length": true, "x-envoy-upstream-service-time": true, "openai-processing-ms": true, "via": true, "report-to": true, "nel": true,
	"x-amzn-requestid": true, "x-amz-request-id": true, "x-amz-id-2": true, "x-cloud-trace-context": true, "alt-svc": true, "cf-cache-status": true, "retry-after": true,
}

// Diff compares two answers: their status, their fields but for those that
// differ each time, and their bodies, by what they say.
func Diff(old, now *flow.Detail) []Change {
	a, b := headOf(old), headOf(now)
	var changes []Change
	add := func(what, x, y string) {
		if x != y {
			changes = append(changes, Change{what, x, y})
		}
	}
	add("status", statusText(a), statusText(b))
	if a == nil || b == nil {
		return changes
	}
	add("http_version", a.Version, b.Version)
	changes = append(changes, diffFields(a, b)...)
	if len(old.Events) > 0 || len(now.Events) > 0 {
		return append(changes, diffEvents(old, now)...)
	}
	return append(changes, diffBodies(old.ResponseBody, now.ResponseBody)...)
}

func headOf(d *flow.Detail) *flow.Head {
	if d.Response == nil {
		return nil
	}
	return d.Response.Head
}

func statusText(h *flow.Head) string {
	if h == nil {
		return "no answer"
	}
	return itoa(h.Status) // HTTP/2 has no reason
}

func diffFields(a, b *flow.Head) []Change {
	var changes []Change
	seen := map[string]bool{}
	for _, h := range []*flow.Head{a, b} {
		for _, f := range h.Fields {
			name := strings.ToLower(f.Name)
			if seen[name] || answerVolatile[name] || strings.Contains(name, "ratelimit") {
				continue
			}
			seen[name] = true
			x, y := strings.Join(a.Values(name), ", "), strings.Join(b.Values(name), ", ")
			if steady(x) != steady(y) {
				changes = append(changes, Change{"header " + name, x, y})
			}
		}
	}
	return bounded(changes, "headers")
}

// bounded cuts a long list, and says so.
func bounded(changes []Change, what string) []Change {
	if len(changes) <= maxChanges {
		return changes
	}
	more := len(changes) - maxChanges
	return append(changes[:maxChanges:maxChanges], Change{what, "", fmt.Sprintf("%d more differences", more)})
}

func diffBodies(x, y []byte) []Change {
	if bytes.Equal(x, y) {
		return nil
	}
	v, ok := parseJSON(x)
	w, ok2 := parseJSON(y)
	if ok && ok2 {
		return diffLeaves("body ", leavesOf(v, "", never, same, nil), leavesOf(w, "", never, same, nil))
	}
	return []Change{{"body", textOf(x), textOf(y)}}
}

func never(string) bool { return false }

// textOf describes a body in one line.
func textOf(p []byte) string {
	line := strings.TrimSpace(string(p))
	return fmt.Sprintf("%d bytes: %s", len(p), shortValue(line))
}

// diffLeaves compares two documents leaf by leaf.
func diffLeaves(prefix string, a, b []leaf) []Change {
	was := make(map[string]string, len(a))
	for _, l := range a {
		was[l.path] = l.value
	}
	is := make(map[string]string, len(b))
	for _, l := range b {
		is[l.path] = l.value
	}
	var changes []Change
	for _, l := range a {
		if v, ok := is[l.path]; !ok || v != l.value {
			changes = append(changes, Change{prefix + l.path, l.value, v})
		}
	}
	for _, l := range b {
		if _, ok := was[l.path]; !ok {
			changes = append(changes, Change{prefix + l.path, "", l.value})
		}
	}
	return bounded(changes, strings.TrimSpace(prefix))
}

// diffEvents compares two streams: their numbers by name, and the first pair
// that differs.
func diffEvents(old, now *flow.Detail) []Change {
	a, b := eventsOf(old), eventsOf(now)
	var changes []Change
	if x, y := countNames(a), countNames(b); x != y {
		changes = append(changes, Change{"events", x, y})
	}
	for i := range min(len(a), len(b)) {
		if a[i].Name() == b[i].Name() && a[i].Data == b[i].Data {
			continue
		}
		what := fmt.Sprintf("event %d %s", i+1, a[i].Name())
		v, ok := parseJSON([]byte(a[i].Data))
		w, ok2 := parseJSON([]byte(b[i].Data))
		if ok && ok2 && a[i].Name() == b[i].Name() {
			return append(changes, diffLeaves(what+" ", leavesOf(v, "", never, same, nil), leavesOf(w, "", never, same, nil))...)
		}
		return append(changes, Change{what, a[i].Data, b[i].Data})
	}
	return changes
}

func eventsOf(d *flow.Detail) []flow.ParsedEvent {
	var es []flow.ParsedEvent
	for _, p := range d.Events {
		if p.Side != flow.Server {
			continue
		}
		if e := flow.ParseEvent(d.Framing(p.Side), p.Data); e.Dispatched {
			es = append(es, e)
		}
	}
	return es
}

// countNames counts events by name, in the order in which these come.
func countNames(es []flow.ParsedEvent) string {
	counts := map[string]int{}
	var names []string
	for i := range es {
		if counts[es[i].Name()]++; counts[es[i].Name()] == 1 {
			names = append(names, es[i].Name())
		}
	}
	for i, n := range names {
		names[i] = fmt.Sprintf("%d %s", counts[n], n)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
