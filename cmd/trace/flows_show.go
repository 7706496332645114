package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/store"
)

// showOptions are the flags of `flows show`.
type showOptions struct {
	json         bool
	requestBody  bool
	responseBody bool
	prompt       bool
	answer       bool
	http         bool
	full         bool
	raw          string
	session      string
	jq           []string
	filters      []filter
	call         int // of several on a WebSocket, from 1; 0: the ID names none
}

func newFlowsShowCommand() *cobra.Command {
	var o showOptions
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one flow: for reading, as JSON, one body, or the bytes on the wire",
		Long: `Show one flow: for reading, as JSON with bodies and messages, exactly one decoded
body, or exactly the bytes of the exchange as they were on the wire.

A call to a language model is shown as a conversation: system prompt and tools
as lines with their sizes, the messages that the turn before had too as a number,
then what is new and the answer. --full leaves nothing out, --http shows heads,
bodies and events.

ID is the number that the list shows, SESSION/NUMBER, or last (or -1) for the
newest flow; of several calls on a WebSocket 12#1, 12#2, … is one.

--raw prints the bytes of the request, then those of the answer: heads, chunks,
HTTP/2 frames and WebSocket frames as they passed. They are recorded with
'trace run --inspect --keep-secrets' only, since no secret in them is redacted.`,
	}
	id := lastFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		arg, err := id(args)
		if err != nil {
			return err
		}
		if arg == "" {
			return usageError{errors.New("which flow? Give an ID, or last (see 'trace flows show --help')")}
		}
		return o.run(arg, output(cmd), cmd.ErrOrStderr())
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print JSON, with bodies and messages")
	f.BoolVar(&o.requestBody, "request-body", false, "print exactly the decoded body of the request")
	f.BoolVar(&o.responseBody, "response-body", false, "print exactly the decoded body of the answer")
	f.BoolVar(&o.prompt, "prompt", false, "print the last prompt of the user, of a call to a language model")
	f.BoolVar(&o.answer, "answer", false, "print exactly the text of the answer, put together from its stream")
	f.BoolVar(&o.full, "full", false, "leave nothing out of a conversation")
	f.BoolVar(&o.http, "http", false, "show a call to a language model as the exchange that it is")
	f.StringVar(&o.raw, "raw", "", "print exactly the bytes on the wire; `SIDE`: request, response or both")
	f.Lookup("raw").NoOptDefVal = rawBoth
	f.StringVar(&o.session, "session", "", "read the session with this `ID, NAME or FILE`")
	f.StringArrayVar(&o.jq, "jq", nil, "pass an array of this flow's JSON through this `FILTER`; repeatable")
	return cmd
}

func (o *showOptions) run(arg string, w *terminal, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return usageError{err}
	}
	arg, call, err := cutCall(arg)
	if err != nil {
		return err
	}
	if o.call = call; call > 0 && (o.requestBody || o.responseBody || o.raw != "" || o.http) {
		return usageError{fmt.Errorf("%s#%d is one of the calls of a flow: only the flow has bodies and raw bytes", printable(arg), call)}
	}
	r, id, err := openFlow(arg, o.session)
	if err != nil {
		return err
	}
	defer closing(r)
	switch {
	case o.requestBody:
		return writeBody(w, stderr, r, id, flow.Client)
	case o.responseBody:
		return writeBody(w, stderr, r, id, flow.Server)
	case o.raw != "":
		return writeRaw(w, stderr, r, id, o.raw)
	}
	d, err := r.Detail(id)
	if err != nil {
		return err
	}
	switch {
	case o.json || len(o.filters) > 0:
		return o.showJSON(w, r, d)
	case o.prompt, o.answer:
		return o.showPart(w, stderr, r, d)
	}
	return o.showForReading(w, r, d)
}

// check reports flags that make no sense, or none together.
func (o *showOptions) check() error {
	var err error
	if o.filters, err = parseFilters(o.jq); err != nil {
		return err
	}
	n := 0
	for _, given := range []bool{o.json || len(o.jq) > 0, o.requestBody, o.responseBody, o.raw != "", o.prompt, o.answer, o.http} {
		if given {
			n++
		}
	}
	if n > 1 {
		return errExclusive
	}
	if o.raw != "" && rawSides[o.raw] == nil {
		return fmt.Errorf("--raw=%s: want request, response or both", printable(o.raw))
	}
	return nil
}

