package mitm

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"trace/flow"
)

// part is what one end of a chaotic connection does: it sends all of data but
// stops at some byte in some way.
type part struct {
	data []byte
	stop int // bytes that are sent
	how  int // 0 close_notify, 1 FIN, 2 RST
	seed uint64
}

// play plays a part and returns what was read. The other end may reset us at any time.
func (p part) play(raw *net.TCPConn, c halfCloser) []byte {
	var wg sync.WaitGroup
	wg.Go(func() {
		if split(c, p.data[:p.stop], p.seed) != nil {
			return
		}
		switch p.how {
		case 0:
			c.CloseWrite()
		case 1:
			raw.CloseWrite()
		case 2:
			drain(raw)
			raw.SetLinger(0)
			raw.Close()
		}
	})
	var got bytes.Buffer
	io.Copy(&got, c)
	wg.Wait()
	return got.Bytes()
}

// TestChaos: whatever the two ends do to each other, what is read is a
// beginning of what was sent, the tap saw it, and all of it where nobody reset.
func TestChaos(t *testing.T) {
	cert := pki(t).leaf(t, host, false, nil)
	for i := range 60 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(uint64(i), 3))
			random := func() part {
				p := part{data: noise(r.Uint64(), r.IntN(1<<r.IntN(22))), how: r.IntN(3), seed: r.Uint64()}
				p.stop = r.IntN(len(p.data) + 1)
				return p
			}
			secure := i%3 > 0
			client, server := random(), random()
			read := make(chan []byte, 1)
			road := newRoad(t, listen(t, func(c net.Conn) {
				raw := c.(*net.TCPConn)
				conn := halfCloser(raw)
				if secure {
					s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
					s.Handshake()
					conn = s
				}
				read <- server.play(raw, conn)
			}), nil)
			c, err := net.Dial("tcp", road.addr)
			if err != nil && server.how == 2 && !secure {
				<-read // it was quicker than our connect
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			raw := c.(*net.TCPConn)
			conn := halfCloser(raw)
			if secure {
				s := tls.Client(c, &tls.Config{ServerName: host, RootCAs: rootsOf(road)})
				if err := s.Handshake(); err != nil {
					t.Fatal(err)
				}
				conn = s
			}
			got := client.play(raw, conn)
			c.Close()
			atServer := <-read
			_, tap := road.wait()
			var seen [2][]byte
			if tap != nil {
				seen[0], seen[1] = tap.data[0].Bytes(), tap.data[1].Bytes()
			}
			calm := client.how != 2 && server.how != 2
			for side, x := range [2]struct{ sent, read []byte }{{client.data[:client.stop], atServer}, {server.data[:server.stop], got}} {
				if !bytes.HasPrefix(x.sent, x.read) || !bytes.HasPrefix(x.sent, seen[side]) {
					t.Errorf("%v: bytes changed", flow.Side(side))
				}
				if calm && (len(x.read) != len(x.sent) || tap != nil && len(seen[side]) != len(x.sent)) {
					t.Errorf("%v: sent %d, read %d, tapped %d", flow.Side(side), len(x.sent), len(x.read), len(seen[side]))
				}
			}
		})
	}
}
