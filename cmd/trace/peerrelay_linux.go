package main

import (
	"trace/datagram"
	"trace/flow"
)

// A peerRelay carries the datagrams and echo requests of a peer.
type peerRelay = datagram.Relay

func (l *peerLane) newRelay() *peerRelay {
	return &datagram.Relay{Name: l.names.Name, Record: l.emit, NextID: l.road.nextID, Source: flow.SourceWireGuard}
}
