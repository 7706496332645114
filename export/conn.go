package export

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"

	"trace/flow"
)

type connOpenLine struct {
	base
	Transport string    `json:"transport"`
	Client    *endpoint `json:"client,omitempty"`
	Server    *endpoint `json:"server,omitempty"`
	TLS       *tlsPart  `json:"tls,omitempty"`
}

type connCloseLine struct {
	base
	Sent     int64  `json:"bytes_c2s"`
	Received int64  `json:"bytes_s2c"`
	Reason   string `json:"reason"`
}

type tlsErrorLine struct {
	base
	SNI    string `json:"sni"`
	Stage  string `json:"stage"`
	Error  string `json:"error"`
	Code   string `json:"code"`
	Hint   string `json:"hint,omitempty"`
	Pinned bool   `json:"pinned_suspected"`
}

type tlsPart struct {
	Version     string    `json:"version,omitempty"`
	Cipher      string    `json:"cipher,omitempty"`
	ALPN        string    `json:"alpn,omitempty"`
	SNI         string    `json:"sni,omitempty"`
	Resumed     bool      `json:"resumed,omitempty"`
	ECH         bool      `json:"ech,omitempty"`
	Intercepted bool      `json:"intercepted"`
	Upstream    *tlsLeg   `json:"upstream,omitempty"`
	Cert        *certPart `json:"cert,omitempty"`
}

type tlsLeg struct {
	Version string `json:"version,omitempty"`
	Cipher  string `json:"cipher,omitempty"`
	ALPN    string `json:"alpn,omitempty"`
}

type certPart struct {
	Subject   string   `json:"subject"`
	Issuer    string   `json:"issuer"`
	NotBefore string   `json:"not_before"`
	NotAfter  string   `json:"not_after"`
	SHA256    string   `json:"sha256"`
	DNSNames  []string `json:"dns_names"`
}

func connOpenOf(c *flow.Conn) *connOpenLine {
	l := &connOpenLine{Transport: cmp.Or(c.Transport, "tcp"), Client: end(c.Src), Server: end(c.Dst), TLS: tlsOf(c)}
	if l.Client != nil && c.Process != nil {
		l.Client.PID, l.Client.Process = c.Process.PID, processName(c.Process)
	}
	if l.Server != nil {
		l.Server.Name = c.Host
	}
	return l
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
	if c.Child.Version == "" && c.Child.SNI == "" && c.Upstream.Version == "" {
		return nil
	}
	t := &tlsPart{
		Version: c.Child.Version, Cipher: c.Child.Cipher, ALPN: c.Child.ALPN, SNI: c.Child.SNI,
		Resumed: c.Child.Resumed, ECH: c.Child.ECH, Intercepted: c.Decrypted,
	}
	if u := c.Upstream; u.Version != "" {
		t.Upstream = &tlsLeg{u.Version, u.Cipher, u.ALPN}
	}
	if len(c.Upstream.Chain) > 0 {
		t.Cert = certOf(c.Upstream.Chain[0])
	}
	return t
}

func certOf(der []byte) *certPart {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	sum := sha256.Sum256(der)
	return &certPart{
		Subject: cert.Subject.String(), Issuer: cert.Issuer.String(),
		NotBefore: stamp(cert.NotBefore), NotAfter: stamp(cert.NotAfter),
		SHA256: hex.EncodeToString(sum[:]), DNSNames: append([]string{}, cert.DNSNames...),
	}
}

// tlsErrorOf makes the line of an error of a TLS handshake, or nil of another.
func tlsErrorOf(x *flow.Exchange, e *flow.Error) *tlsErrorLine {
	l := &tlsErrorLine{SNI: x.Conn.Child.SNI, Error: e.Message, Code: e.Code, Hint: e.Hint}
	switch e.Code {
	case flow.CodeClientRejected, flow.CodeClientRejectedMaybe, flow.CodePassedThrough:
		l.Stage, l.Pinned = "client_finish", true
	case flow.CodeUpstreamInvalid, flow.CodeUpstreamUntrusted, flow.CodeUpstreamTLS, flow.CodeClientCert:
		l.Stage = "upstream"
	default:
		return nil
	}
	if l.SNI == "" {
		l.SNI = x.Conn.Host
	}
	return l
}
