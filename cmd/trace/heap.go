package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// The heap may grow to heapRoom before it is collected, whatever of it is in
// use, but not to more than five times that.
const (
	heapRoom   = 32 << 20
	leastGrow  = 100 // percent
	mostGrow   = 400
	growByLess = 25 // is not worth stopping the world for
)

// heapTuner sets the distance between collections. Most of what a run makes
// is garbage soon, and little stays: at the usual distance a busy connection
// would have the collector run dozens of times a second.
type heapTuner struct {
	grow atomic.Int64 // percent, as set last
}

// tuneHeap keeps the distance right from now on.
func tuneHeap() {
	debug.SetGCPercent(mostGrow)
	t := new(heapTuner)
	t.grow.Store(mostGrow)
	t.arm()
}

// arm has the next collection call collected.
func (t *heapTuner) arm() {
	runtime.AddCleanup(new([64]byte), (*heapTuner).collected, t)
}

func (t *heapTuner) collected() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() == metrics.KindUint64 {
		grow := growFor(live[0].Value.Uint64())
		if d := grow - int(t.grow.Load()); d >= growByLess || -d >= growByLess {
			t.grow.Store(int64(grow))
			debug.SetGCPercent(grow)
		}
	}
	t.arm()
}

// growFor returns by how many percent a heap of which live bytes are in use
// may grow.
func growFor(live uint64) int {
	return int(min(max(100*heapRoom/max(live, 1), leastGrow), mostGrow))
}

// When trace has allocated less than quietBytes in quietEvery, and much before,
// memory is given back to the system at once and not within minutes.
const (
	quietEvery = 5 * time.Second
	quietBytes = 256 << 10
	loadBytes  = 8 << 20
)

// load tells when there was some and it is over, by what was allocated.
type load struct {
	before, rested uint64 // bytes allocated, ever: at the last look, and when memory was last given back
}

// over looks at what was allocated until now.
func (l *load) over(allocated uint64) bool {
	quiet := allocated-l.before < quietBytes
	l.before = allocated
	if !quiet || allocated-l.rested < loadBytes {
		return false
	}
	l.rested = allocated
	return true
}

// giveBackAfterLoad gives memory back whenever a load is over, until stop is
// called.
func giveBackAfterLoad() (stop func()) {
	tick := time.NewTicker(quietEvery)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		new(load).watch(tick.C, done)
	}()
	return func() {
		tick.Stop()
		close(done)
		<-ended
	}
}

// watch looks at each tick whether a load is over, and gives memory back then.
func (l *load) watch(tick <-chan time.Time, done <-chan struct{}) {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	for {
		select {
		case <-tick:
		case <-done:
			return
		}
		metrics.Read(sample)
		if sample[0].Value.Kind() == metrics.KindUint64 && l.over(sample[0].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	}
}
