package tcpstack_test

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"trace/pcap"
	"trace/tcpstack"
)

// A film is what Options.Capture saw.
type film struct {
	mu     sync.Mutex
	frames []frame
}

type frame struct {
	toChild bool
	data    []byte
}

func (f *film) capture(toChild bool, parts ...[]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frames = append(f.frames, frame{toChild, slices.Concat(parts...)})
}

// TestCapture: what passes is seen in both directions, whole, and with a
// checksum that is right or told to be left to others.
func TestCapture(t *testing.T) {
	const size = 300000
	for _, k := range kinds {
		t.Run(k.link+"/"+k.device, func(t *testing.T) {
			var seen film
			opt := tcpstack.Options{
				Capture:  seen.capture,
				Datagram: func(d *tcpstack.Datagram) bool { return d.Dst().Port() == 53 && d.Reply(d.Payload()) == nil },
				Accept: func(in *tcpstack.Incoming) {
					switch in.Dst().Port() {
					case 443:
						accept(t, echo)(in)
					case 81:
						in.Refuse(syscall.EHOSTUNREACH)
					}
				},
			}
			r := newRoad(t, k.link, k.device, opt)
			for _, host := range []string{"192.0.2.7", "2001:db8:1::7"} {
				talk(t, r, host, size)
			}
			r.stack.Close()
			seen.check(t, 2*size)
		})
	}
}

// talk makes every kind of packet.
func talk(t *testing.T, r *road, host string, size int64) {
	t.Helper()
	c, err := r.dial("tcp", net.JoinHostPort(host, "443"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	go func() {
		io.Copy(c, noise(1, size))
		closeWrite(t, c)
	}()
	if _, n, err := sum(c); err != nil || n != size {
		t.Fatalf("echo of %d bytes: %v", n, err)
	}
	for _, port := range []string{"80", "81"} {
		if c, err := r.dial("tcp", net.JoinHostPort(host, port)); err == nil {
			t.Errorf("port %s was not refused", port)
			c.Close()
		}
	}
	// That which is answered comes last: with its answers all has come.
	for _, port := range []string{"54", "53"} {
		c, err := r.dial("udp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		raw, _ := c.(*net.UDPConn).SyscallConn()
		raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_UDP, 103, 1000) }) // UDP_SEGMENT
		if err != nil {
			t.Fatal(err)
		}
		c.Write(bytes.Repeat([]byte("datagram"), 300))
		for range 3 { // of 2400 bytes
			if _, err = c.Read(make([]byte, 2000)); err != nil {
				break
			}
		}
		if (port == "53") != (err == nil) {
			t.Errorf("datagram to port %s: %v", port, err)
		}
	}
}

// check judges all frames. data is what TCP carried in each direction.
func (f *film) check(t *testing.T, data int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	kinds := map[string]int{}
	type place struct {
		toChild bool
		v6      bool
	}
	streams := map[place]map[int]bool{}
	for _, fr := range f.frames {
		src, dst, proto, segment := open(t, fr.data)
		kind := "from "
		if fr.toChild {
			kind = "to "
		}
		switch proto {
		case header.TCPProtocolNumber:
			kind += "TCP"
			h := header.TCP(segment)
			first, last := int(h.SequenceNumber()), len(h.Payload())
			at := place{fr.toChild, src.Len() == 16}
			if streams[at] == nil {
				streams[at] = map[int]bool{}
			}
			for i := range last {
				streams[at][first+i] = true
			}
			if h.Flags()&header.TCPFlagRst != 0 {
				kind += " reset"
			}
		case header.UDPProtocolNumber:
			kind += "UDP"
			if n := int(header.UDP(segment).Length()); n != len(segment) || n > 1008 {
				t.Errorf("%s: UDP length %d of %d", kind, n, len(segment))
			}
		case header.ICMPv4ProtocolNumber, header.ICMPv6ProtocolNumber:
			kind += "ICMP"
			if fr.toChild && src.Len() == 4 || fr.toChild && header.ICMPv6(segment).Type() == header.ICMPv6DstUnreachable {
				quoted(t, segment[8:])
			}
		}
		kinds[kind]++
		if !settled(src, dst, proto, segment) {
			t.Errorf("%s: wrong checksum in % x", kind, fr.data[:min(len(fr.data), 60)])
		}
	}
	for _, kind := range []string{"from TCP", "to TCP", "to TCP reset", "from UDP", "to UDP", "to ICMP"} {
		if kinds[kind] == 0 {
			t.Errorf("no frame %s: %v", kind, kinds)
		}
	}
	if kinds["from UDP"] < 12 || kinds["to UDP"] < 6 {
		t.Errorf("datagrams: %v", kinds)
	}
	for at, bytes := range streams {
		if len(bytes) != data/2 {
			t.Errorf("%+v: %d bytes of TCP, want %d", at, len(bytes), data/2)
		}
	}
}

