package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// policy is what the page may do: run its own files and ask its own server.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; worker-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// hostsOf returns what the Host field of a request to addr may be: the literal
// address, or localhost. Any other name was made to point here by somebody else.
func hostsOf(addr net.Addr) []string {
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return nil
	}
	port := strconv.Itoa(int(at.Port()))
	names := []string{at.Addr().String()}
	if at.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || at.Addr() == netip.IPv6Loopback() {
		names = append(names, "localhost")
	}
	var hosts []string
	for _, name := range names {
		hosts = append(hosts, net.JoinHostPort(name, port))
		if at.Port() == 80 {
			hosts = append(hosts, strings.TrimSuffix(net.JoinHostPort(name, ""), ":"))
		}
	}
	return hosts
}

// guard lets through who may be answered.
func (s *Server) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Embedder-Policy", "require-corp")
		h.Set("Cache-Control", "no-store")
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
		switch api := isAPI(r.URL.Path); {
		case !slices.Contains(s.hosts, strings.ToLower(r.Host)):
			refuse(w, &Problem{http.StatusForbidden, "host " + strconv.Quote(r.Host) + ": not the address of this page", "open the URL that trace printed; through a tunnel, with the same port on both sides"})
		case !s.ownOrigin(r, api):
			refuse(w, &Problem{http.StatusForbidden, "origin: not this page", ""})
		case api && !s.authorized(r):
			h.Set("WWW-Authenticate", "Bearer")
			refuse(w, &Problem{http.StatusUnauthorized, "token: missing or wrong", "open the URL that trace printed, with its #token"})
		case api && (r.URL.Query().Has("token") || r.URL.Query().Has("access_token")):
			refuse(w, &Problem{http.StatusBadRequest, "token: it belongs in the Authorization header: URLs are kept in logs", ""})
		default:
			next(w, r)
		}
	}
}

// Private has next answer those only who have the token, and ask for themselves at
// the address of the listener: as for the API of the page, for what is served beside
// it.
func Private(addr net.Addr, token string, next http.Handler) http.Handler {
	s := &Server{Token: token, hosts: hostsOf(addr)}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		switch {
		case !slices.Contains(s.hosts, strings.ToLower(r.Host)):
			refuse(w, &Problem{http.StatusForbidden, "host " + strconv.Quote(r.Host) + ": not the address of this server", "use the URL that trace printed"})
		case !s.ownOrigin(r, true):
			refuse(w, &Problem{http.StatusForbidden, "origin: pages of others may not ask here", ""})
		case !s.authorized(r):
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, &Problem{http.StatusUnauthorized, "token: missing or wrong", "send Authorization: Bearer with the token that trace printed"})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// isAPI tells what wants the token, whatever way the path is written.
func isAPI(path string) bool {
	path = strings.ToLower(path)
	return path == "/api" || strings.HasPrefix(path, "/api/")
}

// ownOrigin reports whether a browser asks on behalf of this page, or somebody
// who is no browser. A link elsewhere may lead to the page itself.
func (s *Server) ownOrigin(r *http.Request, api bool) bool {
	for _, origin := range r.Header.Values("Origin") {
		host, ok := strings.CutPrefix(strings.ToLower(origin), "http://")
		if !ok || !slices.Contains(s.hosts, host) || host != strings.ToLower(r.Host) {
			return false
		}
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return true
	}
	return !api && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// authorized compares the token in a time that tells nothing about it.
func (s *Server) authorized(r *http.Request) bool {
	fields := r.Header.Values("Authorization")
	if len(fields) != 1 || s.Token == "" {
		return false
	}
	scheme, token, _ := strings.Cut(fields[0], " ")
	got, want := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(s.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}
