package pcap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A tape is a file in memory. It takes what it is given, or waits, or fails.
type tape struct {
	mu    sync.Mutex
	bytes []byte
	space int           // beyond which the disk is full; 0: no limit
	stuck chan struct{} // writes wait for it; nil: they do not
}

func (t *tape) Write(p []byte) (int, error) {
	t.mu.Lock()
	stuck := t.stuck
	t.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if t.space > 0 && len(t.bytes)+n > t.space {
		n = t.space - len(t.bytes)
		t.bytes = append(t.bytes, p[:n]...)
		return n, syscall.ENOSPC
	}
	t.bytes = append(t.bytes, p...)
	return n, nil
}

func (t *tape) Truncate(n int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes = t.bytes[:n]
	return nil
}

func (t *tape) Name() string                     { return "tape" }
func (t *tape) Close() error                     { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

func (t *tape) parsed(tb testing.TB) parsed {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	p, rest, err := parse(t.bytes)
	if err != nil || len(rest) > 0 {
		tb.Fatalf("%v, %d bytes of a block at the end", err, len(rest))
	}
	return p
}

func record(tb testing.TB, t *tape) *Writer {
	tb.Helper()
	w, err := start(t, Options{Application: "test", Interface: "child"}, time.Now)
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

// TestBytes: the file is what the draft says, byte by byte.
func TestBytes(t *testing.T) {
	at := time.Unix(0, 0x0102030405060708)
	var b []byte
	b = appendHeader(b, Options{Application: "ab", Interface: "child"})
	b = appendSecrets(b, []byte("X 1 2\n"))
	b = appendPacket(b, at, true, 3, 5, [][]byte{{0x45, 1}, {2, 3, 4}})
	b = appendPacket(b, at, false, 0, 4, [][]byte{{0x60, 9, 9, 9}})
	b = appendStatistics(b, at, at, 7, 4)
	want := strings.Join(strings.Fields(`
		0a0d0d0a 28000000 4d3c2b1a 0100 0000 ffffffffffffffff 0400 0200 61620000 0000 0000 28000000
		01000000 2c000000 6500 0000 00000000 0200 0500 6368696c64000000 0900 0100 09000000 0000 0000 2c000000
		0a000000 1c000000 4b534c54 06000000 5820312032 0a0000 1c000000
		06000000 40000000 00000000 04030201 08070605 05000000 05000000 4501020304000000 0200 0400 01000000 0400 0800 0300000000000000 0000 0000 40000000
		06000000 30000000 00000000 04030201 08070605 04000000 04000000 60090909 0200 0400 02000000 0000 0000 30000000
		05000000 58000000 00000000 04030201 08070605 0200 0800 0403020108070605 0300 0800 0403020108070605
		0400 0800 0700000000000000 0500 0800 0300000000000000 0800 0800 0400000000000000 0000 0000 58000000`), "")
	if got := fmt.Sprintf("%x", b); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	if n := packetSize(5, 3); n != 0x40 {
		t.Errorf("size %#x", n)
	}
	if n := packetSize(4, 0); n != 0x30 {
		t.Errorf("size %#x", n)
	}
}

// TestRoundTrip: what was handed over can be read, in its order.
func TestRoundTrip(t *testing.T) {
	var out tape
	w := record(t, &out)
	before := time.Now()
	var want [][]byte
	for i := range 3000 {
		p := bytes.Repeat([]byte{byte(i)}, 1+i*7%5000)
		want = append(want, p)
		w.Packet(i%2 == 0, p[:len(p)/2], nil, p[len(p)/2:])
	}
	w.Packet(true)
	sum, err := w.Close()
	if err != nil || sum != (Summary{Written: 3000}) {
		t.Fatalf("%+v, %v", sum, err)
	}
	w.Packet(true, want[1])
	io.WriteString(w.KeyLog(), "too late\n")
	p := out.parsed(t)
	if p.section[4] != "test" || p.name != "child" || p.link != 101 || !p.ended || p.received != 3000 || p.dropped != 0 {
		t.Errorf("%+v", p)
	}
	got := p.packets()
	if len(got) != len(want) || len(p.items) != len(want) {
		t.Fatalf("%d packets of %d", len(got), len(want))
	}
	last := before
	for i, it := range got {
		if !bytes.Equal(it.data, want[i]) || it.flags != uint32(1+i%2) || it.at.Before(last) || it.drops != 0 {
			t.Fatalf("packet %d: %d bytes, flags %d, at %v after %v", i, len(it.data), it.flags, it.at, last)
		}
		last = it.at
	}
}

// TestSecretsFirst: a secret stands before packets that came somewhat
// earlier, and before all that come later, also in a queue under pressure.
func TestSecretsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out tape
		w := record(t, &out)
		for i := range 100 {
			w.Packet(false, fmt.Appendf(nil, "needs %d", i))
			time.Sleep(settle * 9 / 10) // a slow handshake
			line := fmt.Sprintf("SECRET %d\n", i)
			io.WriteString(w.KeyLog(), line[:3])
			io.WriteString(w.KeyLog(), line[3:])
			if i%2 == 0 {
				time.Sleep(delay)
			}
		}
		io.WriteString(w.KeyLog(), "SECRET without end")
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
		seen, n := "", 0
		for _, it := range out.parsed(t).items {
			if seen += it.secrets; it.data == nil {
				continue
			}
			if !strings.Contains(seen, fmt.Sprintf("SECRET %d\n", n)) || string(it.data) != fmt.Sprintf("needs %d", n) {
				t.Fatalf("packet %d, %q, follows %q", n, it.data, seen)
			}
			n++
		}
		if n != 100 || !strings.HasSuffix(seen, "SECRET without end") {
			t.Errorf("%d packets; secrets end with %q", n, seen[max(0, len(seen)-20):])
		}
	})
}

