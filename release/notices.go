package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// notices is the text that goes along with binaries: who else's work is in them, and
// under which licence.
func notices(parts map[string]licensed) []byte {
	var b bytes.Buffer
	b.WriteString(`Third-party notices

trace is under the Apache License 2.0 (LICENSE). Its binaries contain the work of
others as well: the Go modules and the libraries of the live page below, each under
the licence that stands with it. A system may have fewer of them than are named.

`)
	names := slices.Sorted(maps.Keys(parts))
	for _, name := range names {
		l := parts[name]
		fmt.Fprintf(&b, "  %s  %s\n", strings.TrimSpace(title(name)+" "+l.version), l.expression())
	}
	for _, name := range names {
		l := parts[name]
		fmt.Fprintf(&b, "\n%s\n%s\n", strings.Repeat("=", 80), strings.TrimSpace(title(name)+" "+l.version))
		for _, text := range l.texts {
			fmt.Fprintf(&b, "%s\n\n%s\n", strings.Repeat("-", 80), text)
		}
	}
	return b.Bytes()
}

// title is what a part is called for people.
func title(name string) string {
	if name == standardLibrary {
		return "The Go standard library"
	}
	if library, ok := strings.CutPrefix(name, "npm:"); ok {
		return library + " (in the live page)"
	}
	return name
}

func writeNotices(o options, name string) error {
	parts, err := licencesOf(o)
	if err != nil {
		return err
	}
	return os.WriteFile(name, notices(parts), 0o644)
}
