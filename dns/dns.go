// Package dns answers the child's name queries with the host's resolver, lends
// addresses to names, and remembers which led where.
//
// The smallest use, for a child in a network namespace of its own:
//
//	s := dns.Load("/etc")
//	s.Lend("api.example.test")          // optional
//	plan := s.Plan()                    // what the namespace has to set up
//	go s.ServeUDP(inside, server)       // for each address of plan.Listen
//	answer, err := s.Query(ctx, src, dst, raw, false) // port 53 of plan.Take
//	name, lent := s.Name(dst.Addr())    // when a connection arrives
//	s.Close()
//
// # Theory of operation
//
// The child keeps the host's resolv.conf, so its search list, options and the
// order of its servers are the host's. Each query goes as the very bytes that
// the child sent to the very server that the child addressed, over the same
// transport, from a socket of the host: split DNS, EDNS sizes, cookies,
// DNSSEC and truncation stay between the child and that server. Three kinds of
// servers need help to be reachable from the namespace:
//
//   - loopback (127.0.0.53, or 127.0.0.1 where the file lists none, as every
//     resolver library then assumes): a socket is bound to that address
//     inside the namespace and served here (Plan.Listen);
//   - link-local (fe80::1%eth0): its interface does not exist inside, so the
//     child gets a copy of the file that names an address of ours instead
//     (Plan.Resolv), which stands for the server;
//   - all others: their packets come out of the device anyway (Plan.Take).
//
// Clients that do not have the host's resolv.conf are told an address of ours
// (Stands), which stands for all of its servers.
//
// Over UDP each query gets a fresh socket and a fresh random ID (RFC 5452), and
// an answer counts only if it comes from the server, carries that ID and
// repeats the question; the child sees its own ID again. Over TCP the two
// connections are joined frame by frame, so that pipelining, answers out of
// order and zone transfers work as they do without us. A server that stays
// silent stays silent; one that refuses, or cannot be reached at all, is
// answered for with SERVFAIL at once, since a resolver library that waits for
// packets that never come makes its program hang for minutes.
//
// Answered here, and never asked of the host: the types HTTPS and SVCB (RFC
// 9460), which are empty, because their keys for an encrypted ClientHello and
// offers of HTTP/3 lead around what can be recorded; names that were lent
// an address; and those of Local.
//
// Where a proxy looks names up (ByName), the host's resolver need not know
// them: a name that its server denies, refuses or is silent about for 2 s is
// lent an address at that moment. So is one that shares its address with a
// name seen before, since the proxy has to be told which of the two is meant.
// Names below a domain of the search list stay unresolved, or the name that
// was meant would never be tried.
//
// Nothing on this path waits for whoever records: Record is called from one
// goroutine behind a bounded queue, and what does not fit is counted. All
// goroutines belong to the Server; Close ends them and waits.
package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of a Server.
const (
	maxInFlight = 2048 // UDP queries that wait for an answer
	maxConns    = 512  // TCP connections of children
	maxRecords  = 4096 // queries that wait for Record
	maxFile     = 4 << 20

	// patience is how long a query waits for its server, unless the option
	// timeout of resolv.conf(5) asks for more. Resolver libraries give up
	// after 5 s and ask again: a later answer finds nobody.
	patience = 12 * time.Second
)

// ErrBusy is returned for a query that came while too many others wait for
// their answers. The child should get nothing, as if its packet was lost.
var ErrBusy = errors.New("dns: too many queries in flight")

// A Query is one question of the child and what became of it.
type Query struct {
	Src, Dst  netip.AddrPort // the child's end, and the server that it asked
	Transport string         // "udp" or "tcp"
	At        time.Time
	Took      time.Duration
	Name      string // without the final dot, case as asked; "." is the root
	Type      string // "A", "AAAA", "HTTPS", "TYPE1234"
	Rcode     string // "NOERROR", "NXDOMAIN", …; "" if nothing was answered
	Answers   []string
	Sent      int   // bytes of the query
	Received  int   // bytes of the answer
	Local     bool  // answered here, not by the server
	Err       error // why the server did not answer
}

