package dns

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// nextAfter is how long one of several servers may be silent before the next
// is asked: all have been within the 5 s after which clients ask again.
const nextAfter = 1500 * time.Millisecond

// upstreams returns the servers that dst stands for, in order.
func (s *Server) upstreams(dst netip.AddrPort) []netip.AddrPort {
	a := dst.Addr().Unmap()
	for _, own := range s.Stands {
		if own == a {
			return s.hosts(dst.Port())
		}
	}
	if real, ok := s.stands[a]; ok {
		a = real
	}
	return []netip.AddrPort{netip.AddrPortFrom(a, dst.Port())}
}

// hosts returns the servers of the host, as it reaches them itself.
func (s *Server) hosts(port uint16) []netip.AddrPort {
	servers := s.config.Nameservers
	if s.Nameservers != nil {
		servers = s.Nameservers()
	}
	if len(servers) == 0 {
		servers = defaultServers
	}
	var all []netip.AddrPort
	for _, a := range servers {
		if a.IsUnspecified() {
			a = loopback(a)
		}
		all = append(all, netip.AddrPortFrom(a, port))
	}
	return all
}

// defaultServers are what libraries ask where resolv.conf lists none: glibc and
// musl the first, Go both.
var defaultServers = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// askAll asks the servers one after the other, as resolver libraries do: until
// one answers, and not that it cannot.
func (s *Server) askAll(ctx context.Context, ask askFunc, servers []netip.AddrPort, raw []byte, q question) (answer []byte, err error) {
	for i, server := range servers {
		got, gotErr := s.askOne(ctx, ask, server, raw, q, i == len(servers)-1)
		if gotErr == nil || answer == nil {
			answer, err = got, gotErr
		}
		if err == nil && !unable(answer) || ctx.Err() != nil {
			break
		}
	}
	return answer, err
}

func (s *Server) askOne(ctx context.Context, ask askFunc, server netip.AddrPort, raw []byte, q question, last bool) ([]byte, error) {
	if !last {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, nextAfter)
		defer cancel()
	}
	return s.askPatiently(ctx, ask, server, raw, q)
}

// unable reports whether an answer says that its server cannot tell.
func unable(answer []byte) bool {
	if len(answer) < headerLen {
		return true
	}
	rcode := flags(answer) & maskRcode
	return rcode == rcodeServFail || rcode == rcodeRefused
}

// dialAll connects to the first server that takes it.
func dialAll(ctx context.Context, servers []netip.AddrPort) (conn net.Conn, err error) {
	for i, server := range servers {
		d := net.Dialer{}
		if i < len(servers)-1 {
			d.Timeout = nextAfter
		}
		if conn, err = d.DialContext(ctx, "tcp", server.String()); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// ours answers for a name that is answered here.
func (s *Server) ours(raw []byte, q question) []byte {
	all, ok := s.Local[canonical(q.name)]
	if !ok {
		return nil
	}
	var fit []netip.Addr
	for _, a := range all {
		if q.typ == typeANY || q.typ == typeA && a.Is4() || q.typ == typeAAAA && a.Is6() {
			fit = append(fit, a)
		}
	}
	return reply(raw, q, 0, fit...)
}
