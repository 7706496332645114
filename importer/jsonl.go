package importer

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"trace/flow"
)

// A log is an event log being read.
type log struct {
	s     *sink
	flows map[string]*logFlow
	n     int        // of the line
	order []*logFlow // those not over, by their first lines
	conns map[string]flow.Conn
	early map[string]*earlyNotes // by the ids of flows
}

// earlyNotes are the marks on a flow whose request, or first bytes, are still to
// come: what is noticed of a request stands before its line, which comes when it
// is complete.
type earlyNotes struct {
	line  int
	head  logHead
	at    time.Time
	notes []flow.Note
}

// logFlow is a flow of which not all lines have come.
type logFlow struct {
	r    *record
	e    *emitter
	over bool
}

// readJSONL reads an event log of trace. Lines of types that are not known are
// skipped, as every reader of it does.
func readJSONL(r *bufio.Reader, s *sink) error {
	l := &log{s: s, flows: map[string]*logFlow{}, conns: map[string]flow.Conn{}, early: map[string]*earlyNotes{}}
	for n := 1; ; n++ {
		l.n = n
		text, err := r.ReadBytes('\n')
		if text = bytes.TrimSpace(text); len(text) > 0 {
			if e := l.line(text); e != nil {
				s.bad(Bad{fmt.Sprintf("line %d", n), e})
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	l.late()
	for _, f := range l.order {
		if !f.over {
			if f.r.request != nil {
				f.r.state = flow.StateOpen
			}
			f.e.finish(f.r)
		}
	}
	return nil
}

// logHead is what every line has.
type logHead struct {
	TS, Type, Session string
	FlowID            string `json:"flow_id"`
	ConnID            string `json:"conn_id"`
}

func (l *log) line(text []byte) error {
	var h logHead
	if err := json.Unmarshal(text, &h); err != nil {
		return err
	}
	handle := map[string]func(logHead, time.Time, []byte) error{
		"connection_open": l.connOpen, "connection_close": l.connClose, "request": l.request, "response_headers": l.responseHead,
		"sse": l.event, "ws_message": l.message, "response": l.end, "stream_end": l.end, "tcp": l.opaque, "udp": l.opaque, "dns": l.query,
		"error": l.trouble, "tls_error": l.trouble, "drop": l.drop, "mark": l.mark,
	}[h.Type]
	if handle == nil {
		return nil
	}
	at, err := parseTime(h.TS)
	if err != nil {
		return fmt.Errorf("ts: %w", err)
	}
	if h.ConnID != "" {
		h.ConnID = h.Session + "/" + h.ConnID
	}
	return handle(h, at, text)
}

type endpoint struct {
	Addr, Name, Process string
	Port                uint16
	PID                 int
}

func (e *endpoint) address() netip.AddrPort {
	if e == nil {
		return netip.AddrPort{}
	}
	a, err := netip.ParseAddr(e.Addr)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, e.Port)
}

func (l *log) connOpen(h logHead, at time.Time, text []byte) error {
	var v struct {
		Transport, Protocol string
		Client, Server      *endpoint
		TLS                 *logTLS
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	c := flow.Conn{Transport: v.Transport, Protocol: v.Protocol, Started: at, Src: v.Client.address(), Dst: v.Server.address()}
	_, id := cutLast(h.ConnID)
	fmt.Sscan(id, &c.ID)
	if v.Client != nil && v.Client.PID > 0 {
		c.Process = &flow.Process{PID: v.Client.PID, Exe: v.Client.Process}
	}
	if v.Server != nil {
		c.Host = v.Server.Name
	}
	v.TLS.fill(&c)
	l.conns[h.ConnID] = c
	return nil
}

func cutLast(s string) (before, after string) {
	i := strings.LastIndexByte(s, '/')
	return s[:max(i, 0)], s[i+1:]
}

type logTLS struct {
	Version, Cipher, ALPN, SNI, JA3, JA4 string
	Offered                              []string `json:"alpn_offered"`
	Versions                             []string `json:"versions_offered"`
	Resumed, ECH, Intercepted            bool
	Upstream                             struct {
		Version, Cipher, ALPN, Verdict string
		Resumed                        bool
	}
}

func (t *logTLS) fill(c *flow.Conn) {
	if t == nil {
		return
	}
	u := &t.Upstream
	c.Decrypted = t.Intercepted
	c.Child = flow.TLS{Version: t.Version, Cipher: t.Cipher, ALPN: t.ALPN, SNI: t.SNI, JA3: t.JA3, JA4: t.JA4, Offered: t.Offered, Versions: t.Versions, Resumed: t.Resumed, ECH: t.ECH}
	c.Upstream = flow.TLS{Version: u.Version, Cipher: u.Cipher, ALPN: u.ALPN, Verdict: u.Verdict, Resumed: u.Resumed}
}

func (l *log) connClose(h logHead, at time.Time, text []byte) error {
	var v struct {
		Sent     int64 `json:"bytes_c2s"`
		Received int64 `json:"bytes_s2c"`
		Protocol string
		TLS      *logTLS
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	if c := l.s.conns[h.ConnID]; c != nil {
		c.ended, c.bytes = at, &[2]int64{v.Sent, v.Received}
		if v.TLS != nil {
			v.TLS.fill(&c.facts)
		}
		if v.Protocol != "" {
			c.facts.Protocol = v.Protocol
		}
	}
	delete(l.conns, h.ConnID)
	return nil
}

// record begins a flow that has this line.
func (l *log) record(h logHead, at time.Time) *record {
	facts := l.conns[h.ConnID]
	return &record{conn: h.ConnID, facts: facts, started: at, state: flow.StateComplete}
}

// begin gives a flow its place.
func (l *log) begin(h logHead, r *record) *logFlow {
	r.facts.Sent, r.facts.Received = 0, 0
	f := &logFlow{r: r, e: l.s.begin(r)}
	if h.FlowID != "" {
		l.flows[h.FlowID] = f
	}
	if e := l.early[h.FlowID]; e != nil {
		r.marks = append(r.marks, e.notes...)
		delete(l.early, h.FlowID)
	}
	l.order = append(l.order, f)
	if len(l.order) > 1024 { // forget those that are over
		kept := l.order[:0]
		for _, f := range l.order {
			if !f.over {
				kept = append(kept, f)
			}
		}
		l.order = kept
	}
	return f
}

// finish ends a flow.
func (l *log) finish(h logHead, f *logFlow) {
	f.over = true
	f.e.finish(f.r)
	f.r, f.e = nil, nil
	delete(l.flows, h.FlowID)
}

// of returns the flow that a line belongs to.
func (l *log) of(h logHead) (*logFlow, error) {
	f := l.flows[h.FlowID]
	if f == nil || f.r == nil {
		return nil, fmt.Errorf("%s of flow %q, of which no request has come", h.Type, h.FlowID)
	}
	return f, nil
}

func (l *log) query(h logHead, at time.Time, text []byte) error {
	var v struct {
		Name, QType, Rcode string
		Answers            []string
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	r := &record{conn: h.ConnID, kind: flow.KindDNS, started: at, dns: &flow.DNS{Name: v.Name, Type: v.QType, Rcode: v.Rcode, Answers: v.Answers}}
	r.facts.Transport = "udp"
	l.s.add(r)
	return nil
}

// opaque takes bytes of a connection that is not decoded.
func (l *log) opaque(h logHead, at time.Time, text []byte) error {
	var v struct {
		Dir, Data, Protocol, SNI string
		Size                     int64
		Reason                   string `json:"opaque_reason"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	f := l.flows[h.FlowID]
	if f == nil {
		r := l.record(h, at)
		r.kind, r.reason = h.Type, v.Reason
		r.facts.Opaque, r.facts.Transport = v.Reason, h.Type
		if v.Protocol != "" {
			r.facts.Protocol = v.Protocol
		}
		if r.facts.Child.SNI == "" {
			r.facts.Child.SNI = v.SNI
		}
		f = l.begin(h, r)
	}
	data, err := base64.StdEncoding.DecodeString(v.Data)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	side := sideOfDir(v.Dir)
	f.r.messages = append(f.r.messages, flow.Piece{Index: len(f.r.messages), At: at, Side: side, Data: data, Size: v.Size})
	f.r.ended = at
	if side == flow.Client {
		f.r.facts.Sent += v.Size
	} else {
		f.r.facts.Received += v.Size
	}
	return nil
}

func sideOfDir(dir string) flow.Side {
	if dir == "c2s" {
		return flow.Client
	}
	return flow.Server
}

var errNoRequest = errors.New("an error of a flow of which no request has come")

// undecoded reports whether a line is about a connection that carries no HTTP.
func (l *log) undecoded(h logHead) bool {
	facts, ok := l.conns[h.ConnID]
	return ok && facts.Protocol != "http" && facts.Protocol != "http2"
}

// late makes flows of what was noticed of connections on which nothing passed;
// of requests that did not come it is told.
func (l *log) late() {
	rest := slices.SortedFunc(maps.Values(l.early), func(a, b *earlyNotes) int { return a.line - b.line })
	for _, e := range rest {
		if !l.undecoded(e.head) {
			l.s.bad(Bad{fmt.Sprintf("line %d", e.line), errNoRequest})
			continue
		}
		r := l.record(e.head, e.at)
		r.kind, r.ended = flow.KindTCP, e.at
		l.begin(e.head, r)
	}
}

// trouble takes an error or a mark.
func (l *log) trouble(h logHead, at time.Time, text []byte) error {
	var v struct {
		flow.Error
		Text  string `json:"error"`
		Stage string
		Fatal bool
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	fault := v.Error
	if h.Type == "tls_error" {
		fault.Message, fault.Where = v.Text, flow.AtUpstream
		if v.Stage != "upstream" {
			fault.Where = flow.AtClient
		}
	}
	if c := l.s.conns[h.ConnID]; h.Type == "tls_error" {
		if c != nil {
			c.facts.Error = &fault
		} else if facts, ok := l.conns[h.ConnID]; ok {
			facts.Error = &fault
			l.conns[h.ConnID] = facts
		}
		return nil
	}
	f := l.flows[h.FlowID]
	switch {
	case h.FlowID == "":
		l.s.emit(flow.Event{Kind: flow.Mark, At: at, Error: &fault})
	case f == nil && v.Fatal && l.undecoded(h):
		r := l.record(h, at)
		r.kind, r.fault, r.state, r.ended = flow.KindTCP, &fault, flow.StateFailed, at
		l.begin(h, r)
	case f == nil && v.Fatal:
		return errNoRequest
	case f == nil:
		e := l.early[h.FlowID]
		if e == nil {
			e = &earlyNotes{line: l.n, head: h, at: at}
			l.early[h.FlowID] = e
		}
		e.notes = append(e.notes, flow.Note{At: at, Error: &fault})
	case v.Fatal:
		f.r.fault, f.r.state = &fault, flow.StateFailed
	default:
		f.r.marks = append(f.r.marks, flow.Note{At: at, Error: &fault})
	}
	return nil
}

func (l *log) drop(_ logHead, at time.Time, text []byte) error {
	var v struct{ Reason string }
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	l.s.emit(flow.Event{Kind: flow.Gap, At: at, Error: &flow.Error{Where: flow.AtCapture, Code: flow.CodeGap, Message: v.Reason}})
	return nil
}

func (l *log) mark(_ logHead, at time.Time, text []byte) error {
	var v struct{ Mark, Text string }
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	l.s.emit(flow.Event{Kind: flow.Mark, At: at, Error: &flow.Error{Where: flow.AtCapture, Code: flow.CodeMark, Message: v.Text, Detail: v.Mark}})
	return nil
}
