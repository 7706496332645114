package flow

import (
	"testing"
	"time"
)

// TestClockSetBack: no phase is negative, which would say that it does not
// apply, where the clock was set back during the exchange.
func TestClockSetBack(t *testing.T) {
	steps := []func(x *Exchange) *time.Time{
		func(x *Exchange) *time.Time { return &x.Started },
		func(x *Exchange) *time.Time { return &x.RequestEnded },
		func(x *Exchange) *time.Time { return &x.Responded },
		func(x *Exchange) *time.Time { return &x.FirstEvent },
		func(x *Exchange) *time.Time { return &x.Ended },
	}
	for jump := range len(steps) {
		for _, by := range []time.Duration{-time.Hour, 10 * 365 * 24 * time.Hour} {
			x, now := &Exchange{Ordinal: 2}, start
			for i, at := range steps {
				if now = now.Add(time.Second); i == jump {
					now = now.Add(by)
				}
				*at(x) = now
			}
			tm := x.Timings()
			if x.Duration() < 0 || tm.Send < 0 || tm.Wait < 0 || tm.Receive < 0 || tm.FirstEvent < 0 {
				t.Errorf("jump of %v before step %d: %v, %+v", by, jump, x.Duration(), tm)
			}
		}
	}
}
