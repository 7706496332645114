package e2e

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// The peers of the randomised test are this test program itself, started
// again: a server outside and a client under trace. Both keep a log, and the
// record is held against it.
const peerVar = "TRACE_E2E_PEER"

// patience is how long a peer waits for anything.
const patience = 60 * time.Second

// peerMain runs a peer and returns its exit status.
func peerMain(role string) int {
	var err error
	switch role {
	case "server":
		err = servePeer(os.Stdin, os.Stdout)
	case "client":
		err = askPeer(os.Args[1:])
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		return 1
	}
	return 0
}

// A tally counts and hashes bytes.
type tally struct {
	Size int64
	SHA  string
	h    hash.Hash
}

func (t *tally) Write(p []byte) (int, error) {
	if t.h == nil {
		t.h = sha256.New()
	}
	t.h.Write(p)
	t.Size += int64(len(p))
	return len(p), nil
}

func (t *tally) close() {
	if t.SHA == "" {
		t.SHA = sumOf(nil)
		if t.h != nil {
			t.SHA = hex.EncodeToString(t.h.Sum(nil))
		}
	}
}

func sumOf(p []byte) string {
	s := sha256.Sum256(p)
	return hex.EncodeToString(s[:])
}

// A seenMessage is a message of a WebSocket as one end saw it.
type seenMessage struct {
	Opcode     byte
	Size       int
	SHA        string
	Compressed bool
}

// A seen is what one end saw of one exchange. Sent and Received are bodies
// without their framing; the raw ones are the bytes on the wire.
type seen struct {
	ID       int
	Path     string
	Proto    string // "1.1", "2"
	TLS      bool
	Status   int
	Hints    int
	Fields   [][2]string // of the head that it read, in order
	Sent     tally
	Received tally
	RawSent  tally
	RawRecvd tally
	// Messages sent and received.
	MsgSent, MsgRecvd []seenMessage
	Complete          bool
	Err               string
}

// A journal collects what was seen.
type journal struct {
	mu   sync.Mutex
	all  []*seen
	odds []string
}

func (j *journal) add(s *seen) {
	s.Sent.close()
	s.Received.close()
	s.RawSent.close()
	s.RawRecvd.close()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = append(j.all, s)
}

// odd notes what should not have happened.
func (j *journal) odd(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.odds = append(j.odds, fmt.Sprintf(format, args...))
}

type journalFile struct {
	Seen []*seen
	Odds []string
}

func (j *journal) write(path string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	b, err := json.Marshal(journalFile{j.all, j.odds})
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

// A serverConf is what the server reads on its standard input: one line.
type serverConf struct {
	Cert, Key []byte // DER, PKCS #8
	Log       string
}

// servePeer serves until its input ends. It prints the ports for TLS, for
// cleartext and of a proxy to both.
func servePeer(in io.Reader, out io.Writer) error {
	br := bufio.NewReader(in)
	line, err := br.ReadBytes('\n')
	if err != nil {
		return err
	}
	var conf serverConf
	if err := json.Unmarshal(line, &conf); err != nil {
		return err
	}
	key, err := x509.ParsePKCS8PrivateKey(conf.Key)
	if err != nil {
		return err
	}
	s := &peerServer{log: &journal{}, addrs: map[bool]string{}, tls: &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{conf.Cert}, PrivateKey: key}},
		NextProtos:   []string{"h2", "http/1.1"},
	}}
	var ports []string
	var listeners []net.Listener
	for _, secure := range []bool{true, false} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports, listeners = append(ports, port), append(listeners, l)
		s.addrs[secure] = l.Addr().String()
		go s.accept(l, func(c net.Conn) { s.conn(c, secure) })
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	ports, listeners = append(ports, port), append(listeners, l)
	go s.accept(l, s.proxy)
	fmt.Fprintln(out, strings.Join(ports, " "))
	io.Copy(io.Discard, br)
	for _, l := range listeners {
		l.Close()
	}
	s.wg.Wait()
	return s.log.write(conf.Log)
}

// A peerServer is the server of the randomised test.
type peerServer struct {
	tls   *tls.Config
	addrs map[bool]string // with TLS, without
	log   *journal
	wg    sync.WaitGroup
}

func (s *peerServer) accept(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() { serve(c) })
	}
}

// proxy carries one connection to where its CONNECT says, with the way in
// which either end ends.
func (s *peerServer) proxy(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	br := bufio.NewReader(c)
	req, err := http.ReadRequest(br)
	if err != nil || req.Method != http.MethodConnect {
		s.log.odd("proxy: %v %v", req, err)
		return
	}
	to, err := net.Dial("tcp", s.addrs[strings.HasSuffix(req.Host, ":443")])
	if err != nil {
		s.log.odd("proxy: %v", err)
		return
	}
	defer to.Close()
	io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	var wg sync.WaitGroup
	wg.Go(func() { splice(to.(*net.TCPConn), br) })
	splice(c.(*net.TCPConn), to)
	wg.Wait()
}

// splice copies to the end, and ends to as from ended.
func splice(to *net.TCPConn, from io.Reader) {
	if _, err := io.Copy(to, from); err != nil {
		to.SetLinger(0)
		to.Close()
		return
	}
	to.CloseWrite()
}

