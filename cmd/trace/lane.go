package main

import (
	"crypto/x509"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"

	"trace/flow"
	"trace/mitm"
	"trace/proxy"
)

// A lane carries what one client sends, without a namespace, into one
// recording. The fields are set before first use.
type lane struct {
	*rules
	record    *recording
	source    flow.Source
	authority *mitm.Authority // nil: TLS is not decrypted
	keys      []io.Writer     // get the TLS secrets of both legs; their writes never fail
	roots     func() *x509.CertPool
	who       func(src, dst netip.AddrPort) *flow.Process // whose connections these are; nil: nobody knows
	emit      func(flow.Event)
	nextID    func() int64 // numbers connections
	alter     *proxy.Alter // nil: traffic is not altered
}

// newLane makes the lane into a recording.
func newLane(r *rules, rec *recording, source flow.Source, log func(format string, args ...any)) *lane {
	ids := new(atomic.Int64)
	return &lane{rules: r, record: rec, source: source, roots: sync.OnceValue(func() *x509.CertPool { return r.hostRoots(log) }),
		emit: rec.emit, alter: r.alter, nextID: func() int64 { return ids.Add(1) }}
}

// tap decodes what passes on a connection into the record.
func (l *lane) tap(c *flow.Conn) mitm.Tap { return l.tapInto(c, l.emit) }

// tapInto decodes what passes on a connection into emit.
func (l *lane) tapInto(c *flow.Conn, emit func(flow.Event)) mitm.Tap {
	return l.record.tapInto(c, l.alter.Watch(c, emit))
}

// transparent makes what carries connections to where they wanted to go.
func (l *lane) transparent() *mitm.Proxy {
	return &mitm.Proxy{
		Authority: l.authority, Dial: l.out.DialContext, Record: l.emit, Tap: l.tap, NextID: l.nextID,
		ConnectTo: l.connectTo, RootsFunc: l.roots, Only: l.only, Bypass: l.bypass, DecryptUntrusted: l.untrusted,
		KeyLogChild: allOf(l.keys...), KeyLogUpstream: allOf(l.keys...), Source: l.source,
		Process: l.who, Alter: l.alter.Into(l.emit),
	}
}

// reverse makes what carries requests to the servers that routes name.
func (l *lane) reverse(routes proxy.Routes) *proxy.Reverse {
	return &proxy.Reverse{
		Routes: routes, Dial: l.out.DialContext, ConnectTo: l.connectTo, Roots: l.roots, KeyLog: allOf(l.keys...),
		Record: l.emit, NewTap: l.record.tapInto, NextID: l.nextID,
		Process: l.who, Alter: l.alter,
	}
}

// explicit makes what a client of an explicit proxy is carried by.
func (l *lane) explicit() proxy.Lane {
	return proxy.Lane{Proxy: l.transparent(), Record: l.emit, NewTap: l.record.tapInto, Alter: l.alter}
}
