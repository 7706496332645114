package wg

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
)

func newKey(t *testing.T) Key {
	t.Helper()
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// refusals collects what an Endpoint tells.
type refusals struct {
	mu   sync.Mutex
	all  []Refusal
	told chan struct{}
}

func (r *refusals) tell(x Refusal) {
	r.mu.Lock()
	r.all = append(r.all, x)
	r.mu.Unlock()
	select {
	case r.told <- struct{}{}:
	default:
	}
}

// await returns the first refusal of a kind.
func (r *refusals) await(t *testing.T, kind RefusalKind) Refusal {
	t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		r.mu.Lock()
		for _, x := range r.all {
			if x.Kind == kind {
				r.mu.Unlock()
				return x
			}
		}
		r.mu.Unlock()
		select {
		case <-r.told:
		case <-deadline:
			t.Fatalf("no refusal of kind %s; have %v", kind, r.all)
		}
	}
}

// listenPeers brings an Endpoint up.
func listenPeers(t *testing.T, addr string) (*Endpoint, *chanDevice, *refusals) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	conns, err := Listen(addr)
	if addr == "both" { // as a service manager makes it: one socket of both versions
		var c *net.UDPConn
		c, err = net.ListenUDP("udp", nil)
		conns = []*net.UDPConn{c}
	}
	if err != nil {
		t.Fatal(err)
	}
	far, told := newChanDevice(), &refusals{told: make(chan struct{}, 1)}
	e := &Endpoint{Key: newKey(t), Far: far, Conns: conns, Refused: told.tell, Log: t.Logf}
	t.Cleanup(func() { e.Close() })
	if err := e.Up(); err != nil {
		t.Fatal(err)
	}
	return e, far, told
}

// client is a peer as others have it: wireguard-go with its own socket.
type client struct {
	t   *testing.T
	key Key
	dev *device.Device
	tun *chanDevice
}

