package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A task is what a client is told to do: one line of JSON on its standard
// input.
type task struct {
	Do   string        `json:"do"`
	H2   bool          `json:"h2,omitempty"`
	Conc int           `json:"conc,omitempty"`
	N    int           `json:"n,omitempty"`    // instead of Time: how many
	Size int           `json:"size,omitempty"` // of a body
	Time time.Duration `json:"time,omitempty"`
}

// An answer is what came of it: one line of JSON on its standard output.
type answer struct {
	N     int     `json:"n"`     // requests, connections, events
	Bytes int64   `json:"bytes"` // of bodies or payload
	Secs  float64 `json:"secs"`
	P50   float64 `json:"p50"` // microseconds
	P99   float64 `json:"p99"`
	Err   string  `json:"err,omitempty"`
}

// A client runs tasks, in whatever namespace it was started.
type client struct {
	raw, tls string // addresses
	proxy    *url.URL
	roots    *x509.CertPool
	held     []net.Conn      // of "hold"
	web      [2]*http.Client // HTTP/1, HTTP/2; kept between tasks
}

// serveTasks is the process.
func serveTasks(args []string) error {
	f := flag.NewFlagSet("client", flag.ExitOnError)
	c := &client{}
	f.StringVar(&c.raw, "raw", "", "address of the raw server")
	f.StringVar(&c.tls, "tls", "", "address of the TLS server")
	proxy := f.String("proxy", "", "an HTTP proxy")
	ca := f.String("ca", "", "roots to trust besides the system's, FILE,FILE")
	if err := f.Parse(args); err != nil {
		return err
	}
	var err error
	if *proxy != "" {
		if c.proxy, err = url.Parse(*proxy); err != nil {
			return err
		}
	}
	if c.roots, err = x509.SystemCertPool(); err != nil {
		c.roots = x509.NewCertPool()
	}
	for _, name := range strings.Split(*ca, ",") {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		c.roots.AppendCertsFromPEM(text)
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var t task
		if err := json.Unmarshal(in.Bytes(), &t); err != nil {
			return err
		}
		a, err := c.do(&t)
		if err != nil {
			a.Err = err.Error()
		}
		line, _ := json.Marshal(a)
		if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return in.Err()
}

func (c *client) do(t *task) (answer, error) {
	switch t.Do {
	case "requests":
		return c.requests(t)
	case "handshakes":
		return c.handshakes(t)
	case "down", "up":
		return c.bulk(t)
	case "rawdown", "rawup":
		return c.rawBulk(t)
	case "events":
		return c.events(t)
	case "hold":
		return c.hold(t)
	case "release":
		for _, conn := range c.held {
			conn.Close()
		}
		c.held = nil
		return answer{}, nil
	case "converse":
		return c.converse(t)
	case "nothing":
		return answer{}, nil
	}
	return answer{}, fmt.Errorf("no task %q", t.Do)
}

// http returns the client for a protocol, made when it is first wanted.
func (c *client) http(h2 bool) *http.Client {
	i := 0
	if h2 {
		i = 1
	}
	if c.web[i] != nil {
		return c.web[i]
	}
	t := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: c.roots, ServerName: originName},
		MaxIdleConnsPerHost: 64, DisableCompression: true,
		ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10,
		Protocols: new(http.Protocols),
	}
	t.Protocols.SetHTTP1(!h2)
	t.Protocols.SetHTTP2(h2)
	if c.proxy != nil {
		t.Proxy = http.ProxyURL(c.proxy)
	}
	c.web[i] = &http.Client{Transport: t}
	return c.web[i]
}

// repeat runs f from conc goroutines until the task's time is up or its number
// reached, and returns how often and how long each took.
func repeat(t *task, f func() (int64, error)) (answer, error) {
	var (
		mu    sync.Mutex
		took  []time.Duration
		a     answer
		fails error
		begun atomic.Int64
		wait  sync.WaitGroup
	)
	start := time.Now()
	worker := func() {
		defer wait.Done()
		var mine []time.Duration
		var bytes int64
		var err error
		for (t.N == 0 && time.Since(start) < t.Time || begun.Add(1) <= int64(t.N)) && err == nil {
			at := time.Now()
			var n int64
			if n, err = f(); err == nil {
				mine = append(mine, time.Since(at))
				bytes += n
			}
		}
		mu.Lock()
		defer mu.Unlock()
		took, a.Bytes = append(took, mine...), a.Bytes+bytes
		fails = errors.Join(fails, err)
	}
	for range max(1, t.Conc) {
		wait.Add(1)
		go worker()
	}
	wait.Wait()
	a.Secs, a.N = time.Since(start).Seconds(), len(took)
	a.P50, a.P99 = quantiles(took)
	return a, fails
}

// quantiles returns the median and the 99th percentile in microseconds.
func quantiles(took []time.Duration) (p50, p99 float64) {
	if len(took) == 0 {
		return 0, 0
	}
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Nanoseconds()) / 1000 }
	return at(0.5), at(0.99)
}

// fetch makes one request and reads the whole answer.
func (c *client) fetch(web *http.Client, method, path string, body io.Reader, size int) (int64, error) {
	r, err := http.NewRequest(method, "https://"+c.tls+path, body)
	if err != nil {
		return 0, err
	}
	r.ContentLength = int64(size)
	resp, err := web.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 64<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return n, err
}

func (c *client) requests(t *task) (answer, error) {
	web := c.http(t.H2)
	if _, err := c.fetch(web, "GET", "/small", nil, 0); err != nil { // the connection is made before
		return answer{}, err
	}
	return repeat(t, func() (int64, error) { return c.fetch(web, "GET", "/small", nil, 0) })
}

