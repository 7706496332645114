package process

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestStorm names each of a thousand processes that end once they are refused, eight at a time.
func TestStorm(t *testing.T) {
	both(t, func(t *testing.T) {
		const count, first = 1000, 2000
		w := newWorld(t, "storm", strconv.Itoa(first), strconv.Itoa(count), "8")
		var took []time.Duration
		var jobs sync.WaitGroup
		var mu sync.Mutex
		named := map[int]bool{}
		for range count {
			p := w.next()
			jobs.Go(func() {
				began := time.Now()
				got := w.finder.Find(p.src, p.dst, p.network)
				d := time.Since(began)
				w.refuse(p)
				mu.Lock()
				defer mu.Unlock()
				took = append(took, d)
				if got == nil || !strings.HasSuffix(got.Argv[len(got.Argv)-1], strconv.Itoa(int(p.dst.Port()))) ||
					!slices.Equal(got.Parents, []int{w.ns.PID()}) {
					t.Errorf("%v: %+v", p.dst, got)
					return
				}
				named[got.PID] = true
			})
		}
		jobs.Wait()
		w.hear("done")
		if len(named) != count {
			t.Errorf("%d processes named, want %d", len(named), count)
		}
		if n := len(w.finder.view.known); n > 100 {
			t.Errorf("%d processes are remembered: the dead are not swept out", n)
		}
		t.Logf("%d of %d named, %s", len(named), count, quantiles(took))
	})
}

// TestTogether looks many connections up at once, some of which nobody made.
func TestTogether(t *testing.T) {
	const members = 10
	w := newCrowd(t, members, 60)
	var packets []*packet
	for range members {
		w.poke()
		packets = append(packets, w.next())
	}
	w.finder = &Finder{Diag: w.diag, Root: w.ns.PID(), Helper: w.ns.HelperPID()}
	var jobs sync.WaitGroup
	for range 200 {
		p := packets[rand.IntN(members)]
		jobs.Go(func() {
			if got := w.finder.Find(p.src, p.dst, "tcp"); got == nil || memberPort(got.PID) != p.dst.Port() {
				t.Errorf("%v → %v: %+v", p.src, p.dst, got)
			}
		})
		jobs.Go(func() {
			if got := w.finder.Find(p.dst, p.src, "tcp"); got != nil {
				t.Errorf("the wrong way round: %+v", got)
			}
		})
	}
	jobs.Wait()
}

// newCrowd runs processes with descriptors each; see member.
func newCrowd(t testing.TB, members, fds int) *world {
	w := newWorld(t, "crowd", strconv.Itoa(members), strconv.Itoa(fds))
	for range members {
		w.hear("ready")
	}
	return w
}

// BenchmarkFind measures a lookup among 50 processes, which connect in turn: that is, always the one that was
// found longest ago. Half of the connections are closed once refused, the others stay open.
func BenchmarkFind(b *testing.B) {
	for _, fds := range []int{10, 100, 500} {
		b.Run(fmt.Sprintf("50x%d", fds), func(b *testing.B) {
			w := newCrowd(b, 50, fds)
			one := func() time.Duration {
				w.poke()
				p := w.next()
				began := time.Now()
				w.find(p)
				d := time.Since(began)
				w.refuse(p)
				w.hear("refused")
				return d
			}
			cold := one()
			for range 200 {
				one()
			}
			var took []time.Duration
			for b.Loop() {
				took = append(took, one())
			}
			slices.Sort(took)
			b.ReportMetric(float64(cold.Microseconds()), "µs-first")
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
		})
	}
}

func quantiles(took []time.Duration) string {
	slices.Sort(took)
	return fmt.Sprintf("p50 %v p99 %v", took[len(took)/2], took[len(took)*99/100])
}
