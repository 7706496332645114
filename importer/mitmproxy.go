package importer

import (
	"bufio"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"trace/flow"
)

// oldestFlow is the version of the flow files of mitmproxy 9. Those before it
// are laid out in other ways.
const oldestFlow = 18

// readMitmproxy reads a flow file.
func readMitmproxy(r *bufio.Reader, s *sink) error {
	for n := 1; ; n++ {
		v, fault, err := nextTnet(r)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("flow %d: %w", n, err)
		}
		where := fmt.Sprintf("flow %d", n)
		m, ok := v.(map[string]any)
		if fault == nil && !ok {
			fault = errors.New("it is no dictionary")
		}
		if fault != nil {
			s.bad(Bad{where, fault})
			continue
		}
		rec, err := mitmRecord(dict(m))
		if err != nil {
			s.bad(Bad{where, err})
			continue
		}
		s.add(rec)
	}
}

// A dict is a dictionary of which anything may be missing or of another type.
type dict map[string]any

func (d dict) dict(key string) dict {
	m, _ := d[key].(map[string]any)
	return m
}

func (d dict) list(key string) []any {
	l, _ := d[key].([]any)
	return l
}

func (d dict) text(key string) string { return textOf(d[key]) }

func (d dict) bytes(key string) []byte {
	switch v := d[key].(type) {
	case []byte:
		return v
	case string:
		return []byte(v)
	}
	return nil
}

func (d dict) int(key string) int64 {
	n, _ := d[key].(int64)
	return n
}

func (d dict) bool(key string) bool {
	b, _ := d[key].(bool)
	return b
}

// time reads seconds since 1970.
func (d dict) time(key string) time.Time { return timeOf(d[key]) }

func timeOf(v any) time.Time {
	switch v := v.(type) {
	case float64:
		return number(v).moment()
	case int64:
		return number(v).moment()
	}
	return time.Time{}
}

// address reads [host, port] of the first of keys that has one. host is also
// given where it is a name.
func (d dict) address(keys ...string) (a netip.AddrPort, host string) {
	for _, key := range keys {
		l := d.list(key)
		if len(l) < 2 {
			continue
		}
		port, _ := l[1].(int64)
		host = textOf(l[0])
		if ip, err := netip.ParseAddr(host); err == nil && port >= 0 && port < 1<<16 {
			return netip.AddrPortFrom(ip.Unmap(), uint16(port)), host
		}
		return netip.AddrPort{}, host
	}
	return a, ""
}

func mitmRecord(d dict) (*record, error) {
	version, ok := d["version"].(int64)
	if !ok || version < oldestFlow {
		return nil, fmt.Errorf("it is of version %v, before those of mitmproxy 9 (%d): have a newer mitmproxy rewrite it, 'mitmdump -nr OLD -w NEW'", d["version"], oldestFlow)
	}
	client, server := d.dict("client_conn"), d.dict("server_conn")
	r := &record{state: flow.StateComplete, conn: client.text("id") + "/" + server.text("id")}
	if r.conn == "/" {
		r.conn = ""
	}
	mitmConnection(r, client, server)
	if e := d.dict("error"); e != nil {
		r.state = flow.StateFailed
		r.fault = &flow.Error{Where: flow.AtUpstream, Code: flow.CodeTruncated, Message: e.text("msg")}
		r.ended = e.time("timestamp")
	}
	switch kind := d.text("type"); kind {
	case "http":
		return r, mitmHTTP(r, d)
	case "tcp", "udp":
		r.kind = kind
		r.facts.Transport, r.facts.Opaque, r.reason = kind, "not_http", "not_http"
		mitmMessages(r, d)
		return r, nil
	case "dns":
		r.kind = kind
		return r, mitmDNS(r, d)
	default:
		return nil, fmt.Errorf("it is of type %.20q", kind)
	}
}

