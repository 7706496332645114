package main

import (
	"context"
	"net/netip"
	"time"

	"trace/flow"
	"trace/mirror"
)

// mirrorSettles bounds how long the end of a run waits for what the child had
// sent to a service of the host.
const mirrorSettles = time.Second

// openLocalhost makes the listeners on the loopback of each side reachable
// on the other. Where it cannot be had (the kernel has no sock_diag, say) the
// command runs without, and the record says so.
func (r *road) openLocalhost() {
	m := &mirror.Mirror{
		Inside: r.ns, Note: r.noteLocalhost, Log: r.log,
		Accept: func(ctx context.Context, in *mirror.Incoming) { r.proxy.Serve(ctx, in) },
	}
	if err := m.Start(r.ctx); err != nil {
		r.log("localhost: %v", err)
		r.noteLocalhost(mirror.Note{Kind: mirror.Failed, Err: err})
	}
	r.mirror = m
}

// noteLocalhost makes a row of what the mirror has to say.
func (r *road) noteLocalhost(n mirror.Note) {
	id, now := r.ids.Add(1), time.Now()
	c := &flow.Conn{ID: id, Source: flow.SourceNamespace, Transport: "tcp", Started: now, Ended: now, Opaque: "localhost",
		Dst:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), n.Port),
		Error: &flow.Error{Where: flow.AtCapture, Code: "localhost_" + string(n.Kind), Message: n.String()}}
	r.record.Offer(flow.Event{Kind: flow.ConnOpen, At: now, Conn: id, Facts: c})
	r.record.Offer(flow.Event{Kind: flow.ConnEnd, At: now, Conn: id, Facts: c})
}

// closeLocalhost ends the mirror.
func (r *road) closeLocalhost() error {
	if r.mirror == nil {
		return nil
	}
	if r.running {
		ctx, cancel := context.WithTimeout(context.Background(), mirrorSettles)
		defer cancel()
		r.mirror.Settle(ctx)
	}
	return r.mirror.Close()
}
