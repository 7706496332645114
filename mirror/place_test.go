package mirror

import (
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listening reads "127.0.0.1:80", or "[::]:80 only" for a listener without IPv4.
func listening(s string) listener {
	at, only := strings.CutSuffix(s, " only")
	return listener{at: netip.MustParseAddrPort(at), v6only: only}
}

func TestWanted(t *testing.T) {
	for _, c := range []struct {
		originals       []string
		inside, outside string // where mirrors should stand
	}{
		{nil, "", ""},
		{[]string{"127.0.0.1:80", "[::1]:80", "127.0.0.2:80"}, "127.0.0.1:80 127.0.0.2:80 [::1]:80", "127.0.0.1:80 127.0.0.2:80 [::1]:80"},
		{[]string{"0.0.0.0:80"}, "0.0.0.0:80", "127.0.0.1:80"},
		{[]string{"[::]:80"}, "0.0.0.0:80 [::]:80", "127.0.0.1:80 [::1]:80"},
		{[]string{"[::]:80 only"}, "[::]:80", "[::1]:80"},
		{[]string{"[::]:80 only", "0.0.0.0:80"}, "0.0.0.0:80 [::]:80", "127.0.0.1:80 [::1]:80"},
		{[]string{"0.0.0.0:80", "127.0.0.1:80", "127.0.0.1:81"}, "0.0.0.0:80 127.0.0.1:81", "127.0.0.1:80 127.0.0.1:81"},
	} {
		var ls []listener
		for _, s := range c.originals {
			ls = append(ls, listening(s))
		}
		for on, want := range map[side]string{inside: c.inside, outside: c.outside} {
			places := slices.SortedFunc(maps.Keys(wanted(ls, on)), comparePlaces)
			var got []string
			for _, p := range places {
				got = append(got, p.String())
			}
			if s := strings.Join(got, " "); s != want {
				t.Errorf("%v: %v: %s, want %s", c.originals, on, s, want)
			}
		}
	}
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.1:81", false},
		{"127.0.0.1:80", "127.0.0.2:80", false},
		{"127.0.0.1:80", "0.0.0.0:80", true},
		{"0.0.0.0:80", "0.0.0.0:81", false},
		{"0.0.0.0:80", "[::]:80", false}, // a dual-stack listener has two places
		{"[::1]:80", "[::]:80", true},
	} {
		a, b := netip.MustParseAddrPort(c.a), netip.MustParseAddrPort(c.b)
		if overlap(a, b) != c.want || overlap(b, a) != c.want {
			t.Errorf("%s, %s: %v", c.a, c.b, !c.want)
		}
	}
}

// message makes a netlink message as the kernel answers with.
func message(seq uint32, kind uint16, body []byte) []byte {
	p := make([]byte, netlinkHeader, netlinkHeader+len(body))
	binary.NativeEndian.PutUint32(p, uint32(netlinkHeader+len(body)))
	binary.NativeEndian.PutUint16(p[4:], kind)
	binary.NativeEndian.PutUint32(p[8:], seq)
	return append(p, body...)
}

// entry makes a struct inet_diag_msg.
func entry(addr string, state byte, link uint32, attrs ...byte) []byte {
	at := netip.MustParseAddrPort(addr)
	p := make([]byte, diagMessage)
	p[0], p[1] = unix.AF_INET6, state
	if at.Addr().Is4() {
		p[0] = unix.AF_INET
	}
	binary.BigEndian.PutUint16(p[4:], at.Port())
	copy(p[8:], at.Addr().AsSlice())
	binary.NativeEndian.PutUint32(p[40:], link)
	binary.NativeEndian.PutUint32(p[68:], 4711)
	return append(p, attrs...)
}

