package export

import (
	"cmp"
	"encoding/base64"
	"net/netip"

	"trace/flow"
)

type endpoint struct {
	Addr    string `json:"addr"`
	Port    int    `json:"port"`
	Name    string `json:"name,omitempty"`
	PID     int    `json:"pid,omitempty"`
	Process string `json:"process,omitempty"`
}

type connOpenLine struct {
	base
	Transport string    `json:"transport"`
	Client    *endpoint `json:"client,omitempty"`
	Server    *endpoint `json:"server,omitempty"`
	Protocol  string    `json:"protocol,omitempty"`
	TLS       *tlsPart  `json:"tls,omitempty"`
}

type connCloseLine struct {
	base
	Sent     int64  `json:"bytes_c2s"`
	Received int64  `json:"bytes_s2c"`
	Reason   string `json:"reason"`
	// What was not known when the connection was introduced.
	Protocol string   `json:"protocol,omitempty"`
	TLS      *tlsPart `json:"tls,omitempty"`
}

type tlsErrorLine struct {
	base
	SNI    string `json:"sni"`
	Stage  string `json:"stage"`
	Error  string `json:"error"`
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
	Hint   string `json:"hint,omitempty"`
	Pinned bool   `json:"pinned_suspected"`
}

// The codes of mitm that are of TLS alone.
const (
	codeClientHello = "tls_client_unsupported"
	codeAlert       = "tls_alert"
)

type tcpLine struct {
	base
	Dir          string `json:"dir"`
	Data         string `json:"data,omitempty"`
	Encoding     string `json:"encoding,omitempty"`
	Size         int64  `json:"size"`
	OpaqueReason string `json:"opaque_reason,omitempty"`
	Protocol     string `json:"protocol,omitempty"`
	SNI          string `json:"sni,omitempty"`
}

type udpLine struct {
	base
	Dir  string `json:"dir"`
	Size int64  `json:"size"`
}

type tlsPart struct {
	Version     string             `json:"version,omitempty"`
	Cipher      string             `json:"cipher,omitempty"`
	ALPN        string             `json:"alpn,omitempty"`
	Offered     []string           `json:"alpn_offered,omitempty"`
	Versions    []string           `json:"versions_offered,omitempty"`
	SNI         string             `json:"sni,omitempty"`
	Resumed     bool               `json:"resumed,omitempty"`
	ECH         bool               `json:"ech,omitempty"`
	JA3         string             `json:"ja3,omitempty"`
	JA4         string             `json:"ja4,omitempty"`
	Intercepted bool               `json:"intercepted"`
	Upstream    *tlsLeg            `json:"upstream,omitempty"`
	Cert        *flow.Certificate  `json:"cert,omitempty"`
	Chain       []flow.Certificate `json:"chain,omitempty"`
}

type tlsLeg struct {
	Version string `json:"version,omitempty"`
	Cipher  string `json:"cipher,omitempty"`
	ALPN    string `json:"alpn,omitempty"`
	Resumed bool   `json:"resumed,omitempty"`
	Verdict string `json:"verdict,omitempty"`
}

func connOpenOf(c *flow.Conn) *connOpenLine {
	l := &connOpenLine{Transport: cmp.Or(c.Transport, "tcp"), Protocol: c.Protocol, TLS: tlsOf(c)}
	l.Client, l.Server = endpoints(c)
	return l
}

// endpoints returns the two ends of a connection, nil where they are unknown.
func endpoints(c *flow.Conn) (client, server *endpoint) {
	if client = end(c.Src); client != nil && c.Process != nil {
		client.PID, client.Process = c.Process.PID, c.Process.Name()
	}
	if server = end(c.Dst); server != nil {
		server.Name = c.Host
	}
	return client, server
}

func end(a netip.AddrPort) *endpoint {
	if !a.IsValid() {
		return nil
	}
	return &endpoint{Addr: a.Addr().String(), Port: int(a.Port())}
}

func connCloseOf(c *flow.Conn) *connCloseLine {
	return &connCloseLine{Sent: c.Sent, Received: c.Received, Reason: closeReason(c)}
}

// closeReason names the worst of the two ends of a connection.
func closeReason(c *flow.Conn) string {
	for _, how := range []struct {
		is   flow.How
		word string
	}{{flow.Stopped, "capture_stopped"}, {flow.Reset, "reset"}, {flow.Failed, "failed"}} {
		if c.ChildEnd == how.is || c.SrvEnd == how.is {
			return how.word
		}
	}
	if c.Error != nil {
		return c.Error.Code
	}
	return "eof"
}

// tlsOf returns what is known of the TLS of a connection, nil if it has none.
func tlsOf(c *flow.Conn) *tlsPart {
	child, up := &c.Child, &c.Upstream
	if child.Version == "" && child.SNI == "" && child.JA4 == "" && up.Version == "" {
		return nil
	}
	t := &tlsPart{
		Version: child.Version, Cipher: child.Cipher, ALPN: child.ALPN, Offered: child.Offered, Versions: child.Versions, SNI: child.SNI,
		Resumed: child.Resumed, ECH: child.ECH, JA3: child.JA3, JA4: child.JA4, Intercepted: c.Decrypted,
		Chain: up.Certificates(),
	}
	if up.Version != "" || up.Verdict != "" {
		t.Upstream = &tlsLeg{up.Version, up.Cipher, up.ALPN, up.Resumed, up.Verdict}
	}
	if len(t.Chain) > 0 && t.Chain[0].Error == "" {
		t.Cert = &t.Chain[0]
	}
	return t
}

func tcpOf(x *flow.Exchange, p *flow.Piece) *tcpLine {
	l := &tcpLine{Dir: direction(p.Side), Size: p.Size, OpaqueReason: x.Conn.Opaque, Protocol: x.Conn.Protocol, SNI: x.Conn.Child.SNI}
	if len(p.Data) > 0 {
		l.Data, l.Encoding = base64.StdEncoding.EncodeToString(p.Data), "base64"
	}
	return l
}

// tlsErrorOf makes the line of an error of a TLS handshake, or nil of another.
func tlsErrorOf(x *flow.Exchange, e *flow.Error) *tlsErrorLine {
	l := &tlsErrorLine{SNI: x.Conn.Child.SNI, Error: e.Message, Code: e.Code, Detail: e.Detail, Hint: e.Hint}
	switch e.Code {
	case codeClientHello:
		l.Stage = "client_hello"
	case flow.CodeClientRejected, flow.CodeClientRejectedMaybe, flow.CodePassedThrough:
		l.Stage, l.Pinned = "client_finish", true
	case flow.CodeUpstreamInvalid, flow.CodeUpstreamUntrusted, flow.CodeUpstreamTLS, flow.CodeClientCert, flow.CodeHelloRefused:
		l.Stage = "upstream"
	case codeAlert:
		if l.Stage = "upstream"; e.Where == flow.AtClient {
			l.Stage = "client_finish"
		}
	default:
		return nil
	}
	if l.SNI == "" {
		l.SNI = x.Conn.Host
	}
	return l
}
