package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"trace/egress"
	"trace/flow"
	"trace/mitm"
	"trace/redact"
	"trace/replay"
	"trace/store"
	"trace/trust"
	"trace/wire"
)

// replayOptions are the flags of `flows replay`.
type replayOptions struct {
	header     []string
	set        []string
	edit       bool
	to         string
	dryRun     bool
	keep       bool
	json       bool
	connectTo  []string
	upstreamCA []string
	session    string

	fields []flow.Field
	server *url.URL
	rules  []mitm.ConnectTo

	// here makes it an error where the answer cannot be recorded in the session of
	// the original; begun is told where it is recorded, before anything is sent.
	here  bool
	begun func(*recordOf)
}

func newFlowsReplayCommand() *cobra.Command {
	o := &replayOptions{}
	cmd := &cobra.Command{
		Use:   "replay ID|NAME",
		Short: "Send a recorded request again and compare the answers",
		Long: `Send the request of a flow, or a template (see 'trace flows save'), again: on a
connection of its own, with the same protocol, fields and body. The answer is
recorded in the session of the original, and what differs between the two is
printed.

What redaction took out of the record comes from the environment
($ANTHROPIC_API_KEY, $OPENAI_API_KEY, $GEMINI_API_KEY, …: an error names the
variable) or from --header.`,
	}
	id := lastFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		arg, err := id(args)
		if err != nil {
			return err
		}
		if arg == "" {
			return usageError{errors.New("which request? Give an ID, last, or the NAME of a template (see 'trace flows replay --help')")}
		}
		if err := o.check(); err != nil {
			return usageError{err}
		}
		return o.run(cmd, arg)
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.header, "header", nil, "put in the field `NAME: VALUE` for those of that name; without VALUE remove them; repeatable")
	f.StringArrayVar(&o.set, "set", nil, "put in the JSON body at `PATH=VALUE`, such as model=x or messages[0].content=hi; repeatable")
	f.BoolVar(&o.edit, "edit", false, "edit the body in $VISUAL or $EDITOR first")
	f.StringVar(&o.to, "to", "", "send it to another server, `URL`")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be sent, with the names of variables for secrets, and send nothing")
	f.BoolVar(&o.keep, "keep-placeholders", false, "send what redaction left in the body as it stands where no variable fills it")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.StringArrayVar(&o.connectTo, "connect-to", nil, "connect for `HOST:PORT:HOST2:PORT2`, as curl's; repeatable")
	f.StringArrayVar(&o.upstreamCA, "upstream-ca", nil, "trust the PEM roots in `FILE` too; repeatable")
	f.StringVar(&o.session, "session", "", "read the session with this `ID, NAME or FILE`")
	return cmd
}

// check reads the values of flags.
func (o *replayOptions) check() error {
	for _, h := range o.header {
		name, value, ok := strings.Cut(h, ":")
		if !ok || name == "" || strings.ContainsAny(h, "\r\n\x00") || strings.ContainsAny(name, " \t") {
			return fmt.Errorf("--header %q: want NAME: VALUE", printable(name))
		}
		o.fields = append(o.fields, flow.Field{Name: name, Value: strings.TrimSpace(value)})
	}
	for _, s := range o.set {
		if path, _, ok := strings.Cut(s, "="); !ok || path == "" {
			return fmt.Errorf("--set %q: want PATH=VALUE", printable(s))
		}
	}
	for _, s := range o.connectTo {
		c, err := mitm.ParseConnectTo(s)
		if err != nil {
			return fmt.Errorf("--connect-to %q: %w", s, err)
		}
		o.rules = append(o.rules, c)
	}
	if o.to == "" {
		return nil
	}
	u, err := url.Parse(o.to)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("--to %q: want a URL such as https://api.example.com", printable(o.to))
	}
	o.server = u
	return nil
}

// An original is what is sent again.
type original struct {
	name   string // for people: flow 12, template x
	ref    string // SESSION/12, or the name of the template
	detail *flow.Detail
	old    *flow.Detail // whose answer is compared; nil: there is none
	raw    []byte
	clip   bool
	reader *store.Reader // of the session that the answer goes to; nil: a new one
}

// find reads what arg means.
func (o *replayOptions) find(arg string) (*original, error) {
	if replay.CheckName(arg) == nil && o.session == "" {
		t, err := readTemplate(arg)
		if err != nil {
			return nil, exitError{1, err}
		}
		g := &original{name: "template " + arg, ref: arg, detail: t.Detail()}
		var id int64
		if g.reader, id = templateSession(t); g.reader != nil {
			if g.old, err = g.reader.Detail(id); err != nil {
				g.old = nil
			}
		}
		return g, nil
	}
	r, id, err := openFlow(arg, o.session)
	if err != nil {
		return nil, err
	}
	g := &original{name: fmt.Sprintf("flow %d", id), reader: r}
	if g.detail, err = r.Detail(id); err == nil {
		g.old, g.ref = g.detail, fmt.Sprintf("%s/%d", g.detail.Session, id)
		err = g.readRaw(id)
	}
	if err != nil {
		closing(r)
		return nil, err
	}
	return g, nil
}

// readRaw reads the wire form of the request, where it was kept.
func (g *original) readRaw(id int64) error {
	s, err := g.reader.Session()
	if err != nil || !s.Secrets || g.detail.Request == nil {
		return err
	}
	var b bytes.Buffer
	n, err := g.reader.WriteRaw(&b, id, flow.Client)
	g.raw, g.clip = b.Bytes(), clipped(g.detail.Request, n)
	return err
}

