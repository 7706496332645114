package process

import (
	"os"
	"slices"
	"testing"

	"trace/netns"
)

// TestGuest: a program that entered the namespace is found, whether it has just come or all processes have to be looked through,
// and its ancestors outside are no concern of the namespace.
func TestGuest(t *testing.T) {
	both(t, func(t *testing.T) {
		for name, forget := range map[string]func(v *view){
			"newcomer":     func(*view) {},
			"many numbers": func(v *view) { v.last = max(1, v.last-rangeLimit-1) },
			"missed":       func(v *view) { v.last = lastPID(v.buf) },
		} {
			t.Run(name, func(t *testing.T) {
				w := runWorld(t, "", "cat")
				if l, err := w.ns.Listen(t.Context(), "tcp4", "127.0.0.1:0"); err == nil { // the helper runs: it is the newest
					l.Close()
				}
				place, err := netns.OpenPlace(os.Getpid())
				if err != nil {
					t.Fatal(err)
				}
				defer place.Close()
				exe, _ := os.Executable()
				guest, err := place.Enter(&netns.Entry{Path: "sh", Args: []string{"sh", "-c", `"$0" tcp 192.0.2.1:443 </dev/null >/dev/null 2>&1; exit`, exe}, Env: append(os.Environ(), roleVar+"=connect")})
				if err != nil {
					t.Fatal(err)
				}
				defer guest.Close()
				p := w.next()
				w.finder.once.Do(w.finder.init)
				forget(&w.finder.view)
				if got := w.find(p); got.Exe != exe || !slices.Equal(got.Parents, []int{guest.PID()}) {
					t.Errorf("%+v, a child of %d was to be found", got, guest.PID())
				}
				w.refuse(p)
				if _, err := guest.Wait(); err != nil {
					t.Error(err)
				}
			})
		}
	})
}
