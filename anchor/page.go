package anchor

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

// Types of what the page offers, by which phones know what to do with it.
const (
	typeDER     = "application/x-x509-ca-cert"
	typePEM     = "application/x-pem-file"
	typeProfile = "application/x-apple-aspen-config"
)

// Page returns what answers for http://trace.internal/ to peers of the tunnel:
// a page that tells how to trust the certificate, and the certificate itself
// as /ca.cer, /ca.pem and /ca.mobileconfig. It needs no script and fetches
// nothing from anywhere else.
func Page(cert *x509.Certificate) http.Handler {
	mux := http.NewServeMux()
	file := func(path, mediaType, name string, data []byte) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Type", mediaType)
			// Not as an attachment: Safari would file it away instead of offering
			// to install it.
			h.Set("Content-Disposition", `inline; filename="`+name+`"`)
			respond(w, data)
		})
	}
	file("/ca.cer", typeDER, "trace-ca.cer", cert.Raw)
	file("/ca.pem", typePEM, "trace-ca.pem", PEM(cert))
	file("/ca.mobileconfig", typeProfile, "trace-ca.mobileconfig", Profile(cert))
	page, err := render(cert)
	sum := sha256.Sum256([]byte(pageStyle))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", policy)
		respond(w, page)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store") // the next authority has the same address
		mux.ServeHTTP(w, r)
	})
}

func respond(w http.ResponseWriter, data []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Write(data) // who is gone needs no answer
}

func render(cert *x509.Certificate) ([]byte, error) {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"Style": template.CSS(pageStyle), // ours, and hashed in the policy
		"Name":  cert.Subject.CommonName,
		"Print": strings.SplitAfter(Fingerprint(cert), ":"), // so that lines break between pairs
		"From":  cert.NotBefore.UTC().Format(time.DateOnly),
		"Until": cert.NotAfter.UTC().Format(time.DateOnly),
		"File":  "trace-ca-" + ID(cert) + ".crt",
	})
	return out.Bytes(), err
}

// Profile returns a configuration profile for iOS and macOS that holds the
// certificate as a root. The same certificate makes the same profile.
func Profile(cert *x509.Certificate) []byte {
	var name bytes.Buffer
	template.HTMLEscape(&name, []byte(cert.Subject.CommonName))
	id := "internal.trace.ca." + ID(cert)
	return fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>PayloadContent</key>
	<array>
		<dict>
			<key>PayloadCertificateFileName</key>
			<string>trace-ca.cer</string>
			<key>PayloadContent</key>
			<data>%s</data>
			<key>PayloadDescription</key>
			<string>The authority of trace serve. Whoever has its key can read what this device sends.</string>
			<key>PayloadDisplayName</key>
			<string>%s</string>
			<key>PayloadIdentifier</key>
			<string>%s.root</string>
			<key>PayloadType</key>
			<string>com.apple.security.root</string>
			<key>PayloadUUID</key>
			<string>%s</string>
			<key>PayloadVersion</key>
			<integer>1</integer>
		</dict>
	</array>
	<key>PayloadDescription</key>
	<string>Makes this device trust the authority of trace serve.</string>
	<key>PayloadDisplayName</key>
	<string>%s</string>
	<key>PayloadIdentifier</key>
	<string>%s</string>
	<key>PayloadRemovalDisallowed</key>
	<false/>
	<key>PayloadType</key>
	<string>Configuration</string>
	<key>PayloadUUID</key>
	<string>%s</string>
	<key>PayloadVersion</key>
	<integer>1</integer>
</dict>
</plist>
`, base64.StdEncoding.EncodeToString(cert.Raw), name.Bytes(), id, uuid("root", cert), name.Bytes(), id, uuid("profile", cert))
}

// uuid derives an identifier from a certificate (RFC 9562 section 5.8).
func uuid(what string, cert *x509.Certificate) string {
	b := sha256.Sum256(append([]byte(what+"\x00"), cert.Raw...))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
