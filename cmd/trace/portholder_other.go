//go:build !linux

package main

// portHolder says who listens on a TCP port: not known on this system.
func portHolder(string) string { return "" }

func datagramHolder(string) string { return "" }
