package mitm

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"trace/flow"
)

// noise returns n bytes that no protocol begins with.
func noise(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	p := make([]byte, n)
	r.Read(p)
	if n > 0 {
		p[0] = 0xfe
	}
	return p
}

// split writes p in pieces of random size.
func split(w io.Writer, p []byte, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 2))
	for len(p) > 0 {
		n := min(len(p), 1+r.IntN(1<<r.IntN(19)))
		if _, err := w.Write(p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// exchange sends and receives on one end at the same time, and half-closes when it has
// sent all.
func exchange(c halfCloser, send []byte, seed uint64) ([]byte, error) {
	var wg sync.WaitGroup
	var sent error
	wg.Go(func() {
		if sent = split(c, send, seed); sent == nil {
			sent = c.CloseWrite()
		}
	})
	got, err := io.ReadAll(c)
	wg.Wait()
	return got, errors.Join(sent, err)
}

// swap is a server that sends p while it reads all of the client.
func swap(t *testing.T, cfg *tls.Config, p []byte, seed uint64) (string, <-chan []byte) {
	got := make(chan []byte, 16)
	addr := listen(t, func(c net.Conn) {
		conn := c.(halfCloser)
		if cfg != nil {
			s := tls.Server(c, cfg)
			if err := s.Handshake(); err != nil {
				t.Errorf("server: %v", err)
			}
			conn = s
		}
		b, err := exchange(conn, p, seed)
		if err != nil {
			t.Errorf("server: %v", err)
		}
		got <- b
	})
	return addr, got
}

// TestVerbatim: what one end sends is what the other reads and the tap sees,
// both ways at once, half-close included, however it is split.
func TestVerbatim(t *testing.T) {
	cfg := &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}}
	for i, v := range []struct {
		name     string
		up, down int
		tls      bool
	}{
		{"plain", 3 << 20, 5 << 20, false},
		{"plain small", 1, 1, false},
		{"plain upload", 2 << 20, 0, false},
		{"tls", 3 << 20, 5 << 20, true},
		{"tls small", 1, 1, true},
		{"tls download", 1, 4 << 20, true},
		{"tls upload", 4 << 20, 0, true},
	} {
		t.Run(v.name, func(t *testing.T) {
			up, down := noise(uint64(i), v.up), noise(uint64(i)+100, v.down)
			scfg := cfg
			if !v.tls {
				scfg = nil
			}
			addr, served := swap(t, scfg, down, uint64(i))
			r := newRoad(t, addr, nil)
			var c halfCloser
			var err error
			if v.tls {
				c, err = dialTLS(r, &tls.Config{})
			} else {
				var plain net.Conn
				plain, err = net.Dial("tcp", r.addr)
				c = plain.(halfCloser)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got, err := exchange(c, up, uint64(i)+7)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			facts, tap := r.wait()
			for _, x := range []struct {
				what      string
				got, want []byte
			}{
				{"client read", got, down}, {"server read", <-served, up},
				{"tap, client", tap.data[flow.Client].Bytes(), up}, {"tap, server", tap.data[flow.Server].Bytes(), down},
			} {
				if sha256.Sum256(x.got) != sha256.Sum256(x.want) {
					t.Errorf("%s %d bytes, want %d, or others", x.what, len(x.got), len(x.want))
				}
			}
			how := flow.FIN
			if v.tls {
				how = flow.CloseNotify
			}
			if facts.Sent != int64(len(up)) || facts.Received != int64(len(down)) || facts.ChildEnd != how || facts.SrvEnd != how || facts.Decrypted != v.tls {
				t.Errorf("facts %+v", facts)
			}
			if !tap.closed || tap.how[0] != how || tap.how[1] != how {
				t.Errorf("tap closed %v, ends %v", tap.closed, tap.how)
			}
		})
	}
}

// TestEnds: each way to end a TLS stream is carried as itself.
func TestEnds(t *testing.T) {
	cfg := &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}}
	const said = "a few last words"
	for _, v := range []struct {
		name string
		end  func(raw *net.TCPConn, c *tls.Conn)
		how  flow.How
	}{
		{"close_notify", func(_ *net.TCPConn, c *tls.Conn) { c.CloseWrite() }, flow.CloseNotify},
		{"fin", func(raw *net.TCPConn, _ *tls.Conn) { raw.CloseWrite() }, flow.FIN},
		{"both", func(raw *net.TCPConn, c *tls.Conn) { c.CloseWrite(); raw.CloseWrite() }, flow.CloseNotify},
		{"rst", func(raw *net.TCPConn, _ *tls.Conn) { drain(raw); raw.SetLinger(0); raw.Close() }, flow.Reset},
		{"fin in a record", func(raw *net.TCPConn, _ *tls.Conn) { raw.Write([]byte{23, 3, 3, 1, 0, 7, 7}); raw.CloseWrite() }, flow.FIN},
	} {
		for _, ender := range []flow.Side{flow.Client, flow.Server} {
			t.Run(v.name+" by "+ender.String(), func(t *testing.T) {
				type result struct {
					got    string
					how    flow.How
					silent bool // nothing more came, not even FIN
				}
				results := make(chan result, 1)
				// watch reads the end that the other side made.
				watch := func(raw net.Conn) {
					w := &wireConn{Conn: raw}
					c := tls.Server(w, cfg)
					if ender == flow.Server {
						c = tls.Client(w, &tls.Config{InsecureSkipVerify: true})
					}
					var res result
					c.Write([]byte("first"))
					b, err := io.ReadAll(c)
					res.got, res.how = string(b), howEnded(err)
					if err == nil {
						res.how = flow.FIN
						if !w.closed() {
							res.how = flow.CloseNotify
							raw.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
							_, err := raw.Read(make([]byte, 1))
							res.silent = isDeadline(err)
						}
					}
					results <- res
				}
				act := func(raw net.Conn) {
					c := tls.Server(raw, cfg)
					if ender == flow.Client {
						c = tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
					}
					io.ReadFull(c, make([]byte, len("first")))
					io.WriteString(c, said)
					v.end(raw.(*net.TCPConn), c)
					if v.how != flow.Reset {
						raw.SetReadDeadline(time.Now().Add(5 * time.Second))
						io.Copy(io.Discard, raw)
					}
				}
				server, child := watch, act
				if ender == flow.Server {
					server, child = act, watch
				}
				r := newRoad(t, listen(t, server), nil)
				raw, err := net.Dial("tcp", r.addr)
				if err != nil {
					t.Fatal(err)
				}
				go func() { child(raw); raw.Close() }()
				res := <-results
				if res.got != said || res.how != v.how {
					t.Errorf("the other end read %q and then %v, want %q, %v", res.got, res.how, said, v.how)
				}
				if silent := v.name == "close_notify"; v.how == flow.CloseNotify && res.silent != silent {
					t.Errorf("FIN after close_notify: %v, want %v", !res.silent, !silent)
				}
				facts, tap := r.wait()
				if got := tap.how[ender]; got != v.how {
					t.Errorf("tap saw %v", got)
				}
				if got := [2]flow.How{facts.ChildEnd, facts.SrvEnd}[ender]; got != v.how {
					t.Errorf("recorded %v", got)
				}
			})
		}
	}
}

