package datagram_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"trace/datagram"
	"trace/flow"
)

const (
	child4 = "198.19.255.2:40000"
	child6 = "[2001:db8:19::2]:40000"
)

// TestCarry: datagrams of all sizes come back, and the record has what passed.
func TestCarry(t *testing.T) {
	for _, c := range []struct{ host, child string }{{"127.0.0.1", child4}, {"::1", child6}} {
		r, rec := newRelay(t, nil)
		d := newSent(c.child, serve(t, c.host, same), nil)
		total, sums := int64(0), [][32]byte{}
		for _, n := range []int{0, 1, 1400, 9000, 60000, 65507} {
			p := bytes.Repeat([]byte{byte(n)}, n)
			if !r.Take(d.again(p)) {
				t.Fatal("not taken")
			}
			if got := get(t, d.replies, "answer"); !bytes.Equal(got, p) {
				t.Errorf("%s: %d bytes came back as %d", c.host, n, len(got))
			}
			total += int64(n)
			sums = append(sums, sha256.Sum256(p))
		}
		r.Close()
		messages := rec.of(flow.Message)
		for i, e := range messages[:2*len(sums)-2] { // the last two are beyond what is kept
			if e.Side != flow.Side(i%2) || !e.HasSum || e.SHA256 != sums[i/2] || int64(len(e.Data)) > e.Size {
				t.Errorf("%s: message %d: side %v, size %d, kept %d, sum %x", c.host, i, e.Side, e.Size, len(e.Data), e.SHA256)
			}
		}
		size := [2]int64{}
		for _, e := range messages {
			size[e.Side] += e.Size
		}
		opens, ends := rec.of(flow.ConnOpen), rec.of(flow.ConnEnd)
		if len(opens) != 1 || len(ends) != 1 || len(rec.of(flow.End)) != 1 || rec.of(flow.End)[0].Error != nil {
			t.Fatalf("%s: %d opened, %d ended, %v", c.host, len(opens), len(ends), rec.of(flow.End))
		}
		f := ends[0].Facts
		if f.Sent != total || f.Received != total || size != [2]int64{total, total} || f.Transport != "udp" || f.Src != d.src || f.Dst != d.dst {
			t.Errorf("%s: %+v, messages of %v, want %d", c.host, f, size, total)
		}
		if s := r.Stats(); s.Sent != 6 || s.Received != 6 || s.Dropped != 0 || s.Refused != 0 || s.Open != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// TestOrder: datagrams arrive in the order of their sending.
func TestOrder(t *testing.T) {
	const n = 400
	var mu sync.Mutex
	var got []uint32
	addr := serve(t, "127.0.0.1", func(p []byte, _ netip.AddrPort) []byte {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, binary.BigEndian.Uint32(p))
		return nil
	})
	r, _ := newRelay(t, nil)
	for i := range uint32(n) {
		if !r.Take(newSent(child4, addr, binary.BigEndian.AppendUint32(nil, i))) {
			t.Fatal("not taken")
		}
	}
	r.Close() // sends what is queued
	until(t, "all datagrams", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == n })
	for i, v := range got {
		if v != uint32(i) {
			t.Fatalf("%d came as number %d", v, i)
		}
	}
	if r.Take(newSent(child4, addr, nil)) {
		t.Error("a closed relay takes datagrams")
	}
}

// TestPort: one port of the child is one port of the host.
func TestPort(t *testing.T) {
	ports := make(chan uint16, 10)
	note := func(p []byte, from netip.AddrPort) []byte { ports <- from.Port(); return p }
	r, _ := newRelay(t, nil)
	seen := map[uint16]int{}
	for range 3 {
		d := newSent(child4, serve(t, "127.0.0.1", note), []byte("x"))
		r.Take(d)
		get(t, d.replies, "answer")
		seen[get(t, ports, "port")]++
	}
	other := newSent("198.19.255.2:40001", serve(t, "127.0.0.1", note), []byte("x"))
	r.Take(other)
	get(t, other.replies, "answer")
	if p := get(t, ports, "port"); len(seen) != 1 || seen[p] != 0 {
		t.Errorf("talks of one source came from %v, one of another from %d", seen, p)
	}
}

// TestRefused: an ICMP error comes back as it was, each time, and is recorded
// once.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		host, child string
		typ, code   uint8
	}{{"127.0.0.1", child4, 3, 3}, {"::1", child6, 1, 4}} {
		r, rec := newRelay(t, nil)
		d := newSent(c.child, closedPort(t, c.host), []byte("hello"))
		for range 20 {
			r.Take(d.again([]byte("hello")))
			if got, want := get(t, d.failed, "error"), (failure{netip.MustParseAddr(c.host), c.typ, c.code}); got != want {
				t.Errorf("failed with %v, want %v", got, want)
			}
		}
		r.Close()
		ends := rec.of(flow.End)
		if len(ends) != 1 || ends[0].Error == nil || ends[0].Error.Code != flow.CodeRefused || ends[0].Error.Where != flow.AtUpstream {
			t.Errorf("%+v", ends)
		}
	}
}

