package main

import (
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"context"
	"errors"
	"syscall"
	"trace/testcert"
)

// originName is what the origin's certificate is for.
const originName = "origin.bench"

// An origin is the server of a run, a process of its own.
type origin struct {
	cmd              *exec.Cmd
	stdin            io.Closer
	RawPort, TLSPort int
	ca               string // its root, a PEM file
}

func startOrigin(dir string) (*origin, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	o := &origin{ca: filepath.Join(dir, "origin.pem")}
	o.cmd = exec.Command(self, "origin", o.ca)
	o.cmd.Stderr = os.Stderr
	stdin, err := o.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	o.stdin = stdin
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := o.cmd.Start(); err != nil {
		return nil, err
	}
	if err := json.NewDecoder(out).Decode(o); err != nil {
		o.stop()
		return nil, fmt.Errorf("origin: %w", err)
	}
	return o, nil
}

func (o *origin) stop() {
	o.stdin.Close()
	o.cmd.Wait()
}

// serveOrigin is the process: it lives until its standard input ends.
func serveOrigin(args []string) error {
	root, cert, err := testcert.New(originName)
	if err != nil {
		return err
	}
	if err := os.WriteFile(args[0], root, 0o644); err != nil {
		return err
	}
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go acceptRaw(raw)
	server := &http.Server{Handler: handler(), TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	go server.ServeTLS(web, "", "")
	// Nobody has this address before startMitmWireguard gives it to loopback.
	free := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		ctl := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
		return errors.Join(ctl, err)
	}}
	if l, err := free.Listen(context.Background(), "tcp4", net.JoinHostPort(wgServer, strconv.Itoa(port(web)))); err == nil {
		go server.ServeTLS(l, "", "")
	}
	json.NewEncoder(os.Stdout).Encode(&origin{RawPort: port(raw), TLSPort: port(web)})
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// handler answers what the tasks ask for.
func handler() http.Handler {
	mux := http.NewServeMux()
	small := filler(1 << 10)
	mux.HandleFunc("/small", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", strconv.Itoa(len(small)))
		w.Write(small)
	})
	block := filler(256 << 10)
	mux.HandleFunc("/down", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(n))
		for n > 0 {
			k, err := w.Write(block[:min(n, len(block))])
			if err != nil {
				return
			}
			n -= k
		}
	})
	mux.HandleFunc("/up", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, 256<<10))
		if err == nil {
			fmt.Fprint(w, n)
		}
	})
	mux.HandleFunc("/events", events)
	mux.HandleFunc("/v1/messages", converse)
	return mux
}

// filler is text that compresses as prose does, not at all like zeros.
func filler(n int) []byte {
	words := []string{"request", "answer", "token", "prompt", "the", "of", "cache", "turn", "\n", "tool", "and", "result", "file", "line"}
	var b []byte
	for x := uint32(1); len(b) < n; {
		x = x*1664525 + 1013904223
		b = append(b, words[x>>16%uint32(len(words))]...)
		b = append(b, ' ')
	}
	return b[:n]
}

// events sends an event stream whose events say when they were sent.
func events(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	w.Header().Set("Content-Type", "text/event-stream")
	flush := w.(http.Flusher).Flush
	tick := time.NewTicker(eventPause)
	defer tick.Stop()
	for range n {
		<-tick.C
		fmt.Fprintf(w, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"sent\":%d,\"delta\":{\"text\":\"word\"}}\n\n", monotonic())
		flush()
	}
}

// eventPause lies between two events.
const eventPause = 5 * time.Millisecond

// converse answers a turn of a conversation with a short stream.
func converse(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range 20 {
		fmt.Fprintf(w, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"word %d \"}}\n\n", i)
	}
}

// monotonic reads the clock that all processes of a machine share.
func monotonic() int64 {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// The first byte of plain TCP says what is wanted. None can begin a request of
// HTTP, which trace would wait for the rest of.
const (
	rawUp = iota + 1
	rawDown
	rawEcho
)

// acceptRaw serves plain TCP.
func acceptRaw(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serveRaw(c)
	}
}

func serveRaw(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 256<<10)
	if _, err := io.ReadFull(c, buf[:1]); err != nil {
		return
	}
	switch buf[0] {
	case rawUp: // up: how much came
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, buf)
		binary.Write(c, binary.BigEndian, n)
	case rawDown: // down, until the client has enough
		for {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	case rawEcho: // echo
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			c.Write(buf[:n])
		}
	}
}
