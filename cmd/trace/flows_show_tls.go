package main

import (
	"fmt"
	"strings"

	"trace/flow"
)

// maxNames is how many names of a certificate a terminal is shown.
const maxNames = 12

// tls prints what is known of the TLS of a connection: both legs, what the
// child's ClientHello looked like, and the server's certificates.
func (p *printer) tls(c *flow.Conn) {
	p.fact("child", tlsText(&c.Child, ""))
	var prints []string
	for _, f := range [][2]string{{"ja4 ", c.Child.JA4}, {"ja3 ", c.Child.JA3}} {
		if f[1] != "" {
			prints = append(prints, f[0]+f[1])
		}
	}
	p.fact("hello", strings.Join(prints, ", "))
	server := c.Upstream
	server.Offered = nil // what trace offers is what the child does
	p.fact("server", tlsText(&server, server.Verdict))
	for i, cert := range c.Upstream.Certificates() {
		name := "issuer"
		if i == 0 {
			name = "leaf"
		}
		p.certificate(name, &cert)
	}
}

func (p *printer) certificate(name string, c *flow.Certificate) {
	sum := "sha256 " + c.SHA256
	if c.Error != "" {
		p.fact(name, c.Error)
		p.more(sum)
		return
	}
	p.fact(name, fmt.Sprintf("%s, issued by %s", named(c.Subject), named(c.Issuer)))
	p.more(fmt.Sprintf("valid %s to %s", day(c.NotBefore), day(c.NotAfter)))
	names := append(append([]string{}, c.DNSNames...), c.IPs...)
	if rest := len(names) - maxNames; p.w.tty && rest > 0 {
		names = append(names[:maxNames:maxNames], fmt.Sprintf("… %d more", rest))
	}
	if len(names) > 0 {
		p.more("names " + strings.Join(names, ", "))
	}
	p.more(sum)
}

// more prints a further line of a fact.
func (p *printer) more(text string) {
	p.line("  %s %s", pad("", 10, false), w1(p.w, text))
}

// named stands for the names in certificates, which may be empty.
func named(name string) string {
	if name == "" {
		return "(no name)"
	}
	return name
}

// day is a time in flow.TimeFormat without its fraction.
func day(stamp string) string { return strings.Replace(stamp, ".000000", "", 1) }

func tlsText(t *flow.TLS, verdict string) string {
	var facts []string
	for _, f := range [][2]string{
		{"TLS ", t.Version}, {"", t.Cipher}, {"alpn ", t.ALPN}, {"offered ", strings.Join(t.Offered, " ")}, {"sni ", t.SNI}, {"certificate ", verdict},
	} {
		if f[1] != "" {
			facts = append(facts, f[0]+f[1])
		}
	}
	if t.Resumed {
		facts = append(facts, "resumed")
	}
	if t.ECH {
		facts = append(facts, "encrypted ClientHello")
	}
	return strings.Join(facts, ", ")
}
