package datagram_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"trace/datagram"
	"trace/flow"
)

// heap is how much is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestFloodPorts sends to 10 000 ports: those beyond the limit are refused,
// and said to be.
func TestFloodPorts(t *testing.T) {
	const n, limit = 10000, 200
	r, rec := newRelay(t, func(r *datagram.Relay) { r.MaxTalks = limit })
	addr := netip.MustParseAddrPort(closedPort(t, "127.0.0.1")).Addr()
	first := newSent(child4, netip.AddrPortFrom(addr, 9).String(), []byte("x"))
	for i := range n {
		d := newSent(fmt.Sprintf("198.19.255.2:%d", 1024+i), netip.AddrPortFrom(addr, uint16(1024+i)).String(), []byte("x"))
		d.refused, d.failed = first.refused, first.failed
		r.Take(d)
		if s := r.Stats(); s.Open > limit+1 {
			t.Fatalf("%+v", s)
		}
	}
	r.Close()
	s := r.Stats()
	if opens := len(rec.of(flow.ConnOpen)); uint64(opens) != s.Talks || s.Talks != limit+1+s.Evicted || s.Sent > limit+s.Evicted || s.Refused+s.Sent+s.Dropped < n {
		t.Errorf("%d rows, %+v", opens, s)
	}
	said := false
	for _, e := range rec.of(flow.Mark) {
		said = said || e.Error.Code == flow.CodeLimit && strings.HasPrefix(e.Error.Message, fmt.Sprint(s.Refused))
	}
	if !said {
		t.Errorf("no row says how many were refused: %+v", rec.of(flow.Mark))
	}
}

// TestRoom: talks that are silent make room, latest used last.
func TestRoom(t *testing.T) {
	r, rec := newRelay(t, func(r *datagram.Relay) { r.MaxTalks = 2 })
	addr := serve(t, "127.0.0.1", same)
	send := func(port int) *sent {
		d := newSent(fmt.Sprintf("198.19.255.2:%d", port), addr, []byte("x"))
		r.Take(d)
		return d
	}
	get(t, send(1).replies, "answer")
	get(t, send(2).replies, "answer")
	get(t, send(3).refused, "refusal")
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < 2300*time.Millisecond; <-tick.C {
		get(t, send(1).replies, "answer") // stays in use
	}
	get(t, send(4).replies, "answer") // instead of 2
	get(t, send(1).replies, "answer")
	if s := r.Stats(); s.Evicted != 1 || s.Open != 3 { // with the one that refuses
		t.Errorf("%+v", s)
	}
	until(t, "the end of the second", func() bool {
		ends := rec.of(flow.ConnEnd)
		return len(ends) == 1 && ends[0].Facts.Src.Port() == 2
	})
}

// TestFloodPackets sends 100 000 datagrams while the record is stuck: what
// waits is bounded, what is lost is counted, and Take never waits: else it would for ever.
func TestFloodPackets(t *testing.T) {
	const n, size = 100000, 1400
	var got atomic.Int64
	addr := serve(t, "127.0.0.1", func([]byte, netip.AddrPort) []byte { got.Add(1); return nil })
	stuck := make(chan struct{})
	rec := &record{}
	r, _ := newRelay(t, func(r *datagram.Relay) {
		r.Record = func(e flow.Event) {
			<-stuck
			rec.add(e)
		}
	})
	before, start := heap(), time.Now()
	for i := range n {
		d := &sent{src: netip.AddrPortFrom(netip.MustParseAddr("198.19.255.2"), uint16(1000+i%100)), dst: netip.MustParseAddrPort(addr), ttl: 64, payload: make([]byte, size)}
		if !r.Take(d) {
			t.Fatal("not taken")
		}
	}
	took, held := time.Since(start), heap()-before
	close(stuck)
	r.Close()
	s := r.Stats()
	t.Logf("%d datagrams taken in %v, %d MB held, %d dropped", n, took, held>>20, s.Dropped)
	if held > 64<<20 || s.Sent+s.Dropped != n || s.Dropped == 0 {
		t.Errorf("%d bytes held, %v, %+v", held, took, s)
	}
	marks := 0
	for _, e := range rec.of(flow.Mark) {
		if strings.Contains(e.Error.Message, "dropped") {
			marks++
		}
	}
	if marks == 0 {
		t.Error("no row says what was dropped")
	}
	until(t, "something to arrive", func() bool { return got.Load() > 0 })
}

func BenchmarkCarry(b *testing.B) {
	t := &testing.T{}
	r, _ := newRelay(t, func(r *datagram.Relay) { r.Record = func(flow.Event) {} })
	defer r.Close()
	addr := serve(t, "127.0.0.1", same)
	d := newSent(child4, addr, nil)
	p := make([]byte, 1200)
	b.ReportAllocs()
	for b.Loop() {
		r.Take(d.again(p))
		<-d.replies
	}
}