// conn serves one connection: HTTP/2 if its first bytes say so.
func (s *peerServer) conn(raw net.Conn, secure bool) {
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(patience))
	c := &peerConn{Conn: raw, raw: raw.(*net.TCPConn), secure: secure}
	if secure {
		t := tls.Server(raw, s.tls)
		if err := t.Handshake(); err != nil {
			s.log.odd("TLS handshake: %v", err)
			return
		}
		c.Conn, c.h2 = t, t.ConnectionState().NegotiatedProtocol == "h2"
	}
	br := bufio.NewReader(c)
	if !secure {
		p, _ := br.Peek(4)
		c.h2 = string(p) == "PRI "
	}
	if c.h2 {
		s.serveH2(c, br)
	} else {
		s.serveH1(c, br)
	}
}

// A peerConn is a connection that knows how to break off.
type peerConn struct {
	net.Conn
	raw    *net.TCPConn
	secure bool
	h2     bool
}

// breakOff ends the connection, as told by how: "fin", after close_notify
// where there is TLS, or "rst".
func (c *peerConn) breakOff(how string) {
	if how == "rst" {
		c.raw.SetLinger(0)
		c.raw.Close()
		return
	}
	c.Close()
}

// closeWrite ends what this end sends.
func (c *peerConn) closeWrite() {
	if t, ok := c.Conn.(*tls.Conn); ok {
		t.CloseWrite()
	}
	c.raw.CloseWrite()
}

// closeGently ends the connection and lets the other end have all that was
// sent: it closes once that has closed.
func (c *peerConn) closeGently() {
	c.closeWrite()
	io.Copy(io.Discard, c.raw)
	c.raw.Close()
}

// clientConf is what the client is told: by a file.
type clientConf struct {
	Host  string
	Seed  uint64
	Count int
	Large int // how many bodies of many megabytes
	// Secrets says that some bodies hold what is redacted.
	Secrets bool
	Workers int
	Log     string
	// Direct are the addresses of the server by port, and Roots its
	// authority, for a run without trace.
	Direct map[string]string
	Roots  []byte
	// Base is for a run with base URLs: /s leads to TLS and /c to cleartext.
	Base bool
}

// askPeer runs the client. Its argument is the file with its clientConf.
func askPeer(args []string) error {
	if len(args) != 1 {
		return errors.New("want one argument")
	}
	b, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var conf clientConf
	if err := json.Unmarshal(b, &conf); err != nil {
		return err
	}
	k := &peerClient{conf: conf, log: &journal{}}
	work := make(chan connPlan)
	var wg sync.WaitGroup
	for range conf.Workers {
		wg.Go(func() {
			for cp := range work {
				k.conn(cp)
			}
		})
	}
	for _, cp := range plans(conf) {
		work <- cp
	}
	close(work)
	wg.Wait()
	return k.log.write(conf.Log)
}

// A peerClient is the client of the randomised test.
type peerClient struct {
	conf clientConf
	log  *journal
}

// conn does what is planned for one connection. One of HTTP/1 may need
// several, because an exchange ends its connection.
func (k *peerClient) conn(cp connPlan) {
	if k.conf.Base {
		for _, p := range cp.Exchanges {
			p.Prefix = map[bool]string{true: "/s", false: "/c"}[cp.TLS]
		}
		cp.TLS, cp.Tunnel = false, false
	}
	if cp.Proto == "h2" {
		k.askH2(cp)
		return
	}
	for len(cp.Exchanges) > 0 {
		n := k.askH1(cp)
		if n == 0 {
			k.log.odd("a connection for exchange %d achieved nothing", cp.Exchanges[0].ID)
			return
		}
		cp.Exchanges = cp.Exchanges[n:]
	}
}

// dial connects to the server.
func (k *peerClient) dial(cp connPlan) (*peerConn, error) {
	port := "80"
	if cp.TLS {
		port = "443"
	}
	addr, cfg := net.JoinHostPort(k.conf.Host, port), &tls.Config{ServerName: k.conf.Host}
	if cp.Tunnel {
		addr = net.JoinHostPort("proxy."+k.conf.Host, "3128")
	}
	if k.conf.Direct != nil {
		if addr, cfg.RootCAs = k.conf.Direct[port], x509.NewCertPool(); cp.Tunnel {
			addr = k.conf.Direct["3128"]
		}
		cfg.RootCAs.AppendCertsFromPEM(k.conf.Roots)
	}
	if k.conf.Base {
		addr = strings.TrimPrefix(os.Getenv("TRACE_BASE_URL"), "http://")
	}
	raw, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	raw.SetDeadline(time.Now().Add(patience))
	c := &peerConn{Conn: raw, raw: raw.(*net.TCPConn), secure: cp.TLS}
	if cp.Tunnel {
		if err := tunnel(raw, net.JoinHostPort(k.conf.Host, port)); err != nil {
			raw.Close()
			return nil, err
		}
	}
	if !cp.TLS {
		return c, nil
	}
	cfg.NextProtos = []string{"http/1.1"}
	if cp.Proto == "h2" {
		cfg.NextProtos = []string{"h2", "http/1.1"}
	}
	t := tls.Client(raw, cfg)
	if err := t.Handshake(); err != nil {
		raw.Close()
		return nil, err
	}
	c.Conn, c.h2 = t, cp.Proto == "h2"
	return c, nil
}

// tunnel asks a proxy for a connection to addr. It reads no byte too many.
func tunnel(c net.Conn, addr string) error {
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", addr, addr); err != nil {
		return err
	}
	const want = "HTTP/1.1 200 Connection established\r\n\r\n"
	p := make([]byte, len(want))
	if _, err := io.ReadFull(c, p); err != nil || string(p) != want {
		return fmt.Errorf("proxy says %q: %w", p, err)
	}
	return nil
}
