package llm

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"

	"trace/flow"
)

// FuzzRead reads whatever stands in a request and its answer, joins and compares
// the calls: nothing panics, and what is kept as JSON is JSON.
func FuzzRead(f *testing.F) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		files := map[string]string{}
		for _, file := range a.Files {
			files[file.Name] = string(file.Data)
		}
		line, _, body := scriptPart(files["request"])
		_, fields, answer := scriptPart(files["response"])
		f.Add(line, []byte(body), (&flow.Head{Fields: fields}).Get("Content-Type"), []byte(answer), files["messages"])
	}
	f.Fuzz(func(t *testing.T, line string, body []byte, contentType string, answer []byte, messages string) {
		files := map[string]string{"request": line + "\nHost: h\n\n" + string(body), "messages": messages,
			"response": "200\nContent-Type: " + contentType + "\n\n" + string(answer)}
		calls := Read(script(t, files))
		for _, c := range calls {
			checkRaw(t, c)
		}
		d := script(t, files)
		d.Events = nil // as an import leaves it
		calls = append(calls, Read(d)...)
		var threads Threads
		for i, c := range calls {
			threads.Add(Turn{Ref: Ref{Flow: 1, Call: i}, Call: c})
			if _, err := json.Marshal(Compare(calls[0], c)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// checkRaw checks what is kept as it was: in JSON it stands among the rest.
func checkRaw(t *testing.T, c *Call) {
	t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatalf("%v in %+v", err, c)
	}
	if bytes.Contains(raw, []byte{0}) {
		t.Fatal("a zero byte")
	}
}
