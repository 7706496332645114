package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"trace/store"
)

// How long the reader of a pipe is waited for: until it opens it, and, when
// the run is over, until it takes more of what is left. Variables for tests.
var (
	jsonlOpenWait  = 10 * time.Second
	jsonlCloseWait = 5 * time.Second
)

// A jsonlWriter follows the store and writes the live event log.
type jsonlWriter struct {
	file   *os.File
	r      *store.Reader
	ending atomic.Bool
	done   chan error
}

func newJSONLWriter(path string, s *store.Store) (*jsonlWriter, error) {
	f, err := openEventLog(path)
	if err != nil {
		return nil, err
	}
	r, err := s.Reader()
	if err != nil {
		f.Close()
		return nil, err
	}
	w := &jsonlWriter{file: f, r: r, done: make(chan error, 1)}
	go func() { w.done <- followJSONL(context.Background(), r, w) }()
	return w, nil
}

// openEventLog opens the file for an event log. For the reader of a pipe it waits,
// but not for ever: the command waits too.
func openEventLog(path string) (*os.File, error) {
	for patient := time.Now().Add(jsonlOpenWait); ; time.Sleep(20 * time.Millisecond) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|unix.O_NONBLOCK, 0o600)
		switch {
		case !errors.Is(err, syscall.ENXIO) || !isPipe(path):
			return f, err
		case time.Now().After(patient):
			return nil, fmt.Errorf("open %s: nobody reads this pipe", path)
		}
	}
}

func isPipe(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().Type() == fs.ModeNamedPipe
}

// Write writes p. While the run goes on it may take as long as the reader
// likes: nobody waits for it. After that it takes as long as there is
// progress.
func (w *jsonlWriter) Write(p []byte) (n int, err error) {
	for {
		if w.ending.Load() {
			w.hurry()
		}
		k, err := w.file.Write(p[n:])
		n += k
		if k == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// hurry gives the reader of a pipe a last chance; files have no deadlines.
func (w *jsonlWriter) hurry() { w.file.SetWriteDeadline(time.Now().Add(jsonlCloseWait)) }

// close waits until the session's end has been written, or the reader of a
// pipe takes nothing any more.
func (w *jsonlWriter) close() error {
	w.ending.Store(true)
	w.hurry()
	err := <-w.done
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("its reader took nothing for %v: the rest of the event log is missing there", jsonlCloseWait)
	}
	if err := errors.Join(err, w.r.Close(), w.file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", w.file.Name(), err)
	}
	return nil
}