// writeBody prints exactly one decoded body. A terminal, which would obey what
// it is sent, gets it escaped.
func writeBody(w *terminal, stderr io.Writer, r *store.Reader, id int64, side flow.Side) error {
	x, err := r.Flow(id)
	if err != nil {
		return err
	}
	part, name := x.Request, "request"
	if side == flow.Server {
		part, name = x.Response, "answer"
	}
	switch {
	case x.Request == nil:
		return exitError{1, fmt.Errorf("flow %d is no HTTP exchange (%s) and has no body: see 'trace flows show %[1]d'", id, x.Kind)}
	case part == nil:
		return exitError{1, fmt.Errorf("flow %d has no %s", id, name)}
	}
	if w.tty {
		body, err := r.Body(id, side)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, w.text(string(body))); err != nil {
			return err
		}
	} else if _, err := r.WriteBody(w, id, side); err != nil {
		return err
	}
	if b := part.Body; b != nil && b.Truncated {
		fmt.Fprintf(stderr, "trace: the first %d bytes of this body were kept (see --max-body)\n", b.Kept)
	}
	return nil
}

// writeDetail prints one flow for reading.
func writeDetail(w *terminal, d *flow.Detail) error {
	out := bufio.NewWriter(w.Writer)
	buffered := *w
	buffered.Writer = out
	p := &printer{w: &buffered}
	p.overview(&d.Exchange)
	switch {
	case d.Request != nil:
		p.request(d)
		p.response(d)
	case d.DNS != nil:
		p.dns(d.DNS)
	}
	if len(d.Messages) > 0 {
		p.messages(d)
	}
	return cmp.Or(p.err, out.Flush())
}

