package replay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"trace/flow"
	"trace/pipe"
)

// PlayOptions say how a session is played.
type PlayOptions struct {
	// Load reads all of a flow.
	Load  func(id int64) (*flow.Detail, error)
	Raw   func(id int64) ([]byte, error) // the answer as it was on the wire; nil: not kept
	Fast  bool                           // answers come at once, not when they came
	Exact bool                           // a request is not answered by the nearest recorded one
}

// A Certifier makes what the server of a name, or an address, shows. like is
// the certificate that the recorded server showed, nil if none is known; wrong
// tells that it was outside of its validity then.
type Certifier func(name string, like *x509.Certificate, wrong bool, hello *tls.ClientHelloInfo) (*tls.Certificate, error)

// A Player answers requests from a recorded session. It is safe for concurrent
// use.
type Player struct {
	session string
	opt     PlayOptions
	names   []string
	absent  map[string]bool // names that did not exist
	dead    map[hostAndPort]error
	ports   map[hostAndPort]bool
	servers map[string]*recordedServer
	certify Certifier // nil: TLS is not served

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	list   []*recorded // in the recorded order
	report Report
}

// A Report says what a Player did.
type Report struct {
	Answered  int
	Near      int      // of these by the nearest recorded request
	Unmatched []string // requests that nothing answered, with what is nearest; the first of them
	Missed    int      // how many these were
}

// maxUnmatched bounds the list of a Report.
const maxUnmatched = 20

// A recordedServer is what is known of the server of a name.
type recordedServer struct {
	alpn []string
	leaf *x509.Certificate
	at   time.Time // when it was seen
}

// NewPlayer makes a player of the flows of a session, oldest first and with
// their heads. An error says that there is nothing to play.
func NewPlayer(session string, flows []*flow.Exchange, o PlayOptions) (*Player, error) {
	p := &Player{session: session, opt: o, absent: map[string]bool{}, dead: map[hostAndPort]error{}, ports: map[hostAndPort]bool{},
		servers: map[string]*recordedServer{}}
	exists := map[string]bool{}
	for _, x := range flows {
		switch {
		case x.Conn.Source == flow.SourceReplay:
		case x.DNS != nil:
			name := strings.ToLower(strings.TrimSuffix(x.DNS.Name, "."))
			if x.DNS.Rcode == "NXDOMAIN" {
				p.absent[name] = true
			} else if len(x.DNS.Answers) > 0 {
				exists[name] = true
			}
		case x.Request != nil && x.Request.Head != nil:
			p.add(x)
			exists[x.Request.Head.Host] = true
		case x.Conn.Host != "":
			exists[x.Conn.Host] = true
			p.fail(x)
		}
	}
	if len(p.list) == 0 {
		return nil, fmt.Errorf("session %s holds no HTTP answers to play", session)
	}
	for name := range exists {
		delete(p.absent, name)
		if _, err := netip.ParseAddr(name); err != nil {
			p.names = append(p.names, name)
		}
	}
	slices.Sort(p.names)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// add takes in a recorded request.
func (p *Player) add(x *flow.Exchange) {
	h := x.Request.Head
	p.learn(x)
	if h.Method == http.MethodConnect && h.Protocol == "" {
		return // a proxy's tunnel: what is asked within stands by itself
	}
	if h.Method == http.MethodConnect { // RFC 8441: we offer the older way only
		old := *h
		old.Method, h = http.MethodGet, &old
	}
	if x.Response == nil || x.Response.Head == nil {
		if e := x.Error; e == nil || e.Where != flow.AtUpstream {
			return // the client left, or the record ends: there was no answer to give
		}
	}
	path, query := pathKey(h.Path)
	params := queryLeaves(query)
	r := &recorded{id: x.ID, head: h, path: path, params: params, query: formOf(params)}
	if part := x.Response; part != nil && part.Body != nil && part.Body.Truncated && !x.IsWebSocket() {
		r.why = fmt.Sprintf("the record has %d of the %d bytes of the answer (see --max-body)", part.Body.Kept, max(part.Body.Decoded, part.Body.Size))
	}
	p.ports[hostAndPort{h.Host, h.Port}] = true
	p.list = append(p.list, r)
}

// learn notes what the server of a request was like.
func (p *Player) learn(x *flow.Exchange) {
	names := []string{x.Request.Head.Host}
	if x.Conn.Host != "" && x.Conn.Host != names[0] {
		names = append(names, x.Conn.Host)
	}
	for _, name := range names {
		s := p.servers[name]
		if s == nil {
			s = &recordedServer{}
			p.servers[name] = s
		}
		if a := x.Conn.Upstream.ALPN; a != "" && !slices.Contains(s.alpn, a) {
			s.alpn = append(s.alpn, a)
		}
		if chain := x.Conn.Upstream.Chain; s.leaf == nil && len(chain) > 0 {
			if leaf, err := x509.ParseCertificate(chain[0]); err == nil {
				s.leaf, s.at = leaf, x.Started
			}
		}
	}
}

// fail notes a server that could not be reached.
func (p *Player) fail(x *flow.Exchange) {
	e := x.Conn.Error
	if e == nil || x.Conn.Opaque != "not_connected" {
		return
	}
	errs := map[string]error{flow.CodeRefused: syscall.ECONNREFUSED, flow.CodeUnreachable: syscall.EHOSTUNREACH, flow.CodeTimeout: syscall.ETIMEDOUT}
	if err := errs[e.Code]; err != nil {
		p.dead[hostAndPort{x.Conn.Host, int(x.Conn.Dst.Port())}] = err
	}
}

// Answer says how TLS is served. It is called before the first Dial.
func (p *Player) Answer(c Certifier) { p.certify = c }

// Names returns the names that the session knows.
func (p *Player) Names() []string { return p.names }

// Exists reports whether a name is one that requests may be made to: all are,
// but for those of which the session says that they did not exist.
func (p *Player) Exists(name string) bool { return !p.absent[name] }

// Dial connects to the server that plays addr.
func (p *Player) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	to := hostAndPort{strings.ToLower(strings.TrimSuffix(host, ".")), number}
	if err := p.dead[to]; err != nil && !p.ports[to] {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	near, far := pipe.New()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, net.ErrClosed
	}
	p.wg.Go(func() { p.serve(far, to) })
	return near, nil
}

