package main

import (
	"unicode/utf8"

	"trace/console"
)

// press takes a key. quit tells that it was the one that ends top.
func (v *topView) press(k console.Key) (quit bool) {
	switch {
	case k == console.CtrlC:
		return true
	case v.typing:
		v.typed(k)
		return false
	case k == 'q':
		return true
	case v.help:
		v.help = false
		return false
	case k == '?':
		v.help = v.detail == nil
	case v.detail != nil:
		v.pressDetail(k)
	default:
		v.pressTable(k)
	}
	return false
}

// maxFilter bounds what may be typed, in bytes.
const maxFilter = 200

// typed takes a key while the filter is being typed.
func (v *topView) typed(k console.Key) {
	f := &v.filter.text
	switch {
	case k == console.Enter:
		v.typing = false
	case k == console.Escape:
		v.typing, *f = false, v.before
	case k == console.CtrlU:
		*f = ""
	case k == console.Backspace:
		if *f == "" {
			v.typing = false
			break
		}
		_, n := utf8.DecodeLastRuneInString(*f)
		*f = (*f)[:len(*f)-n]
	case k.Character() && len(*f) < maxFilter:
		*f += string(rune(k))
	}
}

// pressTable takes a key in a table.
func (v *topView) pressTable(k console.Key) {
	page := max(1, v.body()-2)
	switch k {
	case console.Up, 'k':
		v.move(-1)
	case console.Down, 'j':
		v.move(1)
	case console.PageUp:
		v.move(-page)
	case console.PageDown, ' ':
		v.move(page)
	case console.Home, 'g':
		v.move(-len(v.keys))
	case console.End, 'G':
		v.move(len(v.keys))
	case console.Tab:
		v.pane = (v.pane + 1) % len(topPanes)
	case console.BackTab:
		v.pane = (v.pane + len(topPanes) - 1) % len(topPanes)
	case '1', '2', '3', '4', '5':
		v.pane = int(k - '1')
	case '/':
		v.typing, v.before = true, v.filter.text
	case console.Escape, console.Left, 'h':
		switch {
		case v.filter.pane != 0: // back to where the group was chosen
			v.pane = v.filter.pane
			v.filter.pane, v.filter.group = 0, ""
		case k == console.Escape:
			v.filter.text = ""
		}
	case console.Enter, console.Right, 'l':
		v.enter()
	}
}

// move chooses another row.
func (v *topView) move(by int) {
	p := &v.places[v.pane]
	if len(v.keys) == 0 {
		return
	}
	p.at = min(max(0, p.at+by), len(v.keys)-1)
	p.key = v.keys[p.at]
	p.end = v.pane == 0 && p.at == len(v.keys)-1 && by > 0
}

// enter opens what is chosen: a flow, or the flows of a group.
func (v *topView) enter() {
	p := &v.places[v.pane]
	if p.at >= len(v.keys) {
		return
	}
	if v.pane != 0 {
		v.filter.pane, v.filter.group = v.pane, v.keys[p.at]
		v.pane = 0
		v.places[0].end = true
		return
	}
	if r := v.source.byKey[v.keys[p.at]]; r != nil {
		v.open(r)
		p.key, p.end = r.key, false
	}
}

// pressDetail takes a key in the view of one flow.
func (v *topView) pressDetail(k console.Key) {
	d := v.detail
	page := max(1, v.height-3)
	switch k {
	case console.Up, 'k':
		d.first--
	case console.Down, 'j':
		d.first++
	case console.PageUp:
		d.first -= page
	case console.PageDown, ' ':
		d.first += page
	case console.Home, 'g':
		d.first = 0
	case console.End, 'G':
		d.first = len(d.lines)
	case 'n', 'p':
		by := 1
		if k == 'p' {
			by = -1
		}
		v.refreshKeys()
		v.move(by)
		v.enter()
	case console.Escape, console.Left, 'h', console.Backspace:
		v.detail = nil
	}
}

// refreshKeys brings the list of rows up to date while a flow covers it.
func (v *topView) refreshKeys() {
	v.keys = v.keys[:0]
	for _, r := range v.flows() {
		v.keys = append(v.keys, r.key)
	}
	if len(v.keys) > 0 {
		v.locate()
	}
}
