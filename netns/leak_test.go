package netns

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestNothingLeft counts goroutines and descriptors over runs that end well and badly.
func TestNothingLeft(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		once := func(path string) {
			c := config(path)
			c.Device = kind
			ns, err := Start(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if ns.Go() == nil {
				if _, err := ns.Wait(); err != nil {
					t.Error(err)
				}
			}
			ns.Close()
			c.Covers.Files = []File{{Target: "/no/such/file", Required: true}}
			if _, err := Start(t.Context(), c); err == nil {
				t.Error("a required file was not missed")
			}
		}
		once("true") // starts what stays for good: the signal loop, the poller
		before, files := goleak.IgnoreCurrent(), openFiles(t)
		for range 3 {
			once("true")
			once("no such command")
		}
		goleak.VerifyNone(t, before)
		if now := openFiles(t); now > files {
			t.Errorf("%d open descriptors, %d before", now, files)
		}
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestTrim(t *testing.T) {
	out, _ := run(t, role(t, Auto, "trim"))
	if out != "true <nil> true\n" {
		t.Errorf("after trimming: %s", out)
	}
}
