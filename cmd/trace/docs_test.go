package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocs holds the commands that the documents show against the ones that there are:
// each must be one, with flags that it has.
func TestDocs(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range append(files, "../../README.md") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range shownCommands(string(b)) {
			seen++
			if err := parses(command); err != nil {
				t.Errorf("%s: %s: %v", filepath.Base(file), strings.Join(command, " "), err)
			}
		}
	}
	if seen < 50 {
		t.Errorf("%d commands found", seen)
	}
}

// shownCommands finds the commands of trace in the code blocks of a document, and in
// the cells of its tables.
func shownCommands(doc string) (commands [][]string) {
	block := false
	for line := range strings.Lines(doc) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			block = !block
			continue
		}
		text := line
		if !block && !strings.HasPrefix(line, "    ") {
			if !strings.HasPrefix(line, "|") {
				continue
			}
			text = strings.Join(regexp.MustCompile("`(trace [a-z][^`]*)`").FindAllString(line, -1), "\n")
			text = strings.ReplaceAll(text, "`", "")
		}
		for part := range strings.Lines(text) {
			if words := traceWords(part); words != nil {
				commands = append(commands, words)
			}
		}
	}
	return commands
}

// traceWords returns the words of a command line of trace; nil for other lines.
func traceWords(line string) []string {
	line = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(line), "$ "), "sudo ")
	if !strings.HasPrefix(line, "trace ") || strings.ContainsAny(line, "…[") {
		return nil
	}
	line = regexp.MustCompile(`\s#.*|\s*[|>].*|\s&&.*|\s*\\$`).ReplaceAllString(quoteless(line), "")
	return strings.Fields(line)[1:]
}

// quoteless replaces what stands in quotes by a word.
func quoteless(s string) string {
	return regexp.MustCompile(`'[^']*'|"[^"]*"`).ReplaceAllString(s, "QUOTED")
}

// parses tells whether words are a command with flags that it has.
func parses(words []string) error {
	cmd, rest, err := newRootCommand().Find(words)
	if err != nil {
		return err
	}
	return cmd.ParseFlags(rest)
}
