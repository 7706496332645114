package proxy

import (
	"bytes"
	"strings"
)

// withoutH2C returns a head without what asks for HTTP/2 in its place (Upgrade: h2c,
// RFC 7540 section 3.2). A server that agreed would get the paths of all later
// requests as the child has them, where only it and the child could read them; the
// offer is for one connection anyway, and may always go unheard (RFC 9110 section 7.8).
func withoutH2C(head []byte) []byte {
	if !bytes.Contains(bytes.ToLower(head), []byte("h2c")) {
		return head
	}
	out := make([]byte, 0, len(head))
	asked := false
	for line := range bytes.Lines(head) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch strings.ToLower(string(bytes.TrimSpace(name))) {
		case "upgrade":
			kept := withoutTokens(line, value, "h2c")
			asked = asked || len(kept) != len(line)
			line = kept
		case "http2-settings":
			line = nil
		}
		out = append(out, line...)
	}
	if !asked {
		return head
	}
	tokens := []string{"http2-settings"}
	if !bytes.Contains(bytes.ToLower(out), []byte("\nupgrade:")) {
		tokens = append(tokens, "upgrade")
	}
	head, out = out, make([]byte, 0, len(out))
	for line := range bytes.Lines(head) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if strings.EqualFold(string(bytes.TrimSpace(name)), "connection") {
			line = withoutTokens(line, value, tokens...)
		}
		out = append(out, line...)
	}
	return out
}

// withoutTokens returns a line without some of the tokens of its value, nil if that
// has no others.
func withoutTokens(line, value []byte, tokens ...string) []byte {
	var kept []string
	found := false
	for token := range strings.SplitSeq(string(value), ",") {
		token = strings.TrimSpace(token)
		drop := false
		for _, t := range tokens {
			drop = drop || strings.EqualFold(token, t)
		}
		if found = found || drop; !drop {
			kept = append(kept, token)
		}
	}
	switch {
	case !found:
		return line
	case len(kept) == 0:
		return nil
	}
	name, _, _ := bytes.Cut(line, []byte(":"))
	return append(bytes.Clone(name), ": "+strings.Join(kept, ", ")+"\r\n"...)
}
