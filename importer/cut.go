package importer

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"trace/flow"
	"trace/wire"
)

// cut finds out whether a body is a stream of events, says so in its head, and
// cuts it. It has the decoder of the road read an exchange of which that body is
// a part.
func cut(request, response *flow.Head, side flow.Side, b *body) {
	head := request
	if side == flow.Server {
		head = response
	}
	if head == nil || head.Streaming && head.Framing == "" || len(b.data) == 0 || b.chunks != nil {
		return
	}
	var framing string
	var chunks []chunk
	d := &wire.Decoder{Conn: &flow.Conn{ID: 1, Transport: "tcp"}, Emit: func(e flow.Event) {
		switch {
		case e.Side != side:
		case e.Kind == flow.Request, e.Kind == flow.Response:
			framing = e.Head.Framing
		case e.Kind == flow.StreamEvent, e.Kind == flow.Body:
			chunks = append(chunks, chunk{event: e.Kind == flow.StreamEvent, data: bytes.Clone(e.Data)})
		}
	}}
	at := time.Unix(0, 0)
	var bodies [2][]byte
	bodies[side] = b.data
	path := request.Path
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " \r\n") {
		path = "/"
	}
	d.Data(flow.Client, at, fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: a\r\n%s", path, entity(request, bodies[flow.Client])))
	d.Data(flow.Client, at, bodies[flow.Client])
	if response != nil {
		d.Data(flow.Server, at, fmt.Appendf(nil, "HTTP/1.1 %03d R\r\n%s", max(200, response.Status), entity(response, bodies[flow.Server])))
		d.Data(flow.Server, at, bodies[flow.Server])
	}
	d.End(flow.Client, at, flow.FIN)
	d.End(flow.Server, at, flow.FIN)
	d.Close(at)
	size := 0
	for _, c := range chunks {
		size += len(c.data)
	}
	if framing != "" && size == len(b.data) {
		head.Framing, head.Streaming, b.chunks = framing, true, chunks
	}
}

// entity writes the fields that say what a body is.
func entity(h *flow.Head, b []byte) []byte {
	var fields []byte
	if t := h.Get("content-type"); t != "" && !strings.ContainsAny(t, "\r\n") {
		fields = fmt.Appendf(nil, "Content-Type: %s\r\n", t)
	}
	return fmt.Appendf(fields, "Content-Length: %d\r\n\r\n", len(b))
}

// timed gives the events of a body their times, as far as there are any. The
// others came between the first byte and the last: the first with the answer's
// head, others at its end.
func (b *body) timed(times []time.Time, responded, ended time.Time) {
	n := 0
	for i := range b.chunks {
		c := &b.chunks[i]
		switch {
		case n < len(times):
			c.at = times[n]
		case len(times) > 0 || n == 0 || ended.IsZero():
			c.at = later(responded, lastOf(times))
		default:
			c.at = ended
		}
		if c.event {
			n++
		}
	}
}

func lastOf(times []time.Time) (t time.Time) {
	if len(times) > 0 {
		t = times[len(times)-1]
	}
	return t
}
