package main

import (
	"testing"

	"trace/tcpstack"
)

func TestLosses(t *testing.T) {
	if got := losses(tcpstack.Stats{Ignored: 5, Datagrams: 3}); got != "" {
		t.Errorf("everyday traffic: %q", got)
	}
	if got, want := losses(tcpstack.Stats{Malformed: 2, SYNsDropped: 1}), "1 connection attempts beyond the limit of undecided ones (sent again by the child), 2 malformed packets"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