// enter holds Close up until wg.Done, and reports whether it has not begun.
func (p *Player) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.wg.Add(1)
	}
	return !p.closed
}

// Close ends all connections and waits for what serves them.
func (p *Player) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.wg.Wait()
}

// Report returns what was done so far.
func (p *Player) Report() Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.report
	r.Unmatched = slices.Clone(r.Unmatched)
	return r
}

func (p *Player) load(id int64) (*flow.Detail, error) {
	d, err := p.opt.Load(id)
	if err != nil {
		return nil, fmt.Errorf("flow %s/%d: %w", p.session, id, err)
	}
	return d, nil
}

// answer decides what a request is answered with.
func (p *Player) answer(a *asked) (*answer, *miss) {
	v, err := p.match(a)
	if err == nil && v.found != nil {
		if v.found.why != "" {
			err = errors.New(v.found.why)
			v.nearest = v.found
		} else {
			var d *flow.Detail
			if d, err = p.load(v.found.id); err == nil {
				ans := p.prepare(d)
				p.count(func(r *Report) {
					r.Answered++
					if v.near {
						r.Near++
					}
				})
				return ans, nil
			}
		}
	}
	m := &miss{Request: a.method + " " + a.url(), Reason: v.reason, Difference: v.difference}
	if err != nil {
		m.Reason = err.Error()
	}
	if v.nearest != nil {
		h := v.nearest.head
		m.Nearest = fmt.Sprintf("%s/%d", p.session, v.nearest.id)
		m.What = h.Method + " " + h.Scheme + "://" + hostPort(h.Scheme, h.Host, h.Port) + h.Path
	}
	p.missed(m)
	return nil, m
}

func (p *Player) missed(m *miss) {
	p.count(func(r *Report) {
		if r.Missed++; len(r.Unmatched) < maxUnmatched {
			r.Unmatched = append(r.Unmatched, m.String())
		}
	})
}

func (p *Player) count(f func(*Report)) {
	p.mu.Lock()
	f(&p.report)
	p.mu.Unlock()
}

// A miss says why a request is not answered from the record.
type miss struct {
	Request, Reason, Nearest, What, Difference string
}

// String is one sentence.
func (m *miss) String() string {
	s := m.Request + ": " + m.Reason
	if m.Nearest != "" {
		s += "; nearest is flow " + m.Nearest + " (" + m.What + ")"
	}
	if m.Difference != "" {
		s += ": " + m.Difference
	}
	return s
}

// body returns what the client is told.
func (m *miss) body() []byte {
	type fault struct {
		Type       string `json:"type"`
		Message    string `json:"message"`
		Request    string `json:"request"`
		Reason     string `json:"reason"`
		Nearest    string `json:"nearest"` // SESSION/ID
		What       string `json:"nearest_request"`
		Difference string `json:"difference"`
	}
	text, err := flow.MarshalJSON(struct {
		Type  string `json:"type"`
		Error fault  `json:"error"`
	}{"error", fault{"trace_play_unmatched", "trace --play: " + m.String(), m.Request, m.Reason, m.Nearest, m.What, m.Difference}})
	if err != nil {
		return []byte(m.String())
	}
	return append(text, '\n')
}
