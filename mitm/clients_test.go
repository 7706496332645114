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
				} else {
					t.Logf("%v", facts.Error)
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
