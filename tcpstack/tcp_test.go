package tcpstack_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"trace/tcpstack"
)

// noise is n bytes that are the same for the same seed.
func noise(seed uint64, n int64) io.Reader {
	var key [32]byte
	key[0] = byte(seed)
	return io.LimitReader(rand.NewChaCha8(key), n)
}

func sum(r io.Reader) (h [sha256.Size]byte, n int64, err error) {
	var w hash.Hash = sha256.New()
	n, err = io.Copy(w, r)
	w.Sum(h[:0])
	return h, n, err
}

// TestBothWays sends random data in both directions at once and compares
// hashes at the far ends; each side ends its own direction first.
func TestBothWays(t *testing.T) {
	const size = 24<<20 + 12345
	type result struct {
		hash  [sha256.Size]byte
		n     int64
		err   error
		local string
	}
	results := make(chan result, 1)
	opt := tcpstack.Options{Accept: accept(t, func(c *tcpstack.Conn) {
		written := make(chan struct{})
		go func() {
			defer close(written)
			if _, err := io.CopyBuffer(onlyWriter{c}, noise(2, size), make([]byte, 256<<10)); err != nil {
				t.Error(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
		}()
		h, n, err := sum(c)
		<-written
		results <- result{h, n, err, c.LocalAddr().String()}
	})}
	wantUp, _, _ := sum(noise(1, size))
	wantDown, _, _ := sum(noise(2, size))
	each(t, opt, func(t *testing.T, r *road) {
		families(t, func(t *testing.T, network, addr string) {
			c, err := r.dial(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go func() {
				if _, err := io.Copy(onlyWriter{c}, noise(1, size)); err != nil {
					t.Error(err)
				}
				c.(*net.TCPConn).CloseWrite()
			}()
			down, n, err := sum(c)
			if err != nil || n != size || down != wantDown {
				t.Errorf("child received %d bytes, %v; want %d, same hash: %v", n, err, size, down == wantDown)
			}
			up := <-results
			if up.err != nil || up.n != size || up.hash != wantUp || up.local != addr {
				t.Errorf("stack received %d bytes for %s, %v; want %d, same hash: %v", up.n, up.local, up.err, size, up.hash == wantUp)
			}
		})
		if s := r.stack.Stats(); s.Malformed != 0 || s.WriteErrors != 0 || s.ReadErrors != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// onlyWriter hides ReadFrom.
type onlyWriter struct{ io.Writer }

// TestHalfClose lets each side go on after the other has ended.
func TestHalfClose(t *testing.T) {
	done := make(chan struct{}, 2)
	opt := tcpstack.Options{Accept: accept(t, func(c *tcpstack.Conn) {
		defer func() { done <- struct{}{} }()
		if c.LocalAddr().(*net.TCPAddr).Port == 443 { // the child ends first
			all, err := io.ReadAll(c)
			if err != nil {
				t.Error(err)
			}
			c.Write(all)
			return
		}
		c.Write([]byte("first"))
		c.CloseWrite()
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write after CloseWrite: %v", err)
		}
		if all, err := io.ReadAll(c); err != nil || string(all) != "second" {
			t.Errorf("%q, %v", all, err)
		}
	})}
	each(t, opt, func(t *testing.T, r *road) {
		c, err := r.dial("tcp", "192.0.2.7:443")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write([]byte("question"))
		closeWrite(t, c)
		if all, err := io.ReadAll(c); err != nil || string(all) != "question" {
			t.Errorf("after our FIN: %q, %v", all, err)
		}

		if c, err = r.dial("tcp", "192.0.2.7:80"); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if all, err := io.ReadAll(c); err != nil || string(all) != "first" {
			t.Errorf("to its FIN: %q, %v", all, err)
		}
		if _, err := c.Write([]byte("second")); err != nil {
			t.Error(err)
		}
		closeWrite(t, c)
		<-done
		<-done
	})
}

// TestResetToChild resets after more was written than the child has read:
// all of it must arrive, then ECONNRESET.
func TestResetToChild(t *testing.T) {
	const size = 3 << 20
	opt := tcpstack.Options{Accept: accept(t, func(c *tcpstack.Conn) {
		if _, err := io.CopyBuffer(onlyWriter{c}, noise(3, size), make([]byte, 256<<10)); err != nil {
			t.Error(err)
		}
		if err := c.Reset(); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after Reset: %v", err)
		}
	})}
	want, _, _ := sum(noise(3, size))
	each(t, opt, func(t *testing.T, r *road) {
		families(t, func(t *testing.T, network, addr string) {
			c, err := r.dial(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			time.Sleep(50 * time.Millisecond) // Reset waits for us
			h, n, err := sum(c)
			if n != size || h != want || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%d bytes, %v; want %d, ECONNRESET", n, err, size)
			}
		})
	})
}

// TestResetImpatient resets a connection whose child reads nothing.
func TestResetImpatient(t *testing.T) {
	took := make(chan time.Duration, 1)
	opt := tcpstack.Options{Accept: accept(t, func(c *tcpstack.Conn) {
		c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		io.Copy(onlyWriter{c}, noise(3, 64<<20))
		start := time.Now()
		c.Reset()
		took <- time.Since(start)
	})}
	r := newRoad(t, "direct", "tun", opt)
	c, err := r.dial("tcp", dst["tcp4"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if d := <-took; d < 2*time.Second || d > 6*time.Second {
		t.Errorf("Reset took %v", d)
	}
	if _, _, err := sum(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want ECONNRESET", err)
	}
}

// TestResetByChild has the child reset after it sent something: that is
// read, then ECONNRESET comes out of Read, Write and Lost.
func TestResetByChild(t *testing.T) {
	done := make(chan struct{}, 1)
	opt := tcpstack.Options{Accept: accept(t, func(c *tcpstack.Conn) {
		defer func() { done <- struct{}{} }()
		c.Write([]byte("ready"))
		<-c.Lost()
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write: %v", err)
		}
		if all, err := io.ReadAll(c); string(all) != "last words" || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %q, %v", all, err)
		}
	})}
	each(t, opt, func(t *testing.T, r *road) {
		c, err := r.dial("tcp", dst["tcp4"])
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(c, make([]byte, 5))
		c.Write([]byte("last words"))
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
		<-done
	})
}

// TestResetAfterFIN has the child end its side and then vanish; nobody reads
// any more, but Lost tells.
func TestResetAfterFIN(t *testing.T) {
	done := make(chan struct{})
	opt := tcpstack.Options{Accept: accept(t, func(c *tcpstack.Conn) {
		defer close(done)
		if _, err := io.ReadAll(c); err != nil {
			t.Error(err)
		}
		c.Write([]byte("ready"))
		<-c.Lost()
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write: %v", err)
		}
	})}
	r := newRoad(t, "direct", "tun", opt)
	c, err := r.dial("tcp", dst["tcp4"])
	if err != nil {
		t.Fatal(err)
	}
	closeWrite(t, c)
	io.ReadFull(c, make([]byte, 5))
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	<-done
}

// TestSmallWrites lets thousands of small writes wait for a child that does
// not read, so that a segment is made of hundreds of them.
func TestSmallWrites(t *testing.T) {
	var want []byte
	want = append(want, bytes.Repeat([]byte("."), 64<<10)...)
	for i := range 4000 {
		want = fmt.Appendf(want, "%d,", i)
	}
	written := make(chan struct{}, 1)
	opt := tcpstack.Options{Accept: accept(t, func(c *tcpstack.Conn) {
		rest := want
		for n := 64 << 10; len(rest) > 0; n = bytes.IndexByte(rest, ',') + 1 {
			if _, err := c.Write(rest[:n]); err != nil {
				t.Error(err)
				break
			}
			rest = rest[n:]
		}
		written <- struct{}{}
		c.CloseWrite()
	})}
	each(t, opt, func(t *testing.T, r *road) {
		d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
			raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10) })
			return err
		}}
		families(t, func(t *testing.T, network, addr string) {
			var c net.Conn
			err := r.do(func() (err error) {
				c, err = d.Dial(network, addr)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			<-written
			if all, err := io.ReadAll(c); err != nil || !bytes.Equal(all, want) {
				t.Errorf("%d bytes of %d, %v", len(all), len(want), err)
			}
			if s := r.stack.Stats(); s.WriteErrors != 0 {
				t.Errorf("%+v", s)
			}
		})
	})
}

