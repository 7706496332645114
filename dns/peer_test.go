package dns

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// A peer is a DNS server on loopback, over UDP and TCP on one port, whose
// answers depend on the first label of the name.
type peer struct {
	t    testing.TB
	addr netip.AddrPort
	udp  *net.UDPConn
	tcp  *net.TCPListener
	wg   sync.WaitGroup

	came chan struct{} // holds one if a query came since

	mu    sync.Mutex
	asked [][]byte // as they came
	open  []net.Conn
}

func newPeer(t testing.TB) *peer {
	p := &peer{t: t, came: make(chan struct{}, 1)}
	for range 20 { // the same port must be free for both
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(l.Addr().(*net.TCPAddr).AddrPort()))
		if err != nil {
			l.Close()
			continue
		}
		p.tcp, p.udp, p.addr = l, u, u.LocalAddr().(*net.UDPAddr).AddrPort()
		break
	}
	if p.udp == nil {
		t.Fatal("no port is free for both UDP and TCP")
	}
	p.wg.Go(p.serveUDP)
	p.wg.Go(p.serveTCP)
	t.Cleanup(p.close)
	return p
}

func (p *peer) close() {
	p.udp.Close()
	p.tcp.Close()
	p.mu.Lock()
	for _, c := range p.open {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *peer) note(raw []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, append([]byte(nil), raw...))
	select {
	case p.came <- struct{}{}:
	default:
	}
}

func (p *peer) queries() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func (p *peer) serveUDP() {
	buf := make([]byte, 65535)
	for {
		n, src, err := p.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		raw := append([]byte(nil), buf[:n]...)
		p.note(raw)
		for _, a := range p.answers(raw, false) {
			p.udp.WriteToUDPAddrPort(a, src)
		}
	}
}

func (p *peer) serveTCP() {
	for {
		c, err := p.tcp.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.open = append(p.open, c)
		p.mu.Unlock()
		p.wg.Go(func() { p.serveConn(c) })
	}
}

// serveConn answers each two queries in reverse order if the first is for
// "late", and all others in order.
func (p *peer) serveConn(c net.Conn) {
	defer c.Close()
	var late [][]byte
	for {
		raw, err := readFrame(c)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) && err != io.EOF {
				p.t.Logf("peer: %v", err)
			}
			return
		}
		p.note(raw)
		q, _ := parseQuestion(raw)
		if strings.HasPrefix(q.name, "late.") {
			late = p.answers(raw, true)
			continue
		}
		if strings.HasPrefix(q.name, "hangup.") {
			return
		}
		for _, a := range append(p.answers(raw, true), late...) {
			writeFrame(c, a)
		}
		late = nil
	}
}

// answers returns the datagrams or frames that answer raw.
func (p *peer) answers(raw []byte, tcp bool) [][]byte {
	var m dnsmessage.Message
	if err := m.Unpack(raw); err != nil || len(m.Questions) != 1 {
		m = dnsmessage.Message{Header: dnsmessage.Header{ID: binary.BigEndian.Uint16(raw), Response: true, OpCode: dnsmessage.OpCode(raw[2] >> 3 & 0xf)}}
		return [][]byte{pack(p.t, m)}
	}
	m.Response, m.RecursionAvailable = true, true
	q := m.Questions[0]
	h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60}
	label, _, _ := strings.Cut(strings.ToLower(q.Name.String()), ".")
	a := func(last byte) dnsmessage.Resource {
		return dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, last}}}
	}
	switch {
	case label == "silent":
		return nil
	case label == "none":
		m.RCode = dnsmessage.RCodeNameError
	case label == "broken":
		m.RCode = dnsmessage.RCodeServerFailure
	case label == "denied":
		m.RCode = dnsmessage.RCodeRefused
	case label == "empty":
	case label == "alias":
		real := dnsmessage.MustNewName("real.example.")
		r := a(7)
		r.Header.Name = real
		m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.CNAMEResource{CNAME: real}}, r}
	case label == "big" && !tcp && len(m.Additionals) == 0:
		m.Truncated = true
	case label == "big":
		for i := range 150 {
			m.Answers = append(m.Answers, a(byte(i)))
		}
	case label == "spoofed":
		return p.spoofed(m, a)
	case label == "transfer":
		m.Answers = []dnsmessage.Resource{a(1)}
		one := pack(p.t, m)
		return [][]byte{one, one, one}
	case q.Type == dnsmessage.TypeAAAA:
		m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::7").As16()}}}
	case q.Type == dnsmessage.TypeTXT:
		m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.TXTResource{TXT: []string{"a b", "c"}}}}
	case q.Type == dnsmessage.TypeMX:
		m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.MXResource{Pref: 10, MX: dnsmessage.MustNewName("mail.example.")}}}
	default:
		m.Answers = []dnsmessage.Resource{a(1)}
	}
	return [][]byte{pack(p.t, m)}
}

// spoofed returns forgeries before the true answer: a wrong ID, another
// question, a query instead of an answer.
func (p *peer) spoofed(m dnsmessage.Message, a func(byte) dnsmessage.Resource) [][]byte {
	forge := func(change func(*dnsmessage.Message)) []byte {
		f := m
		f.Questions = append([]dnsmessage.Question(nil), m.Questions...)
		f.Answers = []dnsmessage.Resource{a(66)}
		change(&f)
		return pack(p.t, f)
	}
	m.Answers = []dnsmessage.Resource{a(1)}
	return [][]byte{
		forge(func(f *dnsmessage.Message) { f.ID++ }),
		forge(func(f *dnsmessage.Message) { f.Questions[0].Name = dnsmessage.MustNewName("other.example.") }),
		forge(func(f *dnsmessage.Message) { f.Questions[0].Type = dnsmessage.TypeAAAA }),
		forge(func(f *dnsmessage.Message) { f.Response = false }),
		{0, 1, 2},
		pack(p.t, m),
	}
}

func pack(t testing.TB, m dnsmessage.Message) []byte {
	b, err := m.Pack()
	if err != nil {
		t.Errorf("pack: %v", err)
	}
	return b
}

// ask builds a query; size > 0 adds an OPT record with the DO bit.
func ask(t testing.TB, id uint16, name string, typ dnsmessage.Type, size int) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}},
	}
	if size > 0 {
		h := dnsmessage.ResourceHeader{}
		if err := h.SetEDNS0(size, dnsmessage.RCodeSuccess, true); err != nil {
			t.Fatal(err)
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 10, Data: []byte("cookie01")}}}}}
	}
	return pack(t, m)
}

func unpack(t testing.TB, raw []byte) dnsmessage.Message {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(raw); err != nil {
		t.Fatalf("unpack %x: %v", raw, err)
	}
	return m
}

// recorder collects what a Server records.
type recorder chan Query

func (r recorder) record(q Query) { r <- q }

func newServer(t testing.TB) (*Server, recorder) {
	r := make(recorder, 10000)
	s := &Server{Record: r.record, Avoid: []netip.Prefix{}}
	t.Cleanup(func() { s.Close() })
	return s, r
}
