package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// A comparison compares the record with the logs.
type comparison struct {
	t        *testing.T
	j        *job
	keep     bool
	base     bool
	rows     map[string][]row
	pieces   map[string][]piece
	failures int
	early    int // connections that the client reset before they stood
	tunnels  int
	unnamed  int // rows without a process
}

func (k *comparison) failed(format string, args ...any) {
	k.t.Helper()
	k.failures++
	if k.failures <= 40 {
		k.t.Errorf(format, args...)
	}
}

// exchange judges one exchange.
func (k *comparison) exchange(cp connPlan, p *plan, s, c *seen) {
	path := p.path()
	rows := k.rows[path]
	delete(k.rows, path)
	name := fmt.Sprintf("exchange %d (%s tls=%v %s %s %d)", p.ID, cp.Proto, cp.TLS, p.Kind, p.Method, p.Status)
	if p.Abort != nil {
		name += fmt.Sprintf(" %+v", *p.Abort)
	}
	if a := p.Abort; len(rows) == 0 && s == nil && cp.Proto == "h1" && a != nil && a.By == "client" && a.In == "request" && a.How == "rst" {
		k.early-- // a reset may overtake what was sent before it
		return
	}
	if len(rows) != 1 {
		k.failed("%s: %d rows", name, len(rows))
		return
	}
	if c == nil || s == nil && p.whole() {
		k.failed("%s: server %+v, client %+v", name, s, c)
		return
	}
	r := rows[0]
	bad := func(format string, args ...any) {
		k.t.Helper()
		k.failed("%s: flow %s: %s", name, r.ID, fmt.Sprintf(format, args...))
	}
	k.outline(bad, cp, p, r)
	k.terminal(bad, r)
	k.heads(bad, r, s, c, k.base && cp.Proto == "h2" && !cp.TLS)
	switch {
	case p.Kind == kindWS:
		k.websocket(bad, p, r, s, c)
	case p.whole():
		k.complete(bad, p, r, s)
	default:
		k.broken(bad, p, r, s, c)
	}
	if p.whole() && p.ID%30 == 1 && p.Kind == kindPlain {
		k.stored(bad, r, "request", p.body("client").decoded, p.Req.Secret)
		if !p.bodyless() {
			k.stored(bad, r, "response", p.body("server").decoded, p.Resp.Secret)
		}
	}
	if k.base && p.whole() && p.ID%10 == 0 {
		k.forwarded(bad, p, r, s)
	}
	if k.keep && p.whole() && p.ID%30 == 0 && s.RawRecvd.Size+s.RawSent.Size < 8<<20 {
		k.raw(bad, r, "request", &s.RawRecvd)
		k.raw(bad, r, "response", &s.RawSent)
	}
}

// stored checks the decoded body that was kept.
func (k *comparison) stored(bad complain, r row, side string, want []byte, secret bool) {
	if secret && !k.keep || len(want) > 16<<20 {
		return
	}
	res := k.j.must(k.j.trace("flows", "show", r.ID, "--"+side+"-body"), 0)
	if res.stdout != string(want) {
		bad("%s: the body that is kept has %d bytes, want %d", side, len(res.stdout), len(want))
	}
}

// raw checks the wire form of one side: of HTTP/1 the very bytes, of HTTP/2
// the frames of the stream, where WINDOW_UPDATE may come after its end.
func (k *comparison) raw(bad complain, r row, side string, want *tally) {
	res := k.j.must(k.j.trace("flows", "show", r.ID, "--raw="+side), 0)
	got := []byte(res.stdout)
	if r.Request.Version == "2" {
		var all []byte
		for rest := got; len(rest) >= 9; {
			n := min(len(rest), 9+int(rest[0])<<16+int(rest[1])<<8+int(rest[2]))
			if http2.FrameType(rest[3]) != http2.FrameWindowUpdate {
				all = append(all, rest[:n]...)
			}
			rest = rest[n:]
		}
		got = all
	}
	if int64(len(got)) != want.Size || sumOf(got) != want.SHA {
		bad("--raw=%s has %d bytes, the server saw %d, or others: %.300q", side, len(got), want.Size, got)
	}
}

