// Testreport sums up a `go test -json` stream for people: it prints each
// package's verdict as it comes, the output of what failed, and at the end
// what could not be run here and why.
//
// With TRACE_NO_SKIP=1 in the environment a skipped test is a failure: that is
// how continuous integration, which installs every client, runs it.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

type report struct {
	output                  map[string][]string // by package and test
	skips                   []string
	passed, failed, skipped int
}

func main() {
	r := report{output: map[string][]string{}}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		var e event
		if len(line) > 0 && json.Unmarshal(line, &e) == nil {
			r.event(e)
		} else if len(line) > 0 {
			fmt.Print(string(line)) // a build error, printed as it is
		}
		if err != nil {
			break
		}
	}
	os.Exit(r.finish(os.Getenv("TRACE_NO_SKIP") == "1"))
}

func (r *report) event(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		r.output[key] = append(r.output[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.closePackage(e)
			return
		}
		r.closeTest(e, key)
		delete(r.output, key)
	case "build-fail":
		r.failed++
	}
}

func (r *report) closePackage(e event) {
	fmt.Printf("%-5s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
	if e.Action == "fail" {
		r.failed++
		for key, lines := range r.output {
			if strings.HasPrefix(key, e.Package+" ") || strings.HasPrefix(key, " ") {
				fmt.Print(strings.Join(lines, ""))
			}
		}
	}
	for key := range r.output {
		if strings.HasPrefix(key, e.Package+" ") {
			delete(r.output, key)
		}
	}
}

func (r *report) closeTest(e event, key string) {
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		fmt.Printf("FAIL  %s.%s\n%s", e.Package, e.Test, strings.Join(r.output[key], ""))
	case "skip":
		r.skipped++
		r.skips = append(r.skips, e.Test+": "+reason(r.output[key]))
	}
}

// reason finds what t.Skip said: the last line that go test did not write.
func reason(lines []string) string {
	for _, l := range slices.Backward(lines) {
		l = strings.TrimSpace(l)
		if l != "" && !strings.HasPrefix(l, "---") && !strings.HasPrefix(l, "===") {
			if _, text, ok := strings.Cut(l, ".go:"); ok {
				if _, why, ok := strings.Cut(text, ": "); ok {
					return why
				}
			}
			return l
		}
	}
	return "no reason given"
}

func (r *report) finish(noSkip bool) int {
	if len(r.skips) > 0 {
		fmt.Println("\nNot run on this machine:")
		for _, s := range r.skips {
			fmt.Println("  " + s)
		}
	}
	fmt.Printf("\n%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	switch {
	case r.failed > 0:
		return 1
	case r.passed == 0:
		fmt.Println("no test was run")
		return 1
	case noSkip && r.skipped > 0:
		fmt.Println("nothing may be skipped here (TRACE_NO_SKIP=1)")
		return 1
	}
	return 0
}