func newClient(t *testing.T, server Key, endpoint string) *client {
	t.Helper()
	c := &client{t: t, key: newKey(t), tun: newChanDevice()}
	c.dev = device.NewDevice(c.tun, conn.NewStdNetBind(), &device.Logger{Verbosef: device.DiscardLogf, Errorf: device.DiscardLogf})
	t.Cleanup(c.dev.Close)
	err := c.dev.IpcSet("private_key=" + c.key.hex() + "\npublic_key=" + server.hex() + "\nendpoint=" + endpoint + "\nallowed_ip=0.0.0.0/0\nallowed_ip=::/0\n")
	if err == nil {
		err = c.dev.Up()
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// packet is one from an address to another.
func packet(src, dst string, size int) []byte {
	a, b := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	if a.Is4() {
		p := tcpPacket(4, size)
		copy(p[12:], a.AsSlice())
		copy(p[16:], b.AsSlice())
		return p
	}
	p := tcpPacket(6, size)
	copy(p[8:], a.AsSlice())
	copy(p[24:], b.AsSlice())
	return p
}

// crosses sends p and wants to see it on the other side.
func crosses(t *testing.T, p []byte, in, out *chanDevice) {
	t.Helper()
	timeout := time.After(8 * time.Second)
	select {
	case in.in <- p:
	case <-timeout:
		t.Fatal("the packet was not taken")
	}
	select {
	case got := <-out.out:
		if !bytes.Equal(got, p) {
			t.Fatalf("sent %d bytes, received %d others", len(p), len(got))
		}
	case <-timeout:
		t.Fatal("the packet did not arrive")
	}
}

func prefixes(s ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range s {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func TestEndpoint(t *testing.T) {
	for _, addr := range []string{":0", "127.0.0.1:0", "[::1]:0", "both"} {
		t.Run(addr, func(t *testing.T) {
			e, far, _ := listenPeers(t, addr)
			at := e.Addrs()[0]
			to := netip.AddrPortFrom(at.Addr(), at.Port())
			if at.Addr().IsUnspecified() {
				to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), at.Port())
			}
			c := newClient(t, e.Key.Public(), to.String())
			if err := e.Add(Peer{c.key.Public(), prefixes("10.1.0.2/32", "fd00::2/128")}); err != nil {
				t.Fatal(err)
			}
			for _, size := range []int{60, 1280, PeerMTU} {
				crosses(t, packet("10.1.0.2", "192.0.2.1", size), c.tun, far)
				crosses(t, packet("192.0.2.1", "10.1.0.2", size), far, c.tun)
				crosses(t, packet("fd00::2", "2001:db8::1", size), c.tun, far)
				crosses(t, packet("2001:db8::1", "fd00::2", size), far, c.tun)
			}
			ps, err := e.Peers()
			if err != nil || len(ps) != 1 {
				t.Fatal(ps, err)
			}
			p := ps[0]
			if p.PublicKey != c.key.Public() || p.Received < 5520 || p.Sent < 4000 || time.Since(p.LatestHandshake) > time.Minute || !p.Endpoint.Addr().IsLoopback() {
				t.Errorf("%+v", p)
			}
			checkSource(t, c, to)
		})
	}
}

// checkSource sees that answers come from the address that was asked.
func checkSource(t *testing.T, c *client, want netip.AddrPort) {
	t.Helper()
	text, err := c.dev.IpcGet()
	if err != nil || !bytes.Contains([]byte(text), []byte("endpoint="+want.String()+"\n")) {
		t.Errorf("the peer knows us by another address than %v: %v\n%s", want, err, text)
	}
}

// TestEndpointRevokes adds a peer, lets it talk, and shuts it out; others go on.
func TestEndpointRevokes(t *testing.T) {
	e, far, told := listenPeers(t, "127.0.0.1:0")
	at := e.Addrs()[0].String()
	stays, goes := newClient(t, e.Key.Public(), at), newClient(t, e.Key.Public(), at)
	for i, c := range []*client{stays, goes} {
		if err := e.Add(Peer{c.key.Public(), prefixes([]string{"10.1.0.2/32", "10.1.0.3/32"}[i])}); err != nil {
			t.Fatal(err)
		}
	}
	crosses(t, packet("10.1.0.2", "192.0.2.1", 100), stays.tun, far)
	crosses(t, packet("10.1.0.3", "192.0.2.1", 100), goes.tun, far)
	if err := e.Remove(goes.key.Public()); err != nil {
		t.Fatal(err)
	}
	goes.tun.in <- packet("10.1.0.3", "192.0.2.1", 100)
	again := newClient(t, e.Key.Public(), at)
	again.dev.IpcSet("private_key=" + goes.key.hex() + "\n")
	again.tun.in <- packet("10.1.0.3", "192.0.2.1", 100)
	if r := told.await(t, UnknownPeer); r.Key != goes.key.Public() {
		t.Errorf("%+v", r)
	}
	crosses(t, packet("10.1.0.2", "192.0.2.1", 101), stays.tun, far)
	if err := e.Add(Peer{goes.key.Public(), prefixes("10.1.0.2/32")}); err == nil {
		t.Error("a peer was given another's address")
	}
	if ps, err := e.Peers(); err != nil || len(ps) != 1 {
		t.Errorf("%v, %v", ps, err)
	}
}

// TestEndpointRefuses names what is not let in, and whose it was.
func TestEndpointRefuses(t *testing.T) {
	e, far, told := listenPeers(t, "127.0.0.1:0")
	at := e.Addrs()[0]

	stranger := newClient(t, e.Key.Public(), at.String())
	stranger.tun.in <- packet("10.1.0.9", "192.0.2.1", 100)
	if r := told.await(t, UnknownPeer); r.Key != stranger.key.Public() || !r.Source.Addr().IsLoopback() || r.Count != 1 {
		t.Errorf("%+v, want key %v", r, stranger.key.Public())
	}

	lost := newClient(t, newKey(t).Public(), at.String())
	lost.tun.in <- packet("10.1.0.9", "192.0.2.1", 100)
	if r := told.await(t, Foreign); !r.Source.IsValid() || r.Key != (Key{}) {
		t.Errorf("%+v", r)
	}

	// A peer behind somebody who keeps its first handshake and sends it again.
	tap, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	c := newClient(t, e.Key.Public(), tap.LocalAddr().String())
	if err := e.Add(Peer{c.key.Public(), prefixes("10.1.0.2/32")}); err != nil {
		t.Fatal(err)
	}
	c.tun.in <- packet("10.1.0.2", "192.0.2.1", 100)
	buf := make([]byte, 2000)
	tap.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, _, err := tap.ReadFromUDPAddrPort(buf)
	if err != nil || n != device.MessageInitiationSize {
		t.Fatalf("%d bytes, %v", n, err)
	}
	for range 3 {
		tap.WriteToUDPAddrPort(buf[:n], at)
	}
	r := told.await(t, Replayed)
	if r.Key != c.key.Public() || r.Source != netip.MustParseAddrPort(tap.LocalAddr().String()) {
		t.Errorf("%+v", r)
	}
	if ps, _ := e.Peers(); len(ps) != 1 || !ps[0].LatestHandshake.IsZero() {
		t.Errorf("a handshake that was never answered counts: %+v", ps)
	}

	// A peer with another's address.
	liar := newClient(t, e.Key.Public(), at.String())
	if err := e.Add(Peer{liar.key.Public(), prefixes("10.1.0.7/32")}); err != nil {
		t.Fatal(err)
	}
	liar.tun.in <- packet("10.1.0.2", "192.0.2.1", 100)
	tap.WriteToUDPAddrPort([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n........"), at)
	crosses(t, packet("10.1.0.7", "192.0.2.1", 100), liar.tun, far)
	if n := e.Refusals(); n[Replayed] < 2 || n[UnknownPeer] < 1 || n[Foreign] < 1 || n[Spoofed] != 1 || n[Noise] != 1 {
		t.Errorf("%v", n)
	}
}

// TestEndpointRoams moves a peer to another port midway.
func TestEndpointRoams(t *testing.T) {
	e, far, _ := listenPeers(t, "127.0.0.1:0")
	c := newClient(t, e.Key.Public(), e.Addrs()[0].String())
	if err := e.Add(Peer{c.key.Public(), prefixes("10.1.0.2/32")}); err != nil {
		t.Fatal(err)
	}
	crosses(t, packet("10.1.0.2", "192.0.2.1", 100), c.tun, far)
	before, _ := e.Peers()
	if err := c.dev.IpcSet("listen_port=0\n"); err != nil { // a new socket
		t.Fatal(err)
	}
	crosses(t, packet("10.1.0.2", "192.0.2.1", 200), c.tun, far)
	crosses(t, packet("192.0.2.1", "10.1.0.2", 300), far, c.tun)
	after, _ := e.Peers()
	if before[0].Endpoint == after[0].Endpoint || before[0].LatestHandshake != after[0].LatestHandshake {
		t.Errorf("before %+v, after %+v", before[0], after[0])
	}
}

func TestListenInUse(t *testing.T) {
	conns, err := Listen(":0")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conns {
		defer c.Close()
	}
	if _, err := Listen(conns[0].LocalAddr().String()); err == nil {
		t.Error("a port was taken twice")
	}
	var op *net.OpError
	if _, err := Listen("127.0.0.1:notaport"); !errors.As(err, &op) {
		t.Errorf("%v", err)
	}
}

func TestKey(t *testing.T) {
	k := newKey(t)
	again, err := ParseKey(k.String())
	if err != nil || again != k || k.Public() == k {
		t.Errorf("%v, %v", again, err)
	}
	for _, bad := range []string{"", "x", k.String()[:43], k.String() + "=", "\n" + k.String()} {
		if _, err := ParseKey(bad); err == nil {
			t.Errorf("%q is no key", bad)
		}
	}
	// RFC 7748 section 6.1.
	alice := Key{0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45, 0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a}
	if got := alice.Public().hex(); got != "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a" {
		t.Error(got)
	}
}
