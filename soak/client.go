package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// An order is what the client is told to do: a line of JSON on its standard
// input. It answers each with a line.
type order struct {
	Do    string // "go", "stop", "count", "hoard", "release"
	Until []int  // of "count": how far each worker goes, and then stops
	N     int    // of "hoard"
}

// A reply says that an order was carried out.
type reply struct {
	Outcomes map[string]int // of "hoard": what came of the connections
}

// A client does what the plans say, in whatever namespace it was started.
type client struct {
	seed   uint64
	direct map[string]string // where names lead, if not where the resolver says
	roots  *x509.CertPool
	next   [workers]int
	stop   chan struct{}
	until  []int
	wait   sync.WaitGroup
	web    [2]*http.Transport // HTTP/1, HTTP/2
	held   []net.Conn

	mu  sync.Mutex
	log *json.Encoder
}

// serveClient is the process.
func serveClient(args []string) error {
	f := flag.NewFlagSet("client", flag.ExitOnError)
	c := &client{direct: map[string]string{}}
	f.Uint64Var(&c.seed, "seed", 1, "of the plans")
	log := f.String("log", "", "append what was seen to `FILE`")
	ca := f.String("ca", "", "a root to trust besides the system's")
	f.Func("direct", "NAME:PORT=ADDRESS", func(s string) error {
		name, addr, _ := strings.Cut(s, "=")
		c.direct[name] = addr
		return nil
	})
	if err := f.Parse(args); err != nil {
		return err
	}
	var err error
	if c.roots, err = x509.SystemCertPool(); err != nil {
		c.roots = x509.NewCertPool()
	}
	text, err := os.ReadFile(*ca)
	if err != nil {
		return err
	}
	c.roots.AppendCertsFromPEM(text)
	file, err := os.OpenFile(*log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	c.log = json.NewEncoder(file)
	in := json.NewDecoder(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(&reply{}); err != nil {
		return err
	}
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := out.Encode(c.do(&o)); err != nil {
			return err
		}
	}
}

func (c *client) do(o *order) *reply {
	r := &reply{}
	switch o.Do {
	case "go", "count":
		c.until = o.Until
		c.begin()
		if o.Do == "count" {
			c.wait.Wait()
			c.end()
		}
	case "stop":
		close(c.stop)
		c.wait.Wait()
		c.end()
	case "hoard":
		r.Outcomes = c.hoard(o.N)
	case "release":
		for _, conn := range c.held {
			conn.Close()
		}
		c.held = nil
	}
	return r
}

// begin starts the workers.
func (c *client) begin() {
	c.stop = make(chan struct{})
	for i := range c.web {
		t := &http.Transport{DialContext: c.dial, TLSClientConfig: &tls.Config{RootCAs: c.roots}, MaxIdleConnsPerHost: workers,
			DisableCompression: true, Protocols: new(http.Protocols)}
		t.Protocols.SetHTTP1(i == 0)
		t.Protocols.SetHTTP2(i == 1)
		c.web[i] = t
	}
	for w := range workers {
		c.wait.Go(func() { c.work(w) })
	}
}

// end closes what the workers left open.
func (c *client) end() {
	for _, t := range c.web {
		t.CloseIdleConnections()
	}
}

func (c *client) work(w int) {
	for c.until == nil || c.next[w] < c.until[w] {
		select {
		case <-c.stop:
			return
		default:
		}
		p := planOf(c.seed, w, c.next[w])
		c.next[w]++
		s := &seen{ID: p.ID, Kind: p.Kind, Start: time.Now()}
		s.Outcome = outcome(c.exchange(&p, s))
		s.End = time.Now()
		c.note(s)
		time.Sleep(p.Pause)
	}
}

// note writes what was seen at once: whoever kills us may read it.
func (c *client) note(s *seen) {
	s.Sent.done()
	s.Received.done()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log.Encode(s)
}

func (c *client) exchange(p *plan, s *seen) error {
	switch p.Kind {
	case kindSocket, kindBadWS:
		return c.socket(p, s)
	case kindRaw, kindRawRST:
		return c.raw(p, s)
	case kindJunk:
		conn, err := c.dial(context.Background(), "tcp", junkName+":443")
		if err != nil {
			return err
		}
		defer conn.Close()
		s.Src = conn.LocalAddr().String()
		conn.SetDeadline(time.Now().Add(longest))
		return tls.Client(conn, &tls.Config{RootCAs: c.roots, ServerName: junkName}).Handshake()
	case kindRefused:
		conn, err := c.dial(context.Background(), "tcp", refusedName+":81")
		if err == nil {
			conn.Close()
		}
		return err
	}
	return c.request(p, s)
}

// longest is how long an exchange that ends takes on a busy machine.
const longest = 100 * time.Second

func (c *client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if to := c.direct[addr]; to != "" {
		addr = to
	}
	d := net.Dialer{Timeout: longest}
	return d.DialContext(ctx, network, addr)
}

// request makes a request of HTTP. It is POST, which is not tried again behind
// our back.
func (c *client) request(p *plan, s *seen) error {
	wait := longest
	if p.Kind == kindNever {
		wait = patience
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	url := fmt.Sprintf("https://%s/%d?kind=%s&down=%d", webName, p.ID, p.Kind, p.Down)
	if p.Clear {
		url = "http" + strings.TrimPrefix(url, "https")
	}
	if p.Chunked {
		url += "&chunked=1"
	}
	var text io.Reader
	var up sharedTally
	defer func() { s.Sent = up.end() }()
	if p.Up > 0 {
		text = io.TeeReader(body(p.ID, "up", p.Up), &up)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, text)
	if err != nil {
		return err
	}
	if !p.Chunked {
		r.ContentLength = int64(p.Up)
	}
	t := c.web[0]
	if p.H2 {
		t = c.web[1]
	}
	resp, err := t.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	s.Status = resp.StatusCode
	_, err = io.Copy(&s.Received, resp.Body)
	return err
}

// outcome names what came of an exchange, alike wherever it came from.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	var record tls.RecordHeaderError
	text := err.Error()
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.As(err, &record):
		return "no TLS"
	case strings.Contains(text, "stream error:"):
		return "stream reset"
	case strings.Contains(text, "malformed"), strings.Contains(text, "invalid byte in chunk length"):
		return "malformed"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "eof"
	}
	return text
}

