package dns

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Config is what a resolv.conf file says (resolv.conf(5)).
type Config struct {
	Nameservers []netip.Addr // in order, zones kept; empty: libraries ask 127.0.0.1
	Search      []string
	Options     []string // "ndots:2", "use-vc", …
}

// ParseConfig reads a resolv.conf. Lines that make no sense are skipped, as
// resolver libraries do.
func ParseConfig(file []byte) Config {
	var c Config
	for line := range bytes.Lines(file) {
		f := strings.Fields(string(line))
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil {
				c.Nameservers = append(c.Nameservers, a.Unmap())
			}
		case "domain":
			c.Search = f[1:2]
		case "search":
			c.Search = f[1:]
		case "options":
			c.Options = append(c.Options, f[1:]...)
		}
	}
	return c
}

// Plan says what a namespace needs so that its programs reach the servers of
// the host's resolv.conf.
type Plan struct {
	// Listen are loopback addresses: UDP and TCP sockets bound to port 53 of
	// each, inside the namespace, go to ServeUDP and ServeTCP.
	Listen []netip.Addr

	// Take are other addresses: queries to their port 53 that come out of
	// the device go to Query and ServeConn.
	Take []netip.Addr

	// Resolv and Hosts, where not nil, are to be seen by the child in place
	// of resolv.conf and hosts.
	Resolv, Hosts []byte
}

// Takes reports whether dst is the port of a server in Take.
func (p *Plan) Takes(dst netip.AddrPort) bool {
	if dst.Port() != 53 {
		return false
	}
	for _, a := range p.Take {
		if a == dst.Addr().Unmap() {
			return true
		}
	}
	return false
}

// Plan returns what has to be set up. Names lent later than this call are
// missing in Plan.Hosts; they are answered all the same.
func (s *Server) Plan() Plan {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.plan
	p.Hosts = s.lent.hosts(s.Hosts)
	return p
}

// makePlan sorts the servers by how they are reached. It runs once, in init.
func (s *Server) makePlan() {
	s.stands = map[netip.Addr]netip.Addr{}
	var p Plan
	servers := s.config.Nameservers
	if len(servers) == 0 {
		servers = defaultServers
	}
	renamed := map[netip.Addr]netip.Addr{}
	for _, a := range servers {
		switch {
		case a.IsUnspecified():
			// To connect to 0.0.0.0 is to connect to 127.0.0.1.
			p.Listen = appendNew(p.Listen, loopback(a))
		case a.IsLoopback():
			p.Listen = appendNew(p.Listen, a.WithZone(""))
		case a.Zone() != "" || a.Is6() && a.IsLinkLocalUnicast():
			if renamed[a].IsValid() {
				continue
			}
			ours := s.lent.reserve()
			renamed[a], s.stands[ours] = ours, a
			p.Take = append(p.Take, ours)
		default:
			p.Take = appendNew(p.Take, a)
		}
	}
	for _, a := range s.Stands {
		p.Take = appendNew(p.Take, a)
	}
	if len(renamed) > 0 {
		p.Resolv = rename(s.Resolv, renamed)
	}
	s.plan = p
}

func loopback(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

func appendNew(as []netip.Addr, a netip.Addr) []netip.Addr {
	for _, b := range as {
		if a == b {
			return as
		}
	}
	return append(as, a)
}

// rename writes a resolv.conf with other addresses and keeps every other line.
func rename(file []byte, to map[netip.Addr]netip.Addr) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(file) {
		if f := strings.Fields(string(line)); len(f) >= 2 && f[0] == "nameserver" {
			if a, err := netip.ParseAddr(f[1]); err == nil && to[a].IsValid() {
				out.WriteString("nameserver " + to[a].String() + "\n")
				continue
			}
		}
		out.Write(line)
	}
	return out.Bytes()
}

// sockets lead name queries past the resolver of resolv.conf and so past the
// namespace: nscd's cache, and systemd-resolved's Varlink service, which
// nss-resolve asks.
var sockets = []string{
	"/run/nscd/socket",
	"/var/run/nscd/socket",
	"/run/systemd/resolve/io.systemd.Resolve",
}

// Sockets returns the Unix sockets below root ("/" on a real machine) that
// answer name queries by a way that does not pass the namespace, with
// symbolic links resolved. A bind mount of /dev/null over each makes
// connecting to it fail with ECONNREFUSED; nss-resolve and nscd's clients then
// report "unavailable", for which nsswitch.conf goes on to the next service.
// Only the socket may be covered, not its directory: resolv.conf often is a
// link into that one. Avahi's socket is not among them: names that it alone
// knows would be lost, and it leads to traffic that is seen all the same.
func Sockets(root string) []string {
	var found []string
	for _, p := range sockets {
		real, err := filepath.EvalSymlinks(filepath.Join(root, p))
		if err != nil {
			continue
		}
		if fi, err := os.Stat(real); err != nil || fi.Mode()&os.ModeSocket == 0 {
			continue
		}
		if len(found) == 0 || found[len(found)-1] != real {
			found = append(found, real)
		}
	}
	return found
}

// timeout returns how long a client waits for a server.
func (c Config) timeout() time.Duration {
	d := 5 * time.Second
	for _, o := range c.Options {
		if v, ok := strings.CutPrefix(o, "timeout:"); ok {
			if n, err := strconv.Atoi(v); err == nil && n > 0 {
				d = time.Duration(min(n, 30)) * time.Second // RES_MAXRETRANS of glibc
			}
		}
	}
	return d
}
