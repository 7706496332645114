package main

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"time"

	"trace/flow"
)

// A topPane is one of the tables of `trace top`.
type topPane struct {
	name string
	one  string               // title of its first column
	of   func(*topRow) string // names the group of a row; nil: the pane of flows
}

var topPanes = []topPane{
	{"Flows", "", nil},
	{"Processes", "PROCESS", func(r *topRow) string { return r.program }},
	{"Hosts", "HOST", func(r *topRow) string { return cmp.Or(r.f.host, "?") }},
	{"Models", "MODEL", func(r *topRow) string {
		if r.call == nil {
			return ""
		}
		return printable(cmp.Or(r.call.Model, r.call.Served, "?"))
	}},
	{"Sessions", "SESSION", func(r *topRow) string { return r.name + " " + r.session }},
}

// topHead is how many rows stand above the rows of a table, topFoot below.
const (
	topHead = 4
	topFoot = 2
)

// A topPlace is where a person is in a pane.
type topPlace struct {
	key    string // of the chosen row
	at     int    // where that was
	first  int    // the first row on the screen
	end    bool   // stays at the end: the newest flow is chosen
	widest []int  // the widest texts of the columns so far
}

// A topView is what `trace top` shows of a source. Its methods make lines and take
// keys; it knows no terminal.
type topView struct {
	source *topSource
	color  bool

	width, height int
	pane          int
	places        []topPlace
	filter        topFilter
	typing        bool
	before        string // the filter when typing began
	help          bool
	detail        *topDetail // nil: a table is shown
	problem       string

	chosen    []*topRow // that fit the filter
	chosenGen int
	chosenBy  topFilter
	keys      []string // of the rows of the pane
}

func newTopView(s *topSource, color bool) *topView {
	v := &topView{source: s, color: color, places: make([]topPlace, len(topPanes)), chosenGen: -1}
	v.places[0].end = true
	return v
}

// terminal is where lines are written to.
func (v *topView) terminal(b *bytes.Buffer, width int) *terminal {
	return &terminal{Writer: b, tty: true, width: max(1, width), color: v.color}
}

// resize takes another size of the screen.
func (v *topView) resize(width, height int) {
	if width != v.width {
		for i := range v.places {
			v.places[i].widest = nil
		}
	}
	v.width, v.height = width, height
	if v.detail != nil {
		v.detail.stale = true
	}
}

// body is how many rows of a table there is room for.
func (v *topView) body() int { return max(1, v.height-topHead-topFoot) }

// flows returns the rows that fit the filter.
func (v *topView) flows() []*topRow {
	if v.chosenGen != v.source.gen || v.chosenBy != v.filter {
		v.chosen, v.chosenGen, v.chosenBy = v.filter.choose(v.source.rows), v.source.gen, v.filter
	}
	return v.chosen
}

// lines is the whole screen.
func (v *topView) lines(now time.Time) []string {
	w := v.terminal(nil, v.width)
	if v.detail != nil {
		return v.detailLines(w)
	}
	out := v.headLines(w, now)
	if v.help {
		for l := range strings.Lines(topHelp) {
			out = append(out, w.fit(strings.TrimSuffix(l, "\n")))
		}
	} else {
		out = append(out, v.tableLines(w, now)...)
	}
	for len(out) < v.height-topFoot {
		out = append(out, "")
	}
	out = append(out[:max(0, v.height-topFoot)], v.footLines(w)...)
	return out[:min(len(out), v.height)]
}

