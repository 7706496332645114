package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"trace/control"
)

// serveTells has a serve of this process tell s, and returns what `trace status` prints.
func serveTells(t *testing.T, s *control.Serve, args ...string) string {
	t.Helper()
	l, err := control.NewListen("")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- (&control.Server{Status: func(context.Context) (*control.Serve, error) { return s, nil }}).Serve(ctx, l)
	}()
	stdout, stderr, code := runCLI(t, append([]string{"status"}, args...)...)
	cancel()
	if err := <-done; err != nil || code != 0 {
		t.Fatalf("exit %d, %v: %s", code, err, stderr)
	}
	return stdout
}

// TestStatusShows prints what a serve tells, whatever clients call themselves, and
// the runs that are none of its sessions.
func TestStatusShows(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", "")
	if out, _, code := runCLI(t, "status"); code != 0 || !strings.Contains(out, "no trace serve runs") || !strings.Contains(out, "no runs go on") {
		t.Errorf("nothing: exit %d, %s", code, out)
	}
	r := scripted(t, "run\x1b[31m\u202e")
	on := emit(r.open("a.test", 443, nil))
	on.request(1, "GET", "a.test", "/", "")
	r.flush()
	now := time.Now()
	s := &control.Serve{
		PID: os.Getpid() + 1, Version: "1\x1b[2J", Started: control.Time{Time: now.Add(-time.Hour)}, OpenFlows: 2, Flows: 40, FlowsPerSecond: 0.5,
		Listeners: []control.Listener{{Kind: "reverse", Addr: "127.0.0.1:4000"}, {Kind: "wireguard", Addr: "0.0.0.0:51820"}},
		Peers: []control.Peer{{Name: "phone", Addresses: []string{"10.1.0.2", "fd00::2"}, Endpoint: "192.0.2.1:4", LatestHandshake: control.Time{Time: now}, RX: 5000, TX: 6000},
			{Name: "new\x07", Addresses: []string{"10.1.0.3"}}},
		Sessions: []control.Session{{ID: "S1", Name: "claude\u202e", Label: "claude", Source: "reverse", Started: control.Time{Time: now}, Flows: 7, Open: 2, Rate: 0.7}},
		Attached: []control.Attached{{ID: "A1", Name: "curl\r", PID: 5, State: "lost", Seen: control.Time{Time: now}, Flows: 3, Bytes: 100}},
	}
	out := serveTells(t, s)
	for _, want := range []string{"since", "40 flows, 2 open, 0.5/s", "127.0.0.1:4000", "wireguard", "phone", "10.1.0.2 fd00::2", "never", "claude", "S1", "lost", r.id, "1.0/s"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	for _, c := range out {
		if c != '\n' && (unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c)) {
			t.Fatalf("%q in %q", c, out)
		}
	}
	var got control.Status
	if err := json.Unmarshal([]byte(serveTells(t, s, "--json")), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Runs) != 1 || got.Runs[0].ID != r.id || got.Runs[0].Flows != 1 || got.Runs[0].Open != 1 || got.Runs[0].File != r.path || got.Runs[0].PID != os.Getpid() {
		t.Errorf("runs are %+v", got.Runs)
	}
	if got.Serve.Flows != 40 || len(got.Serve.Peers) != 2 || !got.Serve.Peers[1].LatestHandshake.IsZero() || got.Serve.Attached[0].State != "lost" {
		t.Errorf("serve is %+v", got.Serve)
	}
	s.PID = os.Getpid() // the session is its own
	if out := serveTells(t, s); strings.Contains(out, r.id) || !strings.Contains(out, "no runs go on") {
		t.Errorf("serve's own session is among the runs:\n%s", out)
	}
}

// TestStatusOfSilentServe: one that stands still is told of, and hides no run.
func TestStatusOfSilentServe(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", "")
	defer func(d time.Duration) { statusPatience = d }(statusPatience)
	statusPatience = 50 * time.Millisecond
	r := scripted(t, "run")
	l, err := control.NewListen("") // and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stdout, stderr, code := runCLI(t, "status")
	if code != 1 || !strings.Contains(stdout, r.id) || strings.Contains(stdout, "no trace serve") || !strings.Contains(stderr, fmt.Sprintf("process %d, at %s does not answer", os.Getpid(), l.Path())) {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	var got control.Status
	stdout, stderr, code = runCLI(t, "status", "--json")
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 1 || got.Serve != nil || len(got.Runs) != 1 || stderr == "" {
		t.Errorf("exit %d, %v\n%s%s", code, err, stdout, stderr)
	}
}
