package netns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Route is an entry of a routing table of the calling process's namespace.
type Route struct {
	Dst   netip.Prefix // of length 0: the default route
	Local bool         // the address of an interface, rather than a network that packets are sent to
}

// Routes returns the routes by which packets are sent or taken in, of all
// tables: what is unreachable, broadcast, multicast, or of loopback is left out.
// A family that the system does not have has no routes.
func Routes() ([]Route, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	defer handle.Close()
	loopback := 0
	if lo, err := net.InterfaceByName("lo"); err == nil {
		loopback = lo.Index
	}
	var out []Route
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := handle.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for i := range all {
			if r, ok := route(&all[i], loopback); ok && !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// route returns what is of interest of r.
func route(r *netlink.Route, loopback int) (Route, bool) {
	local := r.Type == unix.RTN_LOCAL
	if !local && (r.Type != unix.RTN_UNICAST || r.LinkIndex == loopback && loopback != 0) {
		return Route{}, false
	}
	dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if r.Family == unix.AF_INET6 {
		dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if r.Dst != nil {
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		bits, size := r.Dst.Mask.Size()
		if !ok || size == 0 {
			return Route{}, false
		}
		if size == 8*net.IPv4len {
			addr = addr.Unmap()
		}
		dst = netip.PrefixFrom(addr, bits)
	}
	if dst.Addr().IsLoopback() || dst.Addr().IsMulticast() {
		return Route{}, false
	}
	return Route{Dst: dst, Local: local}, true
}
