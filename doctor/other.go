//go:build !linux

package doctor

import (
	"context"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// NeedsLinux says what is missing here, and what goes without.
const NeedsLinux = "transparent capture needs Linux; without it: trace run --proxy -- CMD, or trace run -- CMD"

// Kernel returns the release of the running kernel.
func (h Host) Kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// Run reports that there is no transparent capture here. The Probe is not
// used.
func Run(_ context.Context, o Options) *Report {
	return &Report{Version: o.Version, Kernel: o.Host.Kernel(), UID: os.Getuid(), Link: o.Link,
		Checks: []Check{{ID: "system", Title: "operating system", Status: Fail, Found: runtime.GOOS, Hint: NeedsLinux}}}
}

// Explain returns what a person can do about err, "" where it knows nothing.
func (h Host) Explain(err error) string { return explainWrite(err) }
