package tcpstack_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"trace/tcpstack"
)

// inject builds a stack without a kernel and returns what writes a packet to
// it. What the stack answers is thrown away.
func inject(t testing.TB, opt tcpstack.Options) (*tcpstack.Stack, func(p []byte)) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	tunnel, err := tcpstack.NewTunnel(1500)
	if err != nil {
		t.Fatal(err)
	}
	dev := tunnel.Device()
	opt.Link = tunnel
	s, err := tcpstack.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		bufs, sizes := [][]byte{make([]byte, 1<<16)}, make([]int, 1)
		for {
			if _, err := dev.Read(bufs, sizes, 0); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		s.Close()
		dev.Close()
		<-done
	})
	return s, func(p []byte) {
		if _, err := dev.Write([][]byte{p}, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// packet4 and packet6 build a SYN or a datagram.
func packet4(proto byte, src, dst string) []byte {
	p := make([]byte, 40)
	p[0], p[8], p[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	copy(p[12:], s[:])
	copy(p[16:], d[:])
	transport(p[20:], proto)
	return p
}

func packet6(proto byte, src, dst string) []byte {
	p := make([]byte, 60)
	p[0], p[6], p[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(p[4:], 20)
	s, d := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	copy(p[8:], s[:])
	copy(p[24:], d[:])
	transport(p[40:], proto)
	return p
}

func transport(p []byte, proto byte) {
	binary.BigEndian.PutUint16(p[0:], 40000)
	binary.BigEndian.PutUint16(p[2:], 443)
	if proto == 6 {
		p[12], p[13] = 5<<4, 2 // SYN
	} else {
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)))
	}
}

// TestMartians sends what no conversation can come from.
func TestMartians(t *testing.T) {
	opt := tcpstack.Options{
		Accept:   func(in *tcpstack.Incoming) { t.Errorf("accepted %v for %v", in.Src(), in.Dst()) },
		Datagram: func(d *tcpstack.Datagram) bool { t.Errorf("took %v for %v", d.Src(), d.Dst()); return true },
	}
	s, write := inject(t, opt)
	n := uint64(0)
	for _, proto := range []byte{6, 17} {
		for _, bad := range []string{"127.0.0.1", "127.255.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.251", "239.255.255.250", "255.255.255.255"} {
			write(packet4(proto, child4, bad))
			write(packet4(proto, bad, "192.0.2.7"))
			n += 2
		}
		for _, bad := range []string{"::", "::1", "ff02::2", "ff05::c", "::ffff:127.0.0.1", "::127.0.0.1"} {
			write(packet6(proto, child6, bad))
			write(packet6(proto, bad, "2001:db8::7"))
			n += 2
		}
	}
	if got := s.Stats().Ignored; got != n {
		t.Errorf("%d ignored, want %d", got, n)
	}
	whole := packet4(6, child4, "192.0.2.7")
	for i := range whole {
		write(whole[:i])
	}
	whole6 := packet6(17, child6, "2001:db8::7")
	for i := range whole6 {
		write(whole6[:i])
	}
	if got, want := s.Stats().Malformed, uint64(len(whole)+len(whole6)); got != want {
		t.Errorf("%d malformed, want %d", got, want)
	}
}

// TestNoise sends damaged packets: nothing may panic, and the stack serves on.
func TestNoise(t *testing.T) {
	served := make(chan struct{}, 1<<16)
	opt := tcpstack.Options{
		Accept: func(in *tcpstack.Incoming) {
			if in.Src().Port() == 40000 && in.Dst() == netip.MustParseAddrPort("192.0.2.77:443") {
				served <- struct{}{}
			}
			in.Refuse(nil)
		},
		Datagram: func(d *tcpstack.Datagram) bool { d.Reply(d.Payload()); return true },
	}
	_, write := inject(t, opt)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		protos := []byte{6, 17, 1, 58, 0, 44, 43, 60, byte(rnd.IntN(256))}
		proto := protos[rnd.IntN(len(protos))]
		p := packet4(proto, child4, "192.0.2.7")
		if rnd.IntN(2) == 0 {
			p = packet6(proto, child6, "2001:db8::7")
		}
		p = append(p, make([]byte, rnd.IntN(100))...)
		if rnd.IntN(2) == 0 { // whole again
			if p[0]>>4 == 4 {
				binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
			} else {
				binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
			}
		}
		for range rnd.IntN(6) {
			p[rnd.IntN(len(p))] = byte(rnd.Uint32())
		}
		write(p[:rnd.IntN(len(p))+1])
	}
	write(packet4(6, child4, "192.0.2.77"))
	select {
	case <-served:
	case <-time.After(5 * time.Second):
		t.Error("not served after the noise")
	}
}

func FuzzPacket(f *testing.F) {
	f.Add(packet4(6, child4, "192.0.2.7"))
	f.Add(packet4(17, child4, "192.0.2.7"))
	f.Add(packet6(6, child6, "2001:db8::7"))
	f.Add(packet6(17, child6, "2001:db8::7"))
	_, write := inject(f, tcpstack.Options{
		Accept:   func(in *tcpstack.Incoming) { in.Refuse(nil) },
		Datagram: func(d *tcpstack.Datagram) bool { d.Reply(d.Payload()); return true },
	})
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < 1<<16 {
			write(p)
		}
	})
}
