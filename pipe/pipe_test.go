package pipe

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/nettest"
)

// TestPipe holds the pipe against what every net.Conn promises.
func TestPipe(t *testing.T) {
	nettest.TestConn(t, func() (a, b net.Conn, stop func(), err error) {
		x, y := New()
		return x, y, func() { x.Close(); y.Close() }, nil
	})
}

// TestPipeEnds: a direction ends alone, and a reset is read behind what was
// sent before.
func TestPipeEnds(t *testing.T) {
	a, b := New()
	a.Write([]byte("last"))
	a.CloseWrite()
	if p, err := io.ReadAll(b); string(p) != "last" || err != nil {
		t.Errorf("%q %v", p, err)
	}
	b.Write([]byte("still"))
	p := make([]byte, 5)
	if n, err := a.Read(p); string(p[:n]) != "still" || err != nil {
		t.Errorf("%q %v", p[:n], err)
	}
	b.Write([]byte("before"))
	b.Reset()
	if p, err := io.ReadAll(a); string(p) != "before" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q %v", p, err)
	}
	if _, err := a.Write([]byte("x")); err == nil {
		t.Error("written to nobody")
	}
	a, b = New()
	go func() {
		io.WriteString(a, strings.Repeat("x", 3*maxPiped))
		a.Close()
	}()
	if n, err := io.Copy(io.Discard, b); n != 3*maxPiped || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}
