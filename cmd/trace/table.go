package main

import (
	"slices"
	"strings"
)

// A column of a table. Captured text may be of any length, so columns may
// shrink, and the less important ones go where the terminal is narrow.
type column struct {
	title string
	right bool // numbers
	least int  // shrinks to this width; 0: never shrinks
	wish  int  // width below which others are dropped for it
	drop  int  // dropped in this order; 0: never
}

// A cell is one value. Its text is escaped by the table.
type cell struct {
	text  string
	style style
}

// A table prints rows below the titles of its columns. Columns without any
// text are left out. On a terminal, the last column of a table with notes
// stands on a line of its own below its row, where it has room.
type table struct {
	columns []column
	rows    [][]cell
	notes   bool
}

// gap is what stands between two columns, indent before a note.
const (
	gap    = "  "
	indent = "    "
)

func (t *table) add(cells ...cell) { t.rows = append(t.rows, cells) }

// line puts a line of its own between the rows.
func (t *table) line(text string, st style) { t.rows = append(t.rows, []cell{{printable(text), st}}) }

// write prints the table in the width of w.
func (t *table) write(w *terminal) error {
	natural := make([]int, len(t.columns))
	for _, row := range t.rows {
		if len(row) < len(t.columns) {
			continue
		}
		for i := range row {
			row[i].text = strings.TrimRight(printable(row[i].text), " ")
			natural[i] = max(natural[i], columns(row[i].text))
		}
	}
	for i, c := range t.columns {
		if natural[i] > 0 || len(t.rows) == 0 {
			natural[i] = max(natural[i], columns(c.title))
		}
	}
	if t.notes && w.tty {
		natural[len(natural)-1] = 0
	}
	widths := layout(t.columns, natural, w.width)
	var b strings.Builder
	titles := make([]cell, len(t.columns))
	for i, c := range t.columns {
		titles[i] = cell{c.title, bold}
	}
	if len(t.rows) == 0 || slices.ContainsFunc(t.rows, func(row []cell) bool { return len(row) == len(t.columns) }) {
		t.writeRow(&b, w, titles, widths)
	}
	for _, row := range t.rows {
		if len(row) < len(t.columns) {
			b.WriteString(w.paint(row[0].style, w.fit(row[0].text)) + "\n")
			continue
		}
		t.writeRow(&b, w, row, widths)
		if note := row[len(row)-1]; t.notes && w.tty && note.text != "" && w.width > len(indent) {
			b.WriteString(indent + w.paint(note.style, shorten(note.text, w.width-len(indent))) + "\n")
		}
	}
	_, err := w.Write([]byte(b.String()))
	return err
}

func (t *table) writeRow(b *strings.Builder, w *terminal, row []cell, widths []int) {
	last := -1
	for i, n := range widths {
		if n > 0 && row[i].text != "" {
			last = i
		}
	}
	begun := false
	for i, n := range widths[:last+1] {
		if n == 0 {
			continue
		}
		if begun {
			b.WriteString(gap)
		}
		begun = true
		s := shorten(row[i].text, n)
		painted := w.paint(row[i].style, s)
		switch fill := pad("", n-columns(s), false); {
		case t.columns[i].right:
			b.WriteString(fill + painted)
		case i == last:
			b.WriteString(painted) // no spaces at the end of a line
		default:
			b.WriteString(painted + fill)
		}
	}
	b.WriteByte('\n')
}

// layout gives each column its width, 0 to one that is not shown. natural is
// what they would like; total is what there is, 0 for no limit.
func layout(cs []column, natural []int, total int) []int {
	widths := append([]int(nil), natural...)
	if total == 0 {
		return widths
	}
	for sum(cs, widths, comfortable) > total {
		next := -1
		for i, c := range cs {
			if widths[i] > 0 && c.drop > 0 && (next < 0 || c.drop < cs[next].drop) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		widths[next] = 0
	}
	// Take from the widest that can still give, one column at a time.
	for sum(cs, widths, func(_ column, n int) int { return n }) > total {
		widest := -1
		for i, c := range cs {
			if c.least > 0 && widths[i] > c.least && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return squeeze(widths, total)
		}
		widths[widest]--
	}
	return widths
}

// comfortable is the width that a column needs to be of use.
func comfortable(c column, n int) int {
	if c.least == 0 {
		return n
	}
	return min(n, c.wish)
}

func sum(cs []column, widths []int, of func(column, int) int) int {
	total := 0
	for i, n := range widths {
		if n == 0 {
			continue
		}
		if total > 0 {
			total += len(gap)
		}
		total += of(cs[i], n)
	}
	return total
}

// squeeze is the last resort on a very narrow terminal: columns from the right
// are cut or left out.
func squeeze(widths []int, total int) []int {
	left := total
	for i, n := range widths {
		if n == 0 {
			continue
		}
		if left < total {
			left -= len(gap)
		}
		widths[i] = max(0, min(n, left))
		left -= widths[i]
	}
	return widths
}
