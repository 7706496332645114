package main

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"strings"
)

// The child's end of the link gets addresses that no network of the host
// uses: 10/8 may be its LAN, 100.64/10 its VPN, and a unique local IPv6
// address would make glibc prefer IPv4 (RFC 6724).
var (
	linkNet4 = netip.MustParsePrefix("198.19.255.0/24") // RFC 2544, benchmarking
	linkNet6 = netip.MustParsePrefix("2001:db8::/32")   // RFC 3849, documentation
	default6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// An addressing is what the child's interface is given.
type addressing struct {
	v4, v6  netip.Prefix // v6 is invalid where the host has no IPv6 beyond its links
	routes6 []netip.Prefix
}

// chooseAddresses looks at the host's interfaces and routes.
func chooseAddresses() addressing {
	used := interfacePrefixes()
	a := addressing{v4: netip.PrefixFrom(freeAddress4(used), 32)}
	routes, err := os.ReadFile("/proc/net/ipv6_route")
	if err != nil {
		return a
	}
	all := parseRoutes6(string(routes))
	a.routes6 = carriedRoutes6(all)
	if len(a.routes6) > 0 {
		a.v6 = freePrefix6(append(used, all...))
	}
	return a
}

// interfacePrefixes returns the networks that the host's interfaces are in.
func interfacePrefixes() []netip.Prefix {
	var ps []netip.Prefix
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			ps = append(ps, p)
		}
	}
	return ps
}

// freeAddress4 returns the first address of linkNet4 that no interface has: a
// trace inside a trace takes the next one.
func freeAddress4(used []netip.Prefix) netip.Addr {
	a := linkNet4.Addr().Next().Next() // .2
	for linkNet4.Contains(a) {
		taken := false
		for _, p := range used {
			taken = taken || p.Addr() == a
		}
		if !taken {
			return a
		}
		a = a.Next()
	}
	return linkNet4.Addr().Next()
}

// freePrefix6 returns an address in a /64 of linkNet6 that nothing covers.
func freePrefix6(used []netip.Prefix) netip.Prefix {
	for n := uint32(0x7472); ; n++ { // "tr"
		b := linkNet6.Addr().As16()
		binary.BigEndian.PutUint32(b[4:], n)
		b[15] = 2
		p := netip.PrefixFrom(netip.AddrFrom16(b), 64)
		covered := false
		for _, u := range used {
			covered = covered || u.Bits() > 0 && u.Overlaps(p)
		}
		if !covered {
			return p
		}
	}
}

// carriedRoutes6 returns what the child can reach over IPv6: everything if
// the host has a default route, else the host's other networks. Link-local
// and multicast ones stay on their links.
func carriedRoutes6(all []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		switch {
		case p == default6:
			return []netip.Prefix{default6}
		case p.Addr().IsLinkLocalUnicast(), p.Addr().IsMulticast(), p.Addr().IsLoopback():
		default:
			out = append(out, p)
		}
	}
	return out
}

// Flags of a route in /proc/net/ipv6_route (linux/route.h, linux/ipv6_route.h).
const (
	rtfUp     = 0x1
	rtfReject = 0x200
)

// parseRoutes6 reads /proc/net/ipv6_route: destination, prefix length, …,
// flags, device. Unreachable routes and those of lo do not count.
func parseRoutes6(text string) []netip.Prefix {
	var ps []netip.Prefix
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 10 || f[9] == "lo" {
			continue
		}
		dst, err1 := hex.DecodeString(f[0])
		bits, err2 := hex.DecodeString(f[1])
		flags, err3 := hex.DecodeString(f[8])
		if err1 != nil || err2 != nil || err3 != nil || len(dst) != 16 || len(bits) != 1 || len(flags) != 4 {
			continue
		}
		if fl := binary.BigEndian.Uint32(flags); fl&rtfUp == 0 || fl&rtfReject != 0 {
			continue
		}
		ps = append(ps, netip.PrefixFrom(netip.AddrFrom16([16]byte(dst)), int(bits[0])))
	}
	return ps
}
