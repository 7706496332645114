package replay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"trace/flow"
	"trace/pipe"
)

// errOver ends a connection after an answer.
var errOver = errors.New("the connection is over")

// A served1 is one connection of HTTP/1 that is played.
type served1 struct {
	p      *Player
	c      *buffered
	raw    *pipe.End
	to     hostAndPort
	scheme string
	w      *bufio.Writer
	ctx    context.Context
}

// serveHTTP1 plays requests until the connection ends.
func (p *Player) serveHTTP1(c *buffered, raw *pipe.End, to hostAndPort, scheme string) {
	s := &served1{p: p, c: c, raw: raw, to: to, scheme: scheme, w: bufio.NewWriter(c), ctx: p.ctx}
	for {
		c.SetReadDeadline(time.Now().Add(idle))
		r, err := http.ReadRequest(c.r)
		if err != nil {
			return
		}
		c.SetReadDeadline(time.Time{})
		if err := s.request(r); err != nil {
			return
		}
	}
}

// request answers one request. An error ends the connection.
func (s *served1) request(r *http.Request) error {
	if r.Method == http.MethodConnect {
		return s.tunnel(r)
	}
	if strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		if _, err := io.WriteString(s.c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return err
		}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAsked))
	if err != nil {
		return err
	}
	want := askedOf(r, body, s.to, s.scheme)
	a, m := s.p.answer(want)
	if m != nil {
		a = unmatchedAnswer(m)
	}
	if err := pause(s.ctx, a.wait); err != nil {
		return err
	}
	switch {
	case a.head == nil:
		s.raw.Reset()
		return errOver
	case m == nil && want.websocket && a.detail.IsWebSocket():
		return s.webSocket(r, a)
	case m == nil && a.head.Status == http.StatusSwitchingProtocols:
		s.raw.Reset() // what it switched to cannot be played
		return errOver
	}
	return s.give(r, a)
}

// tunnel answers CONNECT and plays what is asked inside.
func (s *served1) tunnel(r *http.Request) error {
	host, port, err := net.SplitHostPort(r.RequestURI)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(s.c, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return err
	}
	s.p.serveClear(s.c, s.raw, hostAndPort{strings.ToLower(host), number}, "http")
	return errOver
}

// give writes an answer.
func (s *served1) give(r *http.Request, a *answer) error {
	version := "1.1"
	if r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		version = "1.0"
	}
	for _, early := range a.early {
		if early.Status > 101 && version == "1.1" {
			s.head(early, "1.1", early.Fields)
		}
	}
	whole, isWhole := a.whole()
	fs, chunked := a.fieldsFor(r.Method, version, whole, isWhole)
	s.head(a.head, version, fs)
	var err error
	switch {
	case a.bodiless(r.Method):
	case isWhole && !chunked:
		_, err = s.w.Write(whole)
	default:
		err = s.stream(a, chunked)
	}
	if ferr := s.w.Flush(); err == nil {
		err = ferr
	}
	if a.cut {
		s.raw.Reset()
		return errOver
	}
	keep := r.ProtoAtLeast(1, 1) && !r.Close && !closes(fs) && (chunked || isWhole || a.bodiless(r.Method))
	if err == nil && !keep {
		err = errOver
	}
	return err
}

// head writes a status line and fields.
func (s *served1) head(h *flow.Head, version string, fs []flow.Field) {
	if h.Version == "1.0" {
		version = "1.0"
	}
	reason := h.Reason
	if reason == "" && h.Version == "2" {
		reason = http.StatusText(h.Status)
	}
	fmt.Fprintf(s.w, "HTTP/%s %d %s\r\n", version, h.Status, reason)
	for _, f := range fs {
		s.w.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	s.w.WriteString("\r\n")
}

// stream writes a body piece by piece, each at its time.
func (s *served1) stream(a *answer, chunked bool) error {
	if err := s.w.Flush(); err != nil {
		return err
	}
	err := a.play(s.ctx, func(p []byte) error {
		if len(p) == 0 {
			return nil
		}
		if chunked {
			fmt.Fprintf(s.w, "%x\r\n", len(p))
		}
		s.w.Write(p)
		if chunked {
			s.w.WriteString("\r\n")
		}
		return s.w.Flush()
	})
	if err != nil || !chunked || a.cut {
		return err
	}
	s.w.WriteString("0\r\n")
	for _, f := range a.trailers {
		s.w.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	_, err = s.w.WriteString("\r\n")
	return err
}

// closes reports whether fields end the connection (RFC 9112 section 9.6).
func closes(fs []flow.Field) bool {
	h := &flow.Head{Fields: fs}
	return strings.Contains(strings.ToLower(strings.Join(h.Values("Connection"), ",")), "close")
}
