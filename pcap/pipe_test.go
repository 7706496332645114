package pcap

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func makePipe(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestPipe: the reader of a pipe may come late, and reads all.
func TestPipe(t *testing.T) {
	name := makePipe(t)
	read := make(chan []byte)
	go func() {
		time.Sleep(5 * readerPoll) // while Create waits
		f, err := os.Open(name)
		if err != nil {
			t.Error(err)
			close(read)
			return
		}
		defer f.Close()
		b, _ := io.ReadAll(f)
		read <- b
	}()
	w, err := Create(name, Options{})
	if err != nil {
		t.Fatal(err)
	}
	packet := bytes.Repeat([]byte("p"), 50000)
	for range 100 { // more than the pipe holds
		w.Packet(false, packet)
	}
	if sum, err := w.Close(); err != nil || sum.Written != 100 {
		t.Errorf("%+v, %v", sum, err)
	}
	p, rest, err := parse(<-read)
	if err != nil || len(rest) > 0 || len(p.packets()) != 100 || !p.ended {
		t.Errorf("%d packets, %d bytes behind, %v", len(p.packets()), len(rest), err)
	}
}

// TestPipeClosed: a reader that goes ends the capture, nothing else.
func TestPipeClosed(t *testing.T) {
	name := makePipe(t)
	r, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Create(name, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.Packet(true, []byte("packet"))
	if sum, err := w.Close(); !errors.Is(err, syscall.EPIPE) || !strings.Contains(err.Error(), name) || sum.Dropped != 1 {
		t.Errorf("%+v, %v", sum, err)
	}
}

// TestPipeStuck: a reader that takes nothing delays the end by patience only,
// also when the writer waits for it already.
func TestPipeStuck(t *testing.T) {
	name := makePipe(t)
	r, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := Create(name, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		w.Packet(true, make([]byte, 50000))
	}
	time.Sleep(delay + delay/5) // now it writes
	for range 100 {
		w.Packet(true, make([]byte, 50000))
	}
	start := time.Now()
	sum, err := w.Close()
	if took := time.Since(start); took > 3*patience {
		t.Errorf("took %v", took)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || sum.Written+sum.Dropped != 200 {
		t.Errorf("%+v, %v", sum, err)
	}
}

// TestPipeOfOthers: what somebody else put there is refused.
func TestPipeOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a pipe away")
	}
	name := makePipe(t)
	if err := os.Chown(name, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := Create(name, Options{}); err == nil || !strings.Contains(err.Error(), "12345") {
		t.Errorf("a foreign pipe: %v", err)
	}
	t.Setenv("SUDO_UID", "12345")
	w, err := Create(name, Options{})
	if err != nil {
		t.Fatalf("the pipe of who called sudo: %v", err)
	}
	w.Close()
}