// A printer writes lines and keeps the first error.
type printer struct {
	w   *terminal
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// fact prints a name and what there is to say, nothing for "".
func (p *printer) fact(name, value string) {
	if value != "" {
		p.line("  %s %s", p.w.paint(faint, pad(name, 10, false)), w1(p.w, value))
	}
}

func (p *printer) overview(x *flow.Exchange) {
	c := &x.Conn
	f := factsOf(x)
	title := f.method + " " + f.host + f.path
	switch {
	case x.DNS != nil:
		title = "DNS " + x.DNS.Type + " " + x.DNS.Name
	case x.Request != nil && x.Request.Head != nil:
		title = f.method + " " + x.Request.Head.Scheme + "://" + f.host + f.path
	}
	p.line("%s", p.w.paint(bold, w1(p.w, title)))
	p.origin(x, &f)
	p.fact("protocol", protocolText(x))
	p.fact("connection", connText(x))
	p.tls(c)
	p.faults(x)
}

// origin prints how x ended, where it stands in the record and who made it.
func (p *printer) origin(x *flow.Exchange, f *rowFacts) {
	state := []string{f.status.text}
	if x.Response != nil && x.Response.Head != nil {
		state = []string{strings.TrimSpace(f.status.text + " " + x.Response.Head.Reason)}
	}
	if state[0] != x.State {
		state = append(state, x.State)
	}
	if !x.Ended.IsZero() {
		state = append(state, f.took)
	}
	p.fact("status", strings.Join(state, ", "))
	p.fact("flow", fmt.Sprintf("%s/%d, started %s", x.Session, x.ID, x.Started.Local().Format("2006-01-02 15:04:05.000")))
	p.fact("replay of", x.Conn.Replay)
	if proc := x.Conn.Process; proc != nil {
		p.fact("process", strings.TrimSpace(processText(proc)+" "+strings.Join(proc.Argv, " ")))
	}
}

// faults prints how long the phases of x took, what went wrong and what was
// noticed.
func (p *printer) faults(x *flow.Exchange) {
	p.fact("timings", timingsText(x))
	if e := x.Error; e != nil {
		p.fact("error", errorText(e))
		p.fact("hint", e.Hint)
	}
	for _, n := range x.Marks {
		if n.Error == nil || x.Error != nil && *n.Error == *x.Error {
			continue
		}
		p.fact("note", errorText(n.Error))
		p.fact("hint", n.Error.Hint)
	}
	if x.Redacted > 0 {
		p.fact("redacted", count(int64(x.Redacted), "place"))
	}
}

// w1 is text that must stay on its line.
func w1(w *terminal, s string) string {
	if w.tty {
		return printable(s)
	}
	return s
}

// errorText says what went wrong, and in which words of scripts and of the
// protocol.
func errorText(e *flow.Error) string {
	words := []string{string(e.Where), e.Code}
	if e.Detail != "" {
		words = append(words, e.Detail)
	}
	return fmt.Sprintf("%s (%s)", e.Message, strings.Join(words, ", "))
}

// protocolText says what was spoken, where that is not plain HTTP/1.
func protocolText(x *flow.Exchange) string {
	var facts []string
	add := func(s string) { facts = append(facts, s) }
	if x.Request == nil || x.Request.Head == nil {
		return x.Conn.Protocol
	}
	h := x.Request.Head
	if h.Stream != 0 {
		add(fmt.Sprintf("HTTP/2, stream %d", h.Stream))
	}
	if h.Authority != "" && !strings.EqualFold(h.Authority, hostPort(h)) {
		add(":authority " + h.Authority)
	}
	if x.IsWebSocket() {
		add("websocket")
		for _, name := range []string{"Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"} {
			if v := x.Response.Head.Get(name); v != "" {
				add(v)
			}
		}
	} else if h.Protocol != "" {
		add(":protocol " + h.Protocol)
	}
	if framing := cmp.Or(framingOf(x.Request), framingOf(x.Response)); framing != "" && framing != flow.FramingSSE {
		add(framing)
	}
	if g := x.Response.GRPC(); g != nil {
		add(grpcText(g))
	}
	return strings.Join(facts, ", ")
}

func framingOf(p *flow.Part) string {
	if p == nil || p.Head == nil {
		return ""
	}
	return p.Head.Framing
}

// grpcText writes out how a gRPC call ended.
func grpcText(g *flow.GRPCStatus) string {
	s := strings.TrimSpace(fmt.Sprintf("status %d %s", g.Code, g.Name()))
	if g.Message != "" {
		s += ": " + g.Message
	}
	return s
}

func (p *printer) dns(d *flow.DNS) {
	p.line("")
	p.line("%s", p.w.paint(bold, "Answer"))
	p.line("  %s", d.Rcode)
	for _, a := range d.Answers {
		p.line("  %s", p.w.text(a))
	}
}

func connText(x *flow.Exchange) string {
	c := &x.Conn
	if !c.Dst.IsValid() {
		return ""
	}
	s := fmt.Sprintf("%d, %s to %s", c.ID, c.Src, c.Dst)
	if c.Host != "" {
		s += " (" + c.Host + ")"
	}
	if x.Ordinal > 1 {
		s += fmt.Sprintf(", exchange %d on it", x.Ordinal)
	}
	if c.Opaque != "" {
		s += ", not decoded: " + c.Opaque
	}
	if !c.Ended.IsZero() {
		s += fmt.Sprintf("; client end: %s, server end: %s", c.ChildEnd, c.SrvEnd)
	}
	return s
}

func timingsText(x *flow.Exchange) string {
	t := x.Timings()
	var facts []string
	for _, f := range []struct {
		name string
		d    time.Duration
	}{{"dns", t.DNS}, {"connect", t.Connect}, {"tls", t.SSL}, {"send", t.Send}, {"wait", t.Wait}, {"receive", t.Receive}, {"first event", t.FirstEvent}} {
		if f.d >= 0 {
			facts = append(facts, f.name+" "+tookText(f.d))
		}
	}
	return strings.Join(facts, ", ")
}

// processText names a process: curl[4242].
func processText(p *flow.Process) string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf("%s[%d]", p.Name(), p.PID)
}

// hostPort returns the host of a request, with the port where it is not the
// one that the scheme implies.
func hostPort(h *flow.Head) string {
	port := strconv.Itoa(h.Port)
	if h.Port == 0 || h.Scheme == "https" && h.Port == 443 || h.Scheme == "http" && h.Port == 80 {
		if strings.Contains(h.Host, ":") {
			return "[" + h.Host + "]"
		}
		return h.Host
	}
	return net.JoinHostPort(h.Host, port)
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
