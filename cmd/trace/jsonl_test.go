package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trace/flow"
	"trace/store"
)

// recordNotes makes a session with n notes, more than a pipe holds.
func recordNotes(t *testing.T, n int) *store.Store {
	t.Helper()
	s, err := store.Create(filepath.Join(t.TempDir(), "s.db"), flow.Session{ID: store.NewID(time.Now()), Started: time.Now()}, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		s.Append(flow.Event{Kind: flow.Mark, At: time.Now(), Error: &flow.Error{Code: flow.CodeLimit, Message: strings.Repeat("x", 200)}})
	}
	return s
}

func pipeFor(t *testing.T, wait time.Duration) string {
	t.Helper()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	open, end := jsonlOpenWait, jsonlCloseWait
	jsonlOpenWait, jsonlCloseWait = wait, wait
	t.Cleanup(func() { jsonlOpenWait, jsonlCloseWait = open, end })
	return pipe
}

// TestEventLogReaderHangs: a reader that has a pipe open and takes nothing
// delays the end of the run by a while, not for ever.
func TestEventLogReaderHangs(t *testing.T) {
	pipe := pipeFor(t, 50*time.Millisecond)
	r, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := recordNotes(t, 2000)
	w, err := newJSONLWriter(pipe, s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Finish(0, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := w.close(); err == nil || !strings.Contains(err.Error(), "took nothing") || !strings.Contains(err.Error(), pipe) {
		t.Errorf("close: %v", err)
	}
}

// TestEventLogReaderIsSlow: one that takes a little now and then gets all.
func TestEventLogReaderIsSlow(t *testing.T) {
	const wait, notes = time.Second, 2000
	pipe := pipeFor(t, wait)
	r, err := os.OpenFile(pipe, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := recordNotes(t, notes)
	w, err := newJSONLWriter(pipe, s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Finish(0, time.Now()); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	begun := time.Now()
	go func() { closed <- w.close() }()
	var got bytes.Buffer
	for p := make([]byte, 64<<10); ; time.Sleep(wait / 7) {
		n, err := r.Read(p)
		got.Write(p[:n])
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if n := bytes.Count(got.Bytes(), []byte(`"type":"error"`)); n != notes {
		t.Errorf("%d of %d notes were read", n, notes)
	}
	if took := time.Since(begun); took < wait {
		t.Errorf("all was read within %v: nothing was slow", took)
	}
}

// TestEventLogWithoutReader: a pipe that nobody opens keeps the command from
// starting, with a reason.
func TestEventLogWithoutReader(t *testing.T) {
	pipe := pipeFor(t, 50*time.Millisecond)
	s := recordNotes(t, 1)
	defer s.Finish(0, time.Now())
	if _, err := newJSONLWriter(pipe, s); err == nil || !strings.Contains(err.Error(), "nobody reads") {
		t.Errorf("opened: %v", err)
	}
}
