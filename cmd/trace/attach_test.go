package main

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"trace/control"
	"trace/flow"
	"trace/redact"
	"trace/store"
)

// A keeping is a serve that does nothing but take runs, in this process.
type keeping struct {
	t      *testing.T
	socket string
	dir    string
	*receiver
	stop func()
}

func keepRuns(t *testing.T, socket, dir string) *keeping {
	t.Helper()
	l, err := control.NewListen(socket)
	if err != nil {
		t.Fatal(err)
	}
	k := &keeping{t: t, socket: socket, dir: dir, receiver: newReceiver(dir, nil)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- (&control.Server{Attach: k.receiver}).Serve(ctx, l) }()
	stopped := false
	k.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		k.close()
	}
	t.Cleanup(k.stop)
	return k
}

// until waits for a state of the runs that are attached.
func (k *keeping) until(what string, ok func(list []control.Attached) bool) {
	k.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		list := k.attached()
		if ok(list) {
			return
		}
		if time.Now().After(end) {
			k.t.Fatalf("%s: never: %+v", what, list)
		}
	}
}

// quickly makes the patience of both ends short.
func quickly(t *testing.T) {
	old := []time.Duration{attachBackoff, attachLinger, attachPing, attachGrace, attachCheck}
	attachBackoff, attachLinger, attachPing, attachGrace, attachCheck = 5*time.Millisecond, 300*time.Millisecond, 20*time.Millisecond, 50*time.Millisecond, 10*time.Millisecond
	t.Cleanup(func() {
		attachBackoff, attachLinger, attachPing, attachGrace, attachCheck = old[0], old[1], old[2], old[3], old[4]
	})
}

