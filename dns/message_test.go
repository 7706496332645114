package dns

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestParseQuestionName(t *testing.T) {
	for want, name := range map[string]string{
		"www.example": "\x03www\x07example\x00",
		".":           "\x00",
		`a\.b.c`:      "\x03a.b\x01c\x00",
		`\000\255\\`:  "\x03\x00\xff\\\x00",
		"_443._https": "\x04_443\x06_https\x00",
	} {
		raw := append(make([]byte, headerLen), name...)
		raw = append(raw, 0, 1, 0, 1)
		q, ok := parseQuestion(raw)
		if !ok || q.name != want || q.typ != typeA || q.class != classIN || q.end != len(raw) {
			t.Errorf("%q: %+v, %v", name, q, ok)
		}
	}
}

func TestParseAnswerOdd(t *testing.T) {
	name := dnsmessage.MustNewName("x.example.")
	h := dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET}
	m := dnsmessage.Message{Header: dnsmessage.Header{Response: true, RCode: 9}, Answers: []dnsmessage.Resource{
		{Header: h, Body: &dnsmessage.SRVResource{Priority: 1, Weight: 2, Port: 3, Target: dnsmessage.MustNewName(".")}},
		{Header: h, Body: &dnsmessage.NSResource{NS: name}},
		{Header: h, Body: &dnsmessage.PTRResource{PTR: name}},
		{Header: h, Body: &dnsmessage.UnknownResource{Type: 257, Data: []byte{0, 5}}},
		{Header: h, Body: &dnsmessage.UnknownResource{Type: 999, Data: nil}},
	}}
	raw := pack(t, m)
	want := []string{"1 2 3 .", "x.example", "x.example", `CAA \# 2 0005`, `TYPE999 \# 0 `}
	r := parseAnswer(raw)
	if r.rcode != "NOTAUTH" || len(r.answers) != len(want) {
		t.Fatalf("%+v", r)
	}
	for i, w := range want {
		if r.answers[i] != w {
			t.Errorf("answer %d: %q, want %q", i, r.answers[i], w)
		}
	}
	for n := range raw { // cut anywhere
		parseAnswer(raw[:n])
	}
	if rcodeName(15) != "RCODE15" {
		t.Error(rcodeName(15))
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(ask(f, 1, "www.example.", dnsmessage.TypeA, 1232))
	f.Add(ask(f, 1, "lent.example.", dnsmessage.TypeA, 0))
	f.Add(ask(f, 1, "www.example.", 65, 0))
	f.Add([]byte("\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	s := &Server{Avoid: []netip.Prefix{}}
	f.Cleanup(func() { s.Close() })
	s.Lend("lent.example")
	f.Fuzz(func(t *testing.T, raw []byte) {
		kept := bytes.Clone(raw)
		parseAnswer(raw)
		answer, q, err := s.local(raw)
		if !bytes.Equal(raw, kept) {
			t.Fatal("the query was changed")
		}
		if err != nil {
			return
		}
		if answer == nil {
			answer = reply(raw, q, rcodeServFail, netip.Addr{})
		}
		if q.end > 0 && !answers(answer, raw, q, uint16(raw[0])<<8|uint16(raw[1])) {
			t.Fatalf("%x does not answer %x", answer, raw)
		}
		var p dnsmessage.Parser
		if _, err := p.Start(answer); err != nil {
			t.Fatalf("answer %x: %v", answer, err)
		}
		if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil || p.SkipAllAdditionals() != nil {
			t.Fatalf("answer %x is malformed", answer)
		}
	})
}
