package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"trace/doctor"
	"trace/egress"
	"trace/flow"
	"trace/mitm"
	"trace/netns"
	"trace/store"
	"trace/trust"
)

const (
	// probeHost is a name that only the probe's own road knows.
	probeHost = "probe.trace.example"
	// publicHost is what the doctor looks up and connects to: the host that
	// most users of trace want to reach.
	publicHost = "api.anthropic.com"
	// probePatience bounds what the probe asks of the road, which is all in
	// this machine, and publicPatience what it asks of the internet.
	probePatience  = 5 * time.Second
	publicPatience = 2 * time.Second
)

// An examination is one run of the doctor.
type examination struct {
	link, device string
	step         func(doctor.Step)
	store        *store.Store
	host         *outlook
}

// examine builds the road around `trace namespace probe`, and reports what
// that child found and what the record says of it.
func (e *examination) examine(ctx context.Context) error {
	start := time.Now()
	err := doctor.Host{}.Processes()
	e.tell("processes", start, "", err)
	if err != nil {
		return err
	}
	start = time.Now()
	dir, err := checkStore()
	e.tell("store", start, dir, err)
	e.host = lookOut()
	defer e.host.tries.Wait()
	start = time.Now()
	ca, err := mitm.NewAuthority(start)
	if err != nil {
		return err
	}
	cert, err := ca.ServerCertificate(probeHost)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		e.tell("loopback", start, "", err)
		return err
	}
	e.tell("loopback", start, l.Addr().String(), nil)
	srv := &http.Server{
		Handler:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") }),
		ErrorLog: log.New(io.Discard, "", 0), // clients that refuse the authority are findings of the probe
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}})) }()
	defer func() {
		srv.Close()
		<-served
	}()
	now := time.Now()
	e.store, err = store.CreateUnlinked("", flow.Session{ID: store.NewID(now), Name: "doctor", Started: now, PID: os.Getpid()}, store.Options{})
	if err != nil {
		return err
	}
	defer func() { e.store.Finish(0, time.Now()) }()
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	return e.drive(ctx, ca, port)
}

// tell reports a step.
func (e *examination) tell(id string, start time.Time, found string, err error) {
	e.step(doctor.Step{ID: id, Took: time.Since(start), Found: found, Err: err})
}

// drive runs the probe child on a road and relays what it says.
func (e *examination) drive(ctx context.Context, ca *mitm.Authority, port string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		in.Close()
		return err
	}
	defer null.Close()
	to, err := mitm.ParseConnectTo(probeHost + ":443:127.0.0.1:" + port)
	if err != nil {
		return err
	}
	roots, err := x509.ParseCertificates(ca.Certificate())
	if err != nil {
		return err
	}
	proxies, err := egress.FromEnv(os.Environ())
	if err != nil {
		return err
	}
	r := &road{rules: rules{out: proxies, connectTo: []mitm.ConnectTo{to}, extra: roots},
		link: e.link, device: netns.DeviceKind(e.device), argv: []string{self, "namespace", "probe"}, env: os.Environ(),
		stdin: null, stdout: in, record: &recording{Store: e.store, limit: -1}, private: privateDir(), step: e.step}
	if err = r.build(); err == nil {
		err = r.join()
	}
	in.Close()
	if err != nil {
		return err
	}
	defer r.close()
	e.tellRoots(r.files)
	if err := r.start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { r.ns.Signal(syscall.SIGKILL) })
	defer stop()
	e.relay(out)
	if _, err := r.ns.Wait(); err != nil {
		return err
	}
	return nil
}

// tellRoots says which roots servers are verified with.
func (e *examination) tellRoots(p *trust.Plan) {
	s := doctor.Step{ID: "roots", Found: p.Bundle}
	switch {
	case p.Fallback:
		s.Err, s.Warn = errors.New("this system has none: fallback roots are used"), true
	case p.Bundle == "":
		s.Err, s.Warn = errors.New("this system has no place for a bundle"), true
	}
	e.step(s)
}

// A finding is one line that the probe child prints.
type finding struct {
	ID    string        `json:"id"`
	Took  time.Duration `json:"took"`
	Found string        `json:"found"`
	Err   string        `json:"err"`
	Errno syscall.Errno `json:"errno"` // of Err, 0 if it has none
	Skip  bool          `json:"skip"`
	Ran   bool          `json:"ran"` // the program ran, and said no
}

// A findingError is an error of the probe child.
type findingError struct {
	text  string
	errno syscall.Errno
}

// Error returns what the child said.
func (e *findingError) Error() string { return e.text }

// Unwrap leads to the errno.
func (e *findingError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// relay turns the child's findings into steps. What fails on the host too is
// a warning; TLS counts as working only if the record has it decrypted.
func (e *examination) relay(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var f finding
		if json.Unmarshal(lines.Bytes(), &f) != nil {
			continue
		}
		s := doctor.Step{ID: f.ID, Took: f.Took, Found: f.Found, Skip: f.Skip}
		if f.Err != "" {
			s.Err = &findingError{f.Err, f.Errno}
		}
		switch name, trust := strings.CutPrefix(f.ID, "trust-"); {
		case trust && !f.Skip && s.Err == nil:
			s.Err = e.recorded("/" + name)
		case trust && s.Err != nil:
			s.Hint, s.Warn = clientHint(f), name != "go"
		case f.ID == "claude" && s.Err != nil:
			s.Hint, s.Warn = "correct or unset CLAUDE_PATH; any other command works as well", true
		case s.Err != nil:
			s.Warn = e.host.fails(f.ID)
		}
		e.step(s)
	}
}

