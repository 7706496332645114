package wire

import (
	"strconv"
	"strings"

	"trace/flow"
)

// maxExtensions bounds how many extensions of one head are looked at.
const maxExtensions = 32

// An extension is one member of Sec-WebSocket-Extensions (RFC 6455 section 9.1).
type extension struct {
	name   string // lower case
	params []param
}

type param struct {
	name, value string
	valued      bool
}

// agreement is what was negotiated for a WebSocket.
type agreement struct {
	deflate  bool     // permessage-deflate (RFC 7692)
	takeover [2]bool  // whether its window lives on, by side that sends
	unknown  string   // another extension
	notes    []string // what is wrong with the answer
}

const permessageDeflate = "permessage-deflate"

// negotiate reads the answer resp against what req offered. An answer that
// breaks the rules is read all the same: both ends may bear it.
func negotiate(req, resp *flow.Head) agreement {
	a := agreement{takeover: [2]bool{true, true}}
	offers, _ := parseExtensions(req)
	answers, ok := parseExtensions(resp)
	if !ok {
		a.notes = append(a.notes, "Sec-WebSocket-Extensions of the answer is not valid")
	}
	for _, e := range answers {
		offered := false
		for i := range offers {
			offered = offered || offers[i].name == e.name
		}
		if !offered {
			a.notes = append(a.notes, "the server chose the extension "+strconv.Quote(e.name)+", which was not offered")
		}
		switch {
		case e.name != permessageDeflate:
			a.unknown = e.name
		case a.deflate:
			a.notes = append(a.notes, "the server chose "+permessageDeflate+" twice")
		default:
			a.deflate = true
			a.takeover[flow.Client] = !e.has("client_no_context_takeover")
			a.takeover[flow.Server] = !e.has("server_no_context_takeover")
			if !e.validAnswer() {
				a.notes = append(a.notes, "the parameters of "+permessageDeflate+" in the answer are not valid")
			} else if offered && !e.accepts(offers) {
				a.notes = append(a.notes, "the parameters of "+permessageDeflate+" in the answer accept none that was offered")
			}
		}
	}
	return a
}

func (e extension) get(name string) (p param, ok bool) {
	for _, p := range e.params {
		if p.name == name {
			return p, true
		}
	}
	return param{}, false
}

func (e extension) has(name string) bool {
	_, ok := e.get(name)
	return ok
}

// validAnswer reports whether the parameters may stand in an answer (RFC 7692
// section 7.1).
func (e extension) validAnswer() bool {
	for i, p := range e.params {
		for _, q := range e.params[:i] {
			if q.name == p.name {
				return false
			}
		}
		switch p.name {
		case "server_no_context_takeover", "client_no_context_takeover":
			if p.valued {
				return false
			}
		case "server_max_window_bits", "client_max_window_bits":
			if p.windowBits() == 0 {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// windowBits returns the valid value of a window parameter, or 0.
func (p param) windowBits() int {
	switch p.value {
	case "8", "9", "10", "11", "12", "13", "14", "15":
		n, _ := strconv.Atoi(p.value)
		return n
	}
	return 0
}

// accepts reports whether the answer e accepts one of offers.
func (e extension) accepts(offers []extension) bool {
	for _, o := range offers {
		if o.name == e.name && e.acceptsOne(o) {
			return true
		}
	}
	return false
}

func (e extension) acceptsOne(o extension) bool {
	if o.has("server_no_context_takeover") && !e.has("server_no_context_takeover") {
		return false
	}
	wanted, asks := o.get("server_max_window_bits")
	given, says := e.get("server_max_window_bits")
	if asks && (!says || given.windowBits() > wanted.windowBits()) {
		return false
	}
	wanted, asks = o.get("client_max_window_bits")
	given, says = e.get("client_max_window_bits")
	return !says || asks && (!wanted.valued || given.windowBits() <= wanted.windowBits())
}

// parseExtensions reads the Sec-WebSocket-Extensions of h as far as it is valid.
func parseExtensions(h *flow.Head) (list []extension, ok bool) {
	for _, v := range h.Values("Sec-WebSocket-Extensions") {
		for {
			v = strings.TrimLeft(v, " \t\r\n,")
			if v == "" {
				break
			}
			var e extension
			if e, v, ok = parseExtension(v); !ok || len(list) == maxExtensions {
				return list, false
			}
			list = append(list, e)
		}
	}
	return list, true
}

// parseExtension reads one extension up to the comma after it.
func parseExtension(s string) (e extension, rest string, ok bool) {
	name, s := token(s)
	if name == "" {
		return e, s, false
	}
	e.name = strings.ToLower(name)
	for {
		switch {
		case s == "" || s[0] == ',':
			return e, s, true
		case s[0] != ';':
			return e, s, false
		}
		var p param
		if p.name, s = token(s[1:]); p.name == "" {
			return e, s, false
		}
		p.name = strings.ToLower(p.name)
		if strings.HasPrefix(s, "=") {
			p.valued = true
			if p.value, s, ok = value(s[1:]); !ok {
				return e, s, false
			}
		}
		e.params = append(e.params, p)
	}
}

// token reads a token with the white space around it.
func token(s string) (word, rest string) {
	s = strings.TrimLeft(s, " \t\r\n")
	n := 0
	for n < len(s) && isToken(s[n]) {
		n++
	}
	return s[:n], strings.TrimLeft(s[n:], " \t\r\n")
}

// value reads a token or a quoted string (RFC 9110 section 5.6.4).
func value(s string) (text, rest string, ok bool) {
	if t := strings.TrimLeft(s, " \t\r\n"); !strings.HasPrefix(t, `"`) {
		text, rest = token(t)
		return text, rest, text != ""
	} else {
		s = t[1:]
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), strings.TrimLeft(s[i+1:], " \t\r\n"), true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
