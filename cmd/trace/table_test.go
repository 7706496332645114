package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// screen is a terminal of that width that tests can read.
func screen(width int, color bool) (*terminal, *bytes.Buffer) {
	var b bytes.Buffer
	return &terminal{Writer: &b, tty: width > 0, width: width, color: color}, &b
}

// fits fails for each line that is wider than width or ends in spaces.
func fits(t *testing.T, text string, width int) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if n := columns(line); n > width {
			t.Errorf("%d columns, want at most %d: %s", n, width, line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("spaces at the end of %q", line)
		}
	}
}

func TestTableFitsAnyWidth(t *testing.T) {
	xs := sampleFlows()
	for width := 1; width < 240; width++ {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			w, out := screen(width, false)
			if err := writeFlows(w, &choice{flows: xs}, false); err != nil {
				t.Fatal(err)
			}
			fits(t, out.String(), width)
			rows := 0
			for line := range strings.Lines(out.String()) {
				if !strings.HasPrefix(line, indent) {
					rows++
				}
			}
			if rows != len(xs)+1 {
				t.Errorf("%d rows, want %d", rows, len(xs)+1)
			}
		})
	}
}

func TestTableLayout(t *testing.T) {
	cs := []column{{title: "A"}, {title: "B", least: 4, wish: 10}, {title: "C", drop: 1}, {title: "D", least: 4, wish: 10, drop: 2}}
	for _, c := range []struct {
		natural []int
		total   int
		want    string
	}{
		{[]int{2, 30, 5, 30}, 0, "[2 30 5 30]"},
		{[]int{2, 30, 5, 30}, 73, "[2 30 5 30]"},
		{[]int{2, 30, 5, 30}, 72, "[2 29 5 30]"},
		{[]int{2, 30, 5, 30}, 33, "[2 10 5 10]"},
		{[]int{2, 30, 5, 30}, 32, "[2 13 0 13]"},
		{[]int{2, 30, 5, 30}, 24, "[2 20 0 0]"},
		{[]int{2, 30, 5, 30}, 7, "[2 3 0 0]"},
		{[]int{2, 30, 0, 30}, 40, "[2 17 0 17]"},
		{[]int{20, 30, 5, 30}, 3, "[3 0 0 0]"},
	} {
		if got := fmt.Sprint(layout(cs, c.natural, c.total)); got != c.want {
			t.Errorf("layout(%v, %d) = %s, want %s", c.natural, c.total, got, c.want)
		}
	}
}

func TestTableColorsOnlyText(t *testing.T) {
	w, out := screen(80, true)
	tab := table{columns: []column{{title: "A"}, {title: "B", right: true}}}
	tab.add(cell{"x\x1b[0m", red}, cell{"1", green})
	tab.add(cell{text: "longer"}, cell{text: "22"})
	if err := tab.write(w); err != nil {
		t.Fatal(err)
	}
	want := "\x1b[1mA\x1b[0m          \x1b[1mB\x1b[0m\n\x1b[31mx\\x1b[0m\x1b[0m   \x1b[32m1\x1b[0m\nlonger    22\n"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out, want)
	}
}
