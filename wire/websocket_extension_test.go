package wire_test

import (
	"strings"
	"testing"

	"trace/flow"
)

// TestWebSocketExtensions: what was agreed is read from the answer against the
// offer, and what must not be is said.
func TestWebSocketExtensions(t *testing.T) {
	const unoffered = "the server chose the extension %q, which was not offered"
	const invalid, unaccepted = "the parameters of permessage-deflate in the answer are not valid", "the parameters of permessage-deflate in the answer accept none that was offered"
	for _, c := range []struct{ offer, answer, note string }{
		{"", "", ""},
		{pmd, "", ""},
		{pmd, pmd, ""},
		{"x, Permessage-Deflate ; a", " , PERMESSAGE-DEFLATE,", ""},
		{pmd + "; client_max_window_bits", pmd + `; client_max_window_bits="10" ; server_no_context_takeover`, ""},
		{pmd, pmd + "; server_max_window_bits=8", ""},
		{pmd, pmd + "; client_max_window_bits=10", unaccepted},
		{pmd + "; client_max_window_bits=9", pmd + "; client_max_window_bits=10", unaccepted},
		{pmd + "; client_max_window_bits=10", pmd + "; client_max_window_bits=10", ""},
		{pmd + "; server_max_window_bits=10", pmd, unaccepted},
		{pmd + "; server_max_window_bits=10", pmd + "; server_max_window_bits=11", unaccepted},
		{pmd + "; server_max_window_bits=10, " + pmd, pmd, ""},
		{pmd + "; server_no_context_takeover", pmd, unaccepted},
		{pmd, pmd + "; client_max_window_bits", invalid},
		{pmd, pmd + "; server_max_window_bits=16", invalid},
		{pmd, pmd + "; server_max_window_bits=08", invalid},
		{pmd, pmd + "; server_no_context_takeover=1", invalid},
		{pmd, pmd + "; server_no_context_takeover; server_no_context_takeover", invalid},
		{pmd, pmd + "; other", invalid},
		{pmd, pmd + ", " + pmd, "the server chose permessage-deflate twice"},
		{"", pmd, strings.ReplaceAll(unoffered, "%q", `"permessage-deflate"`)},
		{pmd, pmd + `; a="b`, "Sec-WebSocket-Extensions of the answer is not valid"},
		{pmd, pmd + " x", "Sec-WebSocket-Extensions of the answer is not valid"},
		{pmd, "=, " + pmd, "Sec-WebSocket-Extensions of the answer is not valid"},
	} {
		s := socket(c.offer, c.answer)
		s.server("\x81\x02hi")
		s.closing()
		var want []string
		if c.note != "" {
			want = []string{"mark upstream malformed: " + c.note}
		}
		expect(t, s, append(want, `server 1 "hi"`, closed)...)
		if t.Failed() {
			t.Fatalf("%+v", c)
		}
	}
}

// TestWebSocketUnknownExtension: messages of an extension that is not known are
// kept as they passed; what it may have coded is only counted where the record
// must not hold secrets.
func TestWebSocketUnknownExtension(t *testing.T) {
	const name, data = "x-webkit-deflate-frame", "\xf2\x48\xcd\xc9\xc9\x07\x00"
	s := socket(name, name)
	s.frame(flow.Server, 0xc1, data)
	s.frame(flow.Client, 0x01, "a")
	s.frame(flow.Client, 0xa0, "b")
	s.frame(flow.Client, 0x81, "plain")
	s.closing()
	const mark = `mark decode limit: the extension "x-webkit-deflate-frame" is not known: messages are kept as they passed`
	expect(t, s, mark, `server 1 "\xf2H\xcd\xc9\xc9\a\x00"`, `client 1 "ab"`, `client 1 "plain"`, closed)
	s.careful = true
	expect(t, s, mark, `server 1 "" of 7 no sum`, `client 1 "" of 2 no sum`, `client 1 "plain"`, closed)
}
