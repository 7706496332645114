package mitm

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"trace/flow"
)

// hexes reads a list as JA4 writes it.
func hexes(t *testing.T, s string) []uint16 {
	t.Helper()
	var list []uint16
	for _, x := range strings.Split(s, ",") {
		v, err := strconv.ParseUint(x, 16, 16)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, uint16(v))
	}
	return list
}

// chrome is the example of FoxIO's description of JA4.
func chrome(t *testing.T) *clientHello {
	return &clientHello{
		legacy: 0x0303, versions: []uint16{0x0304, 0x0303}, alpn: []string{"h2", "http/1.1"},
		ciphers: hexes(t, "1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"),
		exts:    hexes(t, "001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015"),
		sigAlgs: hexes(t, "0403,0804,0401,0503,0805,0501,0806,0601"),
	}
}

func TestJA4(t *testing.T) {
	without := func(h *clientHello, typ uint16) *clientHello {
		h.exts = slices.DeleteFunc(h.exts, func(x uint16) bool { return x == typ })
		return h
	}
	change := func(f func(*clientHello)) *clientHello {
		h := chrome(t)
		f(h)
		return h
	}
	for _, v := range []struct {
		h    *clientHello
		want string
	}{
		{chrome(t), "t13d1516h2_8daaf6152771_e5627efa2ab1"},
		{change(func(h *clientHello) { h.sigAlgs = nil }), "t13d1516h2_8daaf6152771_6d807ffa2a79"},
		{change(func(h *clientHello) { h.alpn = []string{"\xab\xcd"} }), "t13d1516ad_8daaf6152771_e5627efa2ab1"},
		{without(chrome(t), extServerName), "t13i1515h2_8daaf6152771_e5627efa2ab1"},
		{change(func(h *clientHello) { h.ciphers, h.alpn = nil, nil }), "t13d001600_000000000000_e5627efa2ab1"},
		{&clientHello{legacy: 0x0399, versions: []uint16{0x0303}, sigAlgs: []uint16{0x0403}}, "t00i000000_000000000000_000000000000"},
	} {
		if got := v.h.ja4(); got != v.want {
			t.Errorf("%s, want %s", got, v.want)
		}
	}
	many := &clientHello{legacy: 0x0301, versions: []uint16{0x0301}, ciphers: make([]uint16, 120), exts: []uint16{0}}
	if got := many.ja4(); !strings.HasPrefix(got, "t10d990100_") || !strings.HasSuffix(got, "_000000000000") {
		t.Errorf("120 ciphers: %s", got)
	}
	for alpn, want := range map[string]string{"": "00", "h2": "h2", "http/1.1": "h1", "h": "hh", "\xab": "ab", "\xab\xcd": "ad",
		"0\xab": "3b", "01\xab\xcd": "3d", "0\xab\xcd1": "01", "spdy/3.": "7e"} {
		if got := ja4ALPN([]string{alpn, "x"}); got != want {
			t.Errorf("ALPN %q: %s, want %s", alpn, got, want)
		}
	}
}