func send(t *testing.T, socket string, s *store.Store) *attachment {
	t.Helper()
	r, err := s.Reader()
	if err != nil {
		t.Fatal(err)
	}
	a, err := attach(socket, r, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAttachedCalls: calls of a run that is attached are listed as its own, while it
// goes on and after; threads too.
func TestAttachedCalls(t *testing.T) {
	inUTC(t)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	k := keepRuns(t, filepath.Join(t.TempDir(), "s"), t.TempDir())
	r := agentRun(t)
	calls := newSummariser(r.s, t.Logf)
	calls.saw()
	a := send(t, k.socket, r.s)
	var file string
	k.until("six flows", func(list []control.Attached) bool {
		if len(list) != 1 || list[0].Flows != 6 {
			return false
		}
		file = list[0].File
		return list[0].State == "attached" && list[0].ID == r.id
	})
	calls.close()
	own := r.path
	r.finish()
	kept, left, err := a.finish(t.Logf)
	if err != nil || left != 0 || kept.File != file {
		t.Fatalf("kept %+v, %d left, %v", kept, left, err)
	}
	for _, args := range [][]string{{"flows", "list", "--json"}, {"flows", "list", "--llm"}, {"flows", "stats", "--json"}, {"flows", "show", "4", "--json"}, {"flows", "tools"}} {
		want, _, _ := runCLI(t, append(args, "--session", own)...)
		got, _, _ := runCLI(t, append(args, "--session", file)...)
		if strings.ReplaceAll(got, file, own) != want {
			t.Errorf("%v of serve's:\n%s\nwant\n%s", args, got, want)
		}
	}
	if list := k.attached(); len(list) != 0 {
		t.Errorf("still attached: %+v", list)
	}
}

// TestAttachedLost: a session whose run is gone counts as crashed, with a gap; when the
// run comes back it goes on, and the gap is closed.
func TestAttachedLost(t *testing.T) {
	quickly(t)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	k := keepRuns(t, filepath.Join(t.TempDir(), "s"), t.TempDir())
	r := scripted(t, "gone")
	emit(r.open("a.test", 443, nil)).request(1, "GET", "a.test", "/", "")
	r.flush()
	a := send(t, k.socket, r.s)
	var file string
	k.until("one flow", func(list []control.Attached) bool {
		if len(list) == 1 {
			file = list[0].File
		}
		return len(list) == 1 && list[0].Flows == 1
	})
	a.cancel() // as when it is killed
	<-a.done
	k.until("nobody", func(list []control.Attached) bool { return len(list) == 0 })
	if s := sessionAt(t, file); s.State != "crashed" || s.Gaps != 1 {
		t.Errorf("session of a run that is gone: %+v", s)
	}
	a.feed.Close()
	a.reader.Close()
	a = send(t, k.socket, r.s)
	k.until("it is back", func(list []control.Attached) bool {
		return len(list) == 1 && list[0].State == "attached" && list[0].File == file
	})
	if s := sessionAt(t, file); s.State != "running" || s.Gaps != 0 {
		t.Errorf("session of a run that came back: %+v", s)
	}
	r.finish()
	if kept, _, err := a.finish(t.Logf); err != nil || kept.File != file {
		t.Errorf("kept %+v, %v", kept, err)
	}
	if s := sessionAt(t, file); s.State != "ended" || s.Exit != 3 || s.Gaps != 0 {
		t.Errorf("session of a run that ended: %+v", s)
	}
}

func sessionAt(t *testing.T, file string) flow.Session {
	t.Helper()
	r, err := store.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s, err := r.Session()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAttachedAnew: serves come and go, at any moment, and the last has all of it once.
func TestAttachedAnew(t *testing.T) {
	quickly(t)
	inUTC(t)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	socket, dir := filepath.Join(t.TempDir(), "s"), t.TempDir()
	r := recordRedacted(t, "anew")
	a := send(t, socket, r.s)
	const rounds = 8
	for i := range rounds {
		var k *keeping
		if i%2 == 1 {
			k = keepRuns(t, socket, dir)
		}
		on := emit(r.open("a.test", 443, nil))
		on.request(1, "POST", "a.test", "/", strings.Repeat("body of the request ", 1000*i))
		on.answer(1, 200, "text/event-stream", true)
		if k != nil {
			k.until("half of it", func(list []control.Attached) bool { return len(list) == 1 && list[0].Flows == int64(i+1) })
		}
		on.body(1, flow.Server, "the answer")
		on(flow.End, 1, nil)
		on(flow.ConnEnd, 0, nil)
		if k != nil {
			k.stop()
		}
	}
	r.finish()
	keepRuns(t, socket, dir)
	kept, _, err := a.finish(t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	want, _, _ := runCLI(t, "flows", "list", "--json", "--session", r.path)
	got, _, _ := runCLI(t, "flows", "list", "--json", "--session", kept.File)
	var rows []any
	if json.Unmarshal([]byte(got), &rows); got != want || len(rows) != rounds {
		t.Errorf("serve lists\n%s\nwant\n%s", got, want)
	}
}

// TestAttachRefused: what a serve will never take is not offered again, and a run
// without a serve says what is left.
func TestAttachRefused(t *testing.T) {
	quickly(t)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	socket := filepath.Join(t.TempDir(), "s")
	s, err := store.CreateUnlinked("", flow.Session{ID: store.NewID(time.Now()), Started: time.Now()}, store.Options{Redact: redact.New([32]byte{})})
	if err != nil {
		t.Fatal(err)
	}
	r := &script{t: t, s: s, at: time.Now()}
	emit(r.open("a.test", 443, nil)).request(1, "GET", "a.test", "/", "")
	a := send(t, socket, s)
	r.finish()
	if kept, left, err := a.finish(t.Logf); kept != nil || left != 1 || !errors.Is(err, control.ErrNoServe) {
		t.Errorf("without a serve: %+v, %d left, %v", kept, left, err)
	}

	k := keepRuns(t, socket, t.TempDir())
	if _, err := k.Open("01M800N46H4AHABFPFBVRSPVC0", control.Hello{Format: 99}); !strings.Contains(err.Error(), "format 99") {
		t.Errorf("another format: %v", err)
	}
	if len(k.attached()) != 0 {
		t.Errorf("attached: %+v", k.attached())
	}
	if _, err := k.Take("01M800N46H4AHABFPFBVRSPVC0", "", nil); !errors.Is(err, control.ErrPosition) {
		t.Errorf("batch of a session that nobody began: %v", err)
	}
	if _, err := k.End("01M800N46H4AHABFPFBVRSPVC0", control.End{}); !errors.Is(err, control.ErrPosition) {
		t.Errorf("end of a session that nobody began: %v", err)
	}
}