// headLines says what is followed, what it comes to, and which pane is shown.
func (v *topView) headLines(w *terminal, now time.Time) []string {
	s := v.source
	title, running := "no session yet", 0
	for _, x := range s.sessions {
		if x.State == "running" {
			running++
		}
	}
	switch {
	case len(s.sessions) == 1:
		x := s.sessions[0]
		state := printable(x.State)
		if x.State == "running" {
			state += ", " + secondsText(now.Sub(x.Started))
		}
		title = fmt.Sprintf("%s %s (%s)", printable(x.Name), printable(x.ID), state)
	case len(s.sessions) > 1:
		title = fmt.Sprintf("%s, %d running", count(int64(len(s.sessions)), "session"), running)
	}
	if s.left > 0 {
		title += fmt.Sprintf(", %d more are not followed", s.left)
	}
	var sum topSum
	from := now.Add(-rateTime)
	for _, r := range v.flows() {
		sum.add(r, from)
	}
	facts := fmt.Sprintf("%s, %d open, %s; %s sent, %s received, %s/s", count(int64(sum.flows), "flow"), sum.open,
		perSecond(float64(sum.recent)/rateTime.Seconds()), bytesText(sum.sent), bytesText(sum.received), sizeText(sum.bytes/int64(rateTime/time.Second)))
	if s.dropped > 0 {
		facts += fmt.Sprintf("; %d older ones are not shown", s.dropped)
	}
	tokens := "no calls to language models"
	if sum.calls > 0 {
		u := sum.usage
		tokens = fmt.Sprintf("%s; tokens: %s in, %s of them cached, %s out", count(int64(sum.calls), "call"), tokenText(u.prompt()), tokenText(u.CacheRead), tokenText(u.Output))
		if sum.tokens > 0 {
			tokens += " (" + perSecondOf(sum.tokens) + ")"
		}
		if sum.errors > 0 {
			tokens += "; " + count(int64(sum.errors), "error")
		}
	}
	return []string{w.paint(bold, w.fit("trace top  "+title)), w.fit(facts), w.fit(tokens), v.tabs(w)}
}

// tabs names the panes, and what is left out of them.
func (v *topView) tabs(w *terminal) string {
	used, line := 0, ""
	add := func(text string, st style) {
		if text = shorten(text, v.width-used); text != "" {
			line += w.paint(st, text)
			used += columns(text)
		}
	}
	for i, p := range topPanes {
		st, text := faint, " "+p.name+" "
		if i == v.pane {
			st, text = bold, "["+p.name+"]"
		}
		add(text, st)
	}
	if v.filter.pane != 0 {
		add("  of "+v.filter.group, yellow)
	}
	if v.filter.text != "" && !v.typing {
		add("  /"+printable(v.filter.text), yellow)
	}
	return line
}

// tableLines is the table of the pane.
func (v *topView) tableLines(w *terminal, now time.Time) []string {
	rows := v.flows()
	var sums []*topSum
	v.keys = v.keys[:0]
	columns := listColumns(false)
	columns = columns[:len(columns)-1] // the note stands below
	if p := topPanes[v.pane]; p.of == nil {
		for _, r := range rows {
			v.keys = append(v.keys, r.key)
		}
	} else {
		columns = groupColumns(p.one)
		sums = groups(rows, now.Add(-rateTime), p.of)
		for _, s := range sums {
			v.keys = append(v.keys, s.name)
		}
	}
	if len(v.keys) == 0 {
		return []string{"", w.fit("  " + v.nothing())}
	}
	at := v.locate()
	place := &v.places[v.pane]
	last := min(len(v.keys), place.first+v.body()-1)
	cells := make([][]cell, 0, last-place.first)
	for i := place.first; i < last; i++ {
		if sums != nil {
			cells = append(cells, sums[i].cells())
		} else {
			cells = append(cells, flowCells(rows[i], len(v.source.sessions) > 1, now))
		}
	}
	return v.table(w, columns, cells, at-place.first)
}

func (v *topView) nothing() string {
	switch {
	case v.filter != (topFilter{}) && len(v.source.rows) > 0:
		return "No flow fits the filter (Esc takes it away)."
	case len(v.source.sessions) == 0:
		return "No session yet: 'trace run --inspect -- COMMAND' records one."
	case v.pane == 3 && len(v.source.rows) > 0:
		return "No calls to language models."
	}
	return "No flows yet."
}

