package anchor

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func ask(t *testing.T, h http.Handler, method, path string) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, "http://trace.internal"+path, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(body)
}

func TestPage(t *testing.T) {
	cert := newCert(t)
	h := Page(cert)
	r, text := ask(t, h, "GET", "/")
	if r.StatusCode != 200 || r.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %v", r.StatusCode, r.Header)
	}
	bare := html.UnescapeString(strings.ReplaceAll(text, "<wbr>", ""))
	for _, want := range []string{Fingerprint(cert), cert.Subject.CommonName, `href="/ca.cer"`, `href="/ca.pem"`, `href="/ca.mobileconfig"`,
		"Android", "iPhone", "Mac", "Windows", "Linux", `name="viewport" content="width=device-width`, "prefers-color-scheme: dark", "trace-ca-" + ID(cert) + ".crt"} {
		if !strings.Contains(bare, want) {
			t.Errorf("no %q", want)
		}
	}
	for _, never := range []string{"<script", "javascript:", " onclick", "style=", "https://", "ZgotmplZ"} {
		if strings.Contains(text, never) {
			t.Errorf("it has %q", never)
		}
	}
	for _, m := range regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if r, _ := ask(t, h, "GET", m[1]); r.StatusCode != 200 {
			t.Errorf("%s leads to %d", m[1], r.StatusCode)
		}
	}
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(text)
	policy := r.Header.Get("Content-Security-Policy")
	if len(style) != 2 || style[1] != pageStyle || !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
}

func TestPageFiles(t *testing.T) {
	cert := newCert(t)
	h := Page(cert)
	for path, want := range map[string]struct {
		mediaType string
		body      []byte
	}{
		"/ca.cer": {"application/x-x509-ca-cert", cert.Raw}, "/ca.pem": {"application/x-pem-file", PEM(cert)},
		"/ca.mobileconfig": {"application/x-apple-aspen-config", Profile(cert)},
	} {
		r, body := ask(t, h, "GET", path)
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != want.mediaType || body != string(want.body) || strings.Contains(body, "PRIVATE") {
			t.Errorf("%s: %d %v", path, r.StatusCode, r.Header)
		}
		for name, value := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"} {
			if r.Header.Get(name) != value {
				t.Errorf("%s: %s is %q", path, name, r.Header.Get(name))
			}
		}
		if r, _ := ask(t, h, "HEAD", path); r.StatusCode != 200 || r.ContentLength != int64(len(want.body)) {
			t.Errorf("HEAD %s: %d, %d bytes", path, r.StatusCode, r.ContentLength)
		}
	}
	for _, c := range []struct {
		method, path string
		code         int
	}{{"POST", "/", 405}, {"PUT", "/ca.pem", 405}, {"GET", "/key.pem", 404}, {"GET", "/favicon.ico", 404}, {"GET", "/index", 404}} {
		if r, _ := ask(t, h, c.method, c.path); r.StatusCode != c.code || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: %d", c.method, c.path, r.StatusCode)
		}
	}
}

// TestProfile: it is well-formed, holds the certificate as a root, and is the
// same each time, so that a phone replaces it instead of keeping two.
func TestProfile(t *testing.T) {
	cert := newCert(t)
	data := Profile(cert)
	if !bytes.Equal(data, Profile(cert)) || bytes.Equal(data, Profile(newCert(t))) {
		t.Error("it is not the certificate that makes it")
	}
	var pairs []string // each key and what follows it
	key, inData := "", ""
	d := xml.NewDecoder(bytes.NewReader(data))
	for {
		tok, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if el, ok := tok.(xml.StartElement); ok && el.Name.Local != "dict" && el.Name.Local != "array" && el.Name.Local != "plist" {
			var value string
			if err := d.DecodeElement(&value, &el); err != nil {
				t.Fatal(err)
			}
			switch el.Name.Local {
			case "key":
				key = value
			case "data":
				inData = value
			default:
				pairs = append(pairs, key+"="+value)
			}
		}
	}
	der, err := base64.StdEncoding.DecodeString(inData)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := x509.ParseCertificate(der); err != nil || !got.Equal(cert) {
		t.Error(err)
	}
	all := strings.Join(pairs, "\n")
	for _, want := range []string{"PayloadType=com.apple.security.root", "PayloadType=Configuration", "PayloadVersion=1", "PayloadDisplayName=" + cert.Subject.CommonName} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	ids := regexp.MustCompile(`PayloadUUID=[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`).FindAllString(all, -1)
	if len(ids) != 2 || ids[0] == ids[1] {
		t.Errorf("%q", ids)
	}
}
