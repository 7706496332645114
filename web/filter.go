package web

import (
	"context"
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"

	"trace/flow"
)

// A filter is what stands in the filter bar (docs/cli.md, trace web). The page
// applies it by itself as far as rows tell (web/ui/src/state/filter.ts: the same
// language); bodies and jq it asks for here.
type filter struct {
	rows []func(*row) bool
	// Of whole flows, each asked when those before it have let the flow through.
	match []func(ctx context.Context, x *flow.Exchange) (bool, error)
	texts []textTest
	views *Views
}

// A textTest wants a text in, or not in, what a flow carried.
type textTest struct {
	text string
	not  bool
}

// maxFilter bounds the text of a filter.
const maxFilter = 8 << 10

// parseFilter reads a filter. Its errors are Problems.
func parseFilter(text string, views *Views) (*filter, error) {
	f := &filter{views: views}
	if len(text) > maxFilter {
		return nil, bad("filter: longer than %d bytes", maxFilter)
	}
	for _, t := range terms(text) {
		not := false
		if !t.quoted && len(t.text) > 1 && t.text[0] == '-' {
			t.text, not = t.text[1:], true
		}
		key, value, named := strings.Cut(t.text, ":")
		if t.quoted {
			named = false
		}
		if key = strings.ToLower(key); key != "jq" {
			value = unquote(value)
		}
		if err := f.term(key, value, t.text, named, not); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// term takes in one term.
func (f *filter) term(key, value, whole string, named, not bool) error {
	var test func(*row) bool
	var err error
	switch {
	case named && value == "" && (rowTests[key] != nil || key == "body" || key == "jq"):
		return nil // still being typed
	case named && key == "jq":
		return f.jq(value, not)
	case named && key == "body":
		if f.views.Search == nil {
			return notOffered
		}
		f.texts = append(f.texts, textTest{value, not})
		return nil
	case named && rowTests[key] != nil:
		test, err = rowTests[key](value)
	default:
		word := strings.ToLower(whole)
		test = func(r *row) bool { return strings.Contains(r.hay(), word) }
	}
	if err != nil {
		return err
	}
	f.rows = append(f.rows, func(r *row) bool { return test(r) != not })
	return nil
}

func (f *filter) jq(expr string, not bool) error {
	if f.views.Match == nil {
		return notOffered
	}
	match, err := f.views.Match(expr)
	if err != nil {
		return bad("filter jq:%s", err)
	}
	f.match = append(f.match, func(ctx context.Context, x *flow.Exchange) (bool, error) {
		ok, err := match(ctx, x)
		return ok != not, err
	})
	return nil
}

// keep returns those of rows, which are of list, that the filter lets through.
func (f *filter) keep(ctx context.Context, rec Record, list []Revised, rows []*row) ([]*row, error) {
	if len(f.rows)+len(f.match)+len(f.texts) == 0 {
		return rows, nil
	}
	kept := rows[:0:0]
	var ids []int64
	for i, r := range rows {
		ok := !slices.ContainsFunc(f.rows, func(test func(*row) bool) bool { return !test(r) })
		for _, match := range f.match {
			if !ok {
				break
			}
			var err error
			if ok, err = match(ctx, list[i].Exchange); err != nil {
				return nil, bad("filter jq: flow %d: %v", list[i].ID, err)
			}
		}
		if ok {
			kept, ids = append(kept, r), append(ids, list[i].ID)
		}
	}
	for _, t := range f.texts {
		if len(kept) == 0 {
			break
		}
		found, err := f.views.Search(ctx, rec, t.text, ids)
		if err != nil {
			return nil, err
		}
		var left []*row
		var leftIDs []int64
		for i, r := range kept {
			if found[ids[i]] != t.not {
				left, leftIDs = append(left, r), append(leftIDs, ids[i])
			}
		}
		kept, ids = left, leftIDs
	}
	return kept, nil
}

// rowTests make the tests of the keys.
var rowTests = map[string]func(value string) (func(*row) bool, error){
	"host": globTest(func(r *row) []string { return []string{r.Host, r.Host + ":" + strconv.Itoa(r.Port)} }),
	"path": globTest(func(r *row) []string { return []string{r.Path} }),
	"kind": func(v string) (func(*row) bool, error) {
		return func(r *row) bool { return strings.EqualFold(r.Kind, v) || strings.EqualFold(v, "llm") && r.Model != "" }, nil
	},
	"process":  globTest(func(r *row) []string { return r.processNames() }),
	"model":    globTest(func(r *row) []string { return []string{r.Model} }),
	"method":   globTest(func(r *row) []string { return []string{r.Method} }),
	"state":    globTest(func(r *row) []string { return []string{r.State} }),
	"type":     globTest(func(r *row) []string { return []string{r.ContentType} }),
	"protocol": globTest(func(r *row) []string { return []string{r.Protocol, r.Kind} }),
	"source":   globTest(func(r *row) []string { return []string{string(r.Source)} }),
	"id": func(v string) (func(*row) bool, error) {
		ids := strings.Split(v, ",")
		return func(r *row) bool { return slices.Contains(ids, r.ID) }, nil
	},
	"has":    hasTest,
	"is":     hasTest,
	"status": statusTest,
	"size": func(v string) (func(*row) bool, error) {
		return compareTest(v, map[string]float64{"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9}, "size:>1mb",
			func(r *row) (float64, bool) { return float64(max(0, r.ReqSize) + max(0, r.RespSize)), true })
	},
	"time": func(v string) (func(*row) bool, error) {
		return compareTest(v, map[string]float64{"": 1, "ms": 1, "s": 1000, "m": 60000}, "time:>2s", func(r *row) (float64, bool) {
			if r.Duration == nil {
				return 0, false
			}
			return *r.Duration, true
		})
	},
	"tokens": func(v string) (func(*row) bool, error) {
		return compareTest(v, map[string]float64{"": 1, "k": 1e3, "m": 1e6}, "tokens:>10k", func(r *row) (float64, bool) {
			if r.Tokens == nil {
				return 0, false
			}
			return float64(r.Tokens.Input + r.Tokens.CacheRead + r.Tokens.CacheWrite + r.Tokens.Output), true
		})
	},
}

// hay is everything that words are looked for in.
func (r *row) hay() string {
	words := []string{r.Method, r.Host, r.Path, r.ContentType, r.Model, r.Opaque, r.Kind, r.Protocol}
	if r.Process != nil {
		words = append(words, r.Process.Name)
	}
	if r.Error != nil {
		words = append(words, r.Error.Code, r.Error.Message)
	}
	if r.Status != 0 {
		words = append(words, strconv.Itoa(r.Status))
	}
	return strings.ToLower(strings.Join(words, " "))
}

func (r *row) processNames() []string {
	if r.Process == nil {
		return nil
	}
	return []string{r.Process.Name, "=" + strconv.Itoa(r.Process.PID)}
}

// globTest compares any of some values: with * or ? all of it, else a part. Names
// that begin with = are compared as a whole always.
func globTest(of func(*row) []string) func(string) (func(*row) bool, error) {
	return func(v string) (func(*row) bool, error) {
		v = strings.ToLower(v)
		fits := func(s string) bool { return strings.Contains(s, v) }
		if strings.ContainsAny(v, "*?") {
			pattern := strings.NewReplacer(`[`, `\[`, `\`, `\\`, "/", "\x00").Replace(v)
			fits = func(s string) bool {
				ok, err := path.Match(pattern, strings.ReplaceAll(s, "/", "\x00"))
				return ok && err == nil
			}
		}
		return func(r *row) bool {
			return slices.ContainsFunc(of(r), func(s string) bool {
				if whole, ok := strings.CutPrefix(s, "="); ok {
					return whole == v
				}
				return fits(strings.ToLower(s))
			})
		}, nil
	}
}

func hasTest(v string) (func(*row) bool, error) {
	switch strings.ToLower(v) {
	case "error":
		return func(r *row) bool { return r.Error != nil || r.State == flow.StateFailed || r.Status >= 400 }, nil
	case "llm", "model", "tokens":
		return func(r *row) bool { return r.Model != "" }, nil
	case "events", "stream", "streaming":
		return func(r *row) bool { return r.Events > 0 || r.Streaming }, nil
	case "opaque", "undecrypted":
		return func(r *row) bool { return r.Opaque != "" }, nil
	case "open":
		return func(r *row) bool { return r.State == flow.StateOpen }, nil
	case "replay":
		return func(r *row) bool { return r.Source == flow.SourceReplay || r.Replay != "" }, nil
	case "altered":
		return func(r *row) bool { return r.Altered }, nil
	}
	return nil, bad("filter has:%s: one of error, llm, events, opaque, open, replay, altered", v)
}

func statusTest(v string) (func(*row) bool, error) {
	if len(v) == 3 && strings.EqualFold(v[1:], "xx") && v[0] >= '1' && v[0] <= '5' {
		return func(r *row) bool { return r.Status/100 == int(v[0]-'0') }, nil
	}
	if lo, hi, ok := strings.Cut(v, "-"); ok && len(lo) == 3 && len(hi) == 3 {
		from, err1 := strconv.Atoi(lo)
		to, err2 := strconv.Atoi(hi)
		if err1 == nil && err2 == nil {
			return func(r *row) bool { return r.Status >= from && r.Status <= to }, nil
		}
	}
	return compareTest(v, map[string]float64{"": 1}, "status:404, status:4xx, status:>=400",
		func(r *row) (float64, bool) { return float64(r.Status), r.Status != 0 })
}

// compareTest reads a number with a comparison before it and a unit behind it.
func compareTest(v string, units map[string]float64, example string, of func(*row) (float64, bool)) (func(*row) bool, error) {
	number := strings.TrimLeft(v, "<>=!")
	op := v[:len(v)-len(number)]
	number = strings.TrimSpace(number)
	end := strings.IndexFunc(number, func(c rune) bool { return (c < '0' || c > '9') && c != '.' })
	if end < 0 {
		end = len(number)
	}
	n, err := strconv.ParseFloat(number[:end], 64)
	unit, known := units[strings.ToLower(number[end:])]
	tests := map[string]func(a, b float64) bool{
		"": func(a, b float64) bool { return a == b }, "=": func(a, b float64) bool { return a == b }, "!=": func(a, b float64) bool { return a != b },
		">": func(a, b float64) bool { return a > b }, ">=": func(a, b float64) bool { return a >= b },
		"<": func(a, b float64) bool { return a < b }, "<=": func(a, b float64) bool { return a <= b },
	}
	switch {
	case number == "":
		return func(*row) bool { return true }, nil // still being typed
	case err != nil || !known || tests[op] == nil:
		return nil, bad("filter %s: write %s", v, example)
	}
	return func(r *row) bool {
		got, ok := of(r)
		return ok && tests[op](got, n*unit)
	}, nil
}

// A filterTerm is a word of a filter.
type filterTerm struct {
	text   string
	quoted bool
}

// terms cuts a filter into its terms. jq: takes the rest.
func terms(text string) (list []filterTerm) {
	for i := 0; i < len(text); {
		if strings.IndexByte(" \t\r\n", text[i]) >= 0 {
			i++
			continue
		}
		if rest := strings.ToLower(text[i:min(len(text), i+4)]); strings.HasPrefix(rest, "jq:") || rest == "-jq:" {
			return append(list, filterTerm{strings.TrimSpace(text[i:]), false})
		}
		start, inside, escaped := i, false, false
		for ; i < len(text); i++ {
			c := text[i]
			switch {
			case escaped:
				escaped = false
			case inside && c == '\\':
				escaped = true
			case c == '"':
				inside = !inside
			case !inside && strings.IndexByte(" \t\r\n", c) >= 0:
				goto word
			}
		}
	word:
		t := filterTerm{text[start:i], text[start] == '"'}
		if t.quoted {
			t.text = unquote(t.text)
		}
		if t.text != "" && t.text != "-" {
			list = append(list, t)
		}
	}
	return list
}

// unquote takes quotes off, and the escapes of JSON between them.
func unquote(s string) string {
	if !strings.HasPrefix(s, `"`) {
		return s
	}
	var text string
	if json.Unmarshal([]byte(s), &text) == nil {
		return text
	}
	return strings.TrimSuffix(s[1:], `"`)
}
