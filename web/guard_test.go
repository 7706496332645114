package web

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
)

// bearer are fields with the token and others.
func bearer(more ...string) map[string]string {
	h := map[string]string{"Authorization": "Bearer " + testToken}
	for i := 0; i < len(more); i += 2 {
		h[more[i]] = more[i+1]
	}
	return h
}

// A visit is a request, and the status that it gets.
type visit struct {
	name string
	try  try
	want int
}

// strangers are visits by the names, origins and tokens that they bring.
func strangers(base, port string) []visit {
	return append([]visit{
		{"the page", try{path: "/"}, 200},
		{"the page by its file", try{path: "/index.html"}, 200},
		{"with the token", try{path: "/api/session", head: bearer()}, 200},
		{"as localhost", try{path: "/api/session", head: bearer(), host: "localhost:" + port}, 200},
		{"as LOCALHOST", try{path: "/api/session", head: bearer(), host: "LocalHost:" + port}, 200},
		{"our own origin", try{path: "/api/session", head: bearer("Origin", base, "Sec-Fetch-Site", "same-origin")}, 200},
		{"a lower-case scheme", try{path: "/api/session", head: map[string]string{"Authorization": "bearer " + testToken}}, 200},
		{"a link to the page", try{path: "/", head: map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}}, 200},

		{"no token", try{path: "/api/session"}, 401},
		{"no token, unknown path", try{path: "/api/nothing"}, 401},
		{"no token, no path", try{path: "/api"}, 401},
		{"no token, POST", try{method: "POST", path: "/api/flows/1/replay", body: "{}"}, 401},
		{"an empty token", try{path: "/api/session", head: map[string]string{"Authorization": "Bearer "}}, 401},
		{"a wrong token", try{path: "/api/session", head: map[string]string{"Authorization": "Bearer the-tokem"}}, 401},
		{"the beginning of it", try{path: "/api/session", head: map[string]string{"Authorization": "Bearer the-toke"}}, 401},
		{"more than it", try{path: "/api/session", head: map[string]string{"Authorization": "Bearer the-token2"}}, 401},
		{"another scheme", try{path: "/api/session", head: map[string]string{"Authorization": "Basic " + testToken}}, 401},
		{"no scheme", try{path: "/api/session", head: map[string]string{"Authorization": testToken}}, 401},
		{"token as a cookie", try{path: "/api/session", head: map[string]string{"Cookie": "token=" + testToken}}, 401},
		{"token in the query", try{path: "/api/session?token=" + testToken}, 401},
		{"token in the query, too", try{path: "/api/session?token=" + testToken, head: bearer()}, 400},
		{"access_token in the query, too", try{path: "/api/session?access_token=x", head: bearer()}, 400},
		{"token in the path", try{path: "/" + testToken + "/api/session"}, 404},

		{"a foreign name (DNS rebinding)", try{path: "/api/session", head: bearer(), host: "evil.example:" + port}, 403},
		{"a foreign name, the page", try{path: "/", host: "evil.example:" + port}, 403},
		{"a name below localhost", try{path: "/api/session", head: bearer(), host: "evil.localhost:" + port}, 403},
		{"a name with a dot", try{path: "/api/session", head: bearer(), host: "localhost.:" + port}, 403},
		{"another address of loopback", try{path: "/api/session", head: bearer(), host: "127.0.0.2:" + port}, 403},
		{"no port", try{path: "/api/session", head: bearer(), host: "127.0.0.1"}, 403},
		{"another port", try{path: "/api/session", head: bearer(), host: "127.0.0.1:1"}, 403},
		{"an origin of a stranger", try{path: "/api/session", head: bearer("Origin", "http://evil.example")}, 403},
		{"an origin on another port", try{path: "/api/session", head: bearer("Origin", "http://127.0.0.1:1")}, 403},
		{"an origin by https", try{path: "/api/session", head: bearer("Origin", strings.Replace(base, "http", "https", 1))}, 403},
		{"an origin with another name", try{path: "/api/session", head: bearer("Origin", "http://localhost:"+port)}, 403},
		{"no origin", try{path: "/api/session", head: bearer("Origin", "null")}, 403},
		{"an origin of a stranger, the page", try{path: "/", head: map[string]string{"Origin": "http://evil.example"}}, 403},
		{"a fetch of a stranger", try{path: "/api/session", head: bearer("Sec-Fetch-Site", "cross-site")}, 403},
		{"a fetch from another port", try{path: "/api/session", head: bearer("Sec-Fetch-Site", "same-site")}, 403},
		{"a script of a stranger", try{path: "/index.html", head: map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}}, 403},
		{"a frame of a stranger", try{path: "/", head: map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}}, 403},
	}, paths(base)...)
}

