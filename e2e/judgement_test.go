package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A verdict is a server and how curl is asked to judge it.
type verdict struct {
	name string
	// port starts the server and returns its port.
	port func(t *testing.T, known, stranger *authority) string
	args []string // of curl, besides the URL; CA stands for the stranger's root file
	// code of the record that must be there, "" for none
	code      string
	decrypted bool
}

func tlsServer(cfg func(t *testing.T, known, stranger *authority) *tls.Config) func(*testing.T, *authority, *authority) string {
	return func(t *testing.T, known, stranger *authority) string {
		return serve(t, cfg(t, known, stranger), nil).port
	}
}

func withLeaf(change func(*x509.Certificate), names ...string) func(*testing.T, *authority, *authority) string {
	return tlsServer(func(t *testing.T, known, _ *authority) *tls.Config {
		if names == nil {
			names = []string{host}
		}
		return &tls.Config{Certificates: []tls.Certificate{known.leaf(t, names, change)}}
	})
}

func expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(-40*time.Hour), time.Now().Add(-20*time.Hour)
}

func strangers(t *testing.T, _, stranger *authority) string {
	return serve(t, &tls.Config{Certificates: []tls.Certificate{stranger.leaf(t, []string{host}, nil)}}, nil).port
}

func selfSigned(t *testing.T, _, _ *authority) string {
	var nobody *authority
	return serve(t, &tls.Config{Certificates: []tls.Certificate{nobody.leaf(t, []string{host}, nil)}}, nil).port
}

func mutual(t *testing.T, known, _ *authority) string {
	pool := x509.NewCertPool()
	pool.AddCert(known.cert)
	return serve(t, &tls.Config{Certificates: []tls.Certificate{known.leaf(t, []string{host}, nil)},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}, nil).port
}

// cutBody promises 1000 bytes, sends 100 and closes without close_notify.
func cutBody(t *testing.T, known, _ *authority) string {
	cfg := &tls.Config{Certificates: []tls.Certificate{known.leaf(t, []string{host}, nil)}}
	return listenRaw(t, func(raw net.Conn) {
		c := tls.Server(raw, cfg)
		buf := make([]byte, 4096)
		if _, err := c.Read(buf); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"+strings.Repeat("x", 100))
	})
}

// resetBody sends part of a body and resets the connection.
func resetBody(t *testing.T, known, _ *authority) string {
	cfg := &tls.Config{Certificates: []tls.Certificate{known.leaf(t, []string{host}, nil)}}
	return listenRaw(t, func(raw net.Conn) {
		c := tls.Server(raw, cfg)
		buf := make([]byte, 4096)
		if _, err := c.Read(buf); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"+strings.Repeat("x", 100))
		raw.(*net.TCPConn).SetLinger(0)
	})
}

// closedPort returns a port of loopback that nobody listens on.
func closedPort(t *testing.T, _, _ *authority) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func verdicts() []verdict {
	tls12 := tlsServer(func(t *testing.T, known, _ *authority) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{known.leaf(t, []string{host}, nil)}, MaxVersion: tls.VersionTLS12}
	})
	rsaOnly := tlsServer(func(t *testing.T, known, _ *authority) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{known.rsaLeaf(t, []string{host})}}
	})
	return []verdict{
		{"good", withLeaf(nil), nil, "", true},
		{"expired", withLeaf(expired), nil, "tls_upstream_invalid", false},
		{"expired -k", withLeaf(expired), []string{"-k"}, "", true},
		{"wrong name", withLeaf(nil, "other.example"), nil, "tls_upstream_invalid", false},
		{"wrong name -k", withLeaf(nil, "other.example"), []string{"-k"}, "", true},
		{"self-signed", selfSigned, nil, "tls_upstream_untrusted", false},
		{"self-signed -k", selfSigned, []string{"-k"}, "tls_upstream_untrusted", false},
		{"unknown issuer", strangers, nil, "tls_upstream_untrusted", false},
		{"unknown issuer --cacert", strangers, []string{"--cacert", "CA"}, "tls_upstream_untrusted", false},
		{"mTLS without certificate", mutual, nil, "client_cert_required", false},
		{"mTLS with certificate", mutual, []string{"--cert", "CERT"}, "client_cert_required", false},
		{"TLS 1.2 only", tls12, nil, "", true},
		{"TLS 1.2 client", withLeaf(nil), []string{"--tls-max", "1.2"}, "", true},
		{"RSA-only client", rsaOnly, []string{"--tls-max", "1.2", "--ciphers", "ECDHE-RSA-AES128-GCM-SHA256"}, "", true},
		{"refused port", closedPort, nil, "refused", false},
		{"cut body", cutBody, nil, "truncated", true},
		{"reset body", resetBody, nil, "reset", true},
	}
}

