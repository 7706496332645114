package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A contender is one way from a client to the origin.
type contender struct {
	name  string
	note  string // what it is, for the report
	need  string // program that must be installed
	raw   bool   // carries plain TCP
	tls   bool   // is compared in what is done over TLS
	ours  bool
	only  []string // the measures it takes; nil: all
	than  string   // another contender, of which this one is a variant
	start func(b *bench, c *contender) (*running, error)
}

// contenders in the order of the report. Host is the first: all ratios are to
// it.
var contenders = []*contender{
	{name: "host", note: "no capture", raw: true, tls: true, start: startHost},
	{name: "relay", note: "a process that copies from one socket to another, with 256 KiB buffers", raw: true, start: startRelay},
	{name: "direct", note: "trace run --inspect --link direct", raw: true, tls: true, ours: true, start: startTrace},
	{name: "wireguard", note: "trace run --inspect (the default link)", raw: true, tls: true, ours: true, start: startTrace},
	{name: "trace --otlp", note: "trace run --inspect --link direct --otlp URL, an endpoint that takes all", tls: true, ours: true, than: "direct",
		only: []string{"h1 x1", "h1 x16", "h2 x16", "handshakes x1", "events"}, start: startOTLP},
	{name: "trace --rules", note: "trace run --inspect --link direct --rules FILE, of which no rule matches", tls: true, ours: true, than: "direct",
		only: []string{"h1 x1", "h1 x16", "h2 x16", "handshakes x1", "events"}, start: startRules},
	{name: "slirp4netns", note: "slirp4netns --mtu=65520", need: "slirp4netns", raw: true, start: startSlirp},
	{name: "pasta", note: "pasta --config-net --mtu 65520", need: "pasta", raw: true, start: startPasta},
	{name: "mitmproxy", note: "mitmdump as a regular proxy, writing its flows to a file", need: "mitmdump", tls: true, start: startMitmproxy},
	{name: "mitmproxy WireGuard", note: "mitmdump --mode wireguard, its peer wireguard-go", need: "mitmdump", tls: true, start: startMitmWireguard},
}

// A running contender has a client that waits for tasks.
type running struct {
	*contender
	client  *exec.Cmd
	stdin   io.WriteCloser
	answers *bufio.Reader
	engine  func() []int // processes whose work is the contender's
	session string       // what it records into
	closes  []func()     // ends what else was started, last first
}

// do gives the client a task and waits for the answer. cpu is what the engine
// spent meanwhile, in seconds.
func (r *running) do(t task) (a answer, cpu float64, err error) {
	line, _ := json.Marshal(t)
	before := cpuOf(r.pids())
	if _, err := r.stdin.Write(append(line, '\n')); err != nil {
		return a, 0, fmt.Errorf("%s: %w", r.name, err)
	}
	line, err = r.answers.ReadBytes('\n')
	if err != nil {
		return a, 0, fmt.Errorf("%s: the client is gone: %w", r.name, err)
	}
	cpu = cpuOf(r.pids()) - before
	if err := json.Unmarshal(line, &a); err != nil {
		return a, 0, err
	}
	if a.Err != "" {
		err = fmt.Errorf("%s: %s: %s", r.name, t.Do, a.Err)
	}
	return a, cpu, err
}

func (r *running) pids() []int {
	if r.engine == nil {
		return nil
	}
	return r.engine()
}

// kill ends the client and all of its process group.
func (r *running) kill() { syscall.Kill(-r.client.Process.Pid, syscall.SIGKILL) }

// stop ends the client, which ends what was started around it.
func (r *running) stop() {
	r.stdin.Close()
	late := time.AfterFunc(startTime, r.kill)
	r.client.Wait()
	late.Stop()
	for i := len(r.closes) - 1; i >= 0; i-- {
		r.closes[i]()
	}
}

