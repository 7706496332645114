//go:build !linux

package main

import (
	"context"
	"errors"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"trace/doctor"
)

// What follows stands for what Linux alone has: namespaces. Everything else of
// trace is the same on all systems.

// errSystem is why there is no transparent capture here.
var errSystem = errors.New("run --inspect on " + runtime.GOOS + ": " + doctor.NeedsLinux)

func startRole() {}

func (o *runOptions) runInspect() error {
	return exitError{Code: exitTrace, Err: errSystem}
}

func newExecCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exec [SESSION] -- CMD [ARG...]",
		Short: "Run another command in the namespaces of a run (Linux only)",
		Args:  cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error {
			return exitError{Code: exitTrace, Err: errors.New("exec on " + runtime.GOOS + ": " + doctor.NeedsLinux)}
		},
	}
}

func systemCommands() []*cobra.Command { return nil }

func examineMachine(ctx context.Context, link, _ string) *doctor.Report {
	return doctor.Run(ctx, doctor.Options{Version: programVersion(), Link: link})
}

func namespaceStatus() machineStatus {
	h := doctor.Host{}
	return machineStatus{Mode: "unavailable", Version: programVersion(), Kernel: h.Kernel(), UID: os.Getuid(),
		Rights: doctor.NeedsLinux, Limits: h.Limits(), Trust: h.TrustFiles()}
}
