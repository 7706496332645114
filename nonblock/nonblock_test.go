package nonblock_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"trace/nonblock"
)

// pipe returns both ends of a pipe that does not block.
func pipe(t *testing.T) (r, w uintptr) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return uintptr(fds[0]), uintptr(fds[1])
}

func TestWouldBlock(t *testing.T) {
	r, w := pipe(t)
	if n, err := nonblock.Read(r, make([]byte, 8)); n != 0 || !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("read of an empty pipe: %d, %v", n, err)
	}
	full := make([]byte, 64<<10)
	wrote := 0
	for {
		n, err := nonblock.Write(w, full)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		wrote += n
	}
	got := 0
	for got < wrote {
		n, err := nonblock.Read(r, full)
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
	if n, err := nonblock.Read(r, full); n != 0 || !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("more came out than went in: %d, %v", n, err)
	}
}

func TestVectors(t *testing.T) {
	r, w := pipe(t)
	n, err := nonblock.Writev(w, []byte("he"), nil, []byte("llo "), []byte("world"))
	if n != 11 || err != nil {
		t.Fatalf("writev: %d, %v", n, err)
	}
	a, b := make([]byte, 3), make([]byte, 20)
	n, err = nonblock.Readv(r, a, b)
	if got := string(a) + string(b[:n-3]); got != "hello world" || err != nil {
		t.Errorf("readv: %q, %v", got, err)
	}
	many := bytes.SplitAfter([]byte("01234567890123456789"), nil)
	if n, err := nonblock.Writev(w, many...); n != 20 || err != nil {
		t.Errorf("writev of 20 pieces: %d, %v", n, err)
	}
	if n, err := nonblock.Read(r, b); string(b[:n]) != "01234567890123456789" || err != nil {
		t.Errorf("20 pieces: %q, %v", b[:n], err)
	}
	if _, err := nonblock.Readv(r, many...); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("readv of 20 pieces: %v", err)
	}
}

func TestErrors(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	fd := f.Fd()
	if n, err := nonblock.Read(fd, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("end of file: %d, %v", n, err)
	}
	f.Close()
	if _, err := nonblock.Read(^uintptr(0), make([]byte, 1)); !errors.Is(err, syscall.EBADF) {
		t.Errorf("no descriptor: %v", err)
	}
	if _, err := nonblock.Write(^uintptr(0), []byte("x")); !errors.Is(err, syscall.EBADF) || errors.Is(err, io.EOF) {
		t.Errorf("no descriptor: %v", err)
	}
}