// TestJA3: the examples of the fingerprint's inventors.
func TestJA3(t *testing.T) {
	for text, want := range map[string]string{
		"769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0": "ada70206e40642a3e4461f35503241d5",
		"769,4-5-10-9-100-98-3-6-19-18-99,,,":                                  "de350869b8c85de67a350c8d186f11e6",
	} {
		h := new(clientHello)
		for i, field := range strings.Split(text, ",") {
			var list []uint16
			for _, s := range strings.Split(field, "-") {
				if v, err := strconv.ParseUint(s, 10, 16); err == nil {
					list = append(list, uint16(v))
				}
			}
			switch i {
			case 0:
				h.legacy = list[0]
			case 1:
				h.ciphers = list
			case 2:
				h.exts = list
			case 3:
				h.groups = list
			case 4:
				for _, v := range list {
					h.points = append(h.points, uint8(v))
				}
			}
		}
		if got := string(h.ja3Text()); got != text {
			t.Errorf("%s, want %s", got, text)
		}
		if got := h.ja3(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// TestGrease: reserved values are in no fingerprint, wherever they stand.
func TestGrease(t *testing.T) {
	good := helloOf(t, &tls.Config{ServerName: host, NextProtos: []string{"h2"}, CurvePreferences: []tls.CurveID{tls.X25519}})
	plain, greased := sniff(good, nil).hello, sniff(withExtension(good, 0x2a2a), nil).hello
	if a, b := plain.facts(), greased.facts(); a.JA3 != b.JA3 || a.JA4 != b.JA4 || a.JA3 == "" {
		t.Errorf("%+v, with GREASE %+v", a, b)
	}
}

// clientHellos returns the first flights of real clients.
func clientHellos(t *testing.T) map[string][]byte {
	t.Helper()
	hellos := map[string][]byte{
		"go":     helloOf(t, &tls.Config{ServerName: host, NextProtos: []string{"h2", "http/1.1"}}),
		"go 1.2": helloOf(t, &tls.Config{ServerName: host, MaxVersion: tls.VersionTLS12}),
	}
	for name, args := range map[string][]string{
		"curl":            {"curl", "-sk", "https://localhost:PORT/"},
		"curl 1.2":        {"curl", "-sk", "--tls-max", "1.2", "--http1.1", "https://127.0.0.1:PORT/"},
		"openssl":         {"openssl", "s_client", "-connect", "127.0.0.1:PORT", "-servername", host, "-alpn", "imap,\xab"},
		"openssl 1.0":     {"openssl", "s_client", "-connect", "127.0.0.1:PORT", "-tls1", "-cipher", "DEFAULT@SECLEVEL=0", "-noservername"},
		"python3":         {"python3", "-c", pythonGet, "https://localhost:PORT/"},
		"node":            {"node", "-e", nodeGet, "https://localhost:PORT/"},
		"wget":            {"wget", "-qO-", "-t1", "https://localhost:PORT/"},
		"openssl resumes": {"openssl", "s_client", "-connect", "127.0.0.1:PORT", "-status", "-sigalgs", "ed25519:RSA-PSS+SHA256"},
	} {
		seen := make(chan []byte, 16)
		addr := listen(t, func(c net.Conn) {
			b := make([]byte, 1<<14)
			n, _ := c.Read(b)
			seen <- b[:n]
		})
		_, port, _ := net.SplitHostPort(addr)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "PORT", port)
		}
		_, out := run(t, nil, args[0], args[1:]...)
		select {
		case hellos[name] = <-seen:
		default:
			t.Fatalf("%s said nothing: %s", name, out)
		}
	}
	return hellos
}

// said is what a side of a connection said at once.
type said struct {
	side flow.Side
	data []byte
}

// capture writes a pcap file of connections to port 443, a packet for what was
// said at once.
func capture(conns ...[]said) []byte {
	var b bytes.Buffer
	put := func(order binary.ByteOrder, vs ...any) {
		for _, v := range vs {
			binary.Write(&b, order, v)
		}
	}
	put(binary.LittleEndian, uint32(0xa1b2c3d4), uint16(2), uint16(4), uint32(0), uint32(0), uint32(1<<18), uint32(101)) // raw IP
	for i, conn := range conns {
		ports, next := [2]uint16{uint16(1024 + i), 443}, [2]uint32{1, 1}
		for n, s := range conn {
			for part := range slices.Chunk(s.data, 1400) {
				me, other := s.side, s.side.Other()
				size := 20 + 20 + len(part)
				put(binary.LittleEndian, uint32(i), uint32(n), uint32(size), uint32(size))
				put(binary.BigEndian, uint16(0x4500), uint16(size), uint32(0), uint8(64), uint8(6), uint16(0), [4]byte{192, 0, 2, byte(me)}, [4]byte{192, 0, 2, byte(other)})
				put(binary.BigEndian, ports[me], ports[other], next[me], next[other], uint8(5<<4), uint8(0x18), uint16(1<<15), uint32(0))
				b.Write(part)
				next[me] += uint32(len(part))
			}
		}
	}
	return b.Bytes()
}

// TestJA3Tshark: tshark finds the same JA3 in what real clients say.
func TestJA3Tshark(t *testing.T) {
	need(t, "tshark")
	var names []string
	var conns [][]said
	for name, p := range clientHellos(t) {
		names, conns = append(names, name), append(conns, []said{{flow.Client, p}})
	}
	path := file(t, "hellos.pcap", capture(conns...))
	status, out := run(t, nil, "sh", "-c", `tshark -r "$0" -Y tls.handshake.ja3 -T fields -e tls.handshake.ja3 -e tls.handshake.ja3_full 2>/dev/null`, path)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if status != 0 || len(lines) != len(names) {
		t.Fatalf("tshark: %d %s", status, out)
	}
	for i, line := range lines {
		h := sniff(conns[i][0].data, nil).hello
		if got := h.ja3() + "\t" + string(h.ja3Text()); got != line {
			t.Errorf("%s: %s\ntshark: %s", names[i], got, line)
		}
		t.Logf("%s %s %s", names[i], h.ja3(), h.ja4())
	}
}

// TestHelloFacts: what the child offered is recorded, decrypted or not.
func TestHelloFacts(t *testing.T) {
	addr := web(t, &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}})
	for _, bypass := range []bool{false, true} {
		r := newRoad(t, addr, func(p *Proxy) {
			if bypass {
				p.Bypass = []string{host}
			}
		})
		cfg := &tls.Config{NextProtos: []string{"x", "http/1.1"}, MinVersion: tls.VersionTLS11, InsecureSkipVerify: true}
		c, err := dialTLS(r, cfg)
		if err != nil {
			t.Fatal(err)
		}
		get(c)
		c.Close()
		facts, _ := r.wait()
		want := sniff(helloOf(t, &tls.Config{ServerName: host, NextProtos: cfg.NextProtos, MinVersion: tls.VersionTLS11}), nil).hello.facts()
		got := facts.Child
		if facts.Decrypted == bypass || got.SNI != host || !slices.Equal(got.Offered, cfg.NextProtos) ||
			!slices.Equal(got.Versions, []string{"1.3", "1.2", "1.1"}) || got.JA3 != want.JA3 || got.JA4 != want.JA4 || got.ECH {
			t.Errorf("bypass %v: %+v", bypass, got)
		}
	}
}

func BenchmarkHelloFacts(b *testing.B) {
	a, c := net.Pipe()
	go func() { tls.Client(c, &tls.Config{ServerName: host}).Handshake(); c.Close() }()
	buf := make([]byte, 1<<14)
	n, err := a.Read(buf)
	a.Close()
	if err != nil {
		b.Fatal(err)
	}
	h := sniff(buf[:n], nil).hello
	var t flow.TLS
	for b.Loop() {
		t = h.facts()
	}
	_ = t
}
