package export

import (
	"cmp"
	"encoding/hex"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"trace/flow"
)

// text returns a string of a head such that JSON can hold it. Bytes that are
// no UTF-8 are read as ISO 8859-1, as browsers do.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	rs := make([]rune, 0, len(s))
	for i := range len(s) {
		rs = append(rs, rune(s[i]))
	}
	return string(rs)
}

func harPairs(fs []flow.Field) []harPair {
	ps := make([]harPair, 0, len(fs))
	for _, f := range fs {
		ps = append(ps, harPair{text(f.Name), text(f.Value)})
	}
	return ps
}

func trailers(b *flow.Ended) []harPair {
	if len(b.Trailers) == 0 {
		return nil
	}
	return harPairs(b.Trailers)
}

func sumOf(p *flow.Part) string {
	if p.Withheld {
		return ""
	}
	return hex.EncodeToString(p.Body.SHA256[:])
}

// harVersion names a version as every importer knows it.
func harVersion(v string) string {
	switch v {
	case "":
		return ""
	case "2":
		return "http/2.0"
	case "3":
		return "h3"
	}
	return "http/" + v
}

// webAddress returns the absolute URL of a request, which always is one.
func webAddress(x *flow.Exchange) string {
	h := *x.Request.Head
	if h.Scheme == "" {
		if h.Scheme = "http"; x.Conn.Decrypted {
			h.Scheme = "https"
		}
	}
	if h.Host == "" {
		h.Host, h.Port = x.Conn.Host, int(x.Conn.Dst.Port())
	}
	if h.Host == "" && x.Conn.Dst.IsValid() {
		h.Host = x.Conn.Dst.Addr().WithZone("").String()
	}
	h.Host = cmp.Or(h.Host, "unknown.invalid")
	if _, err := netip.ParseAddr(h.Host); err != nil {
		h.Host = cleanHost(h.Host)
	}
	if h.Path = cleanPath(h.Path); !strings.HasPrefix(h.Path, "/") {
		h.Path = "/"
	}
	return address(&h)
}

// cleanHost leaves what may stand for a host in a URL.
func cleanHost(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`"/\?#@[]<>^|%`, r) {
			return '-'
		}
		return r
	}, s)
}

// cleanPath percent-encodes what cannot stand in a URL, and the fragment that
// no request has.
func cleanPath(s string) string {
	clean := true
	for i := range len(s) {
		clean = clean && s[i] > ' ' && s[i] < 0x7f && s[i] != '#' && s[i] != '"' && s[i] != '<' && s[i] != '>' && s[i] != '\\'
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ', c >= 0x7f, c == '#', c == '"', c == '<', c == '>', c == '\\':
			b.WriteByte('%')
			b.WriteByte("0123456789ABCDEF"[c>>4])
			b.WriteByte("0123456789ABCDEF"[c&15])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// queryString reads the query of a target, decoded where it can be.
func queryString(target string) []harPair {
	ps := []harPair{}
	_, query, _ := strings.Cut(target, "?")
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		ps = append(ps, harPair{unescaped(name), unescaped(value)})
	}
	return ps
}

func unescaped(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		s = u
	}
	return text(s)
}

// requestCookies reads the Cookie fields (RFC 6265 section 4.2).
func requestCookies(h *flow.Head) []harCookie {
	cs := []harCookie{}
	for _, line := range h.Values("cookie") {
		for part := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			if name != "" || value != "" {
				cs = append(cs, harCookie{Name: text(name), Value: text(value)})
			}
		}
	}
	return cs
}

// responseCookies reads the Set-Cookie fields (RFC 6265 section 5.2).
func responseCookies(h *flow.Head) []harCookie {
	cs := []harCookie{}
	for _, line := range h.Values("set-cookie") {
		pair, attributes, _ := strings.Cut(text(line), ";")
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		c := harCookie{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)}
		for a := range strings.SplitSeq(attributes, ";") {
			c.attribute(a)
		}
		cs = append(cs, c)
	}
	return cs
}

func (c *harCookie) attribute(a string) {
	name, value, _ := strings.Cut(strings.TrimSpace(a), "=")
	switch value = strings.TrimSpace(value); strings.ToLower(strings.TrimSpace(name)) {
	case "path":
		c.Path = value
	case "domain":
		c.Domain = value
	case "httponly":
		c.HTTPOnly = true
	case "secure":
		c.Secure = true
	case "samesite":
		c.SameSite = value
	case "expires":
		for _, form := range []string{time.RFC1123, "Mon, 02-Jan-2006 15:04:05 MST", time.RFC850, time.ANSIC} {
			if t, err := time.Parse(form, value); err == nil && t.Year() > 0 {
				c.Expires = new(t.UTC().Format(harTime))
				break
			}
		}
	case "max-age":
		if n, err := strconv.Atoi(value); err == nil && n <= 0 {
			c.Expires = new(time.Unix(0, 0).UTC().Format(harTime))
		}
	}
}