// paths are visits by their methods and paths.
func paths(base string) []visit {
	return []visit{
		{"preflight", try{method: "OPTIONS", path: "/api/session", head: map[string]string{"Origin": base, "Access-Control-Request-Method": "GET"}}, 401},
		{"preflight of a stranger", try{method: "OPTIONS", path: "/api/session", head: map[string]string{"Origin": "http://evil.example", "Access-Control-Request-Method": "GET"}}, 403},
		{"OPTIONS", try{method: "OPTIONS", path: "/api/session", head: bearer()}, 405},
		{"OPTIONS of the page", try{method: "OPTIONS", path: "/"}, 405},
		{"POST to the page", try{method: "POST", path: "/"}, 405},
		{"POST to read", try{method: "POST", path: "/api/session", head: bearer()}, 405},
		{"GET to send", try{path: "/api/flows/1/replay", head: bearer()}, 405},
		{"TRACE", try{method: "TRACE", path: "/api/session", head: bearer()}, 405},
		{"DELETE", try{method: "DELETE", path: "/api/flows/1", head: bearer()}, 405},

		{"an encoded path", try{path: "/%61pi/session"}, 401},
		{"an encoded path, with token", try{path: "/%61pi/session", head: bearer()}, 404},
		{"an encoded slash", try{path: "/api%2fsession"}, 401},
		{"in capitals", try{path: "/API/session"}, 401},
		{"in capitals, with token", try{path: "/API/session", head: bearer()}, 404},
		{"dots", try{path: "/../api/session"}, 404},
		{"dots in front", try{path: "/./api/session"}, 404},
		{"dots within", try{path: "/api/../api/session", head: bearer()}, 404},
		{"dots to a file", try{path: "/assets/../../../../etc/passwd"}, 404},
		{"encoded dots", try{path: "/%2e%2e/%2e%2e/etc/passwd"}, 404},
		{"a backslash", try{path: `/..\..\etc`}, 404},
		{"a directory", try{path: "/assets"}, 404},
		{"a directory with a slash", try{path: "/assets/"}, 404},
		{"two slashes", try{path: "/api//session", head: bearer()}, 404},
		{"a slash behind", try{path: "/api/session/", head: bearer()}, 404},
		{"a session that is a path", try{path: "/api/session?session=../../x", head: bearer()}, 400},
		{"a session that is a file", try{path: "/api/session?session=/etc/passwd", head: bearer()}, 400},
		{"another session", try{path: "/api/session?session=01M7YYYYYYYYYYYYYYYYYYYYYY", head: bearer()}, 404},
		{"no flow", try{path: "/api/flows/2", head: bearer()}, 501},
		{"no number", try{path: "/api/flows/x/events", head: bearer()}, 404},
		{"no body", try{path: "/api/flows/9/body/request", head: bearer()}, 404},
		{"another body", try{path: "/api/flows/1/body/secrets", head: bearer()}, 404},
		{"a number below zero", try{path: "/api/flows?after=-1", head: bearer()}, 400},
	}
}

// TestStrangers tries what pages of strangers, other programs and other machines
// might send.
func TestStrangers(t *testing.T) {
	m := &memory{body: "secret body"}
	m.put(exchange(1, "secret.example", "/secret"))
	_, base := start(t, m, Views{})
	port := base[strings.LastIndexByte(base, ':')+1:]
	for _, c := range strangers(base, port) {
		t.Run(c.name, func(t *testing.T) {
			resp, text := c.try.do(t, base)
			if resp.StatusCode != c.want {
				t.Errorf("%d, want %d: %s", resp.StatusCode, c.want, text)
			}
			if resp.StatusCode >= 400 && strings.Contains(text, "secret") {
				t.Errorf("it tells something: %s", text)
			}
			checkHeads(t, resp)
		})
	}
}

// checkHeads wants what every answer has, and what none may have.
func checkHeads(t *testing.T, resp *http.Response) {
	t.Helper()
	for name := range resp.Header {
		if strings.HasPrefix(name, "Access-Control-") || name == "Set-Cookie" || name == "Location" {
			t.Errorf("%s: %s", name, resp.Header.Get(name))
		}
	}
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := resp.Header.Get(name); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if api := isAPI(resp.Request.URL.Opaque); api && resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control: %q", resp.Header.Get("Cache-Control"))
	}
	if resp.Header.Get("Content-Type") == "" && resp.StatusCode != 304 {
		t.Error("no Content-Type")
	}
}

// TestTwoTokens: of several Authorization fields none counts.
func TestTwoTokens(t *testing.T) {
	_, base := start(t, &memory{}, Views{})
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	host := strings.TrimPrefix(base, "http://")
	if _, err := c.Write([]byte("GET /api/session HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: Bearer x\r\nAuthorization: Bearer " + testToken + "\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 12)
	if _, err := c.Read(p); err != nil || string(p) != "HTTP/1.1 401" {
		t.Errorf("%q, %v", p, err)
	}
	// A target with an authority of its own is one more way to name a host.
	d, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.Write([]byte("GET http://evil.example/api/session HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: Bearer " + testToken + "\r\n\r\n"))
	if _, err := d.Read(p); err != nil || string(p) != "HTTP/1.1 403" {
		t.Errorf("%q, %v", p, err)
	}
}

func TestAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"": "127.0.0.1:0", "127.0.0.1": "127.0.0.1:0", ":8080": "127.0.0.1:8080", "localhost": "127.0.0.1:0", "localhost:80": "127.0.0.1:80",
		"127.0.0.1:0": "127.0.0.1:0", "127.0.0.2:9": "127.0.0.2:9", "[::1]:7": "[::1]:7", "::1": "[::1]:0", "[::ffff:127.0.0.1]:5": "127.0.0.1:5",
	} {
		if got, err := Address(addr); err != nil || got.String() != want {
			t.Errorf("%q: %v, %v, want %s", addr, got, err, want)
		}
	}
	for _, addr := range []string{"0.0.0.0:80", "0.0.0.0", "[::]:80", "::", "192.0.2.1:80", "example.com:80", "8080", "127.0.0.1:x", "127.0.0.1:70000", "[fe80::1%lo]:80", "[::ffff:192.0.2.1]:1"} {
		var not *NotLoopback
		if got, err := Address(addr); !errors.As(err, &not) {
			t.Errorf("%q is taken for %v", addr, got)
		}
	}
	if a, b := NewToken(), NewToken(); a == b || len(a) != 43 {
		t.Errorf("tokens %q and %q", a, b)
	}
}
