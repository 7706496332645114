package netns

import "ahead"

// Init must be the first thing that main does. In a process that Start made it would not be reached: package ahead takes that over.
func Init() { stagesReady = true }

// stagesReady says that Init was called: the program knows what it is in for.
var stagesReady bool

// Ahead begins what the next Start with this process's standard files will need, and returns at once: the clone of init and
// init's own start take as long as much of what a program does before it can call Start. If no Start follows, what was begun
// ends with this process. A program whose first argument is "run" has begun by itself.
func Ahead() { ahead.Begin() }

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