// mitmConnection reads both legs.
func mitmConnection(r *record, client, server dict) {
	c := &r.facts
	c.Transport = "tcp"
	c.Src, _ = client.address("peername", "address")
	c.Dst, _ = server.address("peername", "ip_address", "address")
	_, c.Host = server.address("address")
	if _, err := netip.ParseAddr(c.Host); err == nil {
		c.Host = ""
	}
	c.Child, c.Upstream = mitmLeg(client), mitmLeg(server)
	if c.Host == "" {
		c.Host = c.Child.SNI
	}
	c.Decrypted = c.Child.Version != "" || client.bool("tls") || client.bool("tls_established")
	c.Started, r.started = client.time("timestamp_start"), client.time("timestamp_start")
	start, up, tls := server.time("timestamp_start"), server.time("timestamp_tcp_setup"), server.time("timestamp_tls_setup")
	if !start.IsZero() && !up.IsZero() {
		c.Connect = max(0, up.Sub(start))
		if !tls.IsZero() && tls.After(up) {
			c.SSL = tls.Sub(up)
			c.Connect += c.SSL
		}
	}
	for _, v := range server.list("certificate_list") {
		p, _ := v.([]byte)
		if block, _ := pem.Decode(p); block != nil {
			c.Upstream.Chain = append(c.Upstream.Chain, block.Bytes)
		}
	}
}

func mitmLeg(d dict) flow.TLS {
	t := flow.TLS{Cipher: d.text("cipher"), ALPN: d.text("alpn"), SNI: d.text("sni")}
	if t.Cipher == "" {
		t.Cipher = d.text("cipher_name")
	}
	t.Version = strings.TrimPrefix(d.text("tls_version"), "TLSv")
	if t.Version == "1" {
		t.Version = "1.0"
	}
	for _, o := range d.list("alpn_offers") {
		t.Offered = append(t.Offered, textOf(o))
	}
	return t
}

func mitmHTTP(r *record, d dict) error {
	q := d.dict("request")
	if q == nil || q.text("method") == "" {
		return errors.New("it has no request")
	}
	r.kind = flow.KindHTTP
	h := &flow.Head{Method: q.text("method"), Target: q.text("path"), Path: q.text("path"), Scheme: q.text("scheme"), Host: strings.ToLower(q.text("host")),
		Port: int(q.int("port")), Version: version(word(q.text("http_version"))), Fields: mitmFields(q.list("headers"))}
	if h.Version == "2" {
		h.Authority = q.text("authority")
	}
	r.request = h
	c := &r.facts
	if c.Protocol = "http"; h.Version == "2" {
		c.Protocol = "http2"
	}
	c.Decrypted = h.Scheme == "https"
	r.started, r.requestEnded = q.time("timestamp_start"), q.time("timestamp_end")
	mitmBody(&r.requestBody, h, q)
	r.requestBody.there = !r.requestEnded.IsZero()
	cut(h, nil, flow.Client, &r.requestBody)
	r.requestBody.timed(nil, r.started, r.requestEnded)
	if p := d.dict("response"); p != nil {
		r.responded, r.ended = p.time("timestamp_start"), p.time("timestamp_end")
		r.response = &flow.Head{Status: int(p.int("status_code")), Reason: p.text("reason"), Version: version(word(p.text("http_version"))), Fields: mitmFields(p.list("headers"))}
		b := &r.answerBody
		mitmBody(b, r.response, p)
		b.there = !r.ended.IsZero()
		if d.dict("websocket") != nil {
			mitmWebSocket(r, d.dict("websocket"))
		} else {
			cut(h, r.response, flow.Server, b)
			b.timed(nil, r.responded, r.ended)
		}
	}
	switch {
	case r.fault != nil:
	case r.ended.IsZero():
		r.state = flow.StateOpen
	}
	return nil
}

func mitmFields(list []any) []flow.Field {
	fs := make([]flow.Field, 0, len(list))
	for _, v := range list {
		if pair, _ := v.([]any); len(pair) == 2 {
			fs = append(fs, flow.Field{Name: textOf(pair[0]), Value: textOf(pair[1])})
		}
	}
	return fs
}

