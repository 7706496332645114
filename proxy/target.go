package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxName is the most that a SOCKS client can say of a name (RFC 1928 section 5),
// and more than the DNS knows.
const maxName = 255

// A place is where a client wants to be connected to.
type place struct {
	host string     // as asked for, without brackets
	addr netip.Addr // valid if host is one
	port uint16
}

// String returns host and port as they are dialled.
func (p place) String() string {
	if strings.Contains(p.host, ":") {
		return fmt.Sprintf("[%s]:%d", p.host, p.port)
	}
	return fmt.Sprintf("%s:%d", p.host, p.port)
}

// name returns the host if it is a name, "" if it is an address.
func (p place) name() string {
	if p.addr.IsValid() {
		return ""
	}
	return p.host
}

// dst returns the address and port, of a name that of nobody and its port.
func (p place) dst() netip.AddrPort {
	if p.addr.IsValid() {
		return netip.AddrPortFrom(p.addr, p.port)
	}
	return netip.AddrPortFrom(netip.IPv4Unspecified(), p.port)
}

// newPlace makes a place of a host, a name or an address.
func newPlace(host string, port uint16) (place, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return place{a.Unmap().String(), a.Unmap(), port}, portError(port)
	}
	for i := range len(host) {
		if c := host[i]; c <= ' ' || c == 0x7f || strings.IndexByte(`"/\@:?#[]<>^|`+"`", c) >= 0 {
			return place{}, fmt.Errorf("%.80q is no host", host)
		}
	}
	switch {
	case strings.Trim(host, ".") == "":
		return place{}, errors.New("no host is named")
	case len(host) > maxName:
		return place{}, fmt.Errorf("the name of the host has more than %d octets", maxName)
	}
	return place{host: host, port: port}, portError(port)
}

func portError(port uint16) error {
	if port == 0 {
		return errors.New("0 is no port to connect to")
	}
	return nil
}

// parseAuthority reads HOST:PORT, IPv6 addresses in brackets (RFC 9112 section 3.2.3).
// Without a port it is that of preset, unless that is 0.
func parseAuthority(s string, preset uint16) (place, error) {
	host, port := s, ""
	if rest, ok := strings.CutPrefix(s, "["); ok {
		var closed bool
		host, port, closed = strings.Cut(rest, "]")
		a, err := netip.ParseAddr(host)
		if !closed || err != nil || !a.Is6() || port != "" && port[0] != ':' {
			return place{}, fmt.Errorf("%.80q: want HOST:PORT", s)
		}
		port = strings.TrimPrefix(port, ":")
	} else {
		host, port, _ = strings.Cut(s, ":")
	}
	if port == "" && preset != 0 {
		return newPlace(host, preset)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || port[0] == '+' {
		return place{}, fmt.Errorf("%.80q: want HOST:PORT", s)
	}
	return newPlace(host, uint16(n))
}

// schemes are those of absolute-form that are carried, with their ports. WebSockets
// have theirs in a browser only, but some clients send them.
var schemes = map[string]struct {
	name string
	port uint16
}{"http": {"http", 80}, "https": {"https", 443}, "ws": {"http", 80}, "wss": {"https", 443}}

// parseAbsolute reads a target in absolute-form (RFC 9112 section 3.2.2). Path and query
// stay octet by octet as they are.
func parseAbsolute(method, target string) (d destination, err error) {
	scheme, rest, _ := strings.Cut(target, "://")
	known, ok := schemes[strings.ToLower(scheme)]
	if !ok {
		return d, fmt.Errorf("scheme %.20q is not carried: want http or https", scheme)
	}
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, d.target = rest[:i], rest[i:]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:] // user and password are not sent (RFC 9110 section 4.2.4)
	}
	at, err := parseAuthority(authority, known.port)
	if err != nil {
		return d, err
	}
	switch {
	case d.target == "" && method == "OPTIONS":
		d.target = "*" // RFC 9112 section 3.2.4
	case d.target == "" || d.target[0] != '/':
		d.target = "/" + d.target
	}
	d.scheme, d.host, d.port, d.authority, d.proxied = known.name, at.host, int(at.port), authority, true
	return d, nil
}
