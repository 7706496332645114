package tcpstack

import "sync/atomic"

// Stats counts what a Stack met since it was made.
type Stats struct {
	SYNs             uint64 // connection attempts that were handed to Accept
	SYNsDropped      uint64 // attempts beyond the limit of undecided ones; the child tries again
	Refused          uint64 // attempts answered with RST or ICMP
	Abandoned        uint64 // attempts whose child was gone when they were accepted
	Connections      uint64 // connections that exist now, closing ones included
	Retransmits      uint64 // TCP segments that were sent again
	Datagrams        uint64 // UDP datagrams that were taken
	DatagramsRefused uint64 // UDP datagrams answered with port unreachable
	DatagramsDropped uint64 // taken datagrams beyond the limit of Datagram.Go
	Echoes           uint64 // ICMP echo requests that were taken
	EchoesRefused    uint64 // ICMP echo requests answered with an ICMP error of ours
	Malformed        uint64 // packets that are no whole IP packets
	Ignored          uint64 // packets from or to addresses that are not carried
	ReadErrors       uint64 // transient errors when reading the device
	WriteErrors      uint64 // packets that the device did not take
}

type counters struct {
	syns, synsDropped, refused, abandoned         atomic.Uint64
	datagrams, datagramsRefused, datagramsDropped atomic.Uint64
	echoes, echoesRefused                         atomic.Uint64
	malformed, ignored, readErrors, writeErrors   atomic.Uint64
}

// Stats returns the counts as they are now.
func (s *Stack) Stats() Stats {
	c, t := &s.counters, s.ns.Stats().TCP
	return Stats{
		SYNs:             c.syns.Load(),
		SYNsDropped:      c.synsDropped.Load() + t.ForwardMaxInFlightDrop.Value(),
		Refused:          c.refused.Load(),
		Abandoned:        c.abandoned.Load(),
		Connections:      t.CurrentConnected.Value(),
		Retransmits:      t.Retransmits.Value(),
		Datagrams:        c.datagrams.Load(),
		DatagramsRefused: c.datagramsRefused.Load(),
		DatagramsDropped: c.datagramsDropped.Load(),
		Echoes:           c.echoes.Load(),
		EchoesRefused:    c.echoesRefused.Load(),
		Malformed:        c.malformed.Load(),
		Ignored:          c.ignored.Load(),
		ReadErrors:       c.readErrors.Load(),
		WriteErrors:      c.writeErrors.Load(),
	}
}
