package mitm

import (
	"bytes"
	"crypto/tls"
	"net"
	"reflect"
	"slices"
	"testing"

	"trace/flow"
)

// seedHandshake returns what both sides of a handshake say.
func seedHandshake(f *testing.F, version uint16) (client, server []byte) {
	f.Helper()
	a, b := net.Pipe()
	h := &heard{Conn: b}
	go func() {
		c := tls.Client(a, &tls.Config{ServerName: host, InsecureSkipVerify: true, NextProtos: []string{"x"}, CurvePreferences: []tls.CurveID{tls.X25519}})
		c.Handshake()
		c.Close()
	}()
	s := tls.Server(h, &tls.Config{Certificates: []tls.Certificate{pki(f).leaf(f, host, false, nil)}, MaxVersion: version, NextProtos: []string{"x"}})
	if err := s.Handshake(); err != nil {
		f.Fatal(err)
	}
	s.Read(make([]byte, 1))
	s.Close()
	for _, s := range h.said {
		if s.side == flow.Client {
			client = append(client, s.data...)
		} else {
			server = append(server, s.data...)
		}
	}
	return client, server
}

// watched returns what a watch makes of a connection that is cut into pieces
// of n bytes.
func watched(client, server []byte, n int) *flow.Conn {
	c := &conn{p: new(Proxy), facts: flow.Conn{Protocol: "tls"}}
	w := c.newWatch()
	for side, p := range [][]byte{client, server} {
		for part := range slices.Chunk(p, n) {
			w.data(flow.Side(side), part)
		}
	}
	return &c.facts
}

// FuzzClear: whatever two sides say, reading it along does not fail, and finds
// the same however it is cut.
func FuzzClear(f *testing.F) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, server := seedHandshake(f, version)
		f.Add(client, server, uint16(1))
		f.Add(client, append(bytes.Clone(server[:100]), alert(40).record()...), uint16(7))
		f.Add(append(bytes.Clone(client), alert(48).record()...), server, uint16(300))
	}
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"), alert(70).record(), uint16(2))
	f.Fuzz(func(t *testing.T, client, server []byte, n uint16) {
		whole, cut := watched(client, server, 1<<20), watched(client, server, 1+int(n))
		if !reflect.DeepEqual(whole, cut) {
			t.Errorf("whole %+v\nin pieces %+v", whole, cut)
		}
	})
}

// FuzzSniff: nothing that two sides begin with makes the guess fail, and a ClientHello
// that can be read has fingerprints.
func FuzzSniff(f *testing.F) {
	client, _ := seedHandshake(f, tls.VersionTLS13)
	for _, p := range [][]byte{client, client[:50], []byte("GET / HTTP/1.1\r\n"), []byte(preface), []byte(postgresAsk), []byte(mongoHello), []byte(ldapBindName)} {
		f.Add(p, []byte{})
	}
	f.Add([]byte{}, []byte(mysqlHello))
	f.Add([]byte("EHLO x\r\n"), []byte("220 x\r\n"))
	f.Fuzz(func(t *testing.T, client, server []byte) {
		s := sniff(client, server)
		if s.is == isTLS && s.hello != nil {
			if facts := s.hello.facts(); len(facts.JA3) != 32 || len(facts.JA4) != 36 {
				t.Errorf("%q %q", facts.JA3, facts.JA4)
			}
		}
		label(client, server)
	})
}
