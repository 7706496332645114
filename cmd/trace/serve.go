package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"trace/control"
	"trace/store"
	"trace/web"
)

// Defaults of trace serve.
const (
	defaultListen = "127.0.0.1:4000"
	defaultIdle   = 10 * time.Minute
	defaultGrace  = 5 * time.Second
	minToken      = 16 // bytes
)

// serveOptions are the flags of `trace serve`, as given.
type serveOptions struct {
	captureFlags
	listen    string
	proxy     string
	wireguard string
	key       caKey
	web       string
	mcp       string
	maps      []string
	expose    bool
	tokenFile string
	idle      time.Duration
	grace     time.Duration
	quiet     bool

	token string
}

func newServeCommand() *cobra.Command {
	o := &serveOptions{}
	cmd := &cobra.Command{
		Use:   "serve [flags]",
		Short: "Record what many clients send, until it is stopped",
		Long: `Record what many clients send, a session each, until a signal ends it: programs
that are told a base URL, that use a proxy, or that come in by WireGuard. It
stays in the foreground.

  trace serve
  ANTHROPIC_BASE_URL=http://127.0.0.1:4000/@NAME/anthropic claude

NAME is the session that such a client is recorded in.`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	f := cmd.Flags()
	o.captureFlags.register(f)
	f.StringVar(&o.listen, "listen", defaultListen, "where the reverse proxy listens (`ADDR:PORT`, or none)")
	f.StringVar(&o.proxy, "proxy", "none", "where the HTTP and SOCKS proxy listens (`ADDR:PORT`)")
	f.StringVar(&o.web, "web", "", "serve the live page of all sessions, on this `ADDR` of loopback (default "+defaultWebAddr+")")
	f.Lookup("web").NoOptDefVal = defaultWebAddr
	f.StringVar(&o.mcp, "mcp", "", "answer coding agents' questions about all sessions (MCP over HTTP), on this `ADDR` of loopback (default "+defaultWebAddr+")")
	f.Lookup("mcp").NoOptDefVal = defaultWebAddr
	f.StringVar(&o.wireguard, "wireguard", "none", "where WireGuard peers come in (`ADDR:PORT`, :PORT for all addresses, or none)")
	o.key.flags(f)
	f.StringArrayVar(&o.maps, "map", nil, "reverse proxy: carry paths under PREFIX to a server (`PREFIX=URL`); repeatable")
	f.BoolVar(&o.expose, "expose", false, "allow listening beyond loopback; needs a token")
	f.StringVar(&o.tokenFile, "token-file", "", "`FILE` with the token that clients must show (or TRACE_TOKEN)")
	f.DurationVar(&o.idle, "idle", defaultIdle, "end a client's session when nothing has come from it for so long")
	f.DurationVar(&o.grace, "grace", defaultGrace, "when stopped, give what is under way so long to end")
	f.BoolVar(&o.quiet, "quiet", false, "print nothing but errors")
	return cmd
}

// A server is one `trace serve`.
type server struct {
	o       *serveOptions
	rules   rules
	log     func(format string, args ...any)
	logTo   *os.File
	given   activation // sockets that systemd made
	dir     string     // of sessions
	clients *clients
	runs    *receiver   // those that are attached
	otlp    *otlpSink   // nil: not asked for
	page    *webPage    // nil: not asked for
	mcp     *mcpService // nil: not asked for
	ca      *lastingCA  // nil: not needed
	who     *programs
	peers   *peerRoad // nil: no WireGuard
	started time.Time

	opening   sync.RWMutex // guards listeners
	listeners []control.Listener
	serving   sync.WaitGroup
	failed    chan error // a listener's, for good
}

// check reports the first value that makes no sense.
func (o *serveOptions) check() error {
	token, err := readToken(o.tokenFile)
	if err != nil {
		return err
	}
	o.token = token
	if o.idle <= 0 {
		return fmt.Errorf("--idle %v: want more than nothing", o.idle)
	}
	if o.grace < 0 {
		return fmt.Errorf("--grace %v: want 0 or more", o.grace)
	}
	if err := checkWeb(o.web); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(o.wireguard); err != nil && o.wireguard != "none" {
		return fmt.Errorf("--wireguard %q: want ADDR:PORT or :PORT", o.wireguard)
	}
	if o.mcp != "" {
		if _, err := web.Address(o.mcp); err != nil {
			return fmt.Errorf("--mcp: %w", err)
		}
	}
	for _, l := range [][2]string{{"--listen", o.listen}, {"--proxy", o.proxy}} {
		if l[1] != "none" {
			if err := o.exposed(l[0], l[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// exposed reports an address that others than this machine could reach, unless
// that is wanted.
func (o *serveOptions) exposed(flag, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s %q: want ADDR:PORT", flag, addr)
	}
	switch {
	case loopbackHost(host):
		return nil
	case !o.expose:
		return fmt.Errorf("%s %s: others than this machine could use it; if that is wanted: --expose and --token-file FILE", flag, addr)
	case o.token == "":
		return fmt.Errorf("%s %s: --expose needs a token: openssl rand -hex 16 >FILE, then --token-file FILE", flag, addr)
	}
	return nil
}

// loopbackHost tells whether a host is this machine's loopback, and not a name that
// could be anything.
func loopbackHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// readToken reads what clients have to show.
func readToken(file string) (string, error) {
	token := os.Getenv("TRACE_TOKEN")
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	switch {
	case token == "" && file == "":
		return "", nil
	case len(token) < minToken:
		return "", fmt.Errorf("the token has %d characters: want %d or more (openssl rand -hex 16)", len(token), minToken)
	case strings.ContainsAny(token, "/:@?# \t\r\n%"):
		return "", errors.New("the token has a place in URLs: want letters and digits")
	}
	return token, nil
}

// run serves until a signal comes.
func (o *serveOptions) run(ctx context.Context) error {
	if err := o.check(); err != nil {
		return usageError{err}
	}
	bases, err := newBaseURLs(o.maps, nil)
	if err != nil {
		return usageError{err}
	}
	rules, err := o.captureFlags.rules()
	if err != nil {
		return usageError{err}
	}
	s := &server{o: o, rules: rules, started: time.Now(), failed: make(chan error, 1)}
	if err := s.do(ctx, bases); err != nil {
		return exitError{Code: exitTrace, Err: err}
	}
	return nil
}

// do opens what is served, serves it until a signal comes, and ends it.
func (s *server) do(ctx context.Context, bases *baseURLs) (err error) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	if s.logTo, s.log, err = openLog(s.o.log); err != nil {
		return err
	}
	if s.logTo != nil {
		defer s.logTo.Close()
	}
	if s.dir, err = store.Dir(); err != nil {
		return err
	}
	if err := store.MakeDir(s.dir); err != nil {
		return err
	}
	if s.given, err = activated(); err != nil {
		return err
	}
	if s.otlp, err = s.rules.openOTLP(s.log); err != nil {
		return err
	}
	s.who = findPrograms(1, s.log) // clients may be anybody's children
	defer s.who.close()
	s.clients, s.runs = newClients(s), newReceiver(s.dir, s.log)
	ctx, cancel := context.WithCancel(ctx)
	accept, stop := context.WithCancel(ctx)
	err = s.open(accept, ctx, bases)
	if err == nil {
		s.given.closeRest(s.log)
		notifyService(s.log, "READY=1")
		err = s.wait(signals, stop)
	}
	notifyService(s.log, "STOPPING=1")
	stop()
	cancel()
	s.serving.Wait()
	s.runs.close()
	s.clients.close()
	s.closeWeb()
	if s.otlp != nil {
		s.say("%s", s.otlp.close(""))
	}
	return err
}

// open makes everything that clients come in by. Nothing new comes in once accept is
// over; what is under way is cut off when ctx is.
func (s *server) open(accept, ctx context.Context, bases *baseURLs) (err error) {
	l, err := control.NewListen("")
	if err != nil {
		return err
	}
	s.listens("control", l.Path())
	s.rules.out.Dial = s.dialOut
	defer func() { s.serveControl(ctx, l, err) }()
	if s.o.listen != "none" || s.given.has("reverse") {
		if err := s.openReverse(accept, ctx, bases); err != nil {
			return err
		}
	}
	if s.o.proxy != "none" || s.given.has("proxy") {
		if err := s.openProxy(accept, ctx); err != nil {
			return err
		}
	}
	if s.o.web != "" || s.given.has("web") {
		if err := s.openWeb(); err != nil {
			return err
		}
	}
	if s.o.mcp != "" || s.given.has("mcp") {
		if err := s.openMCP(); err != nil {
			return err
		}
	}
	if s.o.wireguard != "none" || s.given.has("wireguard") {
		if err := s.openPeers(accept, ctx); err != nil {
			return err
		}
	}
	if len(s.listeners) == 1 {
		return usageError{errors.New("nothing to serve: every listener is none")}
	}
	s.serving.Go(func() { s.clients.watch(ctx) })
	return nil
}

// wait returns when a signal, or the loss of a listener, ends the serve, and
// what was open then has had the time to end.
func (s *server) wait(signals <-chan os.Signal, stop func()) error {
	var err error
	watchdog := watchService()
	defer watchdog.Stop()
	for waiting := true; waiting; {
		select {
		case <-watchdog.C:
			notifyService(s.log, "WATCHDOG=1")
		case <-signals:
			waiting = false
		case err = <-s.failed:
			waiting = false
		}
	}
	stop()
	for end := time.Now().Add(s.o.grace); s.clients.openFlows() > 0 && time.Now().Before(end); {
		select {
		case <-signals:
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
	return err
}

// say prints a line of our own, unless --quiet.
func (s *server) say(format string, args ...any) {
	if !s.o.quiet {
		fmt.Fprintf(os.Stderr, "trace: "+format+"\n", args...)
	}
}

// fail ends the serve because of a listener.
func (s *server) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// status tells of the serve.
func (s *server) status(context.Context) (*control.Serve, error) {
	st := &control.Serve{PID: os.Getpid(), Version: programVersion(), Started: control.Time{Time: s.started}, Listeners: s.listeners,
		Sessions: s.clients.status(), Attached: s.runs.attached()}
	st.Peers, st.Refused = s.peers.status(st.Sessions), s.peers.refusedSoFar()
	st.Flows = s.clients.total()
	for _, c := range st.Sessions {
		st.OpenFlows += c.Open
		st.FlowsPerSecond += c.Rate
	}
	return st, nil
}