func (o *replayOptions) run(cmd *cobra.Command, arg string) error {
	g, err := o.find(arg)
	if err != nil {
		return err
	}
	if g.reader != nil {
		defer closing(g.reader)
	}
	opt := replay.Options{Env: os.LookupEnv, Names: o.dryRun, Keep: o.keep, Header: o.fields, Set: o.set, To: o.server, Raw: g.raw, Clipped: g.clip}
	if o.edit {
		opt.Edit = func(p []byte) ([]byte, error) { return editBody(p) }
	}
	req, secrets, err := replay.Make(g.detail, opt)
	if err != nil {
		return exitError{1, fmt.Errorf("%s cannot be sent again: %w", g.name, err)}
	}
	if o.dryRun {
		return printRequest(output(cmd), cmd.ErrOrStderr(), req)
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	res, err := o.send(ctx, g, req, secrets)
	if res != nil {
		if perr := res.print(output(cmd), o.json); perr != nil && err == nil {
			err = perr
		}
	}
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return exitError{1, fmt.Errorf("replay of %s: %w: --upstream-ca FILE trusts its issuer", g.name, err)}
	case err != nil:
		return exitError{1, fmt.Errorf("replay of %s: %w", g.name, err)}
	}
	return nil
}

// send sends req and returns what came of it, also with an error.
func (o *replayOptions) send(ctx context.Context, g *original, req *replay.Request, secrets []string) (*replayed, error) {
	client, err := o.client()
	if err != nil {
		return nil, err
	}
	rec, err := g.record(secrets, o.here)
	if err != nil {
		return nil, err
	}
	if o.begun != nil {
		o.begun(rec)
	}
	client.Tap = func(c *flow.Conn, emit func(flow.Event)) replay.Tap {
		return &wire.Decoder{Conn: c, Emit: emit, Limit: bodyLimit(16 << 20).of, Secrets: rec.secrets}
	}
	client.Record = rec.store.Append
	sendErr := client.Do(ctx, req, flow.Conn{ID: rec.conn, Replay: g.ref})
	res, err := rec.finish()
	if res != nil {
		res.original, res.notes = g, append(rec.notes, req.Notes...)
	}
	if sendErr == nil {
		sendErr = err
	}
	return res, sendErr
}

// client connects as a run does.
func (o *replayOptions) client() (*replay.Client, error) {
	extra, err := trust.LoadRoots(o.upstreamCA...)
	if err != nil {
		return nil, fmt.Errorf("--upstream-ca: %w", err)
	}
	out, err := egress.FromEnv(os.Environ())
	if err != nil {
		return nil, err
	}
	roots, err := hostRoots()
	if err != nil {
		return nil, err
	}
	for _, c := range extra {
		roots.AddCert(c)
	}
	out.Roots = func() *x509.CertPool { return roots }
	return &replay.Client{Dial: out.DialContext, Roots: roots,
		Addr: func(host string, port int) string { return mitm.Redirect(o.rules, host, uint16(port)) }}, nil
}

// A recordOf is where the answer is recorded.
type recordOf struct {
	store   *store.Store
	conn    int64
	before  int64 // the newest flow until then
	secrets bool
	notes   []string
}

// record opens the session of the original for what comes, or else, unless it is
// to be recorded here, a new one.
func (g *original) record(secrets []string, here bool) (*recordOf, error) {
	opt := store.Options{Redact: gateFor(secrets)}
	rec := &recordOf{}
	if g.reader != nil {
		s, err := g.reader.Session()
		if err != nil {
			return nil, err
		}
		if rec.before, err = g.reader.Last(); err != nil {
			return nil, err
		}
		if rec.store, rec.conn, err = store.Reopen(s.File, opt); err == nil {
			rec.secrets = s.Secrets
			return rec, nil
		}
		if here {
			return nil, fmt.Errorf("record the answer: %w", err)
		}
		rec.notes = append(rec.notes, fmt.Sprintf("recorded in a session of its own: %v", err))
	}
	dir, err := sessionsDir()
	if err != nil {
		return nil, err
	}
	if err := store.MakeDir(dir); err != nil {
		return nil, err
	}
	now := time.Now()
	s := flow.Session{ID: store.NewID(now), Name: "replay", Source: flow.SourceReplay, Argv: []string{"trace", "flows", "replay", g.ref},
		PID: os.Getpid(), Version: programVersion(), Started: now}
	rec.before, rec.conn = 0, 1
	rec.store, err = store.Create(store.Path(dir, s), s, opt)
	return rec, err
}

// gateFor returns a redactor that knows the secrets which are sent.
func gateFor(secrets []string) *redact.Redactor {
	var key [32]byte
	rand.Read(key[:]) // never fails
	gate := redact.New(key)
	for _, s := range secrets {
		gate.Head(&flow.Head{Fields: []flow.Field{{Name: "x-api-key", Value: s}}}, false)
	}
	return gate
}

// finish ends the recording and reads the flow that came of it.
func (rec *recordOf) finish() (*replayed, error) {
	s, err := rec.store.Finish(0, time.Now())
	if err != nil {
		return nil, err
	}
	r, err := store.Open(s.File)
	if err != nil {
		return nil, err
	}
	defer closing(r)
	xs, err := r.Flows(store.Query{After: rec.before})
	if err != nil {
		return nil, err
	}
	for _, x := range xs {
		if x.Conn.ID != rec.conn {
			continue
		}
		d, err := r.Detail(x.ID)
		if err != nil {
			return nil, err
		}
		return &replayed{detail: d}, nil
	}
	return nil, errors.New("its answer was not recorded")
}
