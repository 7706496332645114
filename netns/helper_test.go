package netns

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMirror goes both ways over the child's loopback by sockets that the helper made.
func TestMirror(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		r, w := pipe(t)
		c := role(t, kind, "serve 127.0.0.1:0")
		c.Stdout = w
		ns := start(t, c)
		ctx := t.Context()
		// Made before the first instruction of the command: a port that the host serves.
		udp, err := ns.ListenUDP(ctx, "udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp.Close()
		l, err := ns.Listen(ctx, "tcp4", "127.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := ns.Listen(ctx, "tcp4", "127.0.0.1:80"); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("second listener: %v", err)
		}
		if _, err := ns.Dial(ctx, "tcp4", "127.0.0.1:81"); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("dead port: %v", err)
		}
		if l6, err := ns.Listen(ctx, "tcp6", "[::1]:80"); err != nil {
			t.Errorf("IPv6: %v", err)
		} else {
			l6.Close()
		}
		if err := ns.Go(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		p := make([]byte, 100)
		n, _ := r.Read(p)
		addr, _ := cutPrefix(string(p[:n]), "listening ")
		conn, err := ns.Dial(ctx, "tcp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "echo")
		conn.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(conn); string(got) != "echo" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if st, _ := ns.Wait(); st.Code != 0 {
			t.Error(st)
		}
	})
}

func cutPrefix(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || s[:len(prefix)] != prefix {
		return "", false
	}
	s = s[len(prefix):]
	for len(s) > 0 && s[len(s)-1] == '\n' {
		s = s[:len(s)-1]
	}
	return s, true
}

// TestDiag reads the listeners of the child's namespace from outside.
func TestDiag(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		c := config("sleep", "60")
		c.Device = kind
		ns := start(t, c)
		l, err := ns.Listen(t.Context(), "tcp4", "127.0.0.1:4321")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := ns.Diag(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		f.SetDeadline(time.Now().Add(5 * time.Second))
		// nlmsghdr{72, SOCK_DIAG_BY_FAMILY, REQUEST|DUMP}, then inet_diag_req_v2{AF_INET, TCP, states: LISTEN}.
		req := make([]byte, 72)
		req[0], req[4], req[5], req[6], req[7] = 72, 20, 0, 1, 3
		req[16], req[17], req[21] = unix.AF_INET, unix.IPPROTO_TCP, 4
		if _, err := f.Write(req); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 8192)
		n, err := f.Read(p)
		if err != nil || n < 24 || p[16] != unix.AF_INET {
			t.Fatalf("% x, %v", p[:n], err)
		}
		if port := int(p[20])<<8 | int(p[21]); port != 4321 {
			t.Errorf("listener on %d", port)
		}
	})
}

// TestHelperKilled: the child can kill the helper; nothing hangs then and the command goes on.
func TestHelperKilled(t *testing.T) {
	everywhere(t, func(t *testing.T, kind DeviceKind) {
		c := config("sh", "-c", "read x; exit 3")
		c.Device = kind
		r, w := pipe(t)
		c.Stdin = r
		ns := start(t, c)
		if err := ns.Go(); err != nil {
			t.Fatal(err)
		}
		unix.Kill(ns.HelperPID(), unix.SIGSTOP)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := ns.Listen(ctx, "tcp4", "127.0.0.1:0"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stopped helper: %v", err)
		}
		unix.Kill(ns.HelperPID(), unix.SIGCONT)
		if l, err := ns.Listen(t.Context(), "tcp4", "127.0.0.1:0"); err != nil {
			t.Errorf("continued helper: %v", err)
		} else {
			l.Close()
		}
		unix.Kill(ns.HelperPID(), unix.SIGKILL)
		select {
		case <-ns.HelperDone():
		case <-time.After(5 * time.Second):
			t.Fatal("nobody noticed")
		}
		if _, err := ns.Dial(t.Context(), "tcp4", "127.0.0.1:1"); !errors.Is(err, ErrHelperGone) {
			t.Errorf("dead helper: %v", err)
		}
		w.Close()
		if st, err := ns.Wait(); st.Code != 3 || err != nil {
			t.Errorf("%v, %v", st, err)
		}
	})
}
