package main

import (
	"fmt"
	"strings"
	"time"

	"trace/flow"
)

// events prints the events of a stream, of both sides as they came.
func (p *printer) events(d *flow.Detail) {
	if len(d.Events) > 0 {
		p.line("")
	}
	for i := range d.Events {
		if p.w.tty && i == maxEventLines {
			p.line("%s", p.w.paint(faint, fmt.Sprintf("… %d more: trace flows show %s/%d --response-body", len(d.Events)-i, d.Session, d.ID)))
			break
		}
		p.event(&d.Exchange, &d.Events[i])
	}
}

// event prints one event of a stream, on one line.
func (p *printer) event(x *flow.Exchange, piece *flow.Piece) {
	framing := x.Framing(piece.Side)
	e := flow.ParseEvent(framing, piece.Data)
	if !e.Dispatched {
		return
	}
	words := []string{offset(x, piece.At)}
	if framing == flow.FramingGRPC || piece.Side == flow.Client {
		words[0] += " " + pad(piece.Side.Dir(), 8, false)
	}
	words[0] += " " + printable(e.Name())
	if framing == flow.FramingMultipart {
		for _, h := range e.Headers {
			words = append(words, printable(h.Name+": "+h.Value))
		}
	}
	data := e.Data
	if e.Binary {
		data = "base64 " + data
	}
	p.line("%s", p.w.fit(strings.Join(append(words, printable(data)), "  ")))
}

// offset is the time of a piece in its flow, as wide as a column.
func offset(x *flow.Exchange, at time.Time) string {
	return pad("+"+tookText(max(0, at.Sub(x.Started))), 9, false)
}

// messages prints the messages of a websocket, or the bytes of an opaque
// connection.
func (p *printer) messages(d *flow.Detail) {
	p.line("")
	title := fmt.Sprintf("Bytes (%s sent, %s received)", bytesText(d.Conn.Sent), bytesText(d.Conn.Received))
	if d.IsWebSocket() {
		var n [2]int
		for i := range d.Messages {
			n[d.Messages[i].Side]++
		}
		title = fmt.Sprintf("Messages (%d sent, %d received)", n[flow.Client], n[flow.Server])
	}
	p.line("%s", p.w.paint(bold, title))
	for i := range d.Messages {
		if p.w.tty && i == maxEventLines {
			p.line("%s", p.w.paint(faint, fmt.Sprintf("… %d more: trace flows show %s/%d --json", len(d.Messages)-i, d.Session, d.ID)))
			break
		}
		p.message(&d.Exchange, &d.Messages[i])
	}
}

// message prints one message, or a piece of opaque bytes, on one line.
func (p *printer) message(x *flow.Exchange, m *flow.Piece) {
	line := offset(x, m.At) + " " + pad(m.Side.Dir(), 8, false) + " "
	text := string(m.Data)
	switch {
	case !x.IsWebSocket():
		if !p.w.tty && len(text) > 1024 {
			text = text[:1024] // bytes of unknown protocols help nobody by the megabyte
		}
	case m.Opcode == flow.OpClose:
		code, reason := flow.ParseClose(m.Data)
		line += pad("close", 7, false)
		text = strings.TrimSpace(fmt.Sprintf("%d %s", code, reason))
	default:
		line += pad(flow.OpcodeName(m.Opcode), 7, false)
	}
	line += fmt.Sprintf("%6s  %s", sizeText(m.Size), printable(text))
	if kept := m.Truncated(); kept != nil && x.IsWebSocket() {
		line += fmt.Sprintf(" … (%s kept)", bytesText(*kept))
	}
	p.line("%s", p.w.fit(strings.TrimRight(line, " ")))
}
