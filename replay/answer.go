package replay

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"time"

	"trace/flow"
)

// hopByHop are the fields of a connection of HTTP/1, which HTTP/2 has no place
// for (RFC 9113 section 8.2.2).
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"}

// An answer is a recorded answer made ready to be given.
type answer struct {
	head     *flow.Head // nil: the server ended without one
	early    []*flow.Head
	wait     time.Duration // from the end of the request to the head
	steps    []piece       // of the body, decoded
	coding   []string      // to apply
	trailers []flow.Field
	exact    []byte // the body as it was on the wire; nil: it is coded anew
	cut      bool   // it ends by a reset
	detail   *flow.Detail
}

// A piece of a body is sent at a time after the head.
type piece struct {
	at   time.Duration
	data []byte
}

// prepare makes the answer of d ready.
func (p *Player) prepare(d *flow.Detail) *answer {
	a := &answer{detail: d, cut: d.State == flow.StateFailed}
	if d.Response == nil || d.Response.Head == nil {
		return a
	}
	a.head, a.early = d.Response.Head, d.Response.Informational
	from := d.RequestEnded
	if from.IsZero() || from.After(d.Responded) {
		from = d.Responded
	}
	if !p.opt.Fast {
		a.wait = d.Responded.Sub(from)
	}
	if b := d.Response.Body; b != nil {
		a.trailers = b.Trailers
		names, text := codings(b.Encoding)
		if a.coding = names; text {
			a.coding = nil
			d.ResponseBody, _ = encodeBody("base64", d.ResponseBody)
			d.Events = nil
		}
	}
	a.steps = cutUp(d, p.opt.Fast)
	if b := d.Response.Body; b != nil && b.Encoding != "" && !a.cut && p.opt.Raw != nil && (len(d.Events) == 0 || p.opt.Fast) {
		a.exact = p.wire(d)
	}
	return a
}

// wire returns the body of an answer as it was on the wire, nil if that was not
// kept whole.
func (p *Player) wire(d *flow.Detail) []byte {
	raw, err := p.opt.Raw(d.ID)
	if err != nil {
		return nil
	}
	body, ok := wireBody(behindEarly(raw, d), d.Response.Head.Version, d.Response.Head)
	if !ok || d.Response.Body == nil || int64(len(body)) != d.Response.Body.Size {
		return nil
	}
	return body
}

// behindEarly cuts the heads of 1xx answers of HTTP/1 off.
func behindEarly(raw []byte, d *flow.Detail) []byte {
	if d.Response.Head.Version != "2" {
		for range d.Response.Informational {
			if _, rest, ok := bytes.Cut(raw, []byte("\r\n\r\n")); ok {
				raw = rest
			}
		}
	}
	return raw
}

// cutUp cuts a body into what came at a time. What stands between two events
// goes with the second.
func cutUp(d *flow.Detail, fast bool) []piece {
	var steps []piece
	rest := d.ResponseBody
	for _, e := range d.Events {
		if e.Side != flow.Server {
			continue
		}
		i := bytes.Index(rest, e.Data)
		if i < 0 || len(e.Data) == 0 {
			continue
		}
		s := piece{data: rest[:i+len(e.Data)]}
		if !fast {
			s.at = max(0, e.At.Sub(d.Responded))
		}
		steps = append(steps, s)
		rest = rest[i+len(e.Data):]
	}
	if len(rest) > 0 {
		last := time.Duration(0)
		if len(steps) > 0 {
			last = steps[len(steps)-1].at
		}
		steps = append(steps, piece{last, rest})
	}
	return steps
}

// bodiless reports whether an answer has no body whatever its fields say.
func (a *answer) bodiless(method string) bool {
	return method == http.MethodHead || a.head.Status == http.StatusNoContent || a.head.Status == http.StatusNotModified || a.head.Status/100 == 1
}

// whole reports whether the body goes out in one piece, and returns it coded.
func (a *answer) whole() ([]byte, bool) {
	if a.exact != nil {
		return a.exact, true
	}
	if len(a.steps) > 1 || a.cut || len(a.steps) == 1 && a.steps[0].at > 0 {
		return nil, false
	}
	var p []byte
	if len(a.steps) == 1 {
		p = a.steps[0].data
	}
	coded, err := encodeBody(strings.Join(a.coding, ","), p)
	return coded, err == nil
}

// play calls send for each piece of the coded body at its time.
func (a *answer) play(ctx context.Context, send func([]byte) error) error {
	var b bytes.Buffer
	write, flush, finish, err := a.coders(&b)
	if err != nil {
		return err
	}
	began := time.Now()
	for _, s := range a.steps {
		if err := pause(ctx, s.at-time.Since(began)); err != nil {
			return err
		}
		if err := write(s.data); err != nil {
			return err
		}
		if err := flush(); err != nil {
			return err
		}
		if err := send(b.Bytes()); err != nil {
			return err
		}
		b.Reset()
	}
	if a.cut {
		return nil
	}
	if err := finish(); err != nil || b.Len() == 0 {
		return err
	}
	return send(b.Bytes())
}

// coders returns what codes pieces of a body into b.
func (a *answer) coders(b *bytes.Buffer) (write func([]byte) error, flush, finish func() error, err error) {
	nothing := func() error { return nil }
	if len(a.coding) == 0 {
		return func(p []byte) error { b.Write(p); return nil }, nothing, nothing, nil
	}
	if len(a.coding) > 1 { // nobody streams such: it comes as one
		var all []byte
		return func(p []byte) error { all = append(all, p...); return nil }, nothing, func() error {
			coded, err := encodeBody(strings.Join(a.coding, ","), all)
			b.Write(coded)
			return err
		}, nil
	}
	c, err := newCoder(a.coding[0], b)
	if err != nil {
		return nil, nil, nil, err
	}
	return func(p []byte) error { _, err := c.Write(p); return err }, c.Flush, c.Close, nil
}

// pause waits, and ends with the run.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unmatchedAnswer is given where the record has none.
func unmatchedAnswer(m *miss) *answer {
	return &answer{
		head: &flow.Head{Status: http.StatusBadGateway, Reason: http.StatusText(http.StatusBadGateway), Version: "1.1", Fields: []flow.Field{
			{Name: "Content-Type", Value: "application/json"}, {Name: "X-Trace-Play", Value: "unmatched"}, {Name: "X-Should-Retry", Value: "false"}}},
		steps: []piece{{data: m.body()}},
	}
}
