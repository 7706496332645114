package llm

import (
	"maps"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// scripts are the files of each script of testdata but what it wants.
func scripts(t *testing.T) map[string]map[string]string {
	t.Helper()
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no scripts", err)
	}
	all := map[string]map[string]string{}
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]string{}
		for _, f := range a.Files {
			files[f.Name] = string(f.Data)
		}
		all[filepath.Base(name)] = files
	}
	return all
}

// TestCutAnywhere ends requests, answers and sockets wherever it likes: what
// came before is read, and kept as JSON that is whole.
func TestCutAnywhere(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 2))
	all := scripts(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		files := all[name]
		for _, part := range []string{"request", "response", "messages"} {
			whole := files[part]
			head := strings.Index(whole, "\n\n") + 2
			if part == "messages" {
				head = 0
			}
			if whole == "" || head >= len(whole) {
				continue
			}
			for range 12 {
				files[part] = whole[:head+r.IntN(len(whole)-head)]
				for _, c := range Read(script(t, files)) {
					checkRaw(t, c)
				}
				d := script(t, files)
				d.Events = nil
				for _, c := range Read(d) {
					checkRaw(t, c)
				}
			}
			files[part] = whole
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// value finds values of JSON, as far as it needs no grammar.
var value = regexp.MustCompile(`"(?:[^"\\\n]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?|true|false|null|\{\}|\[\]`)

// TestOtherValues replaces values and names by others, some in each script.
func TestOtherValues(t *testing.T) {
	others := []string{"null", "true", "-1", "1e999", "4294967296", "99999999999999999999", `""`, `"\ud800\udc00"`, `"\ud800"`, "\"\xff\xfe\"", "[]", "{}", "[{}]", `{"type":"text","text":"x"}`, `"type"`, `"index"`, `"delta"`, `"text"`, "{", "]", ""}
	r := rand.New(rand.NewPCG(3, 4))
	all := scripts(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		files := all[name]
		for _, part := range []string{"request", "response", "messages"} {
			whole := files[part]
			for range 12 {
				n := 1 + r.IntN(4)
				files[part] = value.ReplaceAllStringFunc(whole, func(s string) string {
					if n > 0 && r.IntN(12) == 0 {
						n--
						return others[r.IntN(len(others))]
					}
					return s
				})
				for _, c := range Read(script(t, files)) {
					checkRaw(t, c)
				}
			}
			files[part] = whole
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
}