func TestParse(t *testing.T) {
	only := []byte{5, 0, attrV6Only, 0, 1, 0, 0, 0}
	if binary.NativeEndian.Uint16([]byte{5, 0}) != 5 {
		skip(t, "written for little-endian machines")
	}
	for _, c := range []struct {
		body []byte
		want string
	}{
		{entry("127.0.0.1:80", stateListen, 0), "127.0.0.1:80"},
		{entry("[::ffff:127.0.0.1]:80", stateListen, 0), "127.0.0.1:80"},
		{entry("[::]:80", stateListen, 0), "[::]:80"},
		{entry("[::]:80", stateListen, 0, only...), "[::]:80 only"},
		{entry("[::]:80", stateListen, 0, append([]byte{4, 0, 8, 0}, only...)...), "[::]:80 only"},
		{entry("[::]:80", stateListen, 0, 99, 0, attrV6Only, 0, 1), "[::]:80"},
		{entry("127.0.0.1:80", stateListen, loopbackLink), "127.0.0.1:80"},
		{entry("0.0.0.0:80", stateListen, 2), ""}, // bound to another device
		{entry("192.0.2.1:80", stateListen, 0), ""},
		{entry("[fe80::1]:80", stateListen, 0), ""},
		{entry("127.0.0.1:80", 1, 0), ""},
		{entry("127.0.0.1:80", stateListen, 0)[:71], ""},
	} {
		l, ok := parseListener(c.body)
		got := ""
		if ok {
			got = l.at.String()
			if l.v6only {
				got += " only"
			}
			if l.inode != 4711 {
				t.Errorf("inode %d", l.inode)
			}
		}
		if got != c.want {
			t.Errorf("% x: %q, want %q", c.body, got, c.want)
		}
	}
	d := &diag{seq: 7}
	packet := slices.Concat(
		message(6, unix.SOCK_DIAG_BY_FAMILY, entry("127.0.0.1:1", stateListen, 0)), // of an earlier request
		message(7, unix.SOCK_DIAG_BY_FAMILY, entry("127.0.0.1:2", stateListen, 0)),
		message(6, unix.NLMSG_DONE, nil),
		message(7, unix.NLMSG_DONE, []byte{0, 0, 0, 0}),
	)
	if list, done, err := d.parse(packet, nil); len(list) != 1 || list[0].at.Port() != 2 || !done || err != nil {
		t.Errorf("%v, %v, %v", list, done, err)
	}
	refused := message(7, unix.NLMSG_ERROR, binary.NativeEndian.AppendUint32(nil, uint32(0x100000000-int64(unix.ENOENT))))
	if _, _, err := d.parse(refused, nil); !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v", err)
	}
	for range 100000 { // whatever is cut or changed does no harm
		p := slices.Clone(packet[:rand.IntN(len(packet)+1)])
		for range min(len(p), 3) {
			p[rand.IntN(len(p))] = byte(rand.Int())
		}
		d.parse(p, nil)
	}
}

func TestPause(t *testing.T) {
	for _, c := range []struct{ interval, quiet, cost, want time.Duration }{
		{0, 0, 0, 50 * time.Millisecond},
		{0, time.Second, time.Millisecond, 50 * time.Millisecond},
		{0, time.Minute, 0, 100 * time.Millisecond},
		{time.Second, time.Minute, 0, time.Second},
		{0, 0, 10 * time.Millisecond, 200 * time.Millisecond},
		{0, time.Minute, time.Hour, lastRetry},
	} {
		m := &Mirror{Interval: c.interval}
		if got := m.pause(c.quiet, c.cost); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestLook compares the lists with what is known to listen, in a table that
// needs more than one message.
func TestLook(t *testing.T) {
	d, err := diagHere()
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	const many = 400
	want := map[netip.AddrPort]bool{}
	for i := range many {
		l, err := listenPlain([]string{"tcp4", "tcp6"}[i%2], []string{"127.0.0.1:0", "[::1]:0"}[i%2])
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		want[addrPort(l.Addr())] = true
	}
	spare, changed, err := d.look(nil)
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	own, err := ownSockets()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range d.list {
		if want[l.at] && own[l.inode] {
			delete(want, l.at)
		}
	}
	if len(want) > 0 {
		t.Errorf("%d of %d listeners not found", len(want), many)
	}
	if d.whole {
		t.Error("hundreds of listeners fit into one message")
	}
	eventually(t, "the same again", func() bool { // others come and go on this machine
		spare, changed, err = d.look(spare)
		return err == nil && !changed
	})
}
