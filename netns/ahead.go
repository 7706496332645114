package netns

import "ahead"

// Init must be the first thing that main does. In a process that Start made it would not be reached: package ahead takes that over.
func Init() { stagesReady = true }

// stagesReady says that Init was called: the program knows what it is in for.
var stagesReady bool

// abandon ends a child that was begun and cannot be used.
func abandon(c *ahead.Child) {
	if c == nil {
		return
	}
	n := newNamespace()
	if n.adopt(c) == nil {
		n.Close()
	}
}
