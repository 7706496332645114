package egress

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"syscall"
	"unicode"
)

// Limits of a proxy's answer.
const (
	maxHead   = 64 << 10 // bytes of one head
	maxHeads  = 8        // heads: informational ones come first
	maxReason = 80       // bytes of it in a message
)

// connect asks for a tunnel (RFC 9110 section 9.3.6).
func (p *proxy) connect(conn net.Conn, target string) error {
	head := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\nUser-Agent: trace\r\n"
	if p.known {
		head += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(p.user+":"+p.password)) + "\r\n"
	}
	asked := "CONNECT " + target + ": "
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		return p.failed(asked+err.Error(), err)
	}
	for range maxHeads {
		a, err := readAnswer(conn)
		if err != nil {
			return p.failed(asked+err.Error(), err)
		}
		switch a.status / 100 {
		case 1:
		case 2:
			return nil
		default:
			f := p.failed(asked+a.String()+p.mend(a), a.errno())
			f.declined = a.declines()
			return f
		}
	}
	return p.failed(asked+"it does not come to an answer", syscall.ECONNREFUSED)
}

// mend says what is wanted of the user after an answer.
func (p *proxy) mend(a answer) string {
	if a.status != http.StatusProxyAuthRequired {
		return ""
	}
	var schemes []string
	for _, c := range a.fields.Values("Proxy-Authenticate") {
		scheme, _, _ := strings.Cut(strings.TrimSpace(c), " ")
		if strings.EqualFold(scheme, "Basic") {
			schemes = nil
			break
		}
		schemes = append(schemes, printable(scheme))
	}
	switch {
	case len(schemes) > 0:
		return ": it wants " + strings.Join(schemes, " or ") + ", trace can do Basic"
	case p.known:
		return ": it does not accept the user name and password of " + p.variable
	}
	return ": it wants a user name and password, " + p.variable + " has none"
}

// An answer is the head of what a proxy says.
type answer struct {
	status int
	reason string
	fields textproto.MIMEHeader
}

func (a answer) String() string {
	return strings.TrimSpace(strconv.Itoa(a.status) + " " + printable(a.reason))
}

// readAnswer reads one head, and nothing of what follows it: that belongs to
// the tunnel. Heads are short, so reading octet by octet costs nothing that
// counts.
func readAnswer(conn io.Reader) (answer, error) {
	var head []byte
	for one := make([]byte, 1); ; {
		if _, err := io.ReadFull(conn, one); err != nil {
			if len(head) > 0 {
				err = fmt.Errorf("its answer is cut: %w", err)
			}
			return answer{}, err
		}
		head = append(head, one[0])
		switch {
		case len(head) == len("HTTP/") && string(head) != "HTTP/":
			return answer{}, fmt.Errorf("its answer begins with %q, which is not HTTP", head)
		case len(head) > maxHead:
			return answer{}, fmt.Errorf("its answer has more than %d bytes", maxHead)
		case bytes.HasSuffix(head, []byte("\n\r\n")), bytes.HasSuffix(head, []byte("\n\n")):
			return parseAnswer(head)
		}
	}
}

func parseAnswer(head []byte) (answer, error) {
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(head)))
	line, _ := r.ReadLine() // a head has one
	_, rest, _ := strings.Cut(line, " ")
	code, reason, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	status, err := strconv.Atoi(code)
	if err != nil || status < 100 || status > 999 {
		return answer{}, fmt.Errorf("its answer is malformed: %q", printable(line))
	}
	fields, _ := r.ReadMIMEHeader() // as far as they make sense: the status decides
	return answer{status, reason, fields}, nil
}

// printable returns text of a proxy as it may stand in a message.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "…"
	}
	return s
}

// declines tells the answers of proxies that do not carry such connections,
// whatever the destination: by rule, or because they know no CONNECT.
func (a answer) declines() bool {
	switch a.status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return false
}

// errno is what a connect to the destination would have failed with, as
// exactly as the proxy says.
func (a answer) errno() error {
	if e := a.proxyStatus(); e != nil {
		return e
	}
	if e := a.squidError(); e != nil {
		return e
	}
	switch a.status {
	case http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusUnauthorized, http.StatusUnavailableForLegalReasons:
		return syscall.EACCES
	case http.StatusServiceUnavailable, http.StatusNotFound:
		return syscall.EHOSTUNREACH
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return syscall.ETIMEDOUT
	}
	return syscall.ECONNREFUSED
}

// proxyErrors are the proxy error types that tell of connecting (RFC 9209
// section 2.3).
var proxyErrors = map[string]syscall.Errno{
	"dns_timeout":               syscall.EHOSTUNREACH,
	"dns_error":                 syscall.EHOSTUNREACH,
	"destination_not_found":     syscall.EHOSTUNREACH,
	"destination_unavailable":   syscall.EHOSTUNREACH,
	"destination_ip_prohibited": syscall.EACCES,
	"destination_ip_unroutable": syscall.ENETUNREACH,
	"connection_refused":        syscall.ECONNREFUSED,
	"connection_terminated":     syscall.ECONNRESET,
	"connection_timeout":        syscall.ETIMEDOUT,
	"http_request_denied":       syscall.EACCES,
}

// proxyStatus reads the field Proxy-Status. Of several members the first is
// that of the proxy nearest to the destination.
func (a answer) proxyStatus() error {
	for _, param := range strings.FieldsFunc(strings.Join(a.fields.Values("Proxy-Status"), ";"), func(r rune) bool { return r == ';' || r == ',' }) {
		key, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if e, ok := proxyErrors[value]; ok && key == "error" {
			return e
		}
	}
	return nil
}

// squidError reads the field X-Squid-Error: a name, and the errno of the
// machine that squid runs on. Squid answers 503 whatever has failed.
func (a answer) squidError() error {
	name, number, _ := strings.Cut(a.fields.Get("X-Squid-Error"), " ")
	n, err := strconv.Atoi(number)
	if name != "ERR_CONNECT_FAIL" || err != nil {
		return nil
	}
	for _, e := range []syscall.Errno{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ETIMEDOUT} {
		if e == syscall.Errno(n) {
			return e
		}
	}
	return nil
}