// locate finds the chosen row again, and the part of the table around it.
func (v *topView) locate() int {
	p := &v.places[v.pane]
	at := -1
	switch {
	case p.end:
		at = len(v.keys) - 1
	case p.key != "":
		if p.at < len(v.keys) && v.keys[p.at] == p.key {
			at = p.at
			break
		}
		for i, k := range v.keys {
			if k == p.key {
				at = i
				break
			}
		}
	}
	if at < 0 {
		at = min(max(0, p.at), len(v.keys)-1)
	}
	p.at, p.key = at, v.keys[at]
	rows := max(1, v.body()-1)
	p.first = min(p.first, at, max(0, len(v.keys)-rows))
	p.first = max(p.first, at-rows+1, 0)
	return at
}

// table draws rows below their titles, the chosen one marked.
func (v *topView) table(w *terminal, cs []column, rows [][]cell, chosen int) []string {
	p := &v.places[v.pane]
	if len(p.widest) != len(cs) {
		p.widest = make([]int, len(cs))
	}
	for _, row := range rows {
		for i, c := range row {
			if n := columns(c.text); n > 0 {
				p.widest[i] = max(p.widest[i], n, columns(cs[i].title))
			}
		}
	}
	t := table{columns: cs}
	widths := layout(cs, p.widest, max(1, v.width-2))
	line := func(w *terminal, row []cell) string {
		var b strings.Builder
		t.writeRow(&b, w, row, widths)
		return strings.TrimSuffix(b.String(), "\n")
	}
	titles := make([]cell, len(cs))
	for i, c := range cs {
		titles[i] = cell{c.title, bold}
	}
	out := []string{"  " + line(w, titles)}
	bare := &terminal{width: w.width}
	for i, row := range rows {
		switch {
		case i != chosen:
			out = append(out, "  "+line(w, row))
		case v.color:
			out = append(out, w.paint("7", pad("> "+line(bare, row), v.width, false)))
		default:
			out = append(out, "> "+line(bare, row))
		}
	}
	return out
}

// flowCells is the row of a flow, in the columns of the list.
func flowCells(r *topRow, many bool, now time.Time) []cell {
	f := r.f
	process := f.process
	if many {
		process = strings.TrimSpace(process + " " + r.name)
	}
	took := f.took
	if r.open {
		took = secondsText(now.Sub(r.started))
	}
	row := []cell{{fmt.Sprint(r.id), faint}, {r.started.Local().Format("15:04:05"), faint}, {text: f.method}, {text: f.host},
		{text: f.path}, f.status, {text: r.kind}, {text: sizeText(f.size)}, {text: took}, {text: process}}
	x := &flow.Exchange{State: flow.StateComplete}
	if r.call != nil {
		x.LLM = r.call
	}
	cells := callCells(x)
	for i := range cells {
		cells[i].text = printable(cells[i].text)
	}
	return append(row, cells...)
}

// secondsText is the time for which something has gone on, in whole seconds.
func secondsText(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	}
	return tookText(d)
}

// footLines is the line about the chosen row, and that of the keys.
func (v *topView) footLines(w *terminal) []string {
	note := ""
	if v.pane == 0 && len(v.keys) > 0 && v.places[0].at < len(v.flows()) {
		note = w.paint(yellow, w.fit(v.flows()[v.places[0].at].f.note))
	}
	if v.problem != "" {
		note = w.paint(red, w.fit(printable(v.problem)))
	}
	keys := "q quit  / filter  Tab pane  Enter detail  arrows j k g G move  ? help"
	if v.typing {
		text := printable(v.filter.text)
		for columns(text) > max(1, v.width-2) { // its end is what is being typed
			text = string([]rune(text)[1:])
		}
		return []string{note, w.fit("/" + text + "_")}
	}
	return []string{note, w.paint(faint, w.fit(keys))}
}

const topHelp = `
  Up Down j k       choose a row           PgUp PgDn Space   a screen
  g G Home End      the first, the last; at the last flow, the newest stays chosen
  Enter Right l     the flow in detail; the flows of a process, host, model, session
  Esc Left h        back; else take the filter away
  Tab Shift-Tab     the next pane, the one before; 1 to 5
  /                 filter: flows that have all words; !word: that do not have it
  Ctrl-L  Ctrl-Z    draw anew; stop for now
  q                 quit`
