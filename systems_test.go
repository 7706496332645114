package trace_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// linuxOnly are the packages that stand on what Linux alone has: namespaces,
// netlink, /proc. Files that import them end in _linux.go.
var linuxOnly = []string{"ahead", "trace/netns", "trace/mirror", "trace/datagram", "trace/process"}

// TestOtherSystems: on other systems trace is linked without them, and has all
// the rest.
func TestOtherSystems(t *testing.T) {
	for _, system := range []struct{ os, arch string }{{"darwin", "arm64"}, {"darwin", "amd64"}, {"linux", "arm64"}} {
		cmd := exec.Command("go", "list", "-deps", "./cmd/trace")
		cmd.Env = append(os.Environ(), "GOOS="+system.os, "GOARCH="+system.arch, "CGO_ENABLED=0")
		var problem strings.Builder
		cmd.Stderr = &problem
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s/%s: %v: %s", system.os, system.arch, err, problem.String())
			continue
		}
		linked := strings.Fields(string(out))
		for _, p := range []string{"trace/flow", "trace/store", "trace/proxy", "trace/mitm", "trace/replay", "trace/importer", "trace/export", "trace/doctor"} {
			if !slices.Contains(linked, p) {
				t.Errorf("%s/%s: %s is not linked", system.os, system.arch, p)
			}
		}
		for _, p := range linuxOnly {
			if slices.Contains(linked, p) != (system.os == "linux") {
				t.Errorf("%s/%s: %s is linked: %v", system.os, system.arch, p, system.os != "linux")
			}
		}
	}
}