// clientHint explains why a client got nothing.
func clientHint(f finding) string {
	if f.Ran || f.ID == "trust-go" {
		return "this program does not accept the run's authority: its connections are carried undecrypted and listed with the reason"
	}
	return "this program could not be started: it is for the report only, runs of other commands work"
}

// recorded reports whether the record has the probe's request decrypted.
func (e *examination) recorded(path string) error {
	if err := e.store.Flush(); err != nil {
		return err
	}
	r, err := e.store.Reader()
	if err != nil {
		return err
	}
	defer r.Close()
	flows, err := r.Flows(store.Query{Heads: true, Kind: flow.KindHTTP})
	if err != nil {
		return err
	}
	for _, x := range flows {
		if x.Request != nil && x.Request.Head != nil && x.Request.Head.Path == path && x.Conn.Decrypted {
			return nil
		}
	}
	return errors.New("the request was answered, but it is not in the record")
}

// An outlook is what the host itself reaches, tried outside of the namespace
// while the probe tries the same inside.
type outlook struct {
	results map[string]func() error
	tries   sync.WaitGroup
}

func lookOut() *outlook {
	o := &outlook{results: map[string]func() error{
		"dns":  sync.OnceValue(func() error { _, err := lookup("ip"); return err }),
		"ipv4": sync.OnceValue(func() error { _, err := reach("ip4"); return err }),
	}}
	for _, try := range o.results {
		o.tries.Go(func() { try() })
	}
	return o
}

// fails tells whether something fails on the host too.
func (o *outlook) fails(id string) bool {
	try, ok := o.results[id]
	return !ok || try() != nil
}

// checkStore makes a session file where runs make theirs, and removes it.
func checkStore() (dir string, err error) {
	dir, err = store.Dir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	now := time.Now()
	s, err := store.CreateUnlinked(dir, flow.Session{ID: store.NewID(now), Name: "doctor", Started: now, PID: os.Getpid()}, store.Options{})
	if err != nil {
		return "", err
	}
	_, err = s.Finish(0, now)
	return dir, err
}

// privateDir returns the empty directory that the child's tmpfs covers, "" if
// it cannot be made.
func privateDir() string {
	state, err := store.Dir()
	if err != nil {
		return ""
	}
	dir := filepath.Join(filepath.Dir(state), "trust")
	if os.MkdirAll(dir, 0o700) != nil {
		return ""
	}
	return dir
}

// newProbeCommand is what the doctor runs inside the namespace.
func newProbeCommand() *cobra.Command {
	return &cobra.Command{Use: "probe", Hidden: true, Args: checked(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		enc := json.NewEncoder(cmd.OutOrStdout())
		steps := probes()
		found := make(chan finding)
		for _, s := range steps {
			go func() { found <- s.find() }()
		}
		var err error
		for range steps {
			f := <-found
			if err == nil {
				err = enc.Encode(f)
			}
		}
		return err
	}}
}

// errSkip says that there is nothing to try.
var errSkip = errors.New("skip")

type probeStep struct {
	id  string
	try func() (found string, err error)
}

// find tries the step. All steps are tried at the same time: those that ask
// the internet may have to wait.
func (s probeStep) find() finding {
	start := time.Now()
	found, err := s.try()
	f := finding{ID: s.id, Took: time.Since(start), Found: found}
	var exit *exec.ExitError
	switch {
	case errors.Is(err, errSkip):
		f.Skip = true
	case err != nil:
		f.Err, f.Ran = err.Error(), errors.As(err, &exit)
		errors.As(err, &f.Errno)
	}
	return f
}

func probes() []probeStep {
	url := "https://" + probeHost
	client := func(name string, argv ...string) probeStep {
		return probeStep{"trust-" + name, func() (string, error) { return runClient(argv) }}
	}
	return []probeStep{
		{"dns", func() (string, error) { return lookup("ip") }},
		{"ipv4", func() (string, error) { return reach("ip4") }},
		{"ipv6-public", func() (string, error) { return reach("ip6") }},
		{"trust-go", func() (string, error) {
			c := http.Client{Timeout: probePatience}
			resp, err := c.Get(url + "/go")
			if err != nil {
				return "", err
			}
			return resp.Status, resp.Body.Close()
		}},
		client("curl", "curl", "-sS", "--max-time", "5", url+"/curl"),
		client("python", "python3", "-c", "import sys,urllib.request as u;u.urlopen(sys.argv[1],timeout=5).read()", url+"/python"),
		client("node", "node", "-e", `require("https").get(process.argv[1],r=>r.resume()).on("error",e=>{console.error(e.message);process.exit(1)})`, url+"/node"),
		{"claude", findClaude},
	}
}

func runClient(argv []string) (string, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return argv[0] + " is not installed", errSkip
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*probePatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, argv[1:]...).CombinedOutput()
	if err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return path, fmt.Errorf("%w: %s", err, line)
	}
	return path, nil
}

func findClaude() (string, error) {
	if p := os.Getenv("CLAUDE_PATH"); p != "" {
		_, err := os.Stat(p)
		return p, err
	}
	p, err := exec.LookPath("claude")
	if err != nil {
		return "claude is not installed; any other command works as well", errSkip
	}
	return p, nil
}

// lookup resolves the public host.
func lookup(network string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), publicPatience)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, publicHost)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is %s", publicHost, addrs[0]), nil
}

// reach connects to the public host.
func reach(network string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), publicPatience)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, publicHost)
	if err != nil {
		return "", err
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(addrs[0].String(), "443"))
	if err != nil {
		return addrs[0].String(), err
	}
	return c.RemoteAddr().String(), c.Close()
}
