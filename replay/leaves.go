package replay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
)

// A leaf is a value of a JSON document that holds no other, with the path that
// leads to it.
type leaf struct {
	path  string
	value string // as JSON
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// parseJSON reads p with its numbers as they stand.
func parseJSON(p []byte) (any, bool) {
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil || d.More() {
		return nil, false
	}
	return v, true
}

// leavesOf lists the leaves of v in the order of their names. skip leaves
// members out; text rewrites strings.
func leavesOf(v any, path string, skip func(string) bool, text func(string) string, out []leaf) []leaf {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			return append(out, leaf{path, "{}"})
		}
		for _, name := range sortedKeys(v) {
			if !skip(name) {
				out = leavesOf(v[name], JoinPath(path, name), skip, text, out)
			}
		}
		return out
	case []any:
		if len(v) == 0 {
			return append(out, leaf{path, "[]"})
		}
		for i, e := range v {
			out = leavesOf(e, path+"["+strconv.Itoa(i)+"]", skip, text, out)
		}
		return out
	case string:
		s, err := flowString(text(v))
		if err != nil {
			return out
		}
		return append(out, leaf{path, string(s)})
	case json.Number:
		return append(out, leaf{path, text(v.String())})
	}
	return append(out, leaf{path, fmt.Sprint(v)})
}
