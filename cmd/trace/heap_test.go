package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestGrowFor(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 8 << 20: 400, 16 << 20: 200, 32 << 20: 100, 1 << 30: 100} {
		if got := growFor(live); got != want {
			t.Errorf("%d bytes in use may grow by %d %%, want %d", live, got, want)
		}
	}
}

// A heap that got large is collected at the usual distance, one that got
// small again at the long one.
func TestHeapTuner(t *testing.T) {
	was := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(was) })
	tuner := new(heapTuner)
	tuner.grow.Store(mostGrow)
	debug.SetGCPercent(mostGrow)
	tuner.arm()
	wait := func(want int64) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); tuner.grow.Load() != want; runtime.GC() {
			if time.Now().After(end) {
				t.Fatalf("growth is %d %%, want %d", tuner.grow.Load(), want)
			}
		}
	}
	large := make([]byte, 256<<20)
	wait(leastGrow)
	runtime.KeepAlive(large)
	large = nil
	wait(mostGrow)
}

func TestLoad(t *testing.T) {
	var l load
	for i, step := range []struct {
		allocated uint64
		over      bool
	}{
		{1 << 20, false},         // a start
		{1<<20 + 1, false},       // quiet, but there was hardly anything
		{100 << 20, false},       // load
		{200 << 20, false},       // still
		{200<<20 + 1000, true},   // over
		{200<<20 + 2000, false},  // once is enough
		{201 << 20, false},       // a little
		{201<<20 + 1000, false},  // is not worth it
		{300 << 20, false},       // load
		{300<<20 + 10_000, true}, // over
	} {
		if over := l.over(step.allocated); over != step.over {
			t.Errorf("step %d: over is %v", i, over)
		}
	}
}