// launch starts the client by argv, to which its own arguments belong already.
func (b *bench) launch(c *contender, argv []string, attr *syscall.SysProcAttr) (*running, error) {
	r := &running{contender: c, client: exec.Command(argv[0], argv[1:]...)}
	if attr == nil {
		attr = &syscall.SysProcAttr{}
	}
	attr.Setpgid = true // to be ended with what it starts
	r.client.SysProcAttr = attr
	log, err := os.Create(filepath.Join(b.dir, c.name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	r.client.Stderr = log
	if r.stdin, err = r.client.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.client.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.answers = bufio.NewReader(out)
	return r, r.client.Start()
}

// startTime is how long a contender may take to come up.
const startTime = 15 * time.Second

// ready waits until the client answers.
func (r *running) ready(err error, dir string) (*running, error) {
	if err == nil {
		late := time.AfterFunc(startTime, r.kill)
		_, _, err = r.do(task{Do: "nothing"})
		late.Stop()
	}
	if err == nil {
		return r, nil
	}
	if r != nil && r.client.Process != nil {
		r.stop()
		said, _ := os.ReadFile(filepath.Join(dir, r.name+".log"))
		err = fmt.Errorf("%w %s", err, strings.TrimSpace(string(said)))
	}
	return nil, err
}

// clientArgs is the command of a client.
func (b *bench) clientArgs(raw, tls string, more ...string) []string {
	self, err := os.Executable()
	if err != nil {
		panic(err) // Linux knows
	}
	return append([]string{self, "client", "-raw", raw, "-tls", tls, "-ca", b.origin.ca}, more...)
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func startHost(b *bench, c *contender) (*running, error) {
	r, err := b.launch(c, b.clientArgs(local(b.origin.RawPort), local(b.origin.TLSPort)), nil)
	return r.ready(err, b.dir)
}

// traceArgs is the command line of trace around a command.
func (b *bench) traceArgs(link, session string, flags ...string) []string {
	return append(append([]string{b.trace, "run", "--inspect", "--quiet", "--link", link, "--output", session,
		"--upstream-ca", b.origin.ca,
		"--connect-to", fmt.Sprintf("%s:443:127.0.0.1:%d", originName, b.origin.TLSPort),
		"--connect-to", fmt.Sprintf("raw.bench:9:127.0.0.1:%d", b.origin.RawPort)}, flags...), "--")
}

func startTrace(b *bench, c *contender) (*running, error) { return b.startTraceWith(c, c.name) }

func (b *bench) startTraceWith(c *contender, link string, flags ...string) (*running, error) {
	session := filepath.Join(b.dir, c.name+".db")
	argv := append(b.traceArgs(link, session, flags...), b.clientArgs("raw.bench:9", originName+":443")...)
	r, err := b.launch(c, argv, nil)
	if err == nil {
		r.session = session
		r.engine = func() []int { return family(r.client.Process.Pid, b.trace) }
	}
	return r.ready(err, b.dir)
}

// startOTLP starts trace that tells what it records to an endpoint in a process of its
// own.
func startOTLP(b *bench, c *contender) (*running, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := freePort()
	if err != nil {
		return nil, err
	}
	_, end, err := b.beside(c, self, "endpoint", local(p))
	if err != nil {
		return nil, err
	}
	if err := awaitPort(local(p)); err != nil {
		end()
		return nil, err
	}
	r, err := b.startTraceWith(c, "direct", "--otlp", "http://"+local(p))
	if r == nil || err != nil { // which has ended
		end()
		return nil, err
	}
	r.closes = append(r.closes, end)
	return r, nil
}

// startRules starts trace with rules for a host that nobody calls.
func startRules(b *bench, c *contender) (*running, error) {
	file := filepath.Join(b.dir, "rules.json")
	if err := os.WriteFile(file, []byte(`{"rules": [{"match": {"host": "nobody.test"}, "answer": {"status": 429}}]}`), 0o600); err != nil {
		return nil, err
	}
	return b.startTraceWith(c, "direct", "--rules", file)
}

// serveEndpoint is that process.
func serveEndpoint(args []string) error {
	return http.ListenAndServe(args[0], http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
}

// beside starts a program that serves a contender and is ended with it.
func (b *bench) beside(c *contender, argv ...string) (*exec.Cmd, func(), error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	log, err := os.Create(filepath.Join(b.dir, c.name+".engine.log"))
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	return cmd, func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	}, nil
}

// await waits until ready returns no error, and returns the last one it had.
func await(ready func() error) error {
	deadline := time.Now().Add(startTime)
	for {
		err := ready()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// awaitPort waits until something listens.
func awaitPort(addr string) error {
	return await(func() error {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// freePort returns a port that nobody listens on just now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return port(l), nil
}

func startMitmproxy(b *bench, c *contender) (*running, error) {
	p, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(b.dir, "mitmproxy")
	cmd, end, err := b.beside(c, c.need, "-q", "--listen-host", "127.0.0.1", "--listen-port", strconv.Itoa(p), "--set", "confdir="+conf,
		"--set", "ssl_verify_upstream_trusted_ca="+b.origin.ca, "-w", filepath.Join(b.dir, "mitmproxy.flows"))
	if err != nil {
		return nil, err
	}
	if err := awaitPort(local(p)); err != nil {
		end()
		return nil, err
	}
	argv := b.clientArgs("", local(b.origin.TLSPort), "-proxy", "http://"+local(p))
	for i := range argv {
		if argv[i] == b.origin.ca {
			argv[i] += "," + filepath.Join(conf, "mitmproxy-ca-cert.pem")
		}
	}
	r, err := b.launch(c, argv, nil)
	if r != nil {
		r.closes = append(r.closes, end)
		r.engine = func() []int { return []int{cmd.Process.Pid} }
	}
	return r.ready(err, b.dir)
}

func startRelay(b *bench, c *contender) (*running, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd, end, err := b.beside(c, self, "relay", local(p), local(b.origin.RawPort))
	if err != nil {
		return nil, err
	}
	if err := awaitPort(local(p)); err != nil {
		end()
		return nil, err
	}
	r, err := b.launch(c, b.clientArgs(local(p), ""), nil)
	if r != nil {
		r.closes = append(r.closes, end)
		r.engine = func() []int { return []int{cmd.Process.Pid} }
	}
	return r.ready(err, b.dir)
}

// serveRelay is that process.
func serveRelay(args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	for {
		in, err := l.Accept()
		if err != nil {
			return err
		}
		go relay(in, args[1])
	}
}

func relay(in net.Conn, to string) {
	out, err := net.Dial("tcp", to)
	if err != nil {
		in.Close()
		return
	}
	done := make(chan struct{})
	pump := func(to, from net.Conn) {
		// The wrappers keep the kernel from splicing: a program that looks at
		// the bytes cannot.
		io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 256<<10))
		to.(*net.TCPConn).CloseWrite()
		done <- struct{}{}
	}
	go pump(out, in)
	go pump(in, out)
	<-done
	<-done
	in.Close()
	out.Close()
}

func startSlirp(b *bench, c *contender) (*running, error) {
	attr := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	const host = "10.0.2.2" // what slirp4netns leads to the host's loopback
	r, err := b.launch(c, b.clientArgs(fmt.Sprintf("%s:%d", host, b.origin.RawPort), ""), attr)
	if err != nil {
		return r.ready(err, b.dir)
	}
	up, tell, err := os.Pipe()
	if err != nil {
		return r.ready(err, b.dir)
	}
	defer up.Close()
	cmd := exec.Command(c.need, "--configure", "--mtu=65520", "--ready-fd=3", strconv.Itoa(r.client.Process.Pid), "tap0")
	cmd.ExtraFiles = []*os.File{tell}
	err = cmd.Start()
	tell.Close()
	if err != nil {
		return r.ready(err, b.dir)
	}
	r.closes = append(r.closes, func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	r.engine = func() []int { return []int{cmd.Process.Pid} }
	if n, _ := up.Read(make([]byte, 1)); n != 1 {
		err = errors.New("slirp4netns did not come up")
	}
	return r.ready(err, b.dir)
}

func startPasta(b *bench, c *contender) (*running, error) {
	host, err := gateway()
	if err != nil {
		return nil, err
	}
	argv := []string{c.need, "--config-net", "--mtu", "65520", "--quiet"}
	if os.Getuid() == 0 { // it would become nobody, who may not make namespaces
		argv = append(argv, "--runas", "0", "--netns-only")
	}
	argv = append(append(argv, "--"), b.clientArgs(fmt.Sprintf("%s:%d", host, b.origin.RawPort), "")...)
	r, err := b.launch(c, argv, nil)
	if err == nil {
		r.engine = func() []int { return []int{r.client.Process.Pid} }
	}
	return r.ready(err, b.dir)
}

// gateway returns the default gateway, the address that pasta leads to the
// host's loopback.
func gateway() (string, error) {
	text, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 2 && f[1] == "00000000" {
			n, err := strconv.ParseUint(f[2], 16, 32)
			if err == nil {
				return net.IPv4(byte(n), byte(n>>8), byte(n>>16), byte(n>>24)).String(), nil
			}
		}
	}
	return "", errors.New("no default route")
}
