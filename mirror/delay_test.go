package mirror

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// delayRuns is how many listeners are measured.
const delayRuns = 100

// BenchmarkDelay measures how long after listen a listener can be reached from
// the other side.
func BenchmarkDelay(b *testing.B) {
	for _, interval := range []time.Duration{defaultInterval, quietInterval} {
		w := newWorld(b, &Mirror{Interval: interval})
		b.Run(interval.String()+"/inside to outside", func(b *testing.B) {
			var all delays
			for b.Loop() {
				for range delayRuns {
					all.reach(w.listenAnywhere())
				}
			}
			all.report(b)
		})
		b.Run(interval.String()+"/outside to inside", func(b *testing.B) {
			var all delays
			for b.Loop() { // the agent asks one at a time
				l := foreign(b, serveHost(b, "tcp4", "127.0.0.1:0"))
				start := time.Now()
				eventually(b, "reachable inside", func() bool { return w.do("ask %v x", l.Addr()) == "ok x" })
				all.took = append(all.took, time.Since(start))
			}
			all.report(b)
		})
	}
}

// listenAnywhere has the agent listen on a free port. Tests of other packages
// may take it first, and then it is taken inside too.
func (w *world) listenAnywhere() string {
	w.t.Helper()
	for range 20 {
		addr := fmt.Sprintf("127.0.0.1:%d", freePort(w.t))
		switch got := w.do("listen tcp4 %s", addr); got {
		case "ok":
			return addr
		case "EADDRINUSE":
		default:
			w.t.Fatalf("listen %s: %s", addr, got)
		}
	}
	w.t.Fatal("no free port")
	return ""
}

// delays are measured at the same time, begun in step with nothing.
type delays struct {
	wait sync.WaitGroup
	mu   sync.Mutex // guards took
	took []time.Duration
}

// reach measures from now on until addr can be connected to.
func (d *delays) reach(addr string) {
	start := time.Now()
	d.wait.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for time.Since(start) < 5*time.Second {
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				break
			}
			<-tick.C
		}
		d.mu.Lock()
		d.took = append(d.took, time.Since(start))
		d.mu.Unlock()
	})
	time.Sleep(7 * time.Millisecond) // in step with nothing else
}

func (d *delays) report(b *testing.B) {
	b.Helper()
	d.wait.Wait()
	slices.Sort(d.took)
	n := len(d.took)
	b.ReportMetric(float64(d.took[n/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(d.took[n-1-n/100].Microseconds())/1000, "p99-ms")
}

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIdle measures what looking costs while nothing changes.
func BenchmarkIdle(b *testing.B) {
	m := &Mirror{Interval: time.Hour}
	newWorld(b, m)
	m.keeper.pass(b.Context(), time.Now())
	b.Run("pass", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if changed, err := m.keeper.pass(b.Context(), time.Now()); err != nil {
				b.Fatal(changed, err)
			}
		}
	})
	b.Run("share", func(b *testing.B) {
		newWorld(b, &Mirror{})
		before, start := cpu(), time.Now()
		for b.Loop() {
			time.Sleep(5 * time.Second)
		}
		b.ReportMetric(100*float64(cpu()-before)/float64(time.Since(start)), "%cpu")
	})
}

// BenchmarkRequest measures a request and its answer on a kept connection, and
// a connection with one, without and through mirrors.
func BenchmarkRequest(b *testing.B) {
	host := serveHost(b, "tcp4", "127.0.0.1:0")
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(b))
	w := newWorld(b, &Mirror{}, host)
	w.must("ok", "listen tcp4 %s", addr)
	eventually(b, "reachable", func() bool { return ask(addr, "x") == "ok x" })
	w.must("ok", "hold %s", addr)
	run := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f()
			}
		})
	}
	direct, through := dial(b, host.Addr().String()), dial(b, addr)
	run("kept/direct", func() { say(direct, "0123456789") })
	run("kept/into", func() { say(through, "0123456789") })
	run("kept/direct-by-agent", func() { w.do("say 0123456789") })
	w.must("ok", "hold %v", host.Addr())
	run("kept/out-by-agent", func() { w.do("say 0123456789") })
	run("new/direct", func() { ask(host.Addr().String(), "x") })
	run("new/into", func() { ask(addr, "x") })
	run("new/direct-by-agent", func() { w.do("ask %s x", addr) })
	run("new/out-by-agent", func() { w.do("ask %v x", host.Addr()) })
}

func dial(b *testing.B, addr string) net.Conn {
	b.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}
