package mirror

import (
	"cmp"
	"net/netip"
)

// side is one of the two network namespaces.
type side int

const (
	outside side = iota // this process's
	inside              // the child's
)

func (s side) other() side { return 1 - s }

// limit is how many mirrors may stand on a side.
func (s side) limit() int {
	if s == inside {
		return maxInside
	}
	return maxOutside
}

func (s side) String() string {
	if s == inside {
		return "inside"
	}
	return "outside"
}

// A listener is a socket in state LISTEN.
type listener struct {
	at     netip.AddrPort // as bound; an IPv4-mapped address as IPv4
	v6only bool           // of a listener on [::]: that it takes no IPv4
	inode  uint32
}

// places calls f with the one address that l takes connections on, or with the
// two wildcards that a dual-stack listener takes them on.
func (l listener) places(f func(netip.AddrPort)) {
	f(l.at)
	if l.at.Addr() == netip.IPv6Unspecified() && !l.v6only {
		f(netip.AddrPortFrom(netip.IPv4Unspecified(), l.at.Port()))
	}
}

// local tells whether something that listens on a can be reached by a loopback
// address.
func local(a netip.Addr) bool { return a.IsLoopback() || a.IsUnspecified() }

// loopback returns the loopback address by which a wildcard is reached, and any
// other address as it is.
func loopback(at netip.AddrPort) netip.AddrPort {
	switch at.Addr() {
	case netip.IPv4Unspecified():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	case netip.IPv6Unspecified():
		return netip.AddrPortFrom(netip.IPv6Loopback(), at.Port())
	}
	return at
}

// wildcard returns the wildcard address of at's family and port.
func wildcard(at netip.AddrPort) netip.AddrPort {
	if at.Addr().Is4() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())
}

// overlap tells whether a listener at one place keeps another from being made
// at the other.
func overlap(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && a.Addr().Is4() == b.Addr().Is4() &&
		(a == b || a.Addr().IsUnspecified() || b.Addr().IsUnspecified())
}

// comparePlaces orders places by port.
func comparePlaces(a, b netip.AddrPort) int {
	return cmp.Or(cmp.Compare(a.Port(), b.Port()), a.Addr().Compare(b.Addr()))
}

// wanted returns the places of the mirrors that should stand on a side, given
// the originals of the other one.
func wanted(originals []listener, on side) map[netip.AddrPort]bool {
	w := map[netip.AddrPort]bool{}
	for _, l := range originals {
		l.places(func(at netip.AddrPort) {
			if on == outside {
				at = loopback(at)
			}
			w[at] = true
		})
	}
	for at := range w {
		if any := wildcard(at); at != any && w[any] {
			delete(w, at) // two originals on one port by SO_REUSEPORT: one mirror takes all
		}
	}
	return w
}

// candidates are the places where the mirror wanted at a place may stand, best
// first.
func candidates(on side, at netip.AddrPort) []netip.AddrPort {
	if on == inside && at.Addr().IsUnspecified() {
		return []netip.AddrPort{at, loopback(at)}
	}
	return []netip.AddrPort{at}
}
