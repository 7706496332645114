package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/netutil"

	"trace/mcp"
	"trace/store"
	"trace/web"
)

// mcpOptions are the flags of `trace mcp`.
type mcpOptions struct {
	session string
	replay  bool
	config  string
	prices  string
	resend  replayOptions
}

func newMCPCommand() *cobra.Command {
	var o mcpOptions
	cmd := &cobra.Command{
		Use:   "mcp",
		Short: "Answer a coding agent's questions about what was recorded (MCP, on stdio)",
		Long: `Answer a coding agent's questions about what was recorded, over the Model
Context Protocol on standard input and output: agents start this command
themselves. --print-config prints what to paste into an agent's configuration.

Answers are small and say how to get more. They are redacted, also of sessions
that were recorded with --keep-secrets. Nothing is changed, and nothing is sent,
but by --allow-replay.

'trace serve --mcp' answers over HTTP.`,
		Example: `  trace mcp --print-config claude
  trace mcp --session monday`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.config != "" {
				return o.printConfig(cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			return o.run(cmd.Context(), os.Stdin, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.session, "session", "", "answer about the session with this `ID, NAME or FILE` where a question names none; else about the newest")
	f.BoolVar(&o.replay, "allow-replay", false, "let the agent send recorded requests again")
	f.StringVar(&o.config, "print-config", "", "print what to paste into the configuration of an `AGENT`: claude, codex or cursor")
	f.StringVar(&o.prices, "prices", "", "work costs out with the prices of this `FILE`")
	f.StringArrayVar(&o.resend.connectTo, "connect-to", nil, "connect for `HOST:PORT:HOST2:PORT2` when requests are sent again, as curl's; repeatable")
	f.StringArrayVar(&o.resend.upstreamCA, "upstream-ca", nil, "trust the PEM roots in `FILE` too when requests are sent again; repeatable")
	return cmd
}

func (o *mcpOptions) run(ctx context.Context, in io.ReadCloser, out io.Writer) error {
	if err := o.resend.check(); err != nil {
		return usageError{err}
	}
	prices, err := loadPrices(o.prices)
	if err != nil {
		return usageError{err}
	}
	source := &mcpSource{webSource{prices: prices, resend: o.resend, redacted: true}}
	if o.session != "" { // a name that is none is told now
		r, err := openSession(o.session)
		if err != nil {
			return err
		}
		s, err := r.Run()
		closing(r)
		if err != nil {
			return exitError{1, err}
		}
		source.id, source.open = s.ID, func() (*store.Reader, error) { return store.Open(s.File) }
	}
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &mcp.Server{Source: source, Views: mcpViews(o.replay), Version: programVersion()}
	err = s.Serve(ctx, in, out)
	if errors.Is(err, syscall.EPIPE) { // nobody listens any more
		err = nil
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return exitError{1, fmt.Errorf("mcp: %w", err)}
	}
	return nil
}

// mcpClients are the agents whose configuration is printed: what to paste, and
// where.
var mcpClients = map[string]struct {
	print func(command string, args []string, env map[string]string) (string, error)
	where string
}{
	"claude": {mcpJSON, "paste it into .mcp.json in the project (or run: claude mcp add trace -- %s)"},
	"cursor": {mcpJSON, "paste it into ~/.cursor/mcp.json, or .cursor/mcp.json in the project"},
	"codex":  {mcpTOML, "paste it into ~/.codex/config.toml (or run: codex mcp add trace -- %s)"},
}

// printConfig prints what makes an agent start this command.
func (o *mcpOptions) printConfig(w, stderr io.Writer) error {
	c, known := mcpClients[o.config]
	if !known {
		return usageError{fmt.Errorf("--print-config %q: want claude, codex or cursor", o.config)}
	}
	command, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"mcp"}
	if o.session != "" {
		args = append(args, "--session", o.session)
	}
	if o.replay {
		args = append(args, "--allow-replay")
	}
	for _, f := range []struct {
		name string
		list []string
	}{{"--connect-to", o.resend.connectTo}, {"--upstream-ca", o.resend.upstreamCA}} {
		for _, v := range f.list {
			args = append(args, f.name, v)
		}
	}
	if o.prices != "" {
		args = append(args, "--prices", o.prices)
	}
	// Some agents start servers with an environment of their own.
	env := map[string]string{}
	if v := os.Getenv("XDG_STATE_HOME"); v != "" {
		env["XDG_STATE_HOME"] = v
	}
	text, err := c.print(command, args, env)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprint(w, text); err != nil {
		return err
	}
	where := c.where
	if strings.Contains(where, "%s") {
		where = fmt.Sprintf(where, shellWords(append([]string{command}, args...)))
	}
	_, err = fmt.Fprintln(stderr, "trace: "+where)
	return err
}

// shellWords writes words as a shell reads them.
func shellWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if quoted[i] = w; w == "" || strings.Trim(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@%+,") != "" {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// mcpJSON is the form that most agents read.
func mcpJSON(command string, args []string, env map[string]string) (string, error) {
	type server struct {
		Command string            `json:"command"`
		Args    []string          `json:"args"`
		Env     map[string]string `json:"env,omitempty"`
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(map[string]any{"mcpServers": map[string]server{"trace": {command, args, env}}})
	return b.String(), err
}

// mcpTOML is that of Codex. Its basic strings have the escapes of JSON.
func mcpTOML(command string, args []string, env map[string]string) (string, error) {
	var b strings.Builder
	quote := func(s string) string { return strconv.QuoteToASCII(s) }
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = quote(a)
	}
	fmt.Fprintf(&b, "[mcp_servers.trace]\ncommand = %s\nargs = [%s]\n", quote(command), strings.Join(words, ", "))
	if len(env) > 0 {
		b.WriteString("\n[mcp_servers.trace.env]\n")
		for name, value := range env {
			fmt.Fprintf(&b, "%s = %s\n", name, quote(value))
		}
	}
	return b.String(), nil
}

// The limits of what is answered over HTTP.
const (
	mcpPath      = "/mcp"
	mcpConns     = 64
	mcpReadTime  = 15 * time.Second
	mcpWriteTime = 6 * time.Minute // an answer may wait for other machines
)

// An mcpService answers over HTTP.
type mcpService struct {
	server  *mcp.Server
	http    *http.Server
	url     string
	token   string
	serving sync.WaitGroup
}

// serveMCP answers about a source until close.
func serveMCP(l net.Listener, source *mcpSource, say func(format string, args ...any), fail func(error)) *mcpService {
	m := &mcpService{server: &mcp.Server{Source: source, Views: mcpViews(false), Version: programVersion(), Log: say}, token: web.NewToken()}
	m.url = "http://" + l.Addr().String() + mcpPath
	mux := http.NewServeMux()
	mux.Handle(mcpPath, m.server.Handler())
	m.http = &http.Server{Handler: web.Private(l.Addr(), m.token, mux), ReadHeaderTimeout: mcpReadTime, ReadTimeout: mcpReadTime, WriteTimeout: mcpWriteTime,
		IdleTimeout: mcpWriteTime, MaxHeaderBytes: 32 << 10, ErrorLog: log.New(lineLog(say), "", 0)}
	m.serving.Go(func() {
		if err := m.http.Serve(netutil.LimitListener(l, mcpConns)); !errors.Is(err, http.ErrServerClosed) {
			fail(fmt.Errorf("mcp: %w", err))
		}
	})
	return m
}

// A lineLog takes what net/http has to say.
type lineLog func(format string, args ...any)

// Write logs one line.
func (l lineLog) Write(p []byte) (int, error) {
	if l != nil {
		l("mcp: %s", p)
	}
	return len(p), nil
}

func (m *mcpService) close() error {
	err := m.http.Close()
	m.serving.Wait()
	return errors.Join(err, m.server.Close())
}
