package mitm

import (
	"crypto/tls"
	"io"
	"net"
	"testing"

	"trace/flow"
)

// noTap sees nothing.
func noTap(*flow.Conn) Tap { return nil }

// BenchmarkDownload reads 64 MB through a road, without TLS and with it.
func BenchmarkDownload(b *testing.B) {
	const size = 64 << 20
	block := make([]byte, 256<<10)
	for _, v := range []struct {
		name   string
		tls    bool
		direct bool
	}{{"plain", false, false}, {"plain direct", false, true}, {"tls", true, false}, {"tls direct", true, true}} {
		b.Run(v.name, func(b *testing.B) {
			cfg := &tls.Config{Certificates: []tls.Certificate{pki(b).leaf(b, host, false, nil)}}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					if v.tls {
						c = tls.Server(c, cfg)
					}
					io.ReadFull(c, make([]byte, 8))
					for range size / len(block) {
						c.Write(block)
					}
					c.Close()
				}
			}()
			addr := l.Addr().String()
			if !v.direct {
				addr = newRoad(b, addr, func(p *Proxy) { p.Tap = noTap }).addr
			}
			b.SetBytes(size)
			for b.Loop() {
				var c net.Conn
				if v.tls {
					c, err = tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: host})
				} else {
					c, err = net.Dial("tcp", addr)
				}
				if err != nil {
					b.Fatal(err)
				}
				io.WriteString(c, "GET / HT")
				if !v.tls {
					c.(*net.TCPConn).CloseWrite()
				}
				if n, err := io.CopyBuffer(onlyWriter{io.Discard}, c, make([]byte, 256<<10)); n != size {
					b.Fatal(n, err)
				}
				c.Close()
			}
		})
	}
}

type onlyWriter struct{ io.Writer }
