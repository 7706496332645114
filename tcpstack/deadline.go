package tcpstack

import (
	"sync"
	"time"
)

// deadline is a point in time that somebody may wait for and that may be
// moved meanwhile, as net.Pipe has it.
type deadline struct {
	// mu guards what follows.
	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{} // closed when it has passed
}

func makeDeadline() deadline { return deadline{expired: make(chan struct{})} }

// set moves the deadline; a zero t means none.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.expired // the timer has fired: wait for its close
	}
	d.timer = nil
	closed := isClosed(d.expired)
	if t.IsZero() {
		if closed {
			d.expired = make(chan struct{})
		}
		return
	}
	if left := time.Until(t); left > 0 {
		if closed {
			d.expired = make(chan struct{})
		}
		expired := d.expired
		d.timer = time.AfterFunc(left, func() { close(expired) })
		return
	}
	if !closed {
		close(d.expired)
	}
}

// wait returns a channel that is closed when the deadline has passed.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.expired
}

func (d *deadline) passed() bool { return isClosed(d.wait()) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
