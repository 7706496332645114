package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// jq runs filters over text and returns what is printed.
func jq(t *testing.T, text string, sources ...string) (string, error) {
	t.Helper()
	fs, err := parseFilters(sources)
	if err != nil {
		return "", err
	}
	v, err := generic([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	outs, err := applyFilters(context.Background(), fs, v)
	if err != nil {
		return "", err
	}
	w, out := screen(0, false)
	if err := writeValues(w, outs); err != nil {
		t.Fatal(err)
	}
	return out.String(), nil
}

func TestFilters(t *testing.T) {
	const flows = `[{"id":"1","n":12345678901234567890,"f":0.1000000000000000055},{"id":"2","n":2},{"id":"3","n":3}]`
	for _, c := range []struct {
		filters []string
		want    string
	}{
		{[]string{`map(.id)`}, `["1","2","3"]` + "\n"},
		{[]string{`length`}, "3\n"},
		{[]string{`.[].id`}, "\"1\"\n\"2\"\n\"3\"\n"},
		{[]string{`.[0].n`}, "12345678901234567890\n"},
		{[]string{`.[0].f`}, "0.1000000000000000055\n"},
		{[]string{`map(select(.n < 3))`, `map(.id)`}, `["2"]` + "\n"},
		{[]string{`.[]|select(.n < 4)`, `map(.id)`}, `["2","3"]` + "\n"},
		{[]string{`.[]|select(.n == 3)`, `map(.id)`}, `["3"]` + "\n"},
		{[]string{`.[]|select(.n == 9)`, `.`}, "[]\n"},
		{[]string{`map(.n)|add`}, "12345678901234567895\n"},
		{[]string{`halt`}, ""},
		{[]string{`"<&>\u001b\u202e"`}, "\"<&>\\u001b\u202e\"\n"},
	} {
		got, err := jq(t, flows, c.filters...)
		if err != nil || got != c.want {
			t.Errorf("%q: %q, %v, want %q", c.filters, got, err, c.want)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	for filter, want := range map[string]string{
		`map(`: "unexpected", `nosuchfunction`: "not defined", `$nosuch`: "not defined",
	} {
		_, err := jq(t, `[]`, filter)
		var usage usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--jq "+filter) {
			t.Errorf("%s: %v, want a usage error with %q", filter, err, want)
		}
	}
	for filter, want := range map[string]string{
		`.a`: "expected an object", `error("no \(1)")`: "no 1", `"x"|halt_error`: "x", `error("a\nb\u202e")`: `a\nb\u202e`,
	} {
		_, err := jq(t, `[]`, filter)
		var exit exitError
		if !errors.As(err, &exit) || exit.Code != 1 || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want an error with %q", filter, err, want)
		}
	}
}

func TestFilterStops(t *testing.T) {
	fs, err := parseFilters([]string{`def f: f; f`})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := applyFilters(ctx, fs, []any{}); err == nil {
		t.Error("an endless filter ended")
	}
}

func TestJSONOnTerminal(t *testing.T) {
	w, out := screen(80, false)
	if err := writeJSON(w, []byte("{\"a\":\"\u202e\\u001b\U000e0041日\u007f\"}")); err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"a\": \"\\u202e\\u001b\\udb40\\udc41日\\u007f\"\n}\n"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out, want)
	}
}