// open takes an IP packet apart and wants it whole.
func open(t *testing.T, p []byte) (src, dst tcpip.Address, proto tcpip.TransportProtocolNumber, segment []byte) {
	t.Helper()
	if h := header.IPv4(p); header.IPVersion(p) == 4 {
		if int(h.TotalLength()) != len(p) || !h.IsChecksumValid() {
			t.Fatalf("%d bytes: % x", len(p), p[:20])
		}
		return h.SourceAddress(), h.DestinationAddress(), h.TransportProtocol(), p[h.HeaderLength():]
	}
	h := header.IPv6(p)
	if header.IPVersion(p) != 6 || int(h.PayloadLength())+header.IPv6MinimumSize != len(p) {
		t.Fatalf("%d bytes: % x", len(p), p[:min(len(p), 40)])
	}
	return h.SourceAddress(), h.DestinationAddress(), tcpip.TransportProtocolNumber(h.NextHeader()), p[header.IPv6MinimumSize:]
}

// settled tells whether a checksum is right, or the sum of the pseudo header,
// or 0, which tells that it is left to others.
func settled(src, dst tcpip.Address, proto tcpip.TransportProtocolNumber, segment []byte) bool {
	at := 16
	switch proto {
	case header.UDPProtocolNumber:
		at = 6
	case header.TCPProtocolNumber:
	default:
		return true
	}
	pseudo := header.PseudoHeaderChecksum(proto, src, dst, uint16(len(segment)))
	there := uint16(segment[at])<<8 | uint16(segment[at+1])
	return there == pseudo || there == 0 || checksum.Checksum(segment, pseudo) == 0xffff
}

// quoted wants a packet inside an ICMP error that is right, if it is whole.
func quoted(t *testing.T, p []byte) {
	t.Helper()
	length := int(header.IPv4(p).TotalLength())
	if header.IPVersion(p) == 6 {
		length = int(header.IPv6(p).PayloadLength()) + header.IPv6MinimumSize
	}
	if length > len(p) {
		return
	}
	src, dst, proto, segment := open(t, p)
	if checksum.Checksum(segment, header.PseudoHeaderChecksum(proto, src, dst, uint16(len(segment)))) != 0xffff {
		t.Errorf("an ICMP error quotes a wrong checksum: % x", p)
	}
}

// TestCaptureNoise: packets that the stack ignores are seen, as they came.
func TestCaptureNoise(t *testing.T) {
	var seen film
	s, write := inject(t, tcpstack.Options{Capture: seen.capture})
	sent := [][]byte{
		packet4(17, child4, "224.0.0.251"), packet6(17, "2001:db8::2", "ff02::fb"), packet4(6, "127.0.0.1", "192.0.2.7"),
		packet4(132, child4, "192.0.2.7"), {0x45, 0, 0}, packet4(6, child4, "192.0.2.7")[:25], {0xff, 1, 2}, packet4(17, child4, "192.0.2.7"),
	}
	for _, p := range sent {
		write(slices.Clone(p))
	}
	s.Close()
	seen.mu.Lock()
	defer seen.mu.Unlock()
	var from [][]byte
	for _, f := range seen.frames {
		if !f.toChild {
			from = append(from, f.data)
		}
	}
	if !slices.EqualFunc(from, sent, bytes.Equal) {
		t.Errorf("saw % x", from)
	}
}

// BenchmarkCapture is an upload that nobody looks at, and one whose packets
// are written to a file.
func BenchmarkCapture(b *testing.B) {
	for _, k := range []struct{ link, device string }{{"direct", "tun"}, {"wireguard", "tun"}} {
		for _, on := range []string{"off", "on"} {
			b.Run(k.link+"/"+k.device+"/"+on, func(b *testing.B) {
				opt := tcpstack.Options{Accept: accept(b, func(c *tcpstack.Conn) {
					io.Copy(io.Discard, c)
					c.CloseWrite()
				})}
				if on == "on" {
					w, err := pcap.Create(filepath.Join(b.TempDir(), "bench.pcapng"), pcap.Options{})
					if err != nil {
						b.Fatal(err)
					}
					opt.Capture = w.Packet
					defer func() {
						sum, err := w.Close()
						b.ReportMetric(float64(sum.Dropped), "dropped")
						if err != nil {
							b.Error(err)
						}
					}()
				}
				upload(b, newRoad(b, k.link, k.device, opt))
			})
		}
	}
}
