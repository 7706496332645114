package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
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
	grow int // as set last
}

// tuneHeap keeps the distance right from now on.
func tuneHeap() {
	debug.SetGCPercent(mostGrow)
	new(heapTuner{grow: mostGrow}).arm()
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
		if d := grow - t.grow; d >= growByLess || -d >= growByLess {
			t.grow = grow
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
