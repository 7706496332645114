package netns

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRoutes lists the routes of a namespace that the test made.
func TestRoutes(t *testing.T) {
	if os.Geteuid() != 0 || CurrentRights() != Root {
		skip(t, "only root can make a network namespace for a thread")
		return
	}
	runtime.LockOSThread() // and never unlock: the thread ends with the test's goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"link set lo up",
		"link add lan0 type veth peer name lan1",
		"link set lan1 up",
		"addr add 203.0.113.2/24 dev lan0",
		"-6 addr add 2001:db8:5::2/64 dev lan0 nodad",
		"link set lan0 up",
		"route add default via 203.0.113.1",
		"route add 198.51.100.0/24 via 203.0.113.1 table 77",
		"route add unreachable 192.0.2.0/24",
		"-6 route add default dev lan0",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v %s", line, err, out)
		}
	}
	all, err := Routes()
	if err != nil {
		t.Fatal(err)
	}
	for text, local := range map[string]bool{"0.0.0.0/0": false, "::/0": false, "203.0.113.0/24": false, "203.0.113.2/32": true,
		"198.51.100.0/24": false, "2001:db8:5::/64": false, "2001:db8:5::2/128": true} {
		if !slices.Contains(all, Route{netip.MustParsePrefix(text), local}) {
			t.Errorf("%s is missing among %v", text, all)
		}
	}
	for _, r := range all {
		if a := r.Dst.Addr(); a.IsLoopback() || a.IsMulticast() || a == netip.MustParseAddr("192.0.2.0") || a == netip.MustParseAddr("203.0.113.255") {
			t.Errorf("%v is listed", r)
		}
	}
}