// terminal wants one end of the flow in the event log, which says the same as
// the row.
func (k *comparison) terminal(bad complain, r row) {
	n := 0
	for _, p := range k.pieces[r.ID] {
		if p.Type != "stream_end" && p.Type != "response" {
			continue
		}
		n++
		if whole := r.State == "complete"; p.Complete == nil || *p.Complete != whole || whole != (p.Reason == "eof") {
			bad("the log ends it with %+v, the row says %s", p, r.State)
		}
	}
	if n != 1 {
		bad("the log ends it %d times", n)
	}
}

// heads compares the header fields with those that both ends read, in order.
func (k *comparison) heads(bad complain, r row, s, c *seen, down bool) {
	if s != nil && !slices.Equal(k.told(r.Request.Headers, down), k.told(s.Fields, down)) {
		bad("request headers %q, the server read %q", r.Request.Headers, s.Fields)
	}
	if c.Status >= 200 || c.Status == 101 {
		if r.Response == nil || !slices.Equal(r.Response.Headers, c.Fields) {
			bad("response %+v, the client read %q", r.Response, c.Fields)
		}
	}
}

// secretless looks for what must be redacted in all files of a run.
func (k *comparison) secretless(dir string) {
	key := secretText[strings.Index(secretText, "sk-"):strings.LastIndexByte(secretText, '"')]
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		for _, form := range []string{key, base64.StdEncoding.EncodeToString([]byte(key))} {
			if strings.Contains(string(b), form) {
				k.failed("%s holds what must be redacted", p)
			}
		}
		return err
	})
	if err != nil {
		k.t.Error(err)
	}
}

type complain func(format string, args ...any)

// outline checks what holds of every row.
func (k *comparison) outline(bad complain, cp connPlan, p *plan, r row) {
	kind, method, version, scheme := "http", p.Method, "1.1", "http"
	if p.Kind == kindWS {
		kind = "websocket"
	}
	if cp.Proto == "h2" {
		version = "2"
		if p.Kind == kindWS {
			method = "CONNECT"
		}
	}
	port := 80
	if cp.TLS {
		scheme, port = "https", 443
	}
	q := r.Request
	if r.Kind != kind || q.Method != method || q.Version != version || q.Scheme != scheme || q.Host != host || q.Port != port || r.Conn.Decrypted != cp.TLS && !k.base {
		bad("recorded as %s %s %s://%s:%d HTTP/%s decrypted=%v", r.Kind, q.Method, q.Scheme, q.Host, q.Port, q.Version, r.Conn.Decrypted)
	}
	if r.Process == nil || len(r.Process.Argv) == 0 {
		k.unnamed++
	}
}

