package main

import (
	"cmp"

	"trace/flow"
)

// A whyNot says why a connection was not decrypted or decoded, and what would mend
// that.
type whyNot struct {
	Text string `json:"text"`
	Mend string `json:"mend"`
}

// whyOpaque says it of x; nil where nothing is hidden.
func whyOpaque(x *flow.Exchange) *whyNot {
	if x.Conn.Opaque == "" && (x.Kind != flow.KindTCP || x.Conn.Decrypted) {
		return nil
	}
	known := opaqueReasons[x.Conn.Opaque]
	for _, e := range faultsOf(x) {
		if e.Where != flow.AtCapture && e.Code == flow.CodeMark {
			continue
		}
		return &whyNot{e.Message, cmp.Or(e.Hint, known.Mend)}
	}
	if known.Text != "" {
		return &known
	}
	return &whyNot{Text: "it is carried as it is: " + cmp.Or(x.Conn.Opaque, x.Conn.Protocol, "what is spoken here is not known")}
}

// faultsOf returns what went wrong with x and what was noticed, the error first.
func faultsOf(x *flow.Exchange) []*flow.Error {
	var list []*flow.Error
	if x.Error != nil {
		list = append(list, x.Error)
	}
	for i := range x.Marks {
		if x.Marks[i].Error != nil {
			list = append(list, x.Marks[i].Error)
		}
	}
	return list
}

// opaqueReasons are the words of conn.opaque (docs/cli.md), where no error says
// more.
var opaqueReasons = map[string]whyNot{
	"not_http":     {"what is spoken here is not HTTP; it was counted and carried as it is", ""},
	"http2":        {"HTTP/2 that could not be decoded any more was counted and carried as it is", "--keep-secrets keeps such bytes"},
	"connect":      {"a tunnel through a proxy, in which something else than TLS or HTTP is spoken", ""},
	"bypass":       {"this name is carried undecrypted, as --bypass wants it", "leave it out of --bypass, also of the configuration file"},
	"not_selected": {"--only names other hosts, so this one is carried undecrypted", "add --only with this name, or leave --only out"},
	"tls_pinned":   {"the program accepts no certificate of this run for this name", "where it can be told what to trust, docs/cli.md says how; --bypass spares it the first refusal"},
	"tls_rejected": {"the program refused the certificate of this run", "make it trust the run's authority: 'trace ca nss' for NSS databases"},
	"tls_untrusted": {"the issuer of the server's certificate is not known to trace, so the program itself was left to judge it",
		"--upstream-ca FILE trusts the issuer; --decrypt-untrusted GLOB decrypts all the same"},
	"client_cert":   {"the server wants a certificate of the program, which only the program has the key of", ""},
	"tls_upstream":  {"the handshake with the server failed", ""},
	"tls_child":     {"the handshake with the program failed", ""},
	"early_data":    {"the program sent early data, which belongs to a session that only it knows", ""},
	"undecrypted":   {"TLS is carried as it is", ""},
	"not_connected": {"there was no connection to the server", ""},
	"malformed":     {"what was sent is not as its protocol wants it, and was carried as it is", ""},
	"limit":         {"a limit of a decoder was hit; the bytes were carried as they are", ""},
}
