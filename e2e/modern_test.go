package e2e

//lint:file-ignore SA1019 only what is deprecated in Go accepts an Upgrade: h2c

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

// serveModern starts an origin of all that a browser or agent speaks: HTTP/1.1
// and HTTP/2 with TLS on port and in cleartext on clear, WebSockets below
// /ws, and gRPC. In cleartext HTTP/2 is spoken by prior knowledge only, or
// upgrade lets HTTP/1.1 be upgraded too.
func serveModern(t *testing.T, ca *authority, upgrade bool) (o *origin, clear string) {
	t.Helper()
	o = &origin{handler: servePage(), upgrade: upgrade}
	o.raw = o.modern
	o.start(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}, NextProtos: []string{"h2", "http/1.1"}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(o.dispatch), Protocols: &http.Protocols{}, ErrorLog: log.New(io.Discard, "", 0)}
	srv.Protocols.SetHTTP1(true)
	if upgrade {
		srv.Handler = h2c.NewHandler(srv.Handler, &http2.Server{})
	} else {
		srv.Protocols.SetUnencryptedHTTP2(true)
	}
	done := make(chan struct{})
	go func() {
		srv.Serve(l)
		close(done)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	_, clear, _ = net.SplitHostPort(l.Addr().String())
	return o, clear
}

// dispatch serves one request by raw, where that is concerned, or logged.
func (o *origin) dispatch(w http.ResponseWriter, r *http.Request) {
	if o.raw == nil || !o.raw(w, r) {
		o.logged(w, r)
	}
}

// modern serves what cannot wait for the end of the request.
func (o *origin) modern(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case strings.HasPrefix(r.URL.Path, "/ws"):
		o.echoWebSocket(w, r)
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
		o.echoGRPC(w, r)
	default:
		return false
	}
	return true
}

func (o *origin) add(e entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log = append(o.log, e)
}

func (o *origin) entryOf(r *http.Request) entry {
	if o.upgrade && r.Header.Get("Upgrade") == "h2c" {
		r.Proto = "HTTP/2.0" // of its answer
	}
	return entry{method: r.Method, path: r.URL.RequestURI(), proto: r.Proto, userAgent: r.UserAgent(), host: r.Host, headers: r.Header, secure: r.TLS != nil}
}

// echoWebSocket accepts a WebSocket, deflated where the client offers that,
// and sends each message back. /ws/plain accepts no extension, /ws/fresh
// compressors without context takeover.
func (o *origin) echoWebSocket(w http.ResponseWriter, r *http.Request) {
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	defer c.Close()
	p := &plan{WS: &wsPlan{Code: 1000, Closer: "client"}}
	p.WS.Deflate = strings.Contains(r.Header.Get("Sec-Websocket-Extensions"), "permessage-deflate") && r.URL.Path != "/ws/plain"
	if r.URL.Path == "/ws/fresh" {
		p.WS.NoTakeover = [2]bool{true, true}
	}
	head := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + acceptKey(r.Header.Get("Sec-Websocket-Key")) + "\r\n"
	if p.WS.Deflate {
		head += "Sec-WebSocket-Extensions: " + p.WS.accept() + "\r\n"
	}
	io.WriteString(c, head+"\r\n")
	s := &seen{Status: 101}
	e := &ws{p: p, echo: true, r: bufio.NewReader(rw), e: s, w: func(p []byte) error {
		_, err := c.Write(p)
		return err
	}}
	e.run(nil)
	x := o.entryOf(r)
	x.messages = [2][]seenMessage{s.MsgRecvd, s.MsgSent}
	o.add(x)
}

// echoGRPC answers each message of a call with itself as it comes, compressed
// if it was; Unary and ClientStream with the last of them.
func (o *origin) echoGRPC(w http.ResponseWriter, r *http.Request) {
	x := o.entryOf(r)
	var req, resp tally
	in := bufio.NewReader(io.TeeReader(r.Body, &req))
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	if e := r.Header.Get("Grpc-Encoding"); e != "" {
		w.Header().Set("Grpc-Encoding", e)
	}
	w.(http.Flusher).Flush()
	one := strings.HasSuffix(r.URL.Path, "/Unary") || strings.HasSuffix(r.URL.Path, "/ClientStream")
	var last []byte
	send := func(m []byte) {
		x.sent++
		w.Write(m)
		resp.Write(m)
		w.(http.Flusher).Flush()
	}
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(in, head); err != nil {
			break
		}
		m := append(head, make([]byte, binary.BigEndian.Uint32(head[1:]))...)
		if _, err := io.ReadFull(in, m[5:]); err != nil {
			break
		}
		x.received++
		if last = m; !one {
			send(m)
		}
		for range 4 {
			if strings.HasSuffix(r.URL.Path, "/ServerStream") {
				send(m)
			}
		}
	}
	if one {
		send(last)
	}
	w.Header().Set("Grpc-Status", "0")
	req.close()
	resp.close()
	x.reqSize, x.reqHash, x.respSize, x.respHash = req.Size, req.SHA, resp.Size, resp.SHA
	o.add(x)
}
