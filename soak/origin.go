package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"trace/testcert"
)

// An origin is the server of a play, in this process.
type origin struct {
	tls, clear, raw, junk, refused int             // ports
	servers                        [2]*http.Server // with TLS, and without
	listeners                      []net.Listener
	wait                           sync.WaitGroup
	bound                          int // a socket

	mu   sync.Mutex
	log  map[int64][]*seen // an id is seen again only where a client tries again
	open map[net.Conn]bool // of plain TCP
}

// startOrigin listens on loopback, and writes its root to file.
func startOrigin(file string) (*origin, error) {
	root, cert, err := testcert.New(webName)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, root, 0o644); err != nil {
		return nil, err
	}
	o := &origin{log: map[int64][]*seen{}, open: map[net.Conn]bool{}}
	if err := o.refuse(); err != nil {
		return nil, err
	}
	for _, p := range []*int{&o.tls, &o.clear, &o.raw, &o.junk} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			o.stop()
			return nil, err
		}
		*p = l.Addr().(*net.TCPAddr).Port
		o.listeners = append(o.listeners, l)
	}
	for i := range o.servers {
		o.servers[i] = &http.Server{Handler: http.HandlerFunc(o.answer), ErrorLog: log.New(io.Discard, "", 0), Protocols: new(http.Protocols)}
		o.servers[i].Protocols.SetHTTP1(true)
		o.servers[i].Protocols.SetHTTP2(i == 0)
	}
	o.servers[0].TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	o.wait.Go(func() { o.servers[0].ServeTLS(o.listeners[0], "", "") })
	o.wait.Go(func() { o.servers[1].Serve(o.listeners[1]) })
	o.wait.Go(func() { o.accept(o.listeners[2], o.serveRaw) })
	o.wait.Go(func() { o.accept(o.listeners[3], o.serveJunk) })
	return o, nil
}

// refuse binds a socket that does not listen: nobody else gets its port.
func (o *origin) refuse() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	o.bound = fd
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	name, err := unix.Getsockname(fd)
	if err == nil {
		o.refused = name.(*unix.SockaddrInet4).Port
	}
	return err
}

// stop ends the origin and waits for it. The log may be read then.
func (o *origin) stop() {
	unix.Close(o.bound)
	for _, l := range o.listeners {
		l.Close()
	}
	for _, s := range o.servers {
		if s != nil {
			s.Close()
		}
	}
	o.mu.Lock()
	for c := range o.open {
		c.Close()
	}
	o.mu.Unlock()
	o.wait.Wait()
}

// note keeps what was seen.
func (o *origin) note(s *seen) {
	s.Sent.done()
	s.Received.done()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log[s.ID] = append(o.log[s.ID], s)
}

// answer does what the path asks for: /ID?kind=KIND&down=N&chunked=1.
func (o *origin) answer(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/"), 10, 64)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	q := r.URL.Query()
	s := &seen{ID: id, Kind: q.Get("kind"), Status: http.StatusOK}
	defer o.note(s)
	if s.Kind == kindSocket || s.Kind == kindBadWS {
		o.socket(w, r, s)
		return
	}
	_, err = io.Copy(&s.Received, r.Body)
	if s.Whole = err == nil; !s.Whole {
		return
	}
	down, _ := strconv.Atoi(q.Get("down"))
	switch s.Kind {
	case kindSSE:
		sendEvents(w, s, down)
		return
	case kindGarbage:
		hijack(w, "\x00\xff\x15 this is no HTTP\r\n\r\n"+strings.Repeat("\xfe", 200), false)
		return
	case kindBadChunk:
		hijack(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\nworld\r\n", false)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	if q.Get("chunked") == "" || s.Kind == kindCut {
		w.Header().Set("Content-Length", strconv.Itoa(down))
	}
	text := body(id, "down", down)
	first := int64(down)
	if s.Kind != kindPlain {
		first /= 2
	}
	to := io.MultiWriter(w, &s.Sent)
	io.CopyN(to, text, first)
	if s.Kind == kindPlain {
		return
	}
	http.NewResponseController(w).Flush()
	switch s.Kind {
	case kindStall:
		time.Sleep(100 * time.Millisecond)
		io.Copy(to, text)
	case kindNever:
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // nor does it end
	case kindReset, kindCut:
		if r.ProtoMajor == 2 {
			panic(http.ErrAbortHandler)
		}
		hijack(w, "", s.Kind == kindReset)
	}
}

// hijack writes text as it is and closes the connection, by force or not.
func hijack(w http.ResponseWriter, text string, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	io.WriteString(conn, text)
	if reset {
		under := conn
		if t, ok := conn.(*tls.Conn); ok {
			under = t.NetConn()
		}
		under.(*net.TCPConn).SetLinger(0)
		under.Close()
		return
	}
	conn.Close()
}

func sendEvents(w http.ResponseWriter, s *seen, n int) {
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range n {
		if _, err := io.WriteString(io.MultiWriter(w, &s.Sent), event(s.ID, i)); err != nil {
			return
		}
		http.NewResponseController(w).Flush()
		time.Sleep(time.Millisecond)
	}
}

// socket echoes the messages of a WebSocket.
func (o *origin) socket(w http.ResponseWriter, r *http.Request, s *seen) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	s.Status = http.StatusSwitchingProtocols
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", acceptOf(r.Header.Get("Sec-WebSocket-Key")))
	for {
		op, p, err := readFrame(rw.Reader)
		if err != nil {
			return
		}
		if op == opClose {
			s.Whole = true
			conn.Write(frame(opClose, p, false))
			return
		}
		s.Received.Write(p)
		s.Messages++
		reply := frame(op, p, false)
		if s.Kind == kindBadWS {
			reply[0] |= 0x70 // reserved bits
		}
		if _, err := conn.Write(reply); err != nil {
			return
		}
		s.Sent.Write(p)
	}
}

func (o *origin) accept(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		o.mu.Lock()
		o.open[c] = true
		o.mu.Unlock()
		o.wait.Go(func() {
			serve(c)
			c.Close()
			o.mu.Lock()
			delete(o.open, c)
			o.mu.Unlock()
		})
	}
}

// rawHead is how plain TCP begins: a byte that can begin no request, what is
// wanted, and the id.
const rawHead = 1 + 1 + 8

// What is wanted.
const (
	rawEcho = iota
	rawReset
	rawHold
)

// serveRaw serves plain TCP.
func (o *origin) serveRaw(c net.Conn) {
	var head [rawHead]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return
	}
	s := &seen{ID: int64(binary.BigEndian.Uint64(head[2:])), Kind: kindRaw}
	s.Received.Write(head[:])
	if head[1] == rawHold {
		c.Write(head[:1])
		io.Copy(io.Discard, c)
		return
	}
	defer o.note(s)
	in := bufio.NewReader(c)
	if head[1] == rawReset {
		s.Kind = kindRawRST
		io.CopyN(&s.Received, in, 1)
		io.CopyN(io.MultiWriter(c, &s.Sent), body(s.ID, "down", 1000), 1000)
		c.(*net.TCPConn).SetLinger(0)
		return
	}
	n, err := io.Copy(&s.Received, in)
	if s.Whole = err == nil; s.Whole {
		io.Copy(io.MultiWriter(c, &s.Sent), body(s.ID, "down", int(n)))
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
	}
}

// serveJunk answers a ClientHello with what is no TLS.
func (o *origin) serveJunk(c net.Conn) {
	c.Read(make([]byte, 4096))
	io.WriteString(c, "-ERR this is not the port you want\r\n")
	c.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, c)
}
