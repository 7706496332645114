//go:build !linux

package main

import (
	"net/netip"

	"trace/flow"
)

func closeMemory() {}

// programs would find the programs behind connections; only Linux tells.
type programs struct{}

func findPrograms(int, func(format string, args ...any)) *programs { return nil }

func (p *programs) find(_, _ netip.AddrPort) *flow.Process { return nil }

func (p *programs) close() {}
