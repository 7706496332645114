package e2e

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A tlsRow is what `flows list --json` says of TLS, and of what went wrong.
type tlsRow struct {
	Kind string
	Conn struct {
		Src, Protocol, Opaque string
		Decrypted             bool
		Child                 leg `json:"child_tls"`
		Upstream              leg `json:"upstream_tls"`
	}
	Error *fault
	Marks []fault
}

type leg struct {
	Version, Cipher, ALPN, SNI, JA3, JA4, Verdict string
	Offered                                       []string `json:"alpn_offered"`
	Versions                                      []string `json:"versions_offered"`
	Resumed                                       bool
}

type fault struct{ Where, Code, Message, Hint, Detail string }

// tlsRows reads the newest session's rows, but for name queries.
func (j *job) tlsRows() []tlsRow {
	j.t.Helper()
	var rows []tlsRow
	r := j.must(j.trace("flows", "list", "--json"), 0)
	if err := json.Unmarshal([]byte(r.stdout), &rows); err != nil {
		j.t.Fatal(err)
	}
	return slices.DeleteFunc(rows, func(r tlsRow) bool { return r.Kind == "dns" })
}

// keyLines collects key logs.
type keyLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (k *keyLines) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.Write(p)
}

func (k *keyLines) lines() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return keysOf(k.text.String())
}

// keysOf returns the lines of a key log that hold secrets.
func keysOf(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool { return l == "" || l[0] == '#' })
}

var ja4Pattern = regexp.MustCompile(`^t1[0-3][di][0-9]{4}[0-9a-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}$`)

// TestKeyLog: --keylog has the secrets that the server wrote of its leg, and
// those that curl wrote of its own, in a file that only the user can read; the
// facts of both legs are in the record.
func TestKeyLog(t *testing.T) {
	need(t, "curl")
	ca := newAuthority(t, "e2e authority")
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			var server keyLines
			o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}, KeyLogWriter: &server}, nil)
			j := newJob(t, w)
			root := j.file("root.pem", ca.pem())
			child, keys := filepath.Join(j.home, "child.keys"), filepath.Join(j.home, "trace.keys")
			j.env = append(j.env, "SSLKEYLOGFILE="+child)
			j.must(j.inspect([]string{"--upstream-ca", root, "--keylog", keys, "--connect-to", host + ":443:127.0.0.1:" + o.port},
				"curl", "-sS", "https://"+host+"/text"), 0)
			info, err := os.Stat(keys)
			if err != nil || info.Mode() != 0o600 {
				t.Fatalf("%v, %v", info, err)
			}
			all, err := os.ReadFile(keys)
			if err != nil {
				t.Fatal(err)
			}
			curl, err := os.ReadFile(child)
			if err != nil {
				t.Fatal(err)
			}
			got := keysOf(string(all))
			for who, want := range map[string][]string{"server": server.lines(), "child": keysOf(string(curl))} {
				found := 0
				for _, l := range want {
					if slices.Contains(got, l) {
						found++
					}
				}
				// Ends differ in which secrets they write, never in what these are.
				if found < 4 {
					t.Errorf("%d of the %d lines of the %s are in the key log", found, len(want), who)
				}
			}
			rows := j.tlsRows()
			if len(rows) != 1 {
				t.Fatalf("rows %+v", rows)
			}
			c := rows[0].Conn
			if !ja4Pattern.MatchString(c.Child.JA4) || len(c.Child.JA3) != 32 || c.Child.Version != "1.3" || !slices.Contains(c.Child.Versions, "1.2") || len(c.Child.Offered) == 0 ||
				c.Upstream.Verdict != "ok" || c.Upstream.Version != "1.3" || c.Upstream.Cipher == "" {
				t.Errorf("recorded %+v", c)
			}
			j.must(j.inspect([]string{"--keylog", root}, "true"), 125) // readable by all
		})
	}
}

