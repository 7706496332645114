package dns

import (
	"net/netip"
	"os"
	"strings"
	"time"
)

// lendAfter is how long a server may be silent about a name that ByName
// knows: less than the 5 s after which resolver libraries ask the next one.
const lendAfter = 2 * time.Second

// instead returns the answer that the child gets in place of the server's to
// the query raw: a lent address, for a name that is carried as such and that
// the server cannot resolve, or resolves to what another name led to before.
// It returns nil to leave the answer as it is. err is why there is none.
func (s *Server) instead(raw []byte, q question, answer []byte, err error) []byte {
	if !s.mayLend(q) {
		return nil
	}
	name := canonical(q.name)
	r := parseAnswer(answer)
	failed := err != nil || fails(answer)
	switch {
	case failed && s.completed(name):
		return nil
	case !failed && s.claim(name, r.addrs):
		return nil
	case !s.ByName(name):
		return nil
	}
	a := s.Lend(name)
	if !a.IsValid() {
		return nil
	}
	if q.typ != typeA {
		a = netip.Addr{}
	}
	return reply(raw, q, 0, a)
}

// mayLend reports whether a question can be answered with a lent address.
func (s *Server) mayLend(q question) bool {
	return s.ByName != nil && q.end > 0 && q.class == classIN && (q.typ == typeA || q.typ == typeAAAA) &&
		!special(canonical(q.name))
}

// hurries reports whether a server's silence about the name is answered for.
func (s *Server) hurries(q question) bool {
	name := canonical(q.name)
	return s.mayLend(q) && lendable(name) && !s.completed(name) && s.ByName(name)
}

// fails reports whether an answer says that the name cannot be resolved, now
// or at all.
func fails(answer []byte) bool {
	if len(answer) < headerLen {
		return true
	}
	switch flags(answer) & maskRcode {
	case rcodeServFail, rcodeNXDomain, rcodeRefused:
		return true
	}
	return false
}

// special tells names whose absence means something: to the reverse tree of
// addresses, and to browsers, which by the last one learn that their own
// encrypted name queries are not wanted.
func special(name string) bool {
	return name == "arpa" || strings.HasSuffix(name, ".arpa") || name == "use-application-dns.net"
}

// completed reports whether a name may have been made by adding a domain of
// the search list to another. Resolver libraries try that other name only
// after these do not exist: to lend an address to one would carry what was
// never meant.
func (s *Server) completed(name string) bool {
	for _, d := range s.domains {
		if strings.HasSuffix(name, "."+d) {
			return true
		}
	}
	return false
}

// searched returns the search list in canonical form. Without one, it is the
// domain of the host's own name (resolv.conf(5)).
func (c Config) searched() []string {
	search := c.Search
	if len(search) == 0 {
		host, _ := os.Hostname() // none known: no domain
		_, domain, _ := strings.Cut(host, ".")
		search = []string{domain}
	}
	var ds []string
	for _, d := range search {
		if d = canonical(d); d != "" {
			ds = append(ds, d)
		}
	}
	return ds
}

// claim remembers that name leads to these addresses, unless another name
// does already to one of them.
func (s *Server) claim(name string, addrs []netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range addrs {
		if other := s.seen.get(a); other != "" && other != name {
			return false
		}
	}
	for _, a := range addrs {
		s.seen.put(a, name)
	}
	return true
}
