package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/itchyny/gojq"
)

// A filter is one --jq: a jq program, compiled.
type filter struct {
	source string
	code   *gojq.Code
}

// parseFilters compiles --jq flags. A program that is none is a usageError.
func parseFilters(sources []string) ([]filter, error) {
	var fs []filter
	for _, s := range sources {
		query, err := gojq.Parse(s)
		if err != nil {
			return nil, usageError{fmt.Errorf("--jq %s: %w", printable(s), err)}
		}
		code, err := gojq.Compile(query)
		if err != nil {
			return nil, usageError{fmt.Errorf("--jq %s: %w", printable(s), err)}
		}
		fs = append(fs, filter{s, code})
	}
	return fs, nil
}

// run applies the filter to v and returns everything that it outputs.
func (f filter) run(ctx context.Context, v any) ([]any, error) {
	var out []any
	for it := f.code.RunWithContext(ctx, v); ; {
		v, ok := it.Next()
		if !ok {
			return out, nil
		}
		err, bad := v.(error)
		if !bad {
			out = append(out, v)
			continue
		}
		if halt := (*gojq.HaltError)(nil); errors.As(err, &halt) && halt.Value() == nil {
			return out, nil
		}
		// The message quotes what was captured.
		return nil, exitError{1, fmt.Errorf("--jq %s: %s", printable(f.source), printable(err.Error()))}
	}
}

// applyFilters runs v through the filters one after the other and returns what the last
// one outputs. Between two filters stands the array of flows: outputs that are
// not one array are gathered into one, so that .[]|select(…) works as
// map(select(…)) does.
func applyFilters(ctx context.Context, fs []filter, v any) ([]any, error) {
	out := []any{v}
	for _, f := range fs {
		var err error
		if out, err = f.run(ctx, gathered(out)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// gathered returns the one array among outs, or an array of them all.
func gathered(outs []any) any {
	if len(outs) == 1 {
		if array, ok := outs[0].([]any); ok {
			return array
		}
	}
	if outs == nil {
		outs = []any{}
	}
	return outs
}

// generic returns JSON as the values that filters work on. Numbers keep their
// text: those beyond 2^53 come out as they went in.
func generic(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// writeValues prints the outputs of filters as jq does: indented on a
// terminal, one value a line elsewhere.
func writeValues(w *terminal, outs []any) error {
	for _, v := range outs {
		text, err := gojq.Marshal(v)
		if err == nil {
			err = writeJSON(w, text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeJSON prints one JSON value: indented and with what a terminal might obey
// escaped on a terminal, on one line elsewhere.
func writeJSON(w *terminal, text []byte) error {
	if w.tty {
		var b bytes.Buffer
		if err := json.Indent(&b, text, "", "  "); err != nil {
			return err
		}
		text = escapeJSON(b.Bytes())
	}
	_, err := w.Write(append(text, '\n'))
	return err
}

// escapeJSON writes the characters that printable escapes as JSON escapes, so
// that the text stays the same JSON. Control characters below U+0020 are
// escaped already in JSON.
func escapeJSON(text []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(text) {
		switch {
		case visible(r) || r == '\n':
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}
