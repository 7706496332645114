package export

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"trace/flow"
)

// flowVersion is that of the flow files of mitmproxy 10: later ones migrate
// it, earlier ones refuse it.
const flowVersion = 20

// A Mitmproxy writes a flow file of mitmproxy: HTTP exchanges, WebSockets, TCP
// and UDP. A body goes into it encoded as its content-encoding says, though not
// with the very bytes that an encoder made at the time.
type Mitmproxy struct {
	W io.Writer

	source  Source
	session string
}

// From says of which session the next flows are.
func (m *Mitmproxy) From(s flow.Session, src Source) error {
	m.source, m.session = src, s.ID
	return nil
}

// Flow writes one flow.
func (m *Mitmproxy) Flow(x *flow.Exchange) error {
	var own []member
	var err error
	kind := x.Kind
	switch {
	case x.Request != nil && x.Request.Head != nil:
		kind = "http"
		own, err = m.http(x)
	case x.Kind == flow.KindTCP, x.Kind == flow.KindUDP:
		own, err = m.messages(x)
	default:
		return ErrNoPlace
	}
	if body := (*BodyError)(nil); errors.As(err, &body) {
		return err
	}
	if err != nil {
		return &BodyError{x.ID, err}
	}
	t := tDict(append([]member{
		{"version", tInt(flowVersion)},
		{"type", tText(kind)},
		{"id", tText(m.id("flow", x.ID))},
		{"error", mitmError(x)},
		{"client_conn", m.client(x)},
		{"server_conn", m.server(x)},
		{"intercepted", tBool(false)},
		{"is_replay", tNull()},
		{"marked", tText("")},
		{"metadata", tDict(member{"trace_id", tText(fmt.Sprintf("%s/%d", m.session, x.ID))})},
		{"comment", tText(mitmComment(x))},
		{"timestamp_created", tTime(x.Started)},
		{"backup", tNull()},
	}, own...)...)
	if err := t.write(m.W); err != nil {
		return fmt.Errorf("write the flow file: %w", err)
	}
	return nil
}

