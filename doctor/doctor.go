// Package doctor finds out whether this machine can run trace and, if not,
// what to change.
//
//	report := doctor.Run(ctx, doctor.Options{Probe: probe, Version: v})
//	fmt.Println(report.OK)
//
// # Theory of operation
//
// The doctor does not predict. Its caller hands it a Probe that builds the
// very road of `trace run --inspect` around a small child and tells each step
// as it ends; so the doctor's verdict and that of a run are one. The doctor
// puts the steps into the order and words of a report, fills in what was not
// reached, and finds for each failure the command that mends it ([Host.Explain]),
// from the errno, the step and a few files below /proc and /sys.
//
// What fails on the host too (no name resolution, no internet) is a warning:
// the Probe says so by Step.Warn.
//
// Transparent capture is made of Linux's namespaces. On another system there is
// nothing to build, and the report has one check, which says so.
package doctor

import (
	"context"
	"time"
)

// The states of a Check.
const (
	Pass = "pass"
	Warn = "warn"
	Fail = "fail"
	Skip = "skip"
)

// A Check is one line of the report.
type Check struct {
	ID     string  `json:"id"`
	Title  string  `json:"title"`
	Status string  `json:"status"` // Pass, Warn, Fail or Skip
	Found  string  `json:"found"`
	Hint   string  `json:"hint"`            // never empty for Warn and Fail
	Errno  string  `json:"errno,omitempty"` // symbolic, of what the kernel said
	MS     float64 `json:"ms"`
}

// A Report is what the doctor found.
type Report struct {
	OK      bool    `json:"ok"`            // nothing failed
	Privacy bool    `json:"privacy_claim"` // always false: trace observes, it restricts nothing
	Version string  `json:"version"`
	Kernel  string  `json:"kernel"`
	UID     int     `json:"uid"`
	Link    string  `json:"link"`
	Device  string  `json:"device"`
	Checks  []Check `json:"checks"`
}

// A Step is what a Probe tells of one part of the road.
type Step struct {
	ID    string
	Took  time.Duration
	Found string
	Err   error // nil: it works
	Warn  bool  // with Err: not to blame on trace, and runs work without it
	Skip  bool  // it was not tried; Found says why
	Hint  string
}

// Options says what to examine.
type Options struct {
	// Probe builds the road, runs a child on it that looks around, and tears
	// it down. It returns the error that kept the road from standing. It may
	// call step from several goroutines, but not after it returned.
	Probe func(ctx context.Context, step func(Step)) error
	// Version and Link are reported as they are; Device as the Probe's
	// "device" step names it.
	Version, Link string
	// Host is where evidence is read; the zero value is this machine.
	Host Host
}
