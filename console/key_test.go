package console

import (
	"slices"
	"testing"
)

// TestKeys: what terminals send becomes the same keys however it is split.
func TestKeys(t *testing.T) {
	for _, c := range []struct {
		sent string
		want []Key
	}{
		{"jk/é世\U0001f600", []Key{'j', 'k', '/', 'é', '世', '\U0001f600'}},
		{"\x1b[A\x1b[B\x1b[C\x1b[D", []Key{Up, Down, Right, Left}},
		{"\x1bOA\x1bOB\x1bOH\x1bOF", []Key{Up, Down, Home, End}},
		{"\x1b[1~\x1b[4~\x1b[5~\x1b[6~\x1b[3~\x1b[7~\x1b[8~", []Key{Home, End, PageUp, PageDown, Delete, Home, End}},
		{"\x1b[1;5A\x1b[5;2~", []Key{Up, PageUp}},
		{"\t\x1b[Z\r\n\x7f\b", []Key{Tab, BackTab, Enter, Enter, Backspace, Backspace}},
		{"\x03\x0c\x15\x1a", []Key{CtrlC, CtrlL, CtrlU, CtrlZ}},
		{"\x1bx\x1b\x1b[A", []Key{Escape, Up}},          // with Alt; Escape and then a key
		{"\x1b[[Aa\x1b[200~b\x1b[99~", []Key{'a', 'b'}}, // keys without a name
		{"\xffa\xc3(", []Key{'a', '('}},
		{"a\x00b", []Key{'a', 'b'}},
	} {
		for size := 1; size <= len(c.sent); size++ {
			var d decoder
			var got []Key
			for part := range slices.Chunk([]byte(c.sent), size) {
				got = append(got, d.write(part)...)
			}
			if !slices.Equal(got, c.want) || len(d.rest) > 0 {
				t.Errorf("%q in pieces of %d: %v, rest %q, want %v", c.sent, size, got, d.rest, c.want)
			}
		}
	}
}

// TestEscape: the Escape key is one when nothing follows, and nothing endless is held.
func TestEscape(t *testing.T) {
	var d decoder
	if got := d.write([]byte("\x1b")); got != nil {
		t.Errorf("before its time: %v", got)
	}
	if got := d.flush(); !slices.Equal(got, []Key{Escape}) {
		t.Errorf("flush: %v", got)
	}
	if got := d.flush(); got != nil {
		t.Errorf("twice: %v", got)
	}
	for range 1000 {
		if d.write([]byte("\x1b[0000000")); len(d.rest) >= maxSequence {
			t.Fatalf("%d bytes are held", len(d.rest))
		}
	}
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte("\x1b[A\x1bOBq\xe4\xb8\x96"))
	f.Fuzz(func(t *testing.T, p []byte) {
		var d decoder
		for _, k := range d.write(p) {
			if k == other || k == 0 {
				t.Errorf("%q: key %d", p, k)
			}
		}
		if len(d.rest) >= maxSequence {
			t.Errorf("%q: %q is held", p, d.rest)
		}
	})
}
