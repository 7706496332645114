package netns

import (
	"sync"

	"golang.org/x/sys/unix"
)

// ahead is the namespace that Ahead began.
var ahead struct {
	mu    sync.Mutex
	begun chan *Namespace // nil: none; it gets one word, nil where the kernel refused
}

// Ahead begins what the next Start with this process's standard files will need, and returns at once: the clone of init and
// init's own start take as long as much of what a program does before it can call Start. If no Start follows, what was begun
// ends with this process.
func Ahead() {
	ahead.mu.Lock()
	defer ahead.mu.Unlock()
	if !stagesReady || ahead.begun != nil {
		return
	}
	begun := make(chan *Namespace, 1)
	ahead.begun = begun
	go func() {
		n := &Namespace{rights: CurrentRights(), done: make(chan struct{}), events: make(chan unix.WaitStatus, 16)}
		if n.clone() != nil {
			n = nil // Start tries again, and says why
		}
		begun <- n
	}()
}

// takeAhead returns the namespace that Ahead began, nil if there is none.
func takeAhead() *Namespace {
	ahead.mu.Lock()
	defer ahead.mu.Unlock()
	if ahead.begun == nil {
		return nil
	}
	n := <-ahead.begun
	ahead.begun = nil
	return n
}

// abandon ends a namespace that Ahead began and that cannot be used.
func (n *Namespace) abandon() {
	if n != nil {
		n.Close()
	}
}
