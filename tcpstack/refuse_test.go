package tcpstack_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"trace/tcpstack"
)

// TestRefuse compares what the child's connect says with what ours would
// have said, for each way to fail.
func TestRefuse(t *testing.T) {
	cases := []struct {
		name string
		err  error
		tcp4 error
		tcp6 error
	}{
		{"refused", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, syscall.ECONNREFUSED, syscall.ECONNREFUSED},
		{"nil", nil, syscall.ECONNREFUSED, syscall.ECONNREFUSED},
		{"unknown", errors.New("out of luck"), syscall.ECONNREFUSED, syscall.ECONNREFUSED},
		{"host", &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, syscall.EHOSTUNREACH, syscall.EHOSTUNREACH},
		{"name", &net.DNSError{Err: "no such host", Name: "x.invalid", IsNotFound: true}, syscall.EHOSTUNREACH, syscall.EHOSTUNREACH},
		{"net", &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}, syscall.ENETUNREACH, syscall.ENETUNREACH},
		{"address", syscall.EADDRNOTAVAIL, syscall.ENETUNREACH, syscall.ENETUNREACH},
		{"firewall", syscall.EPERM, syscall.EHOSTUNREACH, syscall.EACCES},
	}
	var answer atomic.Value
	type box struct{ err error }
	opt := tcpstack.Options{Accept: func(in *tcpstack.Incoming) {
		in.Refuse(answer.Load().(box).err)
		in.Refuse(syscall.EHOSTUNREACH) // too late to count
		if _, err := in.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after refuse: %v", err)
		}
	}}
	each(t, opt, func(t *testing.T, r *road) {
		for _, tt := range cases {
			answer.Store(box{tt.err})
			families(t, func(t *testing.T, network, addr string) {
				want := tt.tcp4
				if network == "tcp6" {
					want = tt.tcp6
				}
				start := time.Now()
				c, err := r.dial(network, addr)
				if c != nil {
					c.Close()
				}
				if took := time.Since(start); !errors.Is(err, want) || took > 900*time.Millisecond {
					t.Errorf("%s: %v after %v, want %v at once; %+v", tt.name, err, took, want, r.stack.Stats())
				}
			})
		}
	})
}

// TestRefuseNobody leaves a connection to a stack that accepts nothing, or
// whose Accept decides nothing.
func TestRefuseNobody(t *testing.T) {
	for _, opt := range []tcpstack.Options{{}, {Accept: func(*tcpstack.Incoming) {}}} {
		r := newRoad(t, "direct", "tun", opt)
		if _, err := r.dial("tcp", dst["tcp4"]); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
	}
}

// TestRefuseTimeout has a dial time out: the child hears nothing, and the
// SYNs that it sends again are no new attempts.
func TestRefuseTimeout(t *testing.T) {
	var attempts atomic.Int32
	opt := tcpstack.Options{Accept: func(in *tcpstack.Incoming) {
		attempts.Add(1)
		in.Refuse(context.DeadlineExceeded)
	}}
	r := newRoad(t, "direct", "tun", opt)
	var err error
	r.do(func() error {
		_, err = (&net.Dialer{Timeout: 1500 * time.Millisecond}).Dial("tcp", dst["tcp4"])
		return nil
	})
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("child got %v, want its own timeout", err)
	}
	if n := attempts.Load(); n != 1 {
		t.Errorf("%d attempts, want 1", n)
	}
	// A new connection from elsewhere is a new attempt.
	r.do(func() error {
		_, err = (&net.Dialer{Timeout: 100 * time.Millisecond}).Dial("tcp", dst["tcp4"])
		return nil
	})
	if n := attempts.Load(); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
}

// connect starts a connection without waiting for it.
func (r *road) connect(t testing.TB) int {
	t.Helper()
	var fd int
	err := r.do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: 443, Addr: [4]byte{192, 0, 2, 7}})
		if errors.Is(err, unix.EINPROGRESS) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestGiveUp has the child close its socket while the dial is pending.
func TestGiveUp(t *testing.T) {
	arrived, decide, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	opt := tcpstack.Options{Accept: func(in *tcpstack.Incoming) {
		close(arrived)
		<-decide
		_, err := in.Accept()
		result <- err
	}}
	r := newRoad(t, "wireguard", "tun", opt)
	fd := r.connect(t)
	<-arrived
	unix.Close(fd)
	close(decide)
	if err := <-result; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("accept: %v, want ECONNRESET", err)
	}
	if s := r.stack.Stats(); s.Abandoned != 1 {
		t.Errorf("%+v", s)
	}
}

// TestCloseAccepting closes the stack while children wait: undecided, in a
// handshake that nobody completes, connected and idle.
func TestCloseAccepting(t *testing.T) {
	stop := make(chan struct{})
	arrived := make(chan error, 16)
	opt := tcpstack.Options{Accept: func(in *tcpstack.Incoming) {
		if in.Dst().Port() == 443 {
			arrived <- nil
			<-stop
			_, err := in.Accept()
			arrived <- err
			return
		}
		c, err := in.Accept()
		if err != nil {
			arrived <- err
			return
		}
		arrived <- nil
		_, err = c.Read(make([]byte, 1))
		arrived <- err
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write: %v", err)
		}
		c.Close()
	}}
	r := newRoad(t, "direct", "tun", opt)
	fd := r.connect(t)
	defer unix.Close(fd)
	<-arrived
	c, err := r.dial("tcp", "192.0.2.7:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-arrived
	time.AfterFunc(50*time.Millisecond, func() { close(stop) })
	r.stack.Close()
	for range 2 {
		if err := <-arrived; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v, want net.ErrClosed", err)
		}
	}
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("child reads %v, want ECONNRESET", err)
	}
}

// TestFlood keeps 5000 SYNs undecided at once, then accepts them all: none
// may be lost or sent twice.
func TestFlood(t *testing.T) {
	const n = 5000
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	if limit.Max < n+100 {
		skip(t, "too few files allowed")
	}
	limit.Cur = limit.Max
	unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)

	var waiting, accepted atomic.Int32
	all, decide, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	failed, fail := context.WithCancel(context.Background())
	opt := tcpstack.Options{Accept: func(in *tcpstack.Incoming) {
		if waiting.Add(1) == n {
			close(all)
		}
		select {
		case <-decide:
		case <-failed.Done():
			return
		}
		c, err := in.Accept()
		if err != nil {
			t.Error(err)
		} else {
			defer c.Close()
		}
		if accepted.Add(1) == n {
			close(done)
		}
		select {
		case <-done:
		case <-failed.Done():
		}
	}}
	r := newRoad(t, "direct", "tun", opt)
	t.Cleanup(fail)
	fds := make([]int, 0, n)
	err := r.do(func() error {
		for range n {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			fds = append(fds, fd)
			err = unix.Connect(fd, &unix.SockaddrInet4{Port: 443, Addr: [4]byte{192, 0, 2, 7}})
			if !errors.Is(err, unix.EINPROGRESS) {
				return err
			}
		}
		return nil
	})
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	wait(t, all, "all SYNs")
	close(decide)
	wait(t, done, "all connections")
	took := time.Since(start)
	t.Logf("%d SYNs in flight, accepted within %v, %+v", n, took, r.stack.Stats())
	if s := r.stack.Stats(); s.SYNs != n || s.SYNsDropped != 0 {
		t.Errorf("%+v", s)
	}
}

func wait(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatalf("%s: not within a minute", what)
	}
}
