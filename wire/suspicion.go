package wire

import (
	"fmt"
	"strings"
	"time"

	"trace/flow"
)

// walls are the header fields by which services that keep programs out say
// that they did so: each is documented by its vendor, and stands in no answer
// of the server behind.
var walls = []struct {
	field  string
	values []string // in lower case; none: any
	status int      // with this only; 0: with any
	vendor string
}{
	{"Cf-Mitigated", nil, 0, "Cloudflare"},
	{"X-Amzn-Waf-Action", []string{"challenge", "captcha"}, 0, "AWS WAF"},
	{"X-Vercel-Mitigated", []string{"challenge", "deny"}, 0, "Vercel"},
	{"X-Datadome", nil, 403, "DataDome"},
}

// suspect marks an answer that may have been meant for trace and not for the
// child.
func (x *exchange) suspect(at time.Time, resp *flow.Head) {
	if e := suspicion(x.d.Conn, x.req.Host, resp); e != nil {
		x.d.mark(x.id, flow.Server, at, e)
	}
}

// suspicion says that an answer on a decrypted connection is that of a wall
// against programs, which judges by the ClientHello among other things, and
// sees ours. Nil: there is no sign of it. host is that of the request.
func suspicion(conn *flow.Conn, host string, resp *flow.Head) *flow.Error {
	if !conn.Decrypted {
		return nil
	}
	for _, w := range walls {
		v := strings.TrimSpace(resp.Get(w.field))
		if v == "" || w.status != 0 && resp.Status != w.status || !isOneOf(v, w.values) {
			continue
		}
		return &flow.Error{
			Where: flow.AtUpstream, Code: flow.CodeHelloRefusedMaybe, Detail: strings.ToLower(w.field) + ": " + v,
			Message: fmt.Sprintf("%s took the client for a program (%d, %s: %s); it may have judged by trace's ClientHello", w.vendor, resp.Status, strings.ToLower(w.field), v),
			Hint:    "--bypass " + bypassName(conn, host) + " carries it with the client's own ClientHello, undecrypted",
		}
	}
	return nil
}

// bypassName is the name by which --bypass chooses a connection.
func bypassName(conn *flow.Conn, host string) string {
	for _, name := range []string{conn.Child.SNI, conn.Host, host} {
		if name != "" {
			return name
		}
	}
	return conn.Dst.Addr().Unmap().String()
}

func isOneOf(v string, values []string) bool {
	for _, w := range values {
		if strings.EqualFold(v, w) {
			return true
		}
	}
	return len(values) == 0
}