// socket sends messages over a WebSocket and wants each back.
func (c *client) socket(p *plan, s *seen) error {
	port := ":443"
	if p.Clear {
		port = ":80"
	}
	conn, err := c.dial(context.Background(), "tcp", webName+port)
	if err != nil {
		return err
	}
	defer conn.Close()
	if !p.Clear {
		conn = tls.Client(conn, &tls.Config{RootCAs: c.roots, ServerName: webName})
	}
	conn.SetDeadline(time.Now().Add(longest))
	const key = "AAAAAAAAAAAAAAAAAAAAAA=="
	fmt.Fprintf(conn, "GET /%d?kind=%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
		p.ID, p.Kind, webName, key)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	if s.Status = resp.StatusCode; s.Status != http.StatusSwitchingProtocols {
		return errors.New(resp.Status)
	}
	for i := range p.Up {
		text, _ := io.ReadAll(body(p.ID+int64(i), "message", 1+(i*997+int(p.ID))%3000))
		if _, err := conn.Write(frame(opBinary, text, true)); err != nil {
			return err
		}
		s.Sent.Write(text)
		_, got, err := readFrame(in)
		if err != nil {
			return err
		}
		s.Received.Write(got)
		s.Messages++
	}
	if _, err := conn.Write(frame(opClose, []byte{3, 232}, true)); err != nil {
		return err
	}
	_, _, err = readFrame(in)
	return err
}
