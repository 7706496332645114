package main

import "trace/netns"

// startRole plays the part of a process of a namespace where this is one, and
// does not return then.
func startRole() { netns.Init() }
