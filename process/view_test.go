package process

import (
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestNewcomers: what is remembered may be wrong in every way, and only costs time.
func TestNewcomers(t *testing.T) {
	w := newCrowd(t, 3, 20)
	for name, spoil := range map[string]func(v *view){
		"as it is":            func(*view) {},
		"numbers wrapped":     func(v *view) { v.last = 1 << 22 },
		"many numbers":        func(v *view) { v.last = max(1, v.last-rangeLimit-1) },
		"all forgotten":       func(v *view) { v.known, v.pids = nil, map[int]*candidate{} },
		"other numbers":       func(v *view) { eachKnown(v, func(c *candidate) { c.open, c.recent = nil, []int{1, 2} }) },
		"other doors":         func(v *view) { eachKnown(v, func(c *candidate) { c.door = closed }) },
		"information instead": func(v *view) { eachKnown(v, func(c *candidate) { c.door = infos }) },
		"numbers used again": func(v *view) {
			eachKnown(v, func(c *candidate) { c.base, c.open, c.size = procPath(os.Getpid()), make([]bool, 1000), 7 })
		},
		"strays": func(v *view) {
			v.strays = 7
			eachKnown(v, func(c *candidate) { c.look, c.asked, c.recent = 0, false, nil })
		},
	} {
		w.poke()
		p := w.next()
		w.finder.once.Do(w.finder.init)
		spoil(&w.finder.view)
		got := w.find(p)
		if memberPort(got.PID) != p.dst.Port() || !slices.Equal(got.Parents, []int{w.ns.PID()}) || got.Argv[1] != "20" {
			t.Errorf("%s: %v: %+v", name, p.dst, got)
		}
		w.refuse(p)
		w.hear("refused")
	}
}

func eachKnown(v *view, f func(c *candidate)) {
	for _, c := range v.known {
		f(c)
	}
}

// TestLimits: what is remembered is bounded.
func TestLimits(t *testing.T) {
	v := newView(os.Getpid(), 0, 0)
	for pid := range 3 * knownLimit {
		v.add(pid + 1<<23)
	}
	if len(v.known) != knownLimit || len(v.pids) != knownLimit {
		t.Errorf("%d, %d known", len(v.known), len(v.pids))
	}
	v.sweep()
	if len(v.known) != 0 || len(v.pids) != 0 {
		t.Errorf("%d, %d known of which none lives", len(v.known), len(v.pids))
	}
	c := v.add(os.Getpid())
	for i := range 3 * seenLimit {
		v.remember(uint64(i), holder{c, i, 0})
		c.use(i)
	}
	if len(v.seen) > seenLimit || len(c.open) != openLimit {
		t.Errorf("%d seen, %d open", len(v.seen), len(c.open))
	}
	for i := range 10 {
		v.prefer(holder{c, i, 0})
	}
	if len(c.recent) != recentLimit || c.recent[0] != 9 {
		t.Error(c.recent)
	}
}

// TestTurn: a lookup does not wait for long.
func TestTurn(t *testing.T) {
	w := newWorld(t, "connect", "tcp", "192.0.2.1:443")
	p := w.next()
	w.find(p)
	w.finder.turn <- struct{}{}
	began := time.Now()
	if got := w.finder.Find(p.src, p.dst, "tcp"); got != nil || time.Since(began) < turnPatience {
		t.Errorf("%+v after %v", got, time.Since(began))
	}
	<-w.finder.turn
	w.find(p)
}

func TestWithoutDiag(t *testing.T) {
	a := netip.MustParseAddrPort("192.0.2.1:443")
	if got := (&Finder{Root: os.Getpid()}).Find(a, a, "tcp"); got != nil {
		t.Error(got)
	}
}

func TestSplitArgv(t *testing.T) {
	long := strings.Repeat("x", argvLimit)
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"a\x00", []string{"a"}},
		{"a\x00b c\x00\x00", []string{"a", "b c", ""}},
		{"a\x00\x00", []string{"a", ""}},
		{"nginx: worker process", []string{"nginx: worker process"}},
		{"nginx: worker process\x00\x00\x00\x00", []string{"nginx: worker process"}},
		{("a\x00b\x00" + long)[:argvLimit+1], []string{"a", "b", ellipsis}},
		{(long + "y\x00")[:argvLimit+1], []string{ellipsis}},
		{("a\x00" + long[:argvLimit-3] + "\x00"), []string{"a", long[:argvLimit-3]}},
	} {
		if got := splitArgv([]byte(c.in)); !slices.Equal(got, c.want) {
			t.Errorf("%.40q: %.60q, want %.60q", c.in, got, c.want)
		}
	}
}

func TestLinks(t *testing.T) {
	for link, want := range map[string]uint64{
		"socket:[123]": 123, "socket:[0]": other, "socket:[]": other, "socket:[12x]": other, "/tmp/socket:[1]": other, "": other, "pipe:[9]": other,
	} {
		if got := linkInode([]byte(link), nil); got != want {
			t.Errorf("%q: %d, want %d", link, got, want)
		}
	}
	v := view{sockets: "10"}
	for info, want := range map[string]uint64{
		"pos:\t0\nflags:\t02\nmnt_id:\t10\nino:\t77\n": 77,
		"pos:\t0\nflags:\t02\nmnt_id:\t11\nino:\t77\n": other, // a file with the same number
		"pos:\t0\nflags:\t02\nmnt_id:\t10\n":           other, // before Linux 5.14
		"":                                             other,
	} {
		if got := v.infoInode([]byte(info), nil); got != want {
			t.Errorf("%q: %d, want %d", info, got, want)
		}
	}
}

// TestProc reads what /proc says of processes that are known here.
func TestProc(t *testing.T) {
	buf := make([]byte, 4096)
	before := lastPID(buf)
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	pid := cmd.Process.Pid
	if after := lastPID(buf); after == before || after < pid && pid-after < 1000 {
		t.Errorf("number %d was given out between %d and %d", pid, before, after)
	}
	s, err := readStat(-100, procPath(pid)+"/stat", buf)
	if err != nil || s.parent != os.Getpid() || s.start == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if !isProcess(pid, buf) || isProcess(1<<23, buf) || isProcess(-1, buf) {
		t.Error("what is a process is mistaken")
	}
	for _, tid := range threads(os.Getpid(), nil, buf) {
		if isProcess(tid, buf) != (tid == os.Getpid()) {
			t.Errorf("thread %d", tid)
		}
	}
	if _, err := strconv.Atoi(socketMount(buf)); err != nil {
		t.Error(err)
	}
	if sameMemory(os.Getpid(), pid) || !sameMemory(os.Getpid(), os.Getpid()) {
		t.Error("who shares memory is mistaken")
	}
}
