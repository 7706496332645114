package netns

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// TestPacket lets the child ask a server that only exists as this test, and answers on the device.
func TestPacket(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		for _, to := range []string{"192.0.2.7:7777", "[2001:db8:ffff::7]:7777"} {
			c := role(t, kind, "udp "+to)
			r, w := pipe(t)
			c.Stdout = w
			ns := start(t, c)
			if n := ns.Notes(); len(n) > 0 {
				t.Error(n)
			}
			d := ns.Device()
			if d.Kind != kind || d.MTU != defaultMTU || d.Offload != Checksum|TSO {
				t.Errorf("device %+v", d)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				answerUDP(t, d, netip.MustParseAddrPort(to))
			}()
			if err := ns.Go(); err != nil {
				t.Fatal(err)
			}
			w.Close()
			p := make([]byte, 100)
			n, _ := r.Read(p)
			if string(p[:n]) != "WHO IS THERE?" {
				t.Errorf("%s: %q", to, p[:n])
			}
			if st, err := ns.Wait(); st.Code != 0 || err != nil {
				t.Error(st, err)
			}
			ns.Close()
			<-done
		}
	})
}

// answerUDP shouts back what comes for addr, and nothing else.
func answerUDP(t *testing.T, d *Device, addr netip.AddrPort) {
	d.File.SetReadDeadline(time.Now().Add(5 * time.Second))
	p := make([]byte, maxMTU+d.HeaderLen())
	for {
		n, err := d.File.Read(p)
		if err != nil {
			t.Error("read device:", err)
			return
		}
		ip := p[d.HeaderLen():n]
		ipLen := 20
		if ip[0]>>4 == 6 {
			ipLen = 40
		}
		if len(ip) < ipLen+8 || netip.AddrPortFrom(destination(ip), binary.BigEndian.Uint16(ip[ipLen+2:])) != addr {
			continue
		}
		if kind := d.Kind; kind == Veth {
			if [6]byte(p[10:16]) != d.ChildMAC { // NOARP: the kernel fills in the device's own
				t.Errorf("frame for % x, child is % x", p[10:16], d.ChildMAC)
			}
			copy(p[10:], d.ChildMAC[:])
			copy(p[16:], d.MAC[:])
		}
		mirror(ip, ipLen)
		if p[0] != 1 { // VIRTIO_NET_HDR_F_NEEDS_CSUM
			t.Errorf("no partial checksum: % x", p[:10])
		}
		// The header asks for the same of the other side; the pseudo header's sum does not change by swapping either.
		if _, err := d.File.Write(p[:n]); err != nil {
			t.Error("write device:", err)
		}
		return
	}
}

func destination(ip []byte) netip.Addr {
	if ip[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(ip[16:20]))
	}
	return netip.AddrFrom16([16]byte(ip[24:40]))
}

// mirror turns a datagram around. IPv4's header sum does not change by that.
func mirror(ip []byte, ipLen int) {
	half, at := 4, 12
	if ipLen == 40 {
		half, at = 16, 8
	}
	swap := func(b []byte) {
		for i := range len(b) / 2 {
			b[i], b[i+len(b)/2] = b[i+len(b)/2], b[i]
		}
	}
	swap(ip[at : at+2*half])
	swap(ip[ipLen : ipLen+4])
	for i, b := range ip[ipLen+8:] {
		if b >= 'a' && b <= 'z' {
			ip[ipLen+8+i] = b - 32
		}
	}
}

func TestAddressesAndRoutes(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		c := config("cat", "/proc/net/if_inet6", "/proc/net/ipv6_route", "/proc/net/route")
		c.Device = kind
		c.Routes = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("2001:db8:aaaa::/48")}
		out, _ := run(t, c)
		for _, want := range []string{
			"20010db8000100020000000000000002", "20010db8aaaa00000000000000000000 30", "trace0\t00000000\t00000000\t0001",
			"00000000000000000000000000000001",
		} {
			if !contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
		if contains(out, "00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400") {
			t.Errorf("an IPv6 default route that nobody asked for:\n%s", out)
		}
	})
}

func TestDNSSockets(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		c := role(t, kind, "udp 127.0.0.53:53")
		c.ListenDNS = []netip.Addr{netip.MustParseAddr("127.0.0.53"), netip.MustParseAddr("::1")}
		r, w := pipe(t)
		c.Stdout = w
		ns := start(t, c)
		if len(ns.DNS()) != 2 {
			t.Fatalf("%v, %v", ns.DNS(), ns.Notes())
		}
		if err := ns.Go(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		s := ns.DNS()[0]
		s.UDP.SetDeadline(time.Now().Add(5 * time.Second))
		p := make([]byte, 512)
		n, from, err := s.UDP.ReadFromUDPAddrPort(p)
		if err != nil || string(p[:n]) != "who is there?" {
			t.Fatal(string(p[:n]), err)
		}
		s.UDP.WriteToUDPAddrPort([]byte("a nameserver"), from)
		n, _ = r.Read(p)
		if string(p[:n]) != "a nameserver" {
			t.Errorf("%q", p[:n])
		}
		ns.Wait()
		for _, s := range ns.DNS() {
			if got := s.TCP.Addr().(*net.TCPAddr).AddrPort(); got != netip.AddrPortFrom(s.Addr, 53) {
				t.Errorf("TCP on %v", got)
			}
		}
	})
}
