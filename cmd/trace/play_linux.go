package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"time"
)

// certificate makes what a played server shows: what the recorded one showed,
// signed by the authority of the run. A certificate that was valid then is
// valid now.
func (r *road) certificate(name string, like *x509.Certificate, wrong bool, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if like != nil && !wrong {
		fresh := *like
		fresh.NotBefore, fresh.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		like = &fresh
	}
	cert, err := r.ca.Imitate(name, like, false)
	if err == nil && hello.SupportsCertificate(cert) != nil {
		if other, err := r.ca.Imitate(name, like, true); err == nil && hello.SupportsCertificate(other) == nil {
			return other, nil
		}
	}
	return cert, err
}

// playFrom makes the road end at a recorded session instead of the network.
func (r *road) playFrom(p *playing) {
	if p == nil {
		return
	}
	r.play = p
	p.Answer(r.certificate)
}

// dial returns what connections of the command are connected to.
func (r *road) dial() func(ctx context.Context, network, addr string) (net.Conn, error) {
	if r.play != nil {
		return r.play.Dial
	}
	return r.out.DialContext
}

// trustPlayed adds the issuer of played servers, which is the run's own.
func (r *road) trustPlayed(pool *x509.CertPool) {
	if r.play == nil {
		return
	}
	if ca, err := x509.ParseCertificate(r.ca.Certificate()); err == nil {
		pool.AddCert(ca)
	}
}

// playNames lends addresses to the names of the session, and has all others
// answered without asking anybody.
func (r *road) playNames() {
	if r.play == nil {
		return
	}
	for _, name := range r.play.Names() {
		r.names.Lend(name)
	}
	r.names.Offline = r.play.Exists
}

// sayPlayed prints text, the parts of a request's line escaped.
func (r *inspectRun) sayPlayed() {
	if r.road.play == nil {
		return
	}
	for _, line := range r.road.play.text() {
		r.say("%s", strings.TrimRight(line, " "))
	}
}