// TestLive: each packet is in the file soon, whether or not more follow, and
// whole blocks only.
func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out tape
		w := record(t, &out)
		for i := range 200 {
			w.Packet(true, []byte("packet"))
			if i%20 == 0 {
				time.Sleep(delay)
				synctest.Wait()
				if n := len(out.parsed(t).items); n != i+1 {
					t.Fatalf("after %d packets and %v there are %d in the file", i+1, delay, n)
				}
			}
			time.Sleep(7 * time.Millisecond)
			synctest.Wait()
			if n := len(out.parsed(t).items); i-n > int(delay/(7*time.Millisecond))+1 {
				t.Fatalf("after %d packets there are %d in the file", i+1, n)
			}
		}
		w.Close()
	})
}

// TestClockBack: packets do not wait for a clock that was set back.
func TestClockBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var shift time.Duration
		var out tape
		w, err := start(&out, Options{}, func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(shift)
		})
		if err != nil {
			t.Fatal(err)
		}
		w.Packet(true, []byte("before"))
		mu.Lock()
		shift = -time.Hour
		mu.Unlock()
		w.Packet(true, []byte("after"))
		time.Sleep(2 * delay)
		synctest.Wait()
		if n := len(out.parsed(t).items); n != 2 {
			t.Errorf("%d packets are in the file", n)
		}
		w.Close()
	})
}

// TestDrops: a file that is too slow costs packets, and the next one says how
// many. Secrets it never costs.
func TestDrops(t *testing.T) {
	const limit = 8 << 20
	const sent = 2 * limit / 60000
	out := tape{}
	w := record(t, &out)
	w.limit = limit
	stuck := make(chan struct{})
	out.mu.Lock()
	out.stuck = stuck
	out.mu.Unlock()
	big := make([]byte, 60000)
	start := time.Now()
	for range sent {
		w.Packet(true, big)
		io.WriteString(w.KeyLog(), "SECRET\n")
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("handing over took %v", took)
	}
	close(stuck)
	awaitRoom(w)
	w.Packet(true, []byte("last"))
	sum, err := w.Close()
	if err != nil || sum.Written+sum.Dropped != sent+1 || sum.Dropped < sent/3 || sum.Dropped > sent*2/3 {
		t.Fatalf("%d sent, %+v, %v", sent+1, sum, err)
	}
	p := out.parsed(t)
	got := p.packets()
	if n := uint64(len(got)); n != sum.Written || p.received != sent+1 || p.dropped != sum.Dropped || got[n-1].drops != sum.Dropped {
		t.Errorf("%d packets in the file, %d dropped, %d of them by the last; %+v", n, p.dropped, got[n-1].drops, sum)
	}
	secrets := 0
	for _, it := range p.items {
		secrets += strings.Count(it.secrets, "SECRET\n")
	}
	if secrets != sent {
		t.Errorf("%d secrets of %d", secrets, sent)
	}
}

