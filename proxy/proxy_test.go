package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"trace/flow"
	"trace/mitm"
)

// panicking is a tap whose decoder has a fault.
type panicking struct{}

func (panicking) Data(flow.Side, time.Time, []byte)  { panic("fault") }
func (panicking) End(flow.Side, time.Time, flow.How) {}
func (panicking) Close(time.Time)                    {}

// TestUpgrade carries an upgrade and what follows it, both ways, to a server of which
// the log has every byte, though the decoder panics.
func TestUpgrade(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	came := make(chan string, 1)
	go func() {
		c, err := server.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 1<<10)
		n, _ := c.Read(b)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi")
		rest, _ := io.ReadAll(c)
		io.WriteString(c, " bye")
		came <- string(b[:n]) + string(rest)
	}()
	route, err := NewRoute("ws", "http://"+server.Addr().String()+"/base")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var marks int
	p := &Reverse{Routes: Routes{route}, NextID: func() int64 { return 1 },
		NewTap: func(*flow.Conn, func(flow.Event)) mitm.Tap { return panicking{} },
		Record: func(e flow.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == flow.Mark && e.Error.Code == flow.CodePanic {
				marks++
			}
		}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	head := "GET /ws/chat?x HTTP/1.1\r\nhOst:  old\r\nX-a: 1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
	io.WriteString(c, head)
	r := bufio.NewReader(c)
	for line := ""; line != "\r\n"; {
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if b, _ := r.Peek(2); string(b) != "hi" {
		t.Errorf("after the upgrade came %q", b)
	}
	io.WriteString(c, "\x81\x02ok")
	c.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(r); string(rest) != "hi bye" || err != nil {
		t.Errorf("the child read %q, %v", rest, err)
	}
	want := strings.NewReplacer("/ws/chat", "/base/chat", "old", server.Addr().String()).Replace(head) + "\x81\x02ok"
	if got := <-came; got != want {
		t.Errorf("the server read %q, want %q", got, want)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if marks != 2 {
		t.Errorf("%d marks of a decoder that failed, want 2", marks)
	}
}

// TestAnswerToHEAD has what trace answers itself to HEAD end with its head.
func TestAnswerToHEAD(t *testing.T) {
	for _, method := range []string{"GET", "HEAD"} {
		p := string(answerTo(method, 502, "no"))
		if body := strings.HasSuffix(p, "trace: no\n"); body != (method == "GET") || !strings.Contains(p, "Content-Length: 10\r\n") || !strings.Contains(p, "\r\n\r\n") {
			t.Errorf("%s: %q", method, p)
		}
	}
}
