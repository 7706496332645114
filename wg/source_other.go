//go:build !linux

package wg

import "net"

// sourceSize is room for control messages: none are asked for.
const sourceSize = 0

func prepare(*net.UDPConn, bool) {}

func sourceOf([]byte) []byte { return nil }
