package otel

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"trace/flow"
)

// exchange makes the span of an exchange, or of a connection that was not
// decoded.
func (t *Teller) exchange(x *flow.Exchange, id, parent []byte) *tracepb.Span {
	a := t.attributes()
	s := t.span(id, parent, x.Kind, tracepb.Span_SPAN_KIND_CLIENT, x.Started, x.Ended)
	if x.Request != nil && x.Request.Head != nil {
		t.http(x, s, a)
	} else {
		t.connection(x, s, a)
	}
	if x.Conn.Dst.IsValid() {
		a.str("network.peer.address", x.Conn.Dst.Addr().Unmap().String())
		a.nonzero("network.peer.port", int64(x.Conn.Dst.Port()))
	}
	t.process(x.Conn.Process, a)
	a.int("trace.flow.id", x.ID)
	if x.Conn.Source != "" && x.Conn.Source != t.s.Source {
		a.str("trace.source", string(x.Conn.Source))
	}
	a.nonzero("trace.redacted", int64(x.Redacted))
	s.Attributes = a.list
	return s
}

// http fills in what the conventions say of an HTTP client's span.
func (t *Teller) http(x *flow.Exchange, s *tracepb.Span, a *attributes) {
	h := x.Request.Head
	method, other := knownMethod(h.Method)
	if s.Name = method; other != "" {
		s.Name = "HTTP"
	}
	a.str("http.request.method", method)
	a.str("http.request.method_original", other)
	a.str("url.full", url(h))
	a.str("url.scheme", h.Scheme)
	a.str("server.address", h.Host)
	a.nonzero("server.port", int64(h.Port))
	a.str("network.protocol.name", "http")
	a.str("network.protocol.version", version(x))
	a.str("user_agent.original", h.Get("User-Agent"))
	if b := x.Request.Body; b != nil {
		a.int("http.request.body.size", b.Size)
	}
	status := statusCode(x)
	if status > 0 {
		a.int("http.response.status_code", int64(status))
	}
	if r := x.Response; r != nil {
		if r.Body != nil {
			a.int("http.response.body.size", r.Body.Size)
			a.nonzero("trace.response.events", r.Body.Events)
		}
	}
	if x.Kind == flow.KindWebSocket {
		a.nonzero("trace.websocket.sent.messages", x.Tally[flow.Client].Messages)
		a.nonzero("trace.websocket.received.messages", x.Tally[flow.Server].Messages)
	}
	switch kind := errorType(x); {
	case kind == "":
	case x.Error != nil:
		fail(s, a, kind, x.Error.Message)
	default:
		fail(s, a, kind, "")
	}
}

// connection fills in what is known of bytes that nobody decoded.
func (t *Teller) connection(x *flow.Exchange, s *tracepb.Span, a *attributes) {
	c := &x.Conn
	host := c.Host
	if host == "" && c.Dst.IsValid() {
		host = c.Dst.Addr().Unmap().String()
	}
	s.Name = x.Kind + " " + net.JoinHostPort(host, strconv.Itoa(int(c.Dst.Port())))
	a.str("network.transport", x.Kind)
	if c.Protocol != "" {
		a.str("network.protocol.name", c.Protocol)
	}
	a.str("server.address", host)
	a.nonzero("server.port", int64(c.Dst.Port()))
	a.str("trace.opaque", c.Opaque)
	a.nonzero("trace.sent.bytes", c.Sent)
	a.nonzero("trace.received.bytes", c.Received)
	if x.Error != nil {
		fail(s, a, x.Error.Code, x.Error.Message)
	}
}

// process tells which program it was.
func (t *Teller) process(p *flow.Process, a *attributes) {
	if p == nil {
		return
	}
	a.nonzero("process.pid", int64(p.PID))
	if len(p.Parents) > 0 {
		a.nonzero("process.parent_pid", int64(p.Parents[0]))
	}
	a.str("process.executable.name", p.Name())
	a.str("process.executable.path", p.Exe)
	if len(p.Argv) > 0 {
		a.str("process.command", p.Argv[0])
		if t.o.Content {
			a.strs("process.command_args", p.Argv)
		}
	}
}

// knownMethod returns a method as the conventions have it, and what it was where
// they do not know it.
func knownMethod(m string) (method, original string) {
	if slices.Contains([]string{"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"}, m) {
		return m, ""
	}
	return "_OTHER", m
}

// url is what was asked for, without a fragment; credentials in it were
// redacted in the record.
func url(h *flow.Head) string {
	host, port := h.Host, h.Port
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != 0 && (h.Scheme != "https" || port != 443) && (h.Scheme != "http" || port != 80) {
		host += ":" + strconv.Itoa(port)
	}
	path, _, _ := strings.Cut(h.Path, "#")
	return cmp.Or(h.Scheme, "http") + "://" + host + path
}

// version is that of HTTP. An outline of an exchange does not have it; its
// connection tells.
func version(x *flow.Exchange) string {
	switch {
	case x.Request.Head.Version != "":
		return x.Request.Head.Version
	case x.Conn.Protocol == "http2", x.Conn.Child.ALPN == "h2":
		return "2"
	}
	return "1.1"
}

func statusCode(x *flow.Exchange) int {
	if x.Response == nil || x.Response.Head == nil {
		return 0
	}
	return x.Response.Head.Status
}

// errorType is error.type of an HTTP exchange; "" if it went well.
func errorType(x *flow.Exchange) string {
	switch status := statusCode(x); {
	case x.Error != nil && x.Error.Code != flow.CodeMark:
		return cmp.Or(x.Error.Code, "_OTHER")
	case status >= 400:
		return strconv.Itoa(status)
	case x.State == flow.StateFailed:
		return "_OTHER"
	}
	return ""
}