// TestJudgement: what curl says of a server, and its exit status, are the
// same with trace and without.
func TestJudgement(t *testing.T) {
	need(t, "curl")
	known, stranger := newAuthority(t, "known authority"), newAuthority(t, "stranger authority")
	for _, w := range both() {
		for _, v := range verdicts() {
			t.Run(w.String()+"/"+v.name, func(t *testing.T) { judge(t, w, v, known, stranger) })
		}
	}
}

func judge(t *testing.T, w world, v verdict, known, stranger *authority) {
	port := v.port(t, known, stranger)
	j := newJob(t, w)
	// The known authority is the user's own root, with trace and without.
	j.env = append(j.env, "SSL_CERT_FILE="+j.file("roots.pem", known.pem()))
	args := []string{"curl", "-sS", "--max-time", "20"}
	for _, a := range v.args {
		switch a {
		case "CA":
			a = j.file("stranger.pem", stranger.pem())
		case "CERT":
			a = clientCertificate(j, known)
		}
		args = append(args, a)
	}
	url := "https://" + host + "/text"
	plain := j.run(append(args, "--connect-to", host+":443:127.0.0.1:"+port, url)...)
	traced := j.inspect([]string{"--connect-to", host + ":443:127.0.0.1:" + port}, append(args, url)...)
	if plain.code != traced.code {
		t.Errorf("curl exits %d without trace, %d with it\nwithout: %s\nwith: %s", plain.code, traced.code, plain.stderr, traced.stderr)
	}
	if plain.stdout != traced.stdout {
		t.Errorf("curl prints %q without trace, %q with it", plain.stdout, traced.stdout)
	}
	if a, b := complaint(plain.stderr), complaint(traced.stderr); a != b {
		t.Errorf("curl says %q without trace, %q with it", a, b)
	}
	rows := slices.DeleteFunc(j.flows(), func(r row) bool { return r.Kind == "dns" })
	if len(rows) != 1 {
		t.Fatalf("%d rows, want 1: %+v", len(rows), rows)
	}
	r := rows[0]
	code := ""
	if r.Error != nil {
		code = r.Error.Code
	}
	if code != v.code || r.Conn.Decrypted != v.decrypted && v.code == "" {
		t.Errorf("recorded error %q decrypted %v, want %q %v: %+v", code, r.Conn.Decrypted, v.code, v.decrypted, r)
	}
	if r.Error != nil && strings.HasPrefix(code, "tls_upstream_untrusted") && r.Error.Hint == "" {
		t.Error("no hint on an untrusted server")
	}
}

// complaint keeps of curl's message what does not change from run to run.
func complaint(stderr string) string {
	var keep []string
	for _, l := range strings.Split(stderr, "\n") {
		if !strings.HasPrefix(l, "curl: ") {
			continue
		}
		for _, cut := range []string{" connect to ", " port ", " after ", ", errno", "(_ssl"} {
			if i := strings.Index(l, cut); i > 0 {
				l = l[:i]
			}
		}
		keep = append(keep, l)
	}
	return strings.Join(keep, "\n")
}

func clientCertificate(j *job, ca *authority) string {
	cert := ca.leaf(j.t, []string{"client"}, func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		j.t.Fatal(err)
	}
	return j.file("client.pem", encode("CERTIFICATE", cert.Certificate[0])+encode("PRIVATE KEY", key))
}

// TestNothingLeft: neither a run that ends nor one that is killed leaves a
// certificate, a key or a mount on the host.
func TestNothingLeft(t *testing.T) {
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, nil)
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			before, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil {
				t.Fatal(err)
			}
			root := j.file("root.pem", ca.pem())
			j.must(j.inspect([]string{"--upstream-ca", root, "--connect-to", host + ":443:127.0.0.1:" + o.port}, "sh", "-c", "kill -9 $PPID"), 128+9)
			after, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil {
				t.Fatal(err)
			}
			if string(before) != string(after) {
				t.Errorf("mounts changed:\n%s\n%s", before, after)
			}
			err = filepath.WalkDir(filepath.Join(j.home, "state"), func(p string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				text, err := os.ReadFile(p)
				if strings.Contains(string(text), "BEGIN ") {
					return fmt.Errorf("%s holds PEM", p)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
