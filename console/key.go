package console

import "unicode/utf8"

// A Key is a key that was pressed: a character, or one of the names below. Zero is
// none.
type Key rune

// The keys that are no characters. Those with Ctrl are the ASCII controls.
const (
	CtrlC     Key = 0x03
	Tab       Key = 0x09
	CtrlL     Key = 0x0c
	Enter     Key = 0x0d
	CtrlU     Key = 0x15
	CtrlZ     Key = 0x1a
	Escape    Key = 0x1b
	Backspace Key = 0x7f

	Up Key = utf8.MaxRune + 1 + iota
	Down
	Left
	Right
	Home
	End
	PageUp
	PageDown
	Delete
	BackTab
	other // a key that has no name here
)

// Character reports whether k is a character that can be typed into a text.
func (k Key) Character() bool { return k >= ' ' && k != Backspace && k <= utf8.MaxRune }

// The ends of control sequences (ECMA-48 section 5.4; xterm) that are keys.
var (
	finals = map[byte]Key{'A': Up, 'B': Down, 'C': Right, 'D': Left, 'H': Home, 'F': End, 'Z': BackTab, 'M': Enter}
	tildes = map[string]Key{"1": Home, "3": Delete, "4": End, "5": PageUp, "6": PageDown, "7": Home, "8": End}
)

// maxSequence bounds what one key sends; more is no key.
const maxSequence = 32

// A decoder makes keys of the bytes that a terminal sends. It may be given them in
// any split.
type decoder struct{ rest []byte }

// write returns the keys that p completes.
func (d *decoder) write(p []byte) []Key {
	var keys []Key
	d.rest = append(d.rest, p...)
	for len(d.rest) > 0 {
		k, n := next(d.rest)
		if n == 0 && len(d.rest) < maxSequence {
			break
		}
		if n == 0 {
			k, n = other, len(d.rest)
		}
		d.rest = d.rest[n:]
		if k != other {
			keys = append(keys, k)
		}
	}
	return keys
}

// flush returns the keys that what is left stands for when nothing follows: Escape,
// above all, which begins the sequences of others.
func (d *decoder) flush() []Key {
	rest := d.rest
	d.rest = nil
	if len(rest) > 0 && rest[0] == '\x1b' {
		return []Key{Escape}
	}
	return nil
}

// next returns the first key in p and how many bytes it is; 0 where there may be
// more to come.
func next(p []byte) (Key, int) {
	if p[0] != '\x1b' {
		return character(p)
	}
	if len(p) == 1 {
		return 0, 0
	}
	switch p[1] {
	case '[':
		for i := 2; i < len(p); i++ {
			if p[i] >= 0x40 && p[i] <= 0x7e {
				if i == 2 && p[2] == '[' { // the Linux console's function keys
					if len(p) == 3 {
						return 0, 0
					}
					return other, 4
				}
				return sequence(p[2:i], p[i]), i + 1
			}
		}
		return 0, 0
	case 'O':
		if len(p) == 2 {
			return 0, 0
		}
		return orOther(finals[p[2]]), 3
	case '\x1b':
		return Escape, 1
	}
	_, n := character(p[1:])
	if n == 0 {
		return 0, 0
	}
	return other, 1 + n // with Alt
}

// sequence is the key of a control sequence.
func sequence(params []byte, final byte) Key {
	for i, c := range params { // modifiers follow a semicolon
		if c == ';' {
			params = params[:i]
			break
		}
	}
	if final == '~' {
		return orOther(tildes[string(params)])
	}
	return orOther(finals[final])
}

func orOther(k Key) Key {
	if k == 0 {
		return other
	}
	return k
}

func character(p []byte) (Key, int) {
	switch p[0] {
	case '\n':
		return Enter, 1
	case '\b':
		return Backspace, 1
	}
	if !utf8.FullRune(p) {
		return 0, 0
	}
	r, n := utf8.DecodeRune(p)
	if r == utf8.RuneError && n == 1 {
		return other, 1
	}
	return orOther(Key(r)), n
}
