package mitm

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// gate is a CONNECT proxy that gives its answers by turns; the last again and
// again. After one with a 2xx it carries what comes to the origin.
type gate struct {
	addr    string
	origin  string
	answers []string

	mu    sync.Mutex
	heads []string
	turn  int
}

func newGate(t *testing.T, origin string, answers ...string) *gate {
	g := &gate{origin: origin, answers: answers}
	g.addr = listen(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			answer := g.next(r)
			if _, err := io.WriteString(c, answer); err != nil || answer == "" {
				return
			}
			if strings.Contains(answer, "HTTP/1.1 2") {
				break
			}
		}
		g.carry(c.(*net.TCPConn), r)
	})
	return g
}

// next reads a request and returns what to answer, "" at the end.
func (g *gate) next(r *bufio.Reader) string {
	head := ""
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := r.ReadString('\n')
		if err != nil {
			return ""
		}
		head += line
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.heads = append(g.heads, head)
	answer := g.answers[min(g.turn, len(g.answers)-1)]
	g.turn++
	return answer
}

func (g *gate) carry(c *net.TCPConn, r *bufio.Reader) {
	s, err := net.Dial("tcp", g.origin)
	if err != nil {
		return
	}
	defer s.Close()
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(s, r); s.(*net.TCPConn).CloseWrite() })
	io.Copy(c, s)
	c.CloseWrite()
	wg.Wait()
}

func (g *gate) asked() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.heads
}

const (
	made    = "HTTP/1.1 200 Connection established\r\nVia: gate\r\n\r\n"
	asks    = "CONNECT " + host + ":443 HTTP/1.1\r\nHost: " + host + ":443\r\n\r\n"
	asksKey = "CONNECT " + host + ":443 HTTP/1.1\r\nhOST: " + host + ":443\r\nProxy-Authorization: Basic eDp5\r\n\r\n"
	wants   = "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 5\r\n\r\nhello"
	wants2  = "HTTP/1.1 407 Who are you\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
)

// through is a conn to a proxy. Where the child takes the tunnel for granted its
// last request is pending, to be sent with its first bytes, and the answer expected.
type through struct {
	*net.TCPConn
	pending string
	expect  string
}

func (c *through) Write(p []byte) (int, error) {
	q := append([]byte(c.pending), p...)
	c.pending = ""
	_, err := c.TCPConn.Write(q)
	return len(p), err
}

func (c *through) Read(p []byte) (int, error) {
	if c.expect != "" {
		if err := c.hear(c.expect); err != nil {
			return 0, err
		}
		c.expect = ""
	}
	return c.TCPConn.Read(p)
}

func (c *through) hear(want string) error {
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c.TCPConn, got); err != nil || string(got) != want {
		return errors.Join(err, errors.New("the proxy said "+string(got[:n])))
	}
	return nil
}

// ask dials a road and says requests, hearing an answer to each.
func ask(t *testing.T, r *road, early bool, says ...string) *through {
	t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &through{TCPConn: conn.(*net.TCPConn)}
	for ; len(says) > 0; says = says[2:] {
		if early && len(says) == 2 {
			c.pending, c.expect = says[0], says[1]
			break
		}
		if _, err := io.WriteString(conn, says[0]); err != nil {
			t.Fatal(err)
		}
		if err := c.hear(says[1]); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// socketPair returns both ends of a connection.
func socketPair(t *testing.T) (dialled net.Conn, accepted *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if dialled, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return dialled, conn.(*net.TCPConn)
}
