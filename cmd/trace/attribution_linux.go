package main

import (
	"net/netip"
	"os"
	"sync"

	"trace/flow"
	"trace/process"
)

// An attribution finds the programs behind the child's conversations.
type attribution struct {
	diag   *os.File
	finder *process.Finder
	asked  sync.Map // netip.AddrPort of a name query → *flow.Process
}

// attribute prepares the lookup of processes. Without it flows name none,
// which is no reason not to run.
func (r *road) attribute() {
	diag, err := r.ns.Diag(r.ctx)
	if err != nil {
		r.log("processes will not be named: %v", err)
		return
	}
	r.who = &attribution{diag: diag, finder: &process.Finder{
		Diag: diag, Root: r.ns.PID(), Helper: r.ns.HelperPID(), NetNS: r.ns.NetNS(),
	}}
	r.proxy.Process = func(src, dst netip.AddrPort) *flow.Process { return r.who.finder.Find(src, dst, "tcp") }
	r.relay.Process = r.who.finder.Find
}

// asks notes who sends a name query, while its socket is surely open.
func (a *attribution) asks(src, dst netip.AddrPort) {
	if a == nil {
		return
	}
	if p := a.finder.Find(src, dst, "udp"); p != nil {
		a.asked.Store(src, p)
	}
}

// asker returns who sent a name query from src.
func (a *attribution) asker(src, dst netip.AddrPort, transport string) *flow.Process {
	if a == nil {
		return nil
	}
	if p, ok := a.asked.LoadAndDelete(src); ok {
		return p.(*flow.Process)
	}
	return a.finder.Find(src, dst, transport)
}

// close ends the lookups.
func (a *attribution) close() error {
	if a == nil {
		return nil
	}
	return a.diag.Close()
}
