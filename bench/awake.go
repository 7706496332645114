package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// keepAwake keeps all processors from halting, with a process for each that
// computes nothing when nobody else wants to run (SCHED_IDLE). To wake a
// halted processor of a virtual machine takes its host up to 100 µs, more
// than all the work of a request: each contender would be measured by how
// often it sleeps.
func keepAwake() (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var all []*exec.Cmd
	stop = func() {
		for _, cmd := range all {
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	for cpu := range runtime.NumCPU() {
		cmd := exec.Command(self, "spin", strconv.Itoa(cpu))
		if _, err := cmd.StdinPipe(); err != nil { // it ends with us
			stop()
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			stop()
			return nil, err
		}
		all = append(all, cmd)
	}
	return stop, nil
}

// spin is such a process.
func spin(args []string) error {
	cpu, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("stay on processor %d: %w", cpu, err)
	}
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0); err != nil {
		return fmt.Errorf("run when nobody else does: %w", err)
	}
	for n := uint64(1); n != 0; n += 2 {
	}
	return nil
}
