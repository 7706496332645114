// Package flow defines what trace records: connections, exchanges, messages,
// and the events they are built from.
//
// # Theory of operation
//
// The road (see docs/architecture.md) produces a stream of [Event]s. Three
// producers write into it: mitm says what happened to a connection (ConnOpen,
// ConnUpdate, ConnEnd), wire says what the plaintext inside it meant (Request,
// Body, StreamEvent, Response, End, …), and dns and the UDP relay describe
// conversations of their own. One consumer, store, keeps them. Readers get
// them back folded into [Exchange]s, one per row of `trace flows list`.
//
// A connection is named by a number that the session hands out (Conn.ID); an
// exchange inside it by its ordinal (Event.Flow, from 1). The number that
// users see, Exchange.ID, is given by store inside its write transaction.
//
// The package holds data and pure functions over it: no I/O, no clock. It
// imports none of ours, and everything of ours may import it.
package flow

import (
	"net/netip"
	"path"
	"time"
)

// Source says how a connection came to us.
type Source string

// The sources of docs/cli.md.
const (
	SourceNamespace Source = "namespace" // trace run --inspect
	SourceReverse   Source = "reverse"   // the base-URL reverse proxy
	SourceProxy     Source = "proxy"     // the explicit HTTP or SOCKS proxy
	SourceWireGuard Source = "wireguard" // a WireGuard peer of trace serve
	SourceReplay    Source = "replay"    // sent by trace itself
	SourceImport    Source = "import"    // read from a file of another tool
)

// Side names one of the two ends of a connection, as the child sees them.
type Side uint8

// The two sides. Bytes of side Client were sent by the child, bytes of side
// Server were received by it.
const (
	Client Side = iota
	Server
)

// Other returns the opposite side.
func (s Side) Other() Side { return s ^ 1 }

// String returns "client" or "server".
func (s Side) String() string {
	if s == Client {
		return "client"
	}
	return "server"
}

// Dir returns "sent" for Client and "received" for Server: the direction as
// the child sees it.
func (s Side) Dir() string {
	if s == Client {
		return "sent"
	}
	return "received"
}

// How tells how one direction of a connection ended.
type How uint8

// The ends of a direction.
const (
	Open        How = iota // has not ended
	CloseNotify            // TLS close_notify (RFC 8446 section 6.1)
	FIN                    // end of file without close_notify, or of plain TCP
	Reset                  // RST, or an abort of ours that carries one
	Failed                 // any other read or write error
	Stopped                // trace ended while the direction was open
)

// String returns the word that JSON and tables use.
func (h How) String() string {
	switch h {
	case CloseNotify:
		return "close_notify"
	case FIN:
		return "fin"
	case Reset:
		return "reset"
	case Failed:
		return "failed"
	case Stopped:
		return "stopped"
	}
	return "open"
}

// Process is the program that made a connection.
type Process struct {
	PID     int      `json:"pid"`
	Argv    []string `json:"argv,omitempty"`
	Exe     string   `json:"exe,omitempty"`
	Parents []int    `json:"parents,omitempty"` // nearest first
}

// Name returns the name that people know the program by, "" if there is none.
func (p *Process) Name() string {
	name := p.Exe
	if name == "" && len(p.Argv) > 0 {
		name = p.Argv[0]
	}
	if name == "" {
		return ""
	}
	return path.Base(name)
}

// TLS holds what is known of one leg of a TLS connection.
type TLS struct {
	Version string   `json:"version,omitempty"` // "1.2", "1.3"
	Cipher  string   `json:"cipher,omitempty"`  // IANA name
	ALPN    string   `json:"alpn,omitempty"`    // as chosen; "" if none
	Offered []string `json:"alpn_offered,omitempty"`
	// Versions are those that the ClientHello offers, as Version, in its order.
	Versions []string `json:"versions_offered,omitempty"`
	SNI      string   `json:"sni,omitempty"`
	Resumed  bool     `json:"resumed,omitempty"`
	ECH      bool     `json:"ech,omitempty"`
	JA3      string   `json:"ja3,omitempty"`          // of the child's ClientHello: MD5 in hex
	JA4      string   `json:"ja4,omitempty"`          // of the child's ClientHello
	Verdict  string   `json:"verdict,omitempty"`      // upstream: "ok" or what x509 said
	Chain    [][]byte `json:"certificates,omitempty"` // DER, leaf first; upstream only
}

