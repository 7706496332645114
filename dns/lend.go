package dns

import (
	"bytes"
	"net/netip"
	"strings"
)

// lentTTL is the TTL of a lent address, in seconds: it holds for this run only.
const lentTTL = 5

// The addresses to lend come from the range of RFC 2544, which no network
// routes. Its upper end belongs to others: the link has an address of
// 198.19.255.0/24, and 198.19.254.0/24 stands for link-local servers.
var (
	lower = netip.MustParsePrefix("198.18.0.0/16")
	upper = netip.MustParsePrefix("198.19.0.0/16")
	stand = netip.MustParsePrefix("198.19.254.0/24")
	own   = netip.MustParsePrefix("198.19.254.0/23")
)

// lending knows which address was lent to which name. Not safe for
// concurrent use.
type lending struct {
	avoid  []netip.Prefix
	addrs  map[string]netip.Addr
	names  map[netip.Addr]string
	order  []string
	last   netip.Addr // lent last
	lastNS netip.Addr // reserved last
}

// canonical returns name in the form under which names are compared: lower
// case (RFC 4343), no final dot.
func canonical(name string) string {
	return lowerASCII(strings.TrimSuffix(name, "."))
}

func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// Lend gives name an address of 198.18.0.0/15 for the life of the Server, the
// same at every call. From then on the name has that one address, whatever
// the host's resolver knows of it, and Name leads back. It returns the zero
// Addr for what needs no address or cannot have one: an address itself,
// localhost (the child's own loopback), what is no name at all; and when all
// addresses are lent.
func (s *Server) Lend(name string) netip.Addr {
	s.init()
	name = canonical(name)
	if !lendable(name) {
		return netip.Addr{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lent.lend(name, s.seen.has)
}

// Lent returns the address that was lent to name, if one was.
func (s *Server) Lent(name string) (netip.Addr, bool) {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.lent.addrs[canonical(name)]
	return a, ok
}

// lendable reports whether name can stand in a query and in a hosts file.
func lendable(name string) bool {
	if name == "" || len(name) > 253 || name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return false
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.ContainsAny(label, " \t\r\n#*/\\:\x00") {
			return false
		}
	}
	return true
}

// lend finds the next free address. taken tells of addresses that the host's
// resolver gave to other names: proxies that fake addresses use this range.
func (l *lending) lend(name string, taken func(netip.Addr) bool) netip.Addr {
	if a, ok := l.addrs[name]; ok {
		return a
	}
	if l.names == nil {
		l.addrs, l.names = map[string]netip.Addr{}, map[netip.Addr]string{}
		l.last = l.start()
	}
	a := l.last.Next()
	for a.IsValid() && (taken(a) || !l.free(a)) {
		a = a.Next()
	}
	if !lower.Contains(a) && !upper.Contains(a) {
		return netip.Addr{}
	}
	l.last = a
	l.addrs[name], l.names[a] = a, name
	l.order = append(l.order, name)
	return a
}

// start returns the address before the first: in the upper half if an
// interface uses the lower.
func (l *lending) start() netip.Addr {
	for _, p := range l.avoid {
		if p.Overlaps(lower) {
			return upper.Addr()
		}
	}
	return lower.Addr()
}

// free reports whether a may be lent. Addresses beyond the range are "free",
// which ends the search.
func (l *lending) free(a netip.Addr) bool {
	if own.Contains(a) {
		return false
	}
	if b := a.As4(); b[3] == 0 || b[3] == 255 {
		return false // looks like a network or its broadcast address
	}
	for _, p := range l.avoid {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// reserve returns an address that stands for a server.
func (l *lending) reserve() netip.Addr {
	if !l.lastNS.IsValid() {
		l.lastNS = stand.Addr()
	}
next:
	for {
		l.lastNS = l.lastNS.Next()
		for _, p := range l.avoid {
			if p.Contains(l.lastNS) {
				continue next
			}
		}
		return l.lastNS
	}
}

// hosts returns the hosts file with the lent names first and nowhere else, or
// nil if none is lent.
func (l *lending) hosts(file []byte) []byte {
	if len(l.order) == 0 {
		return nil
	}
	var out bytes.Buffer
	for _, name := range l.order {
		out.WriteString(l.addrs[name].String() + "\t" + name + "\n")
	}
	for line := range bytes.Lines(file) {
		out.Write(l.without(line))
	}
	return out.Bytes()
}

// without returns a line of a hosts file without the names that are lent.
func (l *lending) without(line []byte) []byte {
	text, _, _ := strings.Cut(string(line), "#")
	f := strings.Fields(text)
	if len(f) < 2 {
		return line
	}
	kept := f[:1]
	for _, name := range f[1:] {
		if _, ok := l.addrs[canonical(name)]; !ok {
			kept = append(kept, name)
		}
	}
	switch len(kept) {
	case len(f):
		return line
	case 1:
		return nil
	}
	return []byte(strings.Join(kept, "\t") + "\n")
}
