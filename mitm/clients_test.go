package mitm

import (
	"crypto/tls"
	"strings"
	"testing"

	"trace/flow"
)

const javaGet = `
public class Get {
	public static void main(String[] a) throws Exception {
		try (var in = java.net.URI.create(a[0]).toURL().openStream()) {
			System.out.print(new String(in.readAllBytes()));
		}
	}
}`

const nodeGet = `require("https").get(process.argv[1],r=>{let s="";r.on("data",d=>s+=d);r.on("end",()=>console.log(s))}).on("error",e=>{console.error(e.code);process.exit(1)})`

const pythonGet = `import sys,urllib.request as u
print(u.urlopen(sys.argv[1]).read().decode())`

// program is a real client: how it gets a URL, with the root in a file or
// without.
type program struct {
	name string
	args func(url, ca string) (env, args []string)
	// refusal tells how trace finds out that it does not trust our leaf.
	refusal string
	says    string // in its output on success
}

func programs(t *testing.T) []program {
	java := file(t, "Get.java", []byte(javaGet))
	opt := func(ca, flag string) []string {
		if ca == "" {
			return nil
		}
		return []string{flag + ca}
	}
	return []program{
		{"curl", func(url, ca string) ([]string, []string) {
			return opt(ca, "CURL_CA_BUNDLE="), []string{"-sS", url}
		}, flow.CodeClientRejected, "hello"},
		{"wget", func(url, ca string) ([]string, []string) {
			return nil, append(opt(ca, "--ca-certificate="), "-nv", "-t1", "-O-", url)
		}, flow.CodeClientRejectedMaybe, "hello"},
		{"git", func(url, ca string) ([]string, []string) {
			return opt(ca, "GIT_SSL_CAINFO="), []string{"ls-remote", url}
		}, flow.CodeClientRejectedMaybe, ""},
		{"python3", func(url, ca string) ([]string, []string) {
			return opt(ca, "SSL_CERT_FILE="), []string{"-c", pythonGet, url}
		}, flow.CodeClientRejected, "hello"},
		{"node", func(url, ca string) ([]string, []string) {
			return opt(ca, "NODE_EXTRA_CA_CERTS="), []string{"-e", nodeGet, url}
		}, flow.CodeClientRejectedMaybe, "hello"},
		{"java", func(url, ca string) ([]string, []string) {
			return nil, []string{"-XX:TieredStopAtLevel=1", "-Djavax.net.ssl.trustStore=" + keyStore(t, ca), "-Djavax.net.ssl.trustStorePassword=changeit", java, url}
		}, flow.CodeClientRejected, "hello"},
	}
}

// keyStore makes a Java trust store of a PEM file.
func keyStore(t *testing.T, ca string) string {
	t.Helper()
	store := ca + ".p12"
	if status, out := run(t, nil, "keytool", "-importcert", "-noprompt", "-storepass", "changeit", "-alias", "ca", "-file", ca, "-keystore", store); status != 0 {
		t.Fatal(out)
	}
	return store
}

// TestRefusedLeaf: each client that does not trust our authority is found
// out, and passed through after.
func TestRefusedLeaf(t *testing.T) {
	cert := pki(t).leaf(t, host, false, nil)
	for _, p := range programs(t) {
		t.Run(p.name, func(t *testing.T) {
			need(t, p.name)
			r := newRoad(t, web(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}), nil)
			rootFile := file(t, "root.pem", pki(t).pem())
			url := "https://127.0.0.1:" + r.port + "/"
			env, args := p.args(url, rootFile) // the server's root, so not ours
			tries := 1
			if p.refusal == flow.CodeClientRejectedMaybe {
				tries = maybeEnough
			}
			for range tries {
				if status, out := run(t, env, p.name, args...); status == 0 {
					t.Fatalf("%s took our leaf: %s", p.name, out)
				}
				if facts, tap := r.wait(); code(facts) != p.refusal || facts.Decrypted || tap != nil || facts.Opaque != ReasonRejected {
					t.Fatalf("recorded %q %+v", code(facts), facts.Error)
				} else if (facts.Error.Detail != "") != (p.refusal == flow.CodeClientRejected) {
					t.Errorf("detail %q", facts.Error.Detail)
				} else {
					t.Logf("%v [%s]", facts.Error, facts.Error.Detail)
				}
			}
			status, out := run(t, env, p.name, args...)
			if status != 0 || !strings.Contains(out, p.says) {
				t.Errorf("after %d refusals: status %d, %s", tries, status, out)
			}
			if facts, tap := r.wait(); code(facts) != flow.CodePassedThrough || tap == nil || facts.Opaque != ReasonPinned {
				t.Errorf("recorded %q %+v", code(facts), facts.Error)
			}
		})
	}
}

