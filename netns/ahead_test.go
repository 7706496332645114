package netns

import (
	"errors"
	"os"
	"testing"

	"ahead"

	"golang.org/x/sys/unix"
)

// TestAhead has Start use what was begun, or end it.
func TestAhead(t *testing.T) {
	noMore := watchChildren(t)
	for _, out := range []*os.File{nil, os.Stderr} {
		ahead.Begin()
		ahead.Begin() // does nothing
		begun := ahead.Begun()
		c := config("sh", "-c", "exit 3")
		c.Stdout = out
		ns, err := Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if used := ns.PID() == begun.PID; used != (out == nil) {
			t.Errorf("what was begun is used: %v, with a file of its own: %v", used, out != nil)
		}
		if err := ns.Go(); err != nil {
			t.Error(err)
		}
		if st, err := ns.Wait(); st.Code != 3 || err != nil {
			t.Errorf("%v, %v", st, err)
		}
		ns.Close()
	}
	ahead.Begin()
	if _, err := Start(t.Context(), &Config{}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("without a command: %v", err)
	}
	if ahead.Begun() == nil {
		t.Error("what was begun is gone")
	}
	abandon(ahead.Take())
	noMore()
}
