package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"trace/flow"
	ruleset "trace/rules"
)

// readRules reads the file of --rules. The files that it names lie beside it.
func readRules(file string) (*ruleset.Set, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--rules: %w", err)
	}
	set, err := ruleset.Parse(file, text, ruleset.Loader{
		File: func(name string) ([]byte, error) {
			if !filepath.IsAbs(name) {
				name = filepath.Join(filepath.Dir(file), name)
			}
			return os.ReadFile(name)
		},
		Flow: recordedAnswer,
	})
	if err != nil {
		return nil, fmt.Errorf("--rules: nothing was started:\n%w", err)
	}
	return set, nil
}

// notOfAnswer are the fields of a recorded answer that are not given again: its body is
// framed anew, and without content coding.
var notOfAnswer = []string{"content-length", "transfer-encoding", "content-encoding", "connection", "keep-alive", "trailer", "upgrade"}

// recordedAnswer reads the answer of a flow (SESSION/ID).
func recordedAnswer(id string) (*ruleset.Answer, error) {
	r, number, err := openFlow(id, "")
	if err != nil {
		return nil, err
	}
	defer r.Close()
	d, err := r.Detail(number)
	if err != nil {
		return nil, err
	}
	switch {
	case d.Response == nil || d.Response.Head == nil:
		return nil, fmt.Errorf("%s has no answer", id)
	case d.IsWebSocket() || d.Response.Head.Status < 200:
		return nil, fmt.Errorf("%s is no answer of HTTP that could be given again", id)
	case d.Response.Body != nil && d.Response.Body.Truncated:
		return nil, fmt.Errorf("%s: the record has only %d bytes of the answer", id, d.Response.Body.Kept)
	case d.State != flow.StateComplete:
		return nil, errors.New(id + " is not complete")
	}
	a := &ruleset.Answer{Status: d.Response.Head.Status, Body: d.ResponseBody}
	for _, f := range d.Response.Head.Fields {
		if !slices.Contains(notOfAnswer, strings.ToLower(f.Name)) {
			a.Fields = append(a.Fields, f)
		}
	}
	return a, nil
}