// TestClients: each client that trusts our authority is decrypted and notices
// nothing.
func TestClients(t *testing.T) {
	cert := pki(t).leaf(t, host, false, nil)
	for _, p := range programs(t) {
		t.Run(p.name, func(t *testing.T) {
			need(t, p.name)
			r := newRoad(t, web(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}), nil)
			env, args := p.args("https://127.0.0.1:"+r.port+"/", file(t, "ca.pem", r.proxy.Authority.PEM()))
			if status, out := run(t, env, p.name, args...); status != 0 || !strings.Contains(out, p.says) {
				t.Errorf("status %d, %s", status, out)
			}
			facts, tap := r.wait()
			if !facts.Decrypted || facts.Error != nil || facts.Sent == 0 || facts.Received == 0 || facts.Sent != int64(tap.data[flow.Client].Len()) {
				t.Errorf("recorded %+v", facts)
			}
			if len(facts.Child.Offered) > 0 && facts.Child.ALPN != facts.Upstream.ALPN {
				t.Errorf("ALPN %q for the child, %q upstream", facts.Child.ALPN, facts.Upstream.ALPN)
			}
		})
	}
}

// TestOpenSSL: clients of narrow tastes are served as the server would.
func TestOpenSSL(t *testing.T) {
	ec, rsa := pki(t).leaf(t, host, false, nil), pki(t).leaf(t, host, true, nil)
	for _, v := range []struct {
		name      string
		cert      tls.Certificate
		args      []string
		decrypted bool
	}{
		{"default", ec, nil, true},
		{"one group", ec, []string{"-groups", "P-521"}, true},
		{"RSA in 1.3", rsa, []string{"-sigalgs", "RSA-PSS+SHA256"}, true},
		{"RSA in 1.2", rsa, []string{"-tls1_2", "-sigalgs", "RSA+SHA256"}, true},
		{"Ed25519 only", ec, []string{"-sigalgs", "ed25519"}, false},
		{"group that Go lacks", ec, []string{"-groups", "X448"}, false},
		{"TLS 1.0", ec, []string{"-tls1", "-cipher", "DEFAULT@SECLEVEL=0"}, true},
		{"TLS 1.1", rsa, []string{"-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"}, true},
		{"no name", ec, []string{"-noservername"}, true},
		{"no tickets", ec, []string{"-no_ticket"}, true},
		{"small records", ec, []string{"-split_send_frag", "512", "-max_send_frag", "512"}, true},
	} {
		t.Run(v.name, func(t *testing.T) {
			dst := web(t, &tls.Config{Certificates: []tls.Certificate{v.cert}, MinVersion: tls.VersionTLS10})
			r := newRoad(t, dst, nil)
			bundle := file(t, "bundle.pem", append(pki(t).pem(), r.proxy.Authority.PEM()...))
			ask := func(addr string) (int, string) {
				script := `printf 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' | openssl s_client -quiet -verify_return_error -verify_quiet -CAfile "$0" -connect "$@"`
				args := []string{"-c", script, bundle, addr}
				if v.name != "no name" {
					args = append(args, "-servername", host)
				}
				need(t, "openssl")
				return run(t, nil, "sh", append(args, v.args...)...)
			}
			status, out := ask(dst)
			status2, out2 := ask(r.addr)
			if status != status2 || strings.Contains(out, "hello") != strings.Contains(out2, "hello") {
				t.Errorf("without: %d %s\nwith: %d %s", status, out, status2, out2)
			}
			if facts, _ := r.wait(); facts.Decrypted != v.decrypted || strings.Contains(out, "hello") != v.decrypted {
				t.Errorf("said %s\nrecorded %+v", out, facts.Error)
			}
		})
	}
}