// told returns the fields that must be the same on both ends: with base URLs
// each end has a Host of its own, and where HTTP/2 becomes HTTP/1.1 (down), the
// names' case, their order, and what frames a body are not the same.
func (k *comparison) told(fields [][2]string, down bool) (all [][2]string) {
	if !k.base {
		return fields
	}
	for _, f := range fields {
		if down {
			f[0] = strings.ToLower(f[0])
		}
		if !strings.EqualFold(f[0], "host") && !(down && slices.Contains(hops, f[0])) {
			all = append(all, f)
		}
	}
	if down {
		slices.SortFunc(all, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	}
	return all
}

// hops are the fields that HTTP/1.1 needs and HTTP/2 does not have.
var hops = []string{"content-length", "transfer-encoding", "connection", "upgrade", "sec-websocket-key"}

// forwarded checks what is said to have left.
func (k *comparison) forwarded(bad complain, p *plan, r row, s *seen) {
	var shown struct{ Forwarded *part }
	res := k.j.must(k.j.trace("flows", "show", r.ID, "--json"), 0)
	if err := json.Unmarshal([]byte(res.stdout), &shown); err != nil || shown.Forwarded == nil {
		bad("nothing forwarded (%v)", err)
		return
	}
	f := shown.Forwarded
	if f.Path != p.path() || !slices.Equal(f.Headers, s.Fields) || p.Kind != kindWS && !p.Req.Secret && f.SHA256 != s.Received.SHA {
		bad("forwarded %s %q %s, the server read %q %s", f.Path, f.Headers, f.SHA256, s.Fields, s.Received.SHA)
	}
}

// complete checks an exchange that passed whole.
func (k *comparison) complete(bad complain, p *plan, r row, s *seen) {
	if r.State != "complete" || r.Error != nil {
		bad("state %s, error %+v", r.State, r.Error)
	}
	if r.Response == nil {
		bad("no response")
		return
	}
	if r.Response.Status != p.Status {
		bad("status %d", r.Response.Status)
	}
	if secret := p.Req.Secret || p.Resp.Secret && !p.bodyless(); (r.Redacted > 0) != (secret && !k.keep) {
		bad("%d places redacted", r.Redacted)
	}
	k.body(bad, "request", r.Request, &s.Received, p.Req.Secret)
	k.body(bad, "response", r.Response, &s.Sent, p.Resp.Secret && !p.bodyless())
	hints := p.Hints
	if p.Expect {
		hints++
	}
	if len(r.Response.Provisional) != hints {
		bad("%d informational answers, want %d", len(r.Response.Provisional), hints)
	}
	if p.Resp.Trailer && p.Kind != kindGRPC && !p.bodyless() && len(r.Response.Trailers) != 1 {
		bad("trailers %v", r.Response.Trailers)
	}
	if p.Kind == kindGRPC {
		if len(r.Response.Trailers) != 2 || r.Response.Trailers[0] != [2]string{"grpc-status", "0"} {
			bad("trailers %v", r.Response.Trailers)
		}
		k.events(bad, r, "request", "c2s", p.body("client").events, r.Request.Events, p.Kind)
	}
	if p.Resp.Events > 0 {
		k.events(bad, r, "response", "s2c", p.body("server").events, r.Response.Events, p.Kind)
	}
}

func (k *comparison) body(bad complain, what string, got *part, want *tally, secret bool) {
	if got.Size != want.Size {
		bad("%s of %d bytes, the server saw %d", what, got.Size, want.Size)
		return
	}
	switch {
	case secret && !k.keep:
		if got.SHA256 != "" {
			bad("%s: redacted, and still its hash is shown", what)
		}
	case got.SHA256 != want.SHA:
		bad("%s of %d bytes: hash %q, the server saw %s", what, got.Size, got.SHA256, want.SHA)
	}
}

// events checks the events of one side.
func (k *comparison) events(bad complain, r row, what, dir string, want []madeEvent, count int64, kind string) {
	if count != int64(len(want)) {
		bad("%s: %d events, want %d", what, count, len(want))
	}
	var got []piece
	for _, p := range k.pieces[r.ID] {
		if p.Type == "sse" && (p.Dir == dir || p.Dir == "" && dir == "s2c") {
			got = append(got, p)
		}
	}
	if len(got) != len(want) {
		bad("%s: %d events in the log, want %d", what, len(got), len(want))
		return
	}
	for i, p := range got {
		name, text := p.Event, string(p.Data)
		if kind == kindGRPC {
			b, _ := base64.StdEncoding.DecodeString(p.Raw)
			name, text = "", string(b)
		} else if strings.HasPrefix(text, `"`) {
			json.Unmarshal(p.Data, &text)
		}
		if !k.keep && strings.Contains(want[i].text, "sk-ant-") {
			continue // redacted
		}
		if name != want[i].name || text != want[i].text {
			bad("%s: event %d is %q %.200q, want %q %.200q", what, i, name, text, want[i].name, want[i].text)
			return
		}
	}
}

// broken checks an exchange that broke off.
func (k *comparison) broken(bad complain, p *plan, r row, s, c *seen) {
	a := p.Abort
	if a.How == "early" {
		if r.State != "complete" || r.Error != nil || r.Response == nil {
			bad("answered early: state %s, error %+v", r.State, r.Error)
			return
		}
		k.prefix(bad, "request", r.Request, p.body("client").wire, s.Received.Size, c.Sent.Size)
		k.body(bad, "response", r.Response, &s.Sent, false)
		return
	}
	where := map[string]string{"client": "client", "server": "upstream"}[a.By]
	if r.State != "failed" || r.Error == nil {
		bad("state %s, error %+v", r.State, r.Error)
	} else {
		codes := map[string][]string{"rst": {"reset"}, "fin": {"truncated", "reset"}}[a.How]
		detail := ""
		switch {
		case p.GoAway != "" && k.base:
			detail = http2Name(uint32(http2.ErrCodeRefusedStream)) // the child's own connection goes on
		case p.GoAway != "":
			codes, detail = nil, http2Name(a.Code)
		case r.Request.Version == "2":
			codes, detail = []string{"reset"}, http2Name(a.Code)
		}
		if r.Error.Where != where || codes != nil && !slices.Contains(codes, r.Error.Code) || r.Error.Detail != detail {
			bad("error %+v, want it at %s, one of %v, detail %q", *r.Error, where, codes, detail)
		}
	}
	var sent, received int64
	if s != nil {
		sent, received = s.Sent.Size, s.Received.Size
	}
	k.prefix(bad, "request", r.Request, p.body("client").wire, received, c.Sent.Size)
	if r.Response != nil && r.Response.Status != 0 { // else there were 1xx at most
		k.prefix(bad, "response", r.Response, p.body("server").wire, c.Received.Size, sent)
	} else if c.Status >= 200 {
		bad("no response, and the client had %d", c.Status)
	}
}

// prefix checks a body of which at least low and at most high bytes passed.
func (k *comparison) prefix(bad complain, what string, got *part, whole []byte, low, high int64) {
	if got.Size < low || got.Size > high || got.Size > int64(len(whole)) {
		bad("%s of %d bytes, want %d to %d", what, got.Size, low, high)
		return
	}
	if want := sumOf(whole[:got.Size]); got.SHA256 != want {
		bad("%s of %d bytes: hash %q, want %s", what, got.Size, got.SHA256, want)
	}
}

var http2Codes = []string{"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
	"REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM"}

func http2Name(code uint32) string { return http2Codes[code] }

// websocket checks a WebSocket: of each direction all messages in order, or,
// where it broke off, what was received at least and what was sent at most.
func (k *comparison) websocket(bad complain, p *plan, r row, s, c *seen) {
	if end := wsEnd(p, r); end != "" {
		bad("%+v: state %s, error %+v, marks %+v: %s", *p.WS, r.State, r.Error, r.Marks, end)
	}
	if r.Response == nil || !r.Response.Streaming {
		bad("response %+v", r.Response)
		return
	}
	if s == nil {
		bad("the server saw nothing")
		return
	}
	var got [2][]seenMessage
	for _, m := range k.pieces[r.ID] {
		if m.Type != "ws_message" {
			continue
		}
		x := seenMessage{m.Opcode, m.Size, m.SHA256, m.Compressed}
		if m.Dir == "c2s" {
			got[0] = append(got[0], x)
		} else {
			got[1] = append(got[1], x)
		}
	}
	low, high := [2][]seenMessage{s.MsgRecvd, c.MsgRecvd}, [2][]seenMessage{c.MsgSent, s.MsgSent}
	for side, what := range []string{"sent", "received"} {
		k.messages(bad, what, got[side], low[side], high[side], p.whole())
	}
}

// wsEnd says what is wrong with how the record says that a WebSocket ended. An
// end of the connection without Close frame is a mark, anything worse an
// error.
func wsEnd(p *plan, r row) string {
	where := map[string]string{"client": "client", "server": "upstream"}[p.WS.Closer]
	h2 := r.Request.Version == "2"
	switch e := r.Error; {
	case p.whole() && (r.State != "complete" || e != nil):
		return "want it complete"
	case p.whole():
		return ""
	case !h2 && p.WS.How == "fin" && e == nil:
		if r.State != "complete" || len(r.Marks) != 1 || r.Marks[0].Where != where || r.Marks[0].Code != "truncated" || r.Marks[0].Detail != "1006" {
			return "want a mark at " + where
		}
	case e == nil || r.State != "failed" || e.Where != where:
		return "want an error at " + where
	case h2 && (e.Code != "reset" || e.Detail != p.WS.streamCode().String()):
		return "want the code of RST_STREAM"
	case !h2 && e.Code != "reset" && p.WS.How == "rst":
		return "want a reset"
	}
	return ""
}

var secretSum = sumOf([]byte(secretText))

func (k *comparison) messages(bad complain, what string, got, low, high []seenMessage, whole bool) {
	if len(got) < len(low) || len(got) > len(high) || whole && len(got) != len(high) {
		bad("%s: %d messages, want %d to %d", what, len(got), len(low), len(high))
		return
	}
	for i, m := range got {
		half := func(x seenMessage) bool { return x.Opcode == m.Opcode && m.Size <= x.Size }
		if !whole && i == len(got)-1 && i >= len(low) && m.SHA == "" && slices.ContainsFunc(high[i:], half) {
			continue // what passed of it; control frames between its fragments did not
		}
		want := high[i]
		if want.SHA == secretSum && !k.keep {
			want.SHA = "" // redacted
		}
		if m != want {
			bad("%s: message %d is %+v, want %+v", what, i, m, want)
			return
		}
	}
}
