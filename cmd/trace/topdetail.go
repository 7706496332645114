package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"trace/store"
)

// The limits of the view of one flow.
const (
	topDetailBytes = 4 << 20 // of bodies: longer ones are left out
	topDetailLines = 50000
)

// A topDetail is the view of one flow.
type topDetail struct {
	row   *topRow
	rev   int64
	call  *callSummary
	stale bool // to be made anew, since the size of the screen is another
	lines []string
	first int
	next  time.Time // not made anew before, however often the flow changes
}

// open shows a flow.
func (v *topView) open(r *topRow) { v.detail = &topDetail{row: r, stale: true} }

// fill makes the lines, if the flow or the screen has changed.
func (d *topDetail) fill(v *topView) {
	began := time.Now()
	if !d.stale && (d.rev == d.row.rev && d.call == d.row.call || began.Before(d.next)) {
		return
	}
	d.stale, d.rev, d.call = false, d.row.rev, d.row.call
	var b bytes.Buffer
	if err := d.write(v.terminal(&b, v.width)); err != nil {
		fmt.Fprintf(&b, "%s\n", printable(err.Error()))
	}
	d.lines = d.lines[:0]
	for l := range strings.Lines(b.String()) {
		d.lines = wrapped(d.lines, strings.ReplaceAll(strings.TrimSuffix(l, "\n"), "\t", "    "), v.width)
		if len(d.lines) >= topDetailLines {
			d.lines = append(d.lines[:topDetailLines], "…")
			break
		}
	}
	now := time.Now()
	d.next = now.Add(10 * now.Sub(began)) // a long flow that changes all the time
}

// write writes the flow as `trace flows show` does.
func (d *topDetail) write(w *terminal) error {
	r, err := store.Open(d.row.file)
	if err != nil {
		return err
	}
	defer closing(r)
	x, err := r.Flow(d.row.id)
	if err != nil {
		return err
	}
	if n := sizeOf(x); n > topDetailBytes {
		p := &printer{w: w}
		p.overview(x)
		p.line("")
		p.line("Its bodies of %s are not shown here: trace flows show %s/%d", bytesText(n), x.Session, x.ID)
		return p.err
	}
	detail, err := r.Detail(d.row.id)
	if err != nil {
		return err
	}
	return new(showOptions).showForReading(w, r, detail)
}

// detailLines is the screen with one flow.
func (v *topView) detailLines(w *terminal) []string {
	d := v.detail
	d.fill(v)
	rows := max(1, v.height-2)
	d.first = max(0, min(d.first, len(d.lines)-rows))
	title := fmt.Sprintf("Flow %s/%d", d.row.session, d.row.id)
	if len(d.lines) > rows {
		title += fmt.Sprintf("  lines %d-%d of %d", d.first+1, min(len(d.lines), d.first+rows), len(d.lines))
	}
	out := []string{w.paint(bold, w.fit(title))}
	out = append(out, d.lines[d.first:min(len(d.lines), d.first+rows)]...)
	for len(out) < v.height-1 {
		out = append(out, "")
	}
	out = append(out, w.paint(faint, w.fit("q quit  Esc back  arrows j k Space g G scroll  n p next, previous flow")))
	return out[:min(len(out), v.height)]
}

// wrapped appends a line to lines, in pieces of at most width columns. Sequences
// that set how text looks take none, and go on in the next piece.
func wrapped(lines []string, s string, width int) []string {
	width = max(2, width)
	if len(s) <= width {
		return append(lines, s)
	}
	used, from, look, before := 0, 0, "", ""
	cut := func(to int) {
		piece := before + s[from:to]
		if look != "" {
			piece += "\x1b[0m"
		}
		lines = append(lines, piece)
		from, used, before = to, 0, look
	}
	for i := 0; i < len(s) && len(lines) < topDetailLines; {
		if s[i] == '\x1b' {
			end := strings.IndexByte(s[i:], 'm')
			if end < 0 {
				break
			}
			if seq := s[i : i+end+1]; seq == "\x1b[0m" {
				look = ""
			} else {
				look += seq
			}
			i += end + 1
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if c := runeColumns(r); used+c > width {
			cut(i)
			used = c
		} else {
			used += c
		}
		i += n
	}
	if len(lines) < topDetailLines {
		cut(len(s))
	}
	return lines
}
