package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"

	"trace/flow"
)

// answers passes on what the server sends.
func (x *alter1) answers() {
	b := make([]byte, readSize)
	for {
		n, err := x.server.Read(b)
		if n > 0 {
			if failed := x.came(b[:n]); failed != nil {
				x.server.Close()
				x.serverEnded(failed)
				return
			}
		}
		if err != nil {
			x.serverEnded(err)
			return
		}
	}
}

// came takes what the server sent.
func (x *alter1) came(p []byte) error {
	x.mu.Lock()
	alt := x.alt
	x.mu.Unlock()
	if alt != nil {
		return alt.take(p)
	}
	x.mu.Lock()
	over, tunnel := x.follow.step(p)
	if over {
		x.follow.busy = true // until the child has it
	}
	x.mu.Unlock()
	err := x.toChild(p)
	x.settled(over, tunnel)
	return err
}

// settled says that an answer is over, or that the connection is a tunnel.
func (x *alter1) settled(over, tunnel bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if over {
		x.follow.busy = false
	}
	if over || tunnel {
		x.alt = nil
	}
	x.tunnel = x.tunnel || tunnel
	x.turn.Broadcast()
}

// serverEnded passes on how the server's side ended.
func (x *alter1) serverEnded(err error) {
	x.mu.Lock()
	alt := x.alt
	for x.local { // our answer goes first
		x.turn.Wait()
	}
	x.over = true
	x.turn.Broadcast()
	x.mu.Unlock()
	if alt != nil {
		alt.ended(errors.Is(err, io.EOF))
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, errTold), errors.Is(err, net.ErrClosed):
		x.near.CloseWrite()
	default:
		x.near.Reset()
	}
}

// An answerer alters one answer of HTTP/1. The goroutine that reads answers calls it.
type answerer struct {
	*alteration
	x       *alter1
	framing answers // works out the body
	seek    headSeeker
	head    []byte // until it is whole
	in      bool   // in the body
	line    []byte // status line of an answer that is held
	fields  []flow.Field
	failed  error // of writing, within a piece
}

// take takes what the server sent.
func (a *answerer) take(p []byte) error {
	for len(p) > 0 {
		if a.in {
			return a.body(p)
		}
		old := len(a.head)
		a.head = append(a.head, p...)
		n := a.seek.end(a.head)
		if n == 0 && len(a.head) <= maxHead {
			return nil
		}
		status := 0
		if n > 0 {
			status = statusOf(a.head[:n])
		}
		switch {
		case status == 0, status == 101: // no answer of HTTP, or none any more
			a.x.settled(true, true)
			return a.x.toChild(a.head)
		case status < 200:
			if err := a.x.toChild(a.head[:n]); err != nil {
				return err
			}
			p = p[n-old:]
			a.head, a.seek = nil, headSeeker{}
			continue
		}
		p = p[n-old:]
		if err := a.begin(a.head[:n], status); err != nil {
			return err
		}
	}
	return nil
}

// begin takes the head of the final answer.
func (a *answerer) begin(head []byte, status int) error {
	lead := len(head) - len(bytes.TrimLeft(head, "\r\n"))
	end := lead + bytes.IndexByte(head[lead:], '\n') + 1
	a.line, a.fields, a.in = head[lead:end], headFields(head[end:]), true
	a.framing.begin(head, status)
	b := &a.framing.body
	b.got = a.got
	version := "1.1"
	if bytes.HasPrefix(a.line, []byte("HTTP/1.0")) {
		version = "1.0"
	}
	a.fields = a.alteration.head(status, version, a.fields, !b.over())
	if !a.hold {
		if err := a.x.toChild(writeHead(a.line, a.fields)); err != nil {
			return err
		}
	}
	if b.over() {
		a.over()
		a.x.settled(true, false)
	}
	return nil
}

// body takes a piece of the body.
func (a *answerer) body(p []byte) error {
	b := &a.framing.body
	_, err := b.take(p)
	switch {
	case a.failed != nil:
		return a.failed
	case err != nil:
		return err
	case b.over():
		return a.finish()
	}
	return nil
}

// got takes data of the body.
func (a *answerer) got(p []byte) {
	if a.failed != nil {
		return
	}
	held := a.hold
	out, cut := a.data(p)
	if held && !a.hold { // it was too long
		a.failed = a.x.toChild(writeHead(a.line, a.fields))
	}
	if a.failed == nil {
		a.failed = a.give(out, a.piece)
	}
	if cut && a.failed == nil {
		a.failed = errTold
	}
}

// piece writes data in the framing of the answer.
func (a *answerer) piece(p []byte) error {
	if a.framing.body.chunked {
		p = append(append(fmt.Appendf(nil, "%x\r\n", len(p)), p...), "\r\n"...)
	}
	return a.x.toChild(p)
}

// finish ends an answer that has come whole.
func (a *answerer) finish() error {
	a.over()
	err := a.flush()
	b := &a.framing.body
	if err == nil && b.chunked && a.line != nil {
		err = a.x.toChild(append(append([]byte("0\r\n"), b.trailers...), "\r\n"...))
	}
	a.x.settled(true, false)
	return err
}

// flush gives a body that was held.
func (a *answerer) flush() error {
	if !a.hold {
		return nil
	}
	body, plain := a.whole()
	a.hold = false
	a.alteration.begin()
	err := a.x.toChild(writeHead(a.line, framedAs(a.fields, len(body), plain)))
	if err == nil {
		err = a.give(body, a.x.toChild)
	}
	a.line = nil // it has a length now
	return err
}

// ended takes the end of the server's stream; clean: it may be that of the body.
func (a *answerer) ended(clean bool) {
	if !a.in || a.failed != nil {
		return
	}
	a.over()
	if clean && a.framing.body.close {
		a.flush()
	}
}
