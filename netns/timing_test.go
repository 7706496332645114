package netns

import (
	"context"
	"slices"
	"testing"
	"time"
)

// BenchmarkRun reports the medians of Start, of Start and Go together, and of everything up to the end of Close.
func BenchmarkRun(b *testing.B) {
	for _, kind := range []DeviceKind{TUN, Veth} {
		for _, covers := range []bool{false, true} {
			name := string(kind)
			if covers {
				name += "+certs"
			}
			b.Run(name, func(b *testing.B) { benchmarkRun(b, kind, covers) })
		}
	}
}

func benchmarkRun(b *testing.B, kind DeviceKind, covers bool) {
	c := config("true")
	c.Device = kind
	if covers {
		c.Covers.Trees = []Tree{{Target: "/etc/ssl/certs", Add: map[string][]byte{"ca-certificates.crt": make([]byte, 250_000)}}}
	}
	var started, gone, ended, closed []time.Duration
	for b.Loop() {
		began := time.Now()
		ns, err := Start(context.Background(), c)
		if err != nil {
			b.Fatal(err)
		}
		started = append(started, time.Since(began))
		if err := ns.Go(); err != nil {
			b.Fatal(err)
		}
		gone = append(gone, time.Since(began))
		ns.Wait()
		ended = append(ended, time.Since(began))
		ns.Close()
		closed = append(closed, time.Since(began))
		if n := ns.Notes(); len(n) > 0 {
			b.Fatal(n)
		}
	}
	b.ReportMetric(0, "ns/op")
	for _, m := range []struct {
		name string
		all  []time.Duration
	}{{"start-ms", started}, {"exec-ms", gone}, {"wait-ms", ended}, {"close-ms", closed}} {
		slices.Sort(m.all)
		b.ReportMetric(float64(m.all[len(m.all)/2].Microseconds())/1000, m.name)
	}
}