// mitmBody takes a body, which is as it was on the wire.
func mitmBody(b *body, h *flow.Head, d dict) {
	raw := d.bytes("content")
	b.Size, b.SHA256 = int64(len(raw)), sha256.Sum256(raw)
	b.data, b.Decoded = raw, b.Size
	b.Unsummed = d["content"] == nil
	if coding := strings.ToLower(strings.TrimSpace(h.Get("content-encoding"))); coding != "" && len(raw) > 0 {
		if p, ok := decode(coding, raw); ok {
			b.data, b.Decoded, b.Encoding = p, int64(len(p)), coding
		}
	}
	b.Trailers = nil
	if t := d.list("trailers"); len(t) > 0 {
		b.Trailers = mitmFields(t)
	}
}

func mitmWebSocket(r *record, w dict) {
	r.response.Protocol, r.response.Streaming = "websocket", true
	add := func(at time.Time, side flow.Side, opcode uint8, data []byte) {
		r.messages = append(r.messages, flow.Piece{Index: len(r.messages), At: at, Side: side, Opcode: opcode, Data: data, Size: int64(len(data)),
			SHA256: sha256.Sum256(data), HasSum: true})
	}
	for _, v := range w.list("messages") {
		m, _ := v.([]any)
		if len(m) < 4 {
			continue
		}
		opcode, _ := m[0].(int64)
		fromClient, _ := m[1].(bool)
		data, ok := m[2].([]byte)
		if !ok {
			data = []byte(textOf(m[2]))
		}
		side := flow.Server
		if fromClient {
			side = flow.Client
		}
		add(timeOf(m[3]), side, uint8(opcode), data)
	}
	if t := w.time("timestamp_end"); !t.IsZero() {
		r.ended = t
	}
	if code, ok := w["close_code"].(int64); ok && code != flow.CloseAbnormal {
		side := flow.Server
		if w.bool("closed_by_client") {
			side = flow.Client
		}
		var frame []byte
		if code != flow.CloseNoStatus {
			frame = append([]byte{byte(code >> 8), byte(code)}, w.text("close_reason")...)
		}
		add(r.ended, side, flow.OpClose, frame)
	}
}

func mitmMessages(r *record, d dict) {
	for _, v := range d.list("messages") {
		m, _ := v.([]any)
		if len(m) < 3 {
			continue
		}
		p := flow.Piece{Index: len(r.messages), At: timeOf(m[2]), Side: flow.Server}
		p.Data, _ = m[1].([]byte)
		p.Size = int64(len(p.Data))
		if fromClient, _ := m[0].(bool); fromClient {
			p.Side = flow.Client
			r.facts.Sent += p.Size
		} else {
			r.facts.Received += p.Size
		}
		if len(r.messages) == 0 && (r.started.IsZero() || p.At.Before(r.started)) {
			r.started = p.At
		}
		r.ended = later(r.ended, p.At)
		r.messages = append(r.messages, p)
	}
	if created := d.time("timestamp_created"); r.started.IsZero() {
		r.started = created
	}
}

// recordTypes are the types of DNS records that people meet (RFC 1035, 3596,
// 9460).
var recordTypes = map[int64]string{1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 64: "SVCB", 65: "HTTPS"}

var resultCodes = map[int64]string{0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}

func mitmDNS(r *record, d dict) error {
	q := d.dict("request")
	questions := q.list("questions")
	if len(questions) == 0 {
		return errors.New("it has no question")
	}
	first, _ := questions[0].(map[string]any)
	r.facts.Transport = "udp"
	r.started = q.time("timestamp")
	r.dns = &flow.DNS{Name: dict(first).text("name"), Type: named(recordTypes, dict(first).int("type"), "TYPE")}
	p := d.dict("response")
	if p == nil {
		return nil
	}
	r.dns.Rcode = named(resultCodes, p.int("response_code"), "RCODE")
	if at := p.time("timestamp"); at.After(r.started) {
		r.dns.Took = at.Sub(r.started)
	}
	for _, v := range p.list("answers") {
		m, _ := v.(map[string]any)
		data := dict(m).bytes("data")
		if ip, ok := netip.AddrFromSlice(data); ok && (len(data) == 4 || len(data) == 16) {
			r.dns.Answers = append(r.dns.Answers, ip.String())
		}
	}
	return nil
}

func named(names map[int64]string, n int64, prefix string) string {
	if s := names[n]; s != "" {
		return s
	}
	return prefix + strconv.FormatInt(n, 10)
}