// A Server answers the queries of one child. Its exported fields are set
// before first use. The zero value knows no files of the host: it behaves as
// if resolv.conf listed no server. Safe for concurrent use.
type Server struct {
	Resolv []byte // the host's resolv.conf
	Hosts  []byte // the host's hosts file

	// Record is told of each query once it is over. Calls come one after the
	// other, in the order in which the queries ended. Nil: nobody is told.
	Record func(Query)

	// ByName reports whether connections to a name are carried by that name,
	// through a proxy that looks it up itself. Such a name is lent an address
	// where the child's server cannot resolve it, or resolves it to an
	// address that another name led to before. It is called by many
	// goroutines. Nil: no name is.
	ByName func(name string) bool

	// Offline, where it is set, means that no server is asked at all. It
	// reports whether a name exists: those are lent an address when they are
	// asked for, all others do not exist. It is called by many goroutines.
	Offline func(name string) bool

	// Stands are addresses of ours that stand for all servers of the host:
	// a query that is sent to one of them is asked of those, one after the
	// other, until one answers.
	Stands []netip.Addr

	// Nameservers returns the host's servers for Stands, which may change while
	// a Server lives. It is called by many goroutines. Nil: those of Resolv.
	Nameservers func() []netip.Addr

	// Local has names that are answered here and nowhere else, in lower case
	// and without the final dot, with their addresses.
	Local map[string][]netip.Addr

	// Avoid lists addresses that are never lent. Nil: those that the
	// interfaces of this machine carry.
	Avoid []netip.Prefix

	once   sync.Once
	ctx    context.Context
	cancel context.CancelFunc
	slots  chan struct{}
	conns  chan struct{}
	queue  chan Query
	lost   atomic.Int64
	told   chan struct{} // closed when the recorder has ended

	// mu guards what follows. wg counts goroutines and calls of Query; it is
	// only added to while open, under mu, so that Close can wait for it.
	mu      sync.Mutex
	wg      sync.WaitGroup
	closed  bool
	lent    lending
	seen    memory
	config  Config
	stands  map[netip.Addr]netip.Addr // address of ours → link-local server
	domains []string                  // of the search list
	plan    Plan
	wait    time.Duration
}

// Load returns a Server for the resolv.conf and hosts files of dir, which is
// "/etc" on a real machine. A file that is missing, dangling or unreadable
// counts as empty: resolver libraries see it the same way.
func Load(dir string) *Server {
	return &Server{Resolv: readFile(filepath.Join(dir, "resolv.conf")), Hosts: readFile(filepath.Join(dir, "hosts"))}
}

func readFile(name string) []byte {
	if fi, err := os.Stat(name); err != nil || !fi.Mode().IsRegular() || fi.Size() > maxFile {
		return nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	return b
}

// init makes what the zero value lacks.
func (s *Server) init() {
	s.once.Do(func() {
		s.ctx, s.cancel = context.WithCancel(context.Background())
		s.slots = make(chan struct{}, maxInFlight)
		s.conns = make(chan struct{}, maxConns)
		if s.Avoid == nil {
			s.Avoid = carried()
		}
		s.lent.avoid = s.Avoid
		s.config = ParseConfig(s.Resolv)
		s.domains = s.config.searched()
		s.wait = max(patience, s.config.timeout()+2*time.Second)
		s.makePlan()
		if s.Record != nil {
			s.queue = make(chan Query, maxRecords)
			s.told = make(chan struct{})
			go s.record()
		}
	})
}

// carried returns the addresses that interfaces of this machine carry.
func carried() []netip.Prefix {
	ps := []netip.Prefix{}
	as, _ := net.InterfaceAddrs() // none known: none avoided
	for _, a := range as {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				ip = ip.Unmap()
				ps = append(ps, netip.PrefixFrom(ip, ip.BitLen()))
			}
		}
	}
	return ps
}

// begin reports whether the Server is open, and holds Close up until done.
func (s *Server) begin() bool {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Add(1)
	return true
}

// Close ends all serving and waits for it. Queries in flight are abandoned,
// the sockets given to ServeUDP, ServeTCP and ServeConn are closed, and Record
// has been told of all that ended before. Closing twice is no error.
func (s *Server) Close() error {
	s.init()
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	if s.queue != nil {
		if !again {
			close(s.queue)
		}
		<-s.told
	}
	return nil
}

// Lost returns how many queries Record was not told of because it was slow.
func (s *Server) Lost() int64 { return s.lost.Load() }

// tell hands q to the recorder and never waits.
func (s *Server) tell(q Query) {
	if s.queue == nil {
		return
	}
	select {
	case s.queue <- q:
	default:
		s.lost.Add(1)
	}
}

func (s *Server) record() {
	defer close(s.told)
	for q := range s.queue {
		s.Record(q)
	}
}

// Name returns the name that led to addr, lower case and without the final
// dot, and whether addr was lent to it. For others it is the name whose
// answer named addr last, the asked one where aliases led there; "" if none.
func (s *Server) Name(addr netip.Addr) (name string, lent bool) {
	s.init()
	s.mu.Lock()
	defer s.mu.Unlock()
	addr = addr.Unmap()
	if name := s.lent.names[addr]; name != "" {
		return name, true
	}
	return s.seen.get(addr), false
}