// TestRules: what is refused without being sent leaves one row.
func TestRules(t *testing.T) {
	const n = 5000
	lent := netip.MustParseAddr("198.18.0.9")
	for _, c := range []struct{ dst, code string }{{"203.0.113.7:443", datagram.CodeQUIC}, {"198.18.0.9:5000", datagram.CodeLent}} {
		pids := 0
		r, rec := newRelay(t, func(r *datagram.Relay) {
			r.Name = func(a netip.Addr) (string, bool) { return "name.example", a == lent }
			r.Socket = func(int, int, int) (int, error) { t.Error("a socket was made"); return -1, syscall.EPERM }
			r.Process = func(src, _ netip.AddrPort, _ string) *flow.Process {
				pids++ // two programs, each with many sockets
				return &flow.Process{PID: 7 + int(src.Port()%2)}
			}
		})
		taken := 0
		for i := range n {
			d := newSent(fmt.Sprintf("198.19.255.2:%d", 2000+i), c.dst, []byte("x"))
			if r.Take(d) {
				taken++
				if i == 0 {
					if err := get(t, d.refused, "refusal"); !errors.Is(err, syscall.ECONNREFUSED) {
						t.Errorf("refused with %v", err)
					}
				}
			}
		}
		r.Close()
		opens, ends, marks := rec.of(flow.ConnOpen), rec.of(flow.End), rec.of(flow.Mark)
		if len(opens) != 2 || len(ends) != 2 || len(marks) != 2 || opens[0].Facts.Host != "name.example" {
			t.Fatalf("%s: %d rows, %d ends, %d marks", c.dst, len(opens), len(ends), len(marks))
		}
		if e := ends[0].Error; e == nil || e.Code != c.code || e.Where != flow.AtCapture {
			t.Errorf("%s: %+v", c.dst, e)
		}
		if s := r.Stats(); s.Refused != n || s.Sent != 0 {
			t.Errorf("%s: %+v, %d taken, %d lookups", c.dst, s, taken, pids)
		}
	}
}

// TestNobody: destinations that no conversation can have.
func TestNobody(t *testing.T) {
	r, rec := newRelay(t, nil)
	for _, dst := range []string{"224.0.0.251:5353", "255.255.255.255:67", "0.0.0.0:9", "[ff02::fb]:5353", "[::]:9", "192.0.2.1:0"} {
		if r.Take(newSent(child4, dst, []byte("x"))) {
			t.Errorf("%s was taken", dst)
		}
	}
	if s := r.Stats(); s.Refused != 6 || len(rec.of(flow.ConnOpen)) != 0 {
		t.Errorf("%+v", s)
	}
}

// TestSilence: a talk ends, and the next datagram begins another.
func TestSilence(t *testing.T) {
	r, rec := newRelay(t, func(r *datagram.Relay) { r.Idle = 30 * time.Millisecond })
	addr := serve(t, "127.0.0.1", same)
	for i := range 3 {
		d := newSent(child4, addr, []byte("x"))
		r.Take(d)
		get(t, d.replies, "answer")
		until(t, "the end", func() bool { return len(rec.of(flow.ConnEnd)) == i+1 })
	}
	if s := r.Stats(); s.Talks != 3 || s.Open != 0 {
		t.Errorf("%+v", s)
	}
}

// TestNoSocket: what the host's network refuses, the child hears.
func TestNoSocket(t *testing.T) {
	r, rec := newRelay(t, func(r *datagram.Relay) {
		r.Socket = func(int, int, int) (int, error) { return -1, syscall.EMFILE }
	})
	d := newSent(child4, "192.0.2.1:9", []byte("x"))
	for range 3 {
		r.Take(d.again([]byte("x")))
		if err := get(t, d.refused, "refusal"); !errors.Is(err, syscall.EMFILE) {
			t.Error(err)
		}
	}
	r.Close()
	if ends := rec.of(flow.End); len(ends) != 1 || ends[0].Error == nil || ends[0].Error.Code != flow.CodeLimit {
		t.Errorf("%+v", ends)
	}
}

// TestQuery: name queries to a server of the child's choice are recorded as
// such too, in whichever order they are answered.
func TestQuery(t *testing.T) {
	pack := func(id uint16, name string, typ dnsmessage.Type, answer bool) []byte {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, Response: answer}}
		n := dnsmessage.MustNewName(name)
		m.Questions = []dnsmessage.Question{{Name: n, Type: typ, Class: dnsmessage.ClassINET}}
		if answer {
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: n, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 5}}}}
		}
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	rec := &record{}
	q := datagram.NewQueries(rec.add)
	q.Message(flow.Client, pack(1, "one.example.", dnsmessage.TypeA, false))
	q.Message(flow.Client, pack(1, "one.example.", dnsmessage.TypeA, false)) // again
	q.Message(flow.Client, pack(2, "two.example.", 65, false))
	q.Message(flow.Client, []byte("garbage"))
	q.Message(flow.Server, []byte("garbage"))
	q.Message(flow.Server, pack(2, "other.example.", 65, true)) // not asked
	q.Message(flow.Server, pack(1, "ONE.example.", dnsmessage.TypeA, true))
	q.End()
	all := rec.of(flow.Query)
	if len(all) != 2 {
		t.Fatalf("%d queries", len(all))
	}
	if d := all[0].DNS; d.Name != "one.example" || d.Type != "A" || d.Rcode != "NOERROR" || strings.Join(d.Answers, ",") != "192.0.2.5" || all[0].Error != nil || all[0].Flow != 2 {
		t.Errorf("%+v", d)
	}
	if d := all[1].DNS; d.Name != "two.example" || d.Type != "HTTPS" || all[1].Error == nil || all[1].Error.Code != flow.CodeTimeout || all[1].Flow != 3 {
		t.Errorf("%+v", d)
	}
}
