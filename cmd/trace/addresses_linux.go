package main

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"trace/netns"
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

// chooseAddresses makes a choice for a host with these routes.
func chooseAddresses(routes []netns.Route) addressing {
	a := addressing{v4: netip.PrefixFrom(freeAddress4(routes), 32), routes6: carriedRoutes6(routes)}
	if len(a.routes6) > 0 {
		a.v6 = freePrefix6(routes)
	}
	return a
}

// freeAddress4 returns the first address of linkNet4 that no route of the host
// but the default one covers: a trace inside a trace takes the next one. Where
// all are covered it has to be one that no interface has.
func freeAddress4(routes []netns.Route) netip.Addr {
	for _, localOnly := range []bool{false, true} {
		a := linkNet4.Addr().Next().Next() // .2
		for linkNet4.Contains(a) {
			covered := func(r netns.Route) bool {
				return r.Dst.Bits() > 0 && r.Dst.Contains(a) && (r.Local || !localOnly)
			}
			if !slices.ContainsFunc(routes, covered) {
				return a
			}
			a = a.Next()
		}
	}
	return linkNet4.Addr().Next()
}

// freePrefix6 returns an address in a /64 of linkNet6 that no route but the
// default one covers.
func freePrefix6(routes []netns.Route) netip.Prefix {
	for n := uint32(0x7472); ; n++ { // "tr"
		b := linkNet6.Addr().As16()
		binary.BigEndian.PutUint32(b[4:], n)
		b[15] = 2
		p := netip.PrefixFrom(netip.AddrFrom16(b), 64)
		covered := func(r netns.Route) bool { return r.Dst.Bits() > 0 && r.Dst.Overlaps(p) }
		if !slices.ContainsFunc(routes, covered) {
			return p
		}
	}
}

// carriedRoutes6 returns what the child can reach over IPv6: everything if
// the host has a default route, else the host's other networks. Link-local
// ones stay on their links.
func carriedRoutes6(routes []netns.Route) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range routes {
		switch {
		case r.Local, r.Dst.Addr().Is4(), r.Dst.Addr().IsLinkLocalUnicast():
		case r.Dst == default6:
			return []netip.Prefix{default6}
		default:
			out = append(out, r.Dst)
		}
	}
	return out
}
