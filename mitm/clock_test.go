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
	"time"

	"trace/flow"
)

// jumpingClock goes half an hour back or on between any two looks. Its times
// have no monotonic reading.
type jumpingClock struct {
	mu  sync.Mutex
	rnd *rand.Rand
}

func (j *jumpingClock) now() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return time.Now().Round(0).Add(time.Duration(j.rnd.IntN(60)-30) * time.Minute)
}

// TestClockJumps: connections are decrypted, carried and ended as ever while
// the clock jumps, and each is open before it ends.
func TestClockJumps(t *testing.T) {
	cert := pki(t).leaf(t, host, false, nil)
	addr := listen(t, func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		io.Copy(s, s)
		s.CloseWrite()
		io.Copy(io.Discard, c)
	})
	clock := &jumpingClock{rnd: rand.New(rand.NewPCG(1, 2))}
	r := newRoad(t, addr, func(p *Proxy) { p.Now = clock.now })
	for n := range 30 {
		conn, err := tls.Dial("tcp", r.addr, &tls.Config{RootCAs: rootsOf(r), ServerName: host})
		if err != nil {
			t.Fatalf("connection %d: %v", n, err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		want := bytes.Repeat(fmt.Appendf(nil, "%d ", n), 1000)
		if _, err := conn.Write(want); err != nil {
			t.Fatal(err)
		}
		conn.CloseWrite()
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("connection %d: %d bytes of %d, %v", n, len(got), len(want), err)
		}
		conn.Close()
		facts, tap := r.wait()
		if !facts.Decrypted || facts.Error != nil || facts.Opaque != "" || tap == nil || !bytes.Equal(tap.data[flow.Server].Bytes(), want) {
			t.Errorf("connection %d: recorded %+v", n, facts)
		}
	}
}
