package pcap

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A client makes the segments of one connection.
type client struct {
	version int
	port    byte
	random  byte
}

func (c client) segment(data string) []byte {
	p, at, _, _ := packet(c.version, header.TCPProtocolNumber, []byte(data))
	p[at-tcpSum+1] = c.port // of the source
	p[at-tcpSum+12] = 5 << 4
	return p
}

func (c client) hello() []byte {
	body := "\x01\x00\x00\x64\x03\x03" + strings.Repeat(string(rune(c.random)), 32) + strings.Repeat("e", 66)
	return c.segment("\x16\x03\x01\x00" + string(rune(len(body))) + body)
}

func (c client) line() string {
	return fmt.Sprintf("CLIENT_RANDOM %s %s\n", strings.Repeat(fmt.Sprintf("%02x", c.random), 32), strings.Repeat("00", 48))
}

const (
	keyExchange  = "\x16\x03\x03\x00\x05\x10\x00\x00\x01k"
	changeCipher = "\x14\x03\x03\x00\x01\x01"
	finished     = "\x16\x03\x03\x00\x08encrypte"
)

func TestLacks(t *testing.T) {
	for _, version := range []int{4, 6} {
		for _, flight := range []string{keyExchange + changeCipher + finished, changeCipher, changeCipher + "\x17\x03\x03\x00\x01e"} {
			var h handshakes
			c, other := client{version, 1, 'a'}, client{version, 2, 'b'}
			if h.lacks(c.segment(flight)) {
				t.Error("a connection whose beginning nobody saw is waited for")
			}
			if h.lacks(c.hello()) || h.lacks(c.segment(keyExchange)) || h.lacks(c.segment("\x17\x03\x03\x00\x05hello")) {
				t.Errorf("version %d: packets are waited for that need no secret", version)
			}
			for range 2 {
				if !h.lacks(c.segment(flight)) {
					t.Errorf("version %d, % x: before any secret", version, flight)
				}
			}
			h.learn([]byte("# comment\nCLIENT_RANDOM 00 11\n\nX Y Z\n" + other.line()))
			if !h.lacks(c.segment(flight)) || h.lacks(other.segment(flight)) {
				t.Errorf("version %d, % x: with the other's secret", version, flight)
			}
			h.learn([]byte(c.line()))
			for range 2 {
				if h.lacks(c.segment(flight)) {
					t.Errorf("version %d, % x: with the secret", version, flight)
				}
			}
		}
	}
}

// TestAwaitSecret: a packet waits for the secret that it needs, not for ever,
// and the packets keep their order.
func TestAwaitSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out tape
		w := record(t, &out)
		slow, never := client{4, 1, 'a'}, client{6, 2, 'b'}
		count := func() int {
			synctest.Wait()
			return len(out.parsed(t).items)
		}
		w.Packet(false, slow.hello())
		w.Packet(false, slow.segment(changeCipher+finished))
		w.Packet(false, []byte("after"))
		time.Sleep(secretWait / 2)
		if n := count(); n != 1 {
			t.Errorf("%d items without the secret", n)
		}
		io.WriteString(w.KeyLog(), slow.line())
		if n := count(); n != 4 {
			t.Errorf("%d items with the secret", n)
		}
		w.Packet(false, never.hello())
		w.Packet(false, never.segment(changeCipher))
		w.Packet(false, []byte("after"))
		time.Sleep(secretWait - time.Millisecond)
		if n := count(); n != 5 {
			t.Errorf("%d items while the next waits", n)
		}
		time.Sleep(delay)
		if n := count(); n != 7 {
			t.Errorf("%d items after it has waited", n)
		}
		w.Packet(false, never.hello())
		w.Packet(false, never.segment(changeCipher))
		if _, err := w.Close(); err != nil {
			t.Error(err)
		}
		items := out.parsed(t).items
		if len(items) != 9 || items[1].secrets != slow.line() || !bytes.Equal(items[2].data[40:46], []byte(changeCipher)) {
			t.Errorf("%d items: %+v", len(items), items)
		}
	})
}

// TestRecent: old entries go, young ones stay.
func TestRecent(t *testing.T) {
	var m recent[int, int]
	for i := range 10 * maxHandshakes {
		m.put(i, i)
		if v, ok := m.get(i - min(i, maxHandshakes-1)); !ok || v != i-min(i, maxHandshakes-1) {
			t.Fatalf("%d is forgotten at %d", v, i)
		}
	}
	if n := len(m.young) + len(m.old); n > 2*maxHandshakes {
		t.Errorf("%d entries", n)
	}
	m.drop(10*maxHandshakes - 1)
	if _, ok := m.get(10*maxHandshakes - 1); ok {
		t.Error("a dropped entry is there")
	}
}

// FuzzLacks: no packet and no key log is too odd.
func FuzzLacks(f *testing.F) {
	c := client{4, 1, 'a'}
	f.Add(c.hello(), c.segment(keyExchange+changeCipher+finished), []byte(c.line()))
	f.Fuzz(func(t *testing.T, a, b, lines []byte) {
		var h handshakes
		h.lacks(a)
		h.lacks(b)
		h.learn(lines)
		h.lacks(b)
	})
}