// TestSizes sends through segments and links of unusual sizes.
func TestSizes(t *testing.T) {
	const size = 1 << 20
	want, _, _ := sum(noise(4, size))
	opt := tcpstack.Options{Accept: accept(t, func(c *tcpstack.Conn) {
		all, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		c.Write(all)
	})}
	through := func(t *testing.T, r *road, segment int) {
		var d net.Dialer
		d.Control = func(_, _ string, raw syscall.RawConn) (err error) {
			raw.Control(func(fd uintptr) {
				if segment != 0 {
					err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, segment)
				}
			})
			return err
		}
		for _, addr := range dst {
			var c net.Conn
			err := r.do(func() (err error) {
				c, err = d.Dial("tcp", addr)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go func() {
				io.Copy(onlyWriter{c}, noise(4, size))
				c.(*net.TCPConn).CloseWrite()
			}()
			if h, n, err := sum(c); err != nil || n != size || h != want {
				t.Errorf("segments of %d, %s: %d bytes, %v; want %d", segment, addr, n, err, size)
			}
		}
		if s := r.stack.Stats(); s.Malformed != 0 {
			t.Errorf("%+v", s)
		}
	}
	each(t, opt, func(t *testing.T, r *road) {
		through(t, r, 536)
		through(t, r, 1000)
	})
	for _, mtu := range []int{1280, 9000, 65520, 65535} {
		for _, device := range []string{"tun", "veth"} {
			through(t, newRoadMTU(t, "direct", device, mtu, opt), 0)
		}
	}
}