// TestHelloRefused: a server that minds trace's ClientHello and not curl's, by an
// alert, and a wall that may do so by its answer; --bypass mends both.
func TestHelloRefused(t *testing.T) {
	need(t, "curl")
	ca := newAuthority(t, "e2e authority")
	cert := ca.leaf(t, []string{host}, nil)
	wall := serve(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cf-Mitigated", "challenge")
		w.WriteHeader(http.StatusForbidden)
	})
	// Only curl offers ciphers that Go does not know.
	picky := listenRaw(t, func(raw net.Conn) {
		s := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"},
			GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				if !slices.Contains(h.CipherSuites, 0x009f) {
					return nil, io.ErrUnexpectedEOF
				}
				return nil, nil
			}})
		if _, err := s.Read(make([]byte, 4096)); err == nil {
			io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			s.CloseWrite()
		}
	})
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			root := j.file("root.pem", ca.pem())
			ask := func(port string, flags ...string) []tlsRow {
				t.Helper()
				j.must(j.inspect(append(flags, "--upstream-ca", root, "--connect-to", host+":443:127.0.0.1:"+port), "curl", "-sS", "--cacert", root, "https://"+host+"/"), 0)
				return j.tlsRows()
			}
			rows := ask(picky)
			if e := rows[0].Error; len(rows) != 1 || e == nil || e.Code != "client_hello_refused" || e.Where != "upstream" || e.Detail != "internal_error" ||
				!strings.Contains(e.Message, "that of curl") || !strings.HasPrefix(e.Hint, "--bypass "+host) {
				t.Errorf("recorded %+v", rows[0].Error)
			}
			if c := rows[0].Conn; c.Decrypted || c.Child.Version != "1.3" || c.Opaque != "tls_upstream" {
				t.Errorf("recorded %+v", c)
			}
			if rows = ask(picky, "--bypass", host); len(rows) != 1 || rows[0].Error != nil || rows[0].Conn.Opaque != "bypass" || rows[0].Conn.Child.Cipher == "" {
				t.Errorf("with --bypass: %+v", rows)
			}
			for _, version := range []string{"--http1.1", "--http2"} {
				j.must(j.inspect([]string{"--upstream-ca", root, "--connect-to", host + ":443:127.0.0.1:" + wall.port}, "curl", "-sS", version, "https://"+host+"/"), 0)
				rows = j.tlsRows()
				if len(rows) != 1 || len(rows[0].Marks) != 1 || rows[0].Marks[0].Code != "client_hello_refused_maybe" || !strings.HasPrefix(rows[0].Marks[0].Hint, "--bypass "+host) {
					t.Errorf("%s: recorded %+v", version, rows)
				}
			}
		})
	}
}

// TestFingerprints: the JA3 of the record is that which tshark finds in the packets
// of the command, for each client, decrypted or not.
func TestFingerprints(t *testing.T) {
	need(t, "tshark", "curl", "node", "openssl", "python3")
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}, NextProtos: []string{"h2", "http/1.1"}}, nil)
	w := both()[0]
	const script = `u=https://$0/text; r=$1
curl -sS --cacert $r $u; curl -sS --cacert $r --tls-max 1.2 --http1.1 $u; SSL_CERT_FILE=$r python3 -c 'import sys,urllib.request as u; u.urlopen(sys.argv[1])' $u
NODE_EXTRA_CA_CERTS=$r node -e 'require("https").get(process.argv[1],r=>r.resume())' $u; SSL_CERT_FILE=$r $2 GET $u
printf 'GET /text HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' | openssl s_client -quiet -alpn http/1.1 -connect $0:443 -CAfile $r`
	for _, bypass := range []bool{false, true} {
		j := newJob(t, w)
		pcap, root := filepath.Join(j.home, "packets.pcapng"), j.file("root.pem", ca.pem())
		flags := []string{"--upstream-ca", root, "--keep-secrets", "--pcap", pcap, "--connect-to", host + ":443:127.0.0.1:" + o.port}
		bundle := "/etc/ssl/certs/ca-certificates.crt" // which holds the run's authority inside
		if bypass {
			flags, bundle = append(flags, "--bypass", "*"), root
		}
		j.inspect(flags, "sh", "-c", script, host, bundle, goClient)
		r := j.must(j.run("sh", "-c", `tshark -r "$0" -Y tls.handshake.type==1 -T fields -e tcp.srcport -e tls.handshake.ja3 2>/dev/null`, pcap), 0)
		seen := make(map[string]bool)
		for _, l := range strings.Split(strings.TrimSpace(r.stdout), "\n") {
			seen[l] = true
		}
		rows := j.tlsRows()
		if len(seen) != 6 || len(rows) < 6 {
			t.Errorf("bypass %v: %d hellos in the packets, %d rows", bypass, len(seen), len(rows))
		}
		for _, row := range rows {
			_, port, err := net.SplitHostPort(row.Conn.Src)
			if err != nil || !seen[port+"\t"+row.Conn.Child.JA3] || !ja4Pattern.MatchString(row.Conn.Child.JA4) || row.Conn.Decrypted == bypass {
				t.Errorf("bypass %v: %+v is not among %q", bypass, row.Conn, r.stdout)
			}
		}
	}
}
