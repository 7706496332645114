package egress

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// A bypass knows what NO_PROXY names. The zero value names nothing.
type bypass struct {
	match func(*url.URL) (*url.URL, error)
}

// newBypass reads the value of NO_PROXY: names, which mean their subdomains
// too, or with a dot before them those only; addresses and networks; any of
// names and addresses with a port; or * for all. Commas or spaces part them.
func newBypass(value string) bypass {
	fields := strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
	for i, f := range fields {
		if inner, ok := strings.CutPrefix(f, "["); ok && strings.HasSuffix(inner, "]") {
			fields[i] = strings.TrimSuffix(inner, "]")
		}
	}
	if len(fields) == 0 {
		return bypass{}
	}
	// The library decides for a URL whether its proxy is used. Which one
	// does not matter here.
	c := httpproxy.Config{HTTPSProxy: "http://proxy.invalid", NoProxy: strings.Join(fields, ",")}
	return bypass{c.ProxyFunc()}
}

// names reports whether a host, a name or an address, is reached without a
// proxy. With port 0 an entry that has a port does not count.
func (b bypass) names(host string, port int) bool {
	if b.match == nil {
		return false
	}
	host = net.JoinHostPort(strings.ToLower(strings.TrimSuffix(host, ".")), strconv.Itoa(port))
	p, err := b.match(&url.URL{Scheme: "https", Host: host})
	return p == nil && err == nil
}

// isLocal reports whether a host cannot mean the same to a proxy as to us.
func isLocal(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761 section 6.3
		return true
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	a = a.Unmap()
	return a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.Zone() != "" ||
		a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