// TestResetDelivers: a reset reaches the other side after what was sent before
// it, whichever side makes it.
func TestResetDelivers(t *testing.T) {
	const size = 1 << 20
	sent := noise(1, size)
	read := func(c net.Conn) ([]byte, error) {
		var b bytes.Buffer
		_, err := io.Copy(&b, c)
		return b.Bytes(), err
	}
	abort := func(c net.Conn) {
		c.Write(sent)
		drain(c)
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	check := func(t *testing.T, got []byte, err error) {
		t.Helper()
		if !bytes.Equal(got, sent) || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read %d bytes of %d, then %v", len(got), size, err)
		}
	}
	t.Run("server", func(t *testing.T) {
		r := newRoad(t, listen(t, abort), nil)
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, err := read(c)
		check(t, got, err)
		if facts, _ := r.wait(); facts.SrvEnd != flow.Reset {
			t.Errorf("recorded %v", facts.SrvEnd)
		}
	})
	t.Run("client", func(t *testing.T) {
		done := make(chan struct{})
		r := newRoad(t, listen(t, func(c net.Conn) {
			got, err := read(c)
			check(t, got, err)
			close(done)
		}), nil)
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		abort(c)
		<-done
		if facts, _ := r.wait(); facts.ChildEnd != flow.Reset {
			t.Errorf("recorded %v", facts.ChildEnd)
		}
	})
}

// panicky is a tap that fails at some byte.
type panicky struct {
	memoryTap
	left int
}

func (p *panicky) Data(side flow.Side, at time.Time, b []byte) {
	if p.left -= len(b); p.left < 0 {
		panic("at random")
	}
	p.memoryTap.Data(side, at, b)
}

// TestPanic: a tap that panics changes no byte, is closed, and leaves a mark.
func TestPanic(t *testing.T) {
	up, down := noise(5, 300<<10), noise(6, 400<<10)
	for _, left := range []int{0, 1, 1000, 100_000, 600_000} {
		addr, served := swap(t, nil, down, 3)
		tap := &panicky{left: left}
		r := newRoad(t, addr, func(p *Proxy) { p.Tap = func(*flow.Conn) Tap { return tap } })
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		got, err := exchange(c.(halfCloser), up, 9)
		if err != nil || !bytes.Equal(got, down) || !bytes.Equal(<-served, up) {
			t.Errorf("%d: bytes changed, %v", left, err)
		}
		c.Close()
		r.wait()
		marks := 0
		for _, e := range r.events {
			if e.Kind == flow.Mark && e.Error.Code == flow.CodePanic && strings.Contains(e.Error.Message, "at random") {
				marks++
			}
		}
		if marks != 1 || !tap.closed {
			t.Errorf("%d: %d marks, closed %v", left, marks, tap.closed)
		}
	}
}
