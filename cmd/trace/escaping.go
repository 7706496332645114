package main

import "unicode/utf8"

// escapingText is a terminal for JSON that comes in pieces of any size.
type escapingText struct {
	w    *terminal
	rest []byte // the beginning of a character
}

// Write writes JSON with what a terminal might obey escaped.
func (e *escapingText) Write(p []byte) (int, error) {
	text := append(e.rest, p...)
	end := len(text)
	for i := 1; i <= min(utf8.UTFMax, len(text)); i++ {
		if at := len(text) - i; utf8.RuneStart(text[at]) {
			if !utf8.FullRune(text[at:]) {
				end = at
			}
			break
		}
	}
	e.rest = append([]byte(nil), text[end:]...)
	if _, err := e.w.Write(escapeJSON(text[:end])); err != nil {
		return 0, err
	}
	return len(p), nil
}
