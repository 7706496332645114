package replay

import (
	"bytes"
	"fmt"
	"strings"
)

// head1 returns the head of an HTTP/1 request, its blank line included.
func (r *Request) head1() []byte {
	h := &r.Head
	version := h.Version
	if version == "2" || version == "" {
		version = "1.1"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/%s\r\n", h.Method, h.Target, version)
	for _, f := range h.Fields {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// body1 returns the body as HTTP/1 frames it.
func (r *Request) body1() []byte {
	if r.Head.Get("Transfer-Encoding") == "" {
		return r.Body
	}
	var b bytes.Buffer
	if len(r.Body) > 0 {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(r.Body), r.Body)
	}
	b.WriteString("0\r\n")
	for _, f := range r.Trailers {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// Wire returns the request as HTTP/1 sends it.
func (r *Request) Wire() []byte {
	if r.Exact != nil {
		return r.Exact
	}
	return append(r.head1(), r.body1()...)
}

// toHTTP1 makes a request that was HTTP/2 one of HTTP/1.1.
func (r *Request) toHTTP1(why string) {
	h := &r.Head
	h.Version = "1.1"
	if h.Authority != "" {
		h.Fields = append(setField(nil, "host", h.Authority), dropField(h.Fields, "Host")...)
	} else if h.Get("Host") == "" {
		h.Fields = append(setField(nil, "host", hostPort(h.Scheme, h.Host, h.Port)), h.Fields...)
	}
	h.Fields = dropField(h.Fields, "TE")
	if h.Get("Content-Length") == "" && len(r.Body) > 0 {
		h.Fields = setField(h.Fields, "content-length", itoa(len(r.Body)))
	}
	h.Authority, h.Stream = "", 0
	r.Notes = append(r.Notes, why+": sent as HTTP/1.1")
}

// awaitsContinue reports whether the body waits for a 100 (RFC 9110 section
// 10.1.1).
func (r *Request) awaitsContinue() bool {
	return r.Exact == nil && r.Head.Version != "2" && strings.EqualFold(strings.TrimSpace(r.Head.Get("Expect")), "100-continue") && len(r.Body) > 0
}