// TestPressure: as long as the file is fast enough no packet is dropped, however
// many come before the first may be written for its age.
func TestPressure(t *testing.T) {
	var out sink
	w, err := start(&out, Options{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	w.limit = 4 * pressure
	big := make([]byte, 1500)
	for i := range 4 * w.limit / 1500 {
		w.Packet(i%2 == 0, big)
		if i%1000 == 999 { // as fast as the file, about
			awaitRoom(w)
		}
	}
	if sum, err := w.Close(); err != nil || sum.Dropped > 0 {
		t.Errorf("%+v, %v", sum, err)
	}
}

// TestFull: a full disk ends the capture behind the last whole block, once.
func TestFull(t *testing.T) {
	synctest.Test(t, testFull)
	if _, err := start(&tape{space: 10}, Options{}, time.Now); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("no room for the header: %v", err)
	}
}

func testFull(t *testing.T) {
	out := tape{space: 100000}
	w := record(t, &out)
	for range 5 {
		for range 30 {
			w.Packet(true, make([]byte, 1000))
		}
		io.WriteString(w.KeyLog(), "SECRET\n")
		time.Sleep(delay + delay/5)
	}
	sum, err := w.Close()
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "tape") || sum.Written+sum.Dropped != 150 || sum.Written == 0 || sum.Dropped == 0 {
		t.Errorf("%+v, %v", sum, err)
	}
	if p := out.parsed(t); p.ended || uint64(len(p.packets())) != sum.Written {
		t.Errorf("%d packets, statistics %v; %+v", len(p.packets()), p.ended, sum)
	}
	if again, err2 := w.Close(); again != sum || err2 == nil || err2.Error() != err.Error() {
		t.Errorf("again: %+v, %v", again, err2)
	}
}

// TestSecretsLimit: when not even secrets can be written, the capture ends.
func TestSecretsLimit(t *testing.T) {
	out := tape{}
	w := record(t, &out)
	stuck := make(chan struct{})
	out.mu.Lock()
	out.stuck = stuck
	out.mu.Unlock()
	line := strings.Repeat("s", 1<<20-1) + "\n"
	for range 2*secretsLimit>>20 + 1 {
		w.Packet(true, []byte("packet"))
		io.WriteString(w.KeyLog(), line)
	}
	close(stuck)
	if sum, err := w.Close(); !errors.Is(err, errSecrets) || sum.Dropped == 0 {
		t.Errorf("%+v, %v", sum, err)
	}
	if p := out.parsed(t); p.ended {
		t.Error("the file ends as if nothing had happened")
	}
}

// TestCreate: a new file is its owner's; anything that is there is refused.
func TestCreate(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "new")
	old := syscall.Umask(0)
	w, err := Create(name, Options{})
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := w.Close(); err != nil || sum != (Summary{}) {
		t.Errorf("%+v, %v", sum, err)
	}
	st, err := os.Stat(name)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	link, dangling := filepath.Join(dir, "link"), filepath.Join(dir, "dangling")
	os.Symlink(name, link)
	os.Symlink(filepath.Join(dir, "elsewhere"), dangling)
	for _, there := range []string{name, link, dangling, dir, "/dev/null", filepath.Join(dir, "no", "such")} {
		if w, err := Create(there, Options{}); err == nil || !strings.Contains(err.Error(), there) {
			t.Errorf("%s: %v", there, err)
			w.Close()
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("a symbolic link was followed")
	}
}