func (c *client) bulk(t *task) (answer, error) {
	web := c.http(t.H2)
	if t.Do == "down" {
		return repeat(t, func() (int64, error) { return c.fetch(web, "GET", fmt.Sprintf("/down?n=%d", t.Size), nil, 0) })
	}
	block := filler(1 << 20)
	return repeat(t, func() (int64, error) {
		_, err := c.fetch(web, "POST", "/up", &cycle{block: block, left: t.Size}, t.Size)
		return int64(t.Size), err
	})
}

// cycle reads the same block again and again.
type cycle struct {
	block []byte
	left  int
	at    int
}

func (r *cycle) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.left)], r.block[r.at:])
	r.left -= n
	r.at = (r.at + n) % len(r.block)
	return n, nil
}

// connect dials the TLS server and shakes hands.
func (c *client) connect() (net.Conn, error) {
	conn, err := c.dialTLS()
	if err != nil {
		return nil, err
	}
	s := tls.Client(conn, &tls.Config{RootCAs: c.roots, ServerName: originName, NextProtos: []string{"http/1.1"}})
	if err := s.Handshake(); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

func (c *client) dialTLS() (net.Conn, error) {
	if c.proxy == nil {
		return net.Dial("tcp", c.tls)
	}
	conn, err := net.Dial("tcp", c.proxy.Host)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", c.tls)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

var smallRequest = []byte("GET /small HTTP/1.1\r\nHost: " + originName + "\r\n\r\n")

// ask sends the small request on conn and reads the answer.
func ask(conn net.Conn) (int64, error) {
	if _, err := conn.Write(smallRequest); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return io.Copy(io.Discard, resp.Body)
}

func (c *client) handshakes(t *task) (answer, error) {
	return repeat(t, func() (int64, error) {
		conn, err := c.connect()
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		return ask(conn)
	})
}

func (c *client) rawBulk(t *task) (answer, error) {
	conn, err := net.Dial("tcp", c.raw)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	buf := filler(256 << 10)
	start := time.Now()
	conn.SetDeadline(start.Add(t.Time + 30*time.Second))
	var n int64
	if t.Do == "rawdown" {
		conn.Write([]byte{rawDown})
		for time.Since(start) < t.Time && err == nil {
			var k int
			k, err = conn.Read(buf)
			n += int64(k)
		}
		return answer{Bytes: n, Secs: time.Since(start).Seconds()}, err
	}
	conn.Write([]byte{rawUp})
	for time.Since(start) < t.Time && err == nil {
		_, err = conn.Write(buf)
	}
	if err == nil {
		err = conn.(*net.TCPConn).CloseWrite()
	}
	if err == nil {
		err = binary.Read(conn, binary.BigEndian, &n) // when the server has it all
	}
	return answer{Bytes: n, Secs: time.Since(start).Seconds()}, err
}

// events measures how long events are on their way.
func (c *client) events(t *task) (answer, error) {
	n := int(t.Time / eventPause)
	resp, err := c.http(false).Get(fmt.Sprintf("https://%s/events?n=%d", c.tls, n))
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	var took []time.Duration
	r := bufio.NewReader(resp.Body)
	for {
		line, err := r.ReadSlice('\n')
		now := monotonic()
		if err != nil {
			break
		}
		var e struct{ Sent int64 }
		if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok && json.Unmarshal(data, &e) == nil {
			took = append(took, time.Duration(now-e.Sent))
		}
	}
	a := answer{N: len(took)}
	a.P50, a.P99 = quantiles(took)
	if a.N != n {
		return a, fmt.Errorf("%d of %d events came", a.N, n)
	}
	return a, nil
}

// hold opens connections and keeps them: plain ones, or with H2 set decrypted
// ones that have carried a request.
func (c *client) hold(t *task) (answer, error) {
	return repeatHeld(t, c)
}

func repeatHeld(t *task, c *client) (answer, error) {
	var mu sync.Mutex
	return repeat(&task{N: t.N, Conc: 16}, func() (int64, error) {
		conn, err := c.idle(t.H2)
		if err == nil {
			mu.Lock()
			c.held = append(c.held, conn)
			mu.Unlock()
		}
		return 0, err
	})
}

func (c *client) idle(decrypted bool) (net.Conn, error) {
	if decrypted {
		conn, err := c.connect()
		if err == nil {
			_, err = ask(conn)
		}
		return conn, err
	}
	conn, err := net.Dial("tcp", c.raw)
	if err != nil {
		return nil, err
	}
	if _, err = conn.Write([]byte{rawEcho, 0}); err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	return conn, err
}

// converse plays the turns from Size to N of a growing conversation: each
// request repeats all that was said before, as agents do.
func (c *client) converse(t *task) (answer, error) {
	said := turns(t.N)
	a := answer{}
	for i := t.Size; i < t.N; i++ {
		body := slices.Concat([]byte(`{"model":"m","stream":true,"messages":[`), bytes.Join(said[:i+1], []byte(",")), []byte("]}"))
		if _, err := c.fetch(c.http(false), "POST", "/v1/messages", bytes.NewReader(body), len(body)); err != nil {
			return a, err
		}
		a.N, a.Bytes = a.N+1, a.Bytes+int64(len(body))
	}
	return a, nil
}

// turns are the messages of a conversation; no two are alike.
func turns(n int) [][]byte {
	all := make([][]byte, n)
	words := strings.Fields(string(filler(64 << 10)))
	x := uint32(7)
	for i := range all {
		var text strings.Builder
		for text.Len() < 3400 {
			x = x*1664525 + 1013904223
			fmt.Fprintf(&text, "%s%d ", words[x>>8%uint32(len(words))], x>>20)
		}
		all[i], _ = json.Marshal(map[string]string{"role": []string{"user", "assistant"}[i%2], "content": text.String()})
	}
	return all
}
