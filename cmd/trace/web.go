package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"trace/store"
	"trace/web"
)

// defaultWebAddr is where the page is served unless something else is said: on a
// free port.
const defaultWebAddr = "127.0.0.1:0"

// webOptions are the flags of `trace web`.
type webOptions struct {
	addr   string
	prices string
	resend replayOptions
}

func newWebCommand() *cobra.Command {
	var o webOptions
	cmd := &cobra.Command{
		Use:   "web [SESSION]",
		Short: "Show a session as a page in the browser, live while it runs",
		Long: `Serve a page that shows sessions in the browser, live while they run: the
newest session first, or the one with this ID, NAME or FILE.

The page is reached on loopback only, with the token in the URL that is printed:
whoever has the URL can read what was recorded and send requests again. It is
served until Ctrl-C.

'trace run --web' serves the page of a run while it happens.`,
		Example: `  trace web
  trace web --addr 127.0.0.1:8080 monday`,
		Args: checked(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			session := ""
			if len(args) > 0 {
				session = args[0]
			}
			return o.run(cmd.Context(), output(cmd), session)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.addr, "addr", defaultWebAddr, "serve on this `ADDR` of loopback: HOST:PORT, HOST or :PORT")
	f.StringVar(&o.prices, "prices", "", "work costs out with the prices of this `FILE`")
	f.StringArrayVar(&o.resend.connectTo, "connect-to", nil, "connect for `HOST:PORT:HOST2:PORT2` when requests are sent again, as curl's; repeatable")
	f.StringArrayVar(&o.resend.upstreamCA, "upstream-ca", nil, "trust the PEM roots in `FILE` too when requests are sent again; repeatable")
	return cmd
}

func (o *webOptions) run(ctx context.Context, w *terminal, session string) error {
	if _, err := web.Address(o.addr); err != nil {
		return usageError{fmt.Errorf("--addr: %w", err)}
	}
	if err := o.resend.check(); err != nil {
		return usageError{err}
	}
	prices, err := loadPrices(o.prices)
	if err != nil {
		return usageError{err}
	}
	// That the session is there is known before a URL is given.
	r, err := openSession(session)
	if err != nil {
		return err
	}
	s, err := r.Session()
	closing(r)
	if err != nil {
		return exitError{1, err}
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	listener, err := web.Listen(o.addr)
	if err != nil {
		return exitError{1, fmt.Errorf("web: %w", err)}
	}
	page := serveWeb(listener, &webSource{id: s.ID, open: func() (*store.Reader, error) { return store.Open(s.File) }, prices: prices, resend: o.resend}, nil)
	fmt.Fprintln(w, page.url)
	if ctx == nil {
		ctx = context.Background()
	}
	select {
	case <-signals:
	case <-ctx.Done():
	case err = <-page.failed:
	}
	return errors.Join(err, page.close())
}

// A webPage is a page that is being served.
type webPage struct {
	server  *web.Server
	url     string
	failed  chan error // why it is served no longer
	serving sync.WaitGroup
}

// serveWeb serves the page of a source until close.
func serveWeb(l net.Listener, source *webSource, log func(format string, args ...any)) *webPage {
	p := &webPage{failed: make(chan error, 1)}
	p.server = &web.Server{Source: source, Views: webViews(), Token: web.NewToken(), Version: programVersion(), Log: log}
	p.url = p.server.URL(l.Addr())
	p.serving.Go(func() {
		if err := p.server.Serve(l); err != nil {
			p.failed <- fmt.Errorf("web: %w", err)
		}
	})
	return p
}

func (p *webPage) close() error {
	err := p.server.Close()
	p.serving.Wait()
	return err
}

// byeTime is how long the end of a run waits for pages to take the last of it.
const byeTime = 200 * time.Millisecond