// Conn is what is known of one connection so far. Producers hand a fresh
// snapshot with each event that carries one; consumers may keep it and must
// not change it.
type Conn struct {
	ID      int64
	Source  Source
	Process *Process
	Src     netip.AddrPort // the child's end
	Dst     netip.AddrPort // where it wanted to go
	Host    string         // the name it stands for: looked up, lent, SNI; no port; may be ""
	Started time.Time      // first SYN, or accept

	// Durations of setting the connection up, towards the real server.
	// Zero: did not happen or not known. SSL lies inside Connect (as in HAR).
	DNS, Connect, SSL time.Duration

	Transport string // "tcp", "udp"
	Protocol  string // what the first bytes tell: "http", "http2", "tls", "ssh", …; "" unknown
	Decrypted bool   // TLS was taken off
	Opaque    string // why it is not decoded: "not_http", "tls_pinned", "undecrypted", …; "" if it is

	// Replay says what a connection of SourceReplay sent again: SESSION/ID, or
	// the name of a template. "" for others.
	Replay string `json:",omitempty"`

	Child    TLS // the leg between child and trace
	Upstream TLS // the leg between trace and the server

	// Payload bytes per direction as carried: inside TLS where Decrypted,
	// TCP payload otherwise.
	Sent, Received int64

	Ended            time.Time // zero while open
	ChildEnd, SrvEnd How       // how the child's and the server's direction ended
	Error            *Error
}

// Where says whose fault an Error is.
type Where string

// The places of docs/cli.md.
const (
	AtClient   Where = "client"
	AtUpstream Where = "upstream"
	AtDecode   Where = "decode"
	AtCapture  Where = "capture"
)

// Error says what went wrong with a flow, for people (Message, Hint) and for
// scripts (Where, Code).
type Error struct {
	Where   Where  `json:"where"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	// Detail is the protocol's own word for it: "CANCEL" of a RST_STREAM,
	// "ENHANCE_YOUR_CALM" of a GOAWAY, "1006" of a WebSocket, "unknown_ca"
	// of a TLS alert. "" if there is none.
	Detail string `json:"detail,omitempty"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// The codes of docs/cli.md. Others may be added, none renamed.
const (
	CodeClientRejected      = "tls_client_rejected"       // the child refused our certificate: certain
	CodeClientRejectedMaybe = "tls_client_rejected_maybe" // it closed right after seeing it
	CodePassedThrough       = "tls_passed_through"        // carried undecrypted after such a refusal
	CodeUpstreamInvalid     = "tls_upstream_invalid"      // certificate expired, wrong name, …
	CodeUpstreamUntrusted   = "tls_upstream_untrusted"    // issuer unknown to us
	CodeUpstreamTLS         = "tls_upstream_failed"       // handshake failed for another reason
	CodeClientCert          = "client_cert_required"
	CodeHelloRefused        = "client_hello_refused"       // our ClientHello, but not the child's
	CodeHelloRefusedMaybe   = "client_hello_refused_maybe" // an answer as of a wall against programs
	CodeRefused             = "refused"
	CodeUnreachable         = "unreachable"
	CodeTimeout             = "timeout"
	CodeDNS                 = "dns"
	CodeReset               = "reset"
	CodeTruncated           = "truncated"        // ended before its framing said so
	CodeMalformed           = "malformed"        // not what its protocol allows
	CodeLimit               = "limit"            // a limit of ours was hit: a decoder's, or of open files
	CodePanic               = "panic"            // a decoder failed; the bytes went on
	CodeGap                 = "gap"              // events were not recorded
	CodeMark                = "mark"             // no error: a point of the run that a person named; Message is the name
	CodeAltered             = "altered"          // no error: a rule changed the request or the answer; Message says what
	CodeReencoded           = "reencoded"        // no error: fields and body are the sender's, frames and header compression ours
	CodeRuleNotApplied      = "rule_not_applied" // a rule matched and could not be applied
	CodeGRPCStatus          = "grpc_status"      // a gRPC call ended with a status that is not OK; the exchange itself is complete
)

// Session is one run of trace.
type Session struct {
	ID      string // sorts by time; a ULID
	Name    string
	Source  Source
	Argv    []string
	Dir     string // working directory
	PID     int    // of trace
	Version string // of trace
	Link    string
	Device  string
	Started time.Time
	Ended   time.Time // zero while running
	State   string    // "running", "ended", "crashed"
	Exit    int       // the child's exit code, when ended
	Flows   int64     // rows
	Opaque  int64     // rows that could have been decrypted and were not
	Gaps    int64     // marks of lost events
	Secrets bool      // recorded with --keep-secrets
	File    string    // where it lies; filled in by readers
	Bytes   int64     // size of that file; filled in by readers
}
