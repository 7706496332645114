//go:build !linux

package main

import "trace/tcpstack"

// A peerRelay carries nothing on this system: datagrams are answered with port
// unreachable, echo requests with prohibited.
type peerRelay struct{}

func (l *peerLane) newRelay() *peerRelay { return &peerRelay{} }

func (*peerRelay) Take(*tcpstack.Datagram) bool { return false }

func (*peerRelay) TakeEcho(*tcpstack.Echo) bool { return false }

func (*peerRelay) Close() error { return nil }