// id makes a UUID of a number of the session: the same one every time.
func (m *Mitmproxy) id(of string, n int64) string {
	b := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", m.session, of, n))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80 // RFC 9562 section 5.8
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func mitmError(x *flow.Exchange) tnet {
	if x.Error == nil {
		return tNull()
	}
	at := x.Ended
	if at.IsZero() {
		at = x.Started
	}
	return tDict(member{"msg", tText(valid(x.Error.Message))}, member{"timestamp", tTime(at)})
}

// mitmComment says what is not whole.
func mitmComment(x *flow.Exchange) string {
	var notes []string
	for _, s := range []struct {
		side flow.Side
		part *flow.Part
	}{{flow.Client, x.Request}, {flow.Server, x.Response}} {
		if s.part != nil && s.part.Body != nil && s.part.Body.Truncated {
			notes = append(notes, fmt.Sprintf("of the %s's body the first %d bytes were kept", s.side, s.part.Body.Kept))
		}
	}
	return strings.Join(notes, "; ")
}

// valid makes UTF-8 of s.
func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func (m *Mitmproxy) http(x *flow.Exchange) ([]member, error) {
	var bodies [2]*content
	for side := range bodies {
		var err error
		if bodies[side], err = contentOf(m.source, x.ID, flow.Side(side)); err != nil {
			return nil, err
		}
	}
	h := x.Request.Head
	request, err := mitmMessage(x.Request, bodies[flow.Client], x.Started, x.RequestEnded)
	if err != nil {
		return nil, err
	}
	path := h.Path
	if h.Target != "" && !strings.Contains(h.Target, "://") {
		path = h.Target
	}
	port := int64(h.Port)
	if port == 0 {
		port = int64(x.Conn.Dst.Port())
	}
	request = append(request, member{"host", tText(valid(cmp.Or(h.Host, x.Conn.Host)))}, member{"port", tInt(port)}, member{"method", tOctets(h.Method)},
		member{"scheme", tOctets(cmp.Or(h.Scheme, "http"))}, member{"authority", tOctets(h.Authority)}, member{"path", tOctets(path)})
	own := []member{{"request", tDict(request...)}, {"response", tNull()}, {"websocket", tNull()}}
	if p := x.Response; p != nil && p.Head != nil {
		response, err := mitmMessage(p, bodies[flow.Server], x.Responded, x.Ended)
		if err != nil {
			return nil, err
		}
		response = append(response, member{"status_code", tInt(int64(p.Head.Status))}, member{"reason", tOctets(p.Head.Reason)})
		own[1].value = tDict(response...)
	}
	if x.IsWebSocket() {
		own[2].value, err = m.websocket(x)
	}
	return own, err
}

// mitmMessage makes what requests and answers have in common.
func mitmMessage(p *flow.Part, body *content, start, end time.Time) ([]member, error) {
	version := "HTTP/" + p.Head.Version
	if p.Head.Version == "2" || p.Head.Version == "3" {
		version += ".0"
	}
	skip, content := "", tBody(body)
	if p.Body != nil && p.Body.Encoding != "" {
		coded, err := encode(p.Body.Encoding, body)
		if err != nil {
			return nil, err
		}
		if coded == nil {
			skip = "content-encoding" // it stands decoded
		} else {
			content = tBytes(coded)
		}
	}
	trailers := tNull()
	if p.Body != nil && len(p.Body.Trailers) > 0 {
		trailers = mitmFields(p.Body.Trailers, "")
	}
	if start.IsZero() {
		start = end
	}
	return []member{
		{"http_version", tOctets(version)}, {"headers", mitmFields(p.Head.Fields, skip)}, {"content", content}, {"trailers", trailers},
		{"timestamp_start", tTime(start)}, {"timestamp_end", tTime(end)},
	}, nil
}

func mitmFields(fs []flow.Field, skip string) tnet {
	var items []tnet
	for _, f := range fs {
		if skip == "" || !strings.EqualFold(f.Name, skip) {
			items = append(items, tList(tOctets(f.Name), tOctets(f.Value)))
		}
	}
	return tList(items...)
}

// encode applies a content coding; nil if it is none that is known.
func encode(coding string, body *content) ([]byte, error) {
	var b bytes.Buffer
	var w io.WriteCloser
	switch strings.ToLower(coding) {
	case "gzip", "x-gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "br":
		w = brotli.NewWriterLevel(&b, brotli.BestSpeed)
	case "zstd":
		z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		w = z
	default:
		return nil, nil
	}
	err := body.bytes(w)
	if e := w.Close(); err == nil {
		err = e
	}
	return b.Bytes(), err
}

func (m *Mitmproxy) websocket(x *flow.Exchange) (tnet, error) {
	var items []tnet
	closed := []member{{"closed_by_client", tNull()}, {"close_code", tNull()}, {"close_reason", tNull()}}
	ended := false
	err := m.source.Pieces(x.ID, func(p flow.Piece) error {
		switch {
		case p.Opcode == flow.OpText || p.Opcode == flow.OpBinary:
			items = append(items, tList(tInt(int64(p.Opcode)), tBool(p.Side == flow.Client), tBytes(bytes.Clone(p.Data)), tTime(p.At), tBool(false), tBool(false)))
		case p.Opcode == flow.OpClose && !ended:
			ended = true
			code, reason := flow.ParseClose(p.Data)
			closed[0].value, closed[1].value, closed[2].value = tBool(p.Side == flow.Client), tInt(int64(code)), tText(valid(reason))
		}
		return nil
	})
	return tDict(append(closed, member{"messages", tList(items...)}, member{"timestamp_end", tTime(x.Ended)})...), err
}

func (m *Mitmproxy) messages(x *flow.Exchange) ([]member, error) {
	var items []tnet
	err := m.source.Pieces(x.ID, func(p flow.Piece) error {
		if len(p.Data) > 0 {
			items = append(items, tList(tBool(p.Side == flow.Client), tBytes(bytes.Clone(p.Data)), tTime(p.At)))
		}
		return nil
	})
	return []member{{"messages", tList(items...)}}, err
}

// client is the child's leg of the connection.
func (m *Mitmproxy) client(x *flow.Exchange) tnet {
	c := &x.Conn
	return tDict(append(m.leg(x, "client", &c.Child, ""),
		member{"peername", tAddress("", c.Src)},
		member{"sockname", tAddress("", c.Dst)},
		member{"mitmcert", tNull()},
		member{"proxy_mode", tText("wireguard")})...)
}

// server is the leg to the server.
func (m *Mitmproxy) server(x *flow.Exchange) tnet {
	c := &x.Conn
	host := c.Host
	if host == "" && x.Request != nil {
		host = x.Request.Head.Host
	}
	peer, address, up := tNull(), tNull(), tNull()
	if c.Dst.IsValid() {
		peer = tAddress("", c.Dst)
	}
	if c.Dst.IsValid() || host != "" {
		address = tAddress(host, c.Dst)
	}
	if c.Connect > 0 && !c.Started.IsZero() {
		up = tTime(c.Started.Add(c.DNS + c.Connect - c.SSL))
	}
	return tDict(append(m.leg(x, "server", &c.Upstream, c.Child.SNI),
		member{"peername", peer},
		member{"sockname", tNull()},
		member{"address", address},
		member{"timestamp_tcp_setup", up},
		member{"via", tNull()})...)
}

// leg is what both legs have. A connection whose start is not known began with
// its first flow.
func (m *Mitmproxy) leg(x *flow.Exchange, name string, t *flow.TLS, sni string) []member {
	c := &x.Conn
	start := c.Started
	if start.IsZero() {
		start = x.Started
	}
	alpn, version, setup := tNull(), tNull(), tNull()
	if t.ALPN != "" {
		alpn = tOctets(t.ALPN)
	}
	if t.Version != "" {
		version = tText("TLSv" + t.Version)
		setup = tTime(start.Add(c.DNS + c.Connect))
	}
	var offers, certificates []tnet
	for _, o := range t.Offered {
		offers = append(offers, tOctets(o))
	}
	for _, der := range t.Chain {
		certificates = append(certificates, tBytes(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	}
	transport := cmp.Or(c.Transport, "tcp")
	id := c.ID
	if id == 0 {
		id = -x.ID
	}
	return []member{
		{"id", tText(m.id(name, id))}, {"transport_protocol", tText(transport)}, {"error", tNull()}, {"tls", tBool(t.Version != "" || t.SNI != "")},
		{"certificate_list", tList(certificates...)}, {"alpn", alpn}, {"alpn_offers", tList(offers...)}, {"cipher", tTextOrNull(t.Cipher)},
		{"cipher_list", tList()}, {"tls_version", version}, {"sni", tTextOrNull(valid(cmp.Or(t.SNI, sni)))},
		{"timestamp_start", tTime(start)}, {"timestamp_end", tTime(c.Ended)}, {"timestamp_tls_setup", setup},
	}
}

// tAddress is an address and a port. host stands for the address if it is
// known.
func tAddress(host string, a netip.AddrPort) tnet {
	if host == "" && a.IsValid() {
		host = a.Addr().WithZone("").String()
	}
	return tList(tText(valid(host)), tInt(int64(a.Port())))
}

// End does nothing.
func (m *Mitmproxy) End() error { return nil }
