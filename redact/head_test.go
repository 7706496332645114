package redact

import (
	"encoding/base64"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"trace/flow"
)

func TestFields(t *testing.T) {
	v := chars(b62, 30)
	oauth := "sk-" + "ant-oat01-" + chars(b62, 80)
	for _, c := range []struct{ name, value, want string }{
		{"Authorization", "Bearer " + oauth, "Bearer [REDACTED:anthropic-oauth]"},
		{"authorization", v, "[REDACTED:header]"},
		{"authorization", "my " + v, "[REDACTED:header]"},
		{"Authorization", "AWS4-HMAC-SHA256 Credential=A/b, Signature=c", "AWS4-HMAC-SHA256 [REDACTED:sigv4]"},
		{"Proxy-Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+v)), "Basic [REDACTED:basic]"},
		{"x-api-key", "sk-" + "ant-api03-" + v, "[REDACTED:anthropic]"},
		{"X-Api-Key", v, "[REDACTED:header]"},
		{"Cookie", "a=" + v + "; b=\"2\";c=", "a=[REDACTED:cookie]; b=[REDACTED:cookie];c="},
		{"Set-Cookie", "sid=" + v + "; Path=/; HttpOnly", "sid=[REDACTED:cookie]; Path=/; HttpOnly"},
		{"Sec-WebSocket-Protocol", "realtime, openai-insecure-api-key." + v + ", openai-beta.realtime-v1", "realtime, openai-insecure-api-key.[REDACTED:ws-protocol], openai-beta.realtime-v1"},
		{"Referer", "https://h/cb?code=" + v + "&x=1", "https://h/cb?code=[REDACTED:query]&x=1"},
		{"Location", "/cb#access_token=" + v + "&x=1", "/cb#access_token=[REDACTED:query]&x=1"},
		{"Link", "<https://h/p?token=" + v + ">; rel=next", "<https://h/p?token=[REDACTED:query]>; rel=next"},
		{"X-My-Auth", v, "[REDACTED:header]"},
		{"X-Acme-Api-Key", v, "[REDACTED:header]"},
		{"X-Note", "key is " + oauth, "key is [REDACTED:anthropic-oauth]"},
		{"x-claude-session-id", "550e8400-e29b-41d4-a716-446655440000", ""},
		{"Anthropic-Ratelimit-Tokens-Remaining", "1000", ""},
		{"anthropic-ratelimit-input-token-limit", "1000", ""},
		{"x-ratelimit-remaining-tokens", "1000", ""},
		{"x-stainless-auth-mode", "something-long", ""},
		{"x-amzn-bedrock-input-token-count", "12", ""},
		{"Idempotency-Key", v, ""},
		{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", ""},
		{"WWW-Authenticate", `Bearer realm="x", error="invalid_token"`, ""},
		{"Content-Type", "application/json", ""},
		{"anthropic-beta", "oauth-2025-04-20,session-thing", ""},
		{"openai-organization", "org-1234567890", ""},
	} {
		in := []flow.Field{{Name: "A", Value: "1"}, {Name: c.name, Value: c.value}}
		want, places := c.want, 1
		if want == "" {
			want, places = c.value, 0
		}
		r := New(testKey)
		out, n := r.Fields(in, false)
		if out[1].Value != want || (n > 0) != (places > 0) {
			t.Errorf("%s: %q = %q, %d; want %q", c.name, c.value, out[1].Value, n, want)
		}
		if in[1].Value != c.value {
			t.Errorf("%s: the original was changed", c.name)
		}
		if again, m := r.Fields(out, false); m != 0 || !reflect.DeepEqual(again, out) {
			t.Errorf("%s: twice: %v", c.name, again)
		}
	}
}

func TestPersonal(t *testing.T) {
	r := New(testKey)
	r.Personal = true
	out, _ := r.Fields([]flow.Field{{Name: "openai-organization", Value: "org-1234567890"}}, true)
	body, _ := r.Body("application/json", []byte(`{"metadata":{"user_id":"user_abc"},"n":1}`))
	if out[0].Value != "[REDACTED:personal]" || string(body) != `{"metadata":{"user_id":"[REDACTED:personal]"},"n":1}` {
		t.Errorf("%v %s", out, body)
	}
}

// TestRemembered: what a name gave away is found everywhere afterwards.
func TestRemembered(t *testing.T) {
	secret := `va/l+ue"with` + chars(b62, 11) // odd lengths and bytes that are escaped
	h := &flow.Head{Method: "GET", Target: "/x/" + url.PathEscape(secret), Path: "/x/" + url.PathEscape(secret), Fields: []flow.Field{
		{Name: "X-Copy", Value: secret}, {Name: "X-Api-Key", Value: secret},
	}}
	r := New(testKey)
	out, n := r.Head(h, false)
	if n != 3 || out.Target != "/x/[REDACTED:header]" || out.Fields[0].Value != "[REDACTED:header]" {
		t.Errorf("%d %+v", n, out)
	}
	if h.Fields[1].Value != secret {
		t.Error("the original was changed")
	}
	for _, text := range []string{
		secret, "a" + secret + "b", quoteJSON(secret), quoteJSON(quoteJSON(secret)), url.QueryEscape(secret),
		strings.ToLower(url.QueryEscape("%")) + url.QueryEscape(secret),
		base64.StdEncoding.EncodeToString([]byte("u:" + secret)), base64.StdEncoding.EncodeToString([]byte("us:" + secret)),
		base64.URLEncoding.EncodeToString([]byte("use:" + secret + "\n")), secret[:20],
	} {
		for _, contentType := range []string{"text/plain", "application/json", "image/png", "application/octet-stream"} {
			if contentType == "image/png" && strings.ContainsAny(text, "%\\") {
				continue
			}
			out, n := r.Body(contentType, []byte("\n"+text))
			if n == 0 || strings.Contains(string(out), secret[5:15]) {
				t.Errorf("%s: %q = %q", contentType, text, out)
			}
		}
	}
	if _, n := r.Body("image/png", []byte("\x89PNG no secret 1//"+chars(b62, 60))); n != 0 {
		t.Error("patterns in a picture")
	}
}

func TestNotRemembered(t *testing.T) {
	r := New(testKey)
	r.Body("application/json", []byte(`{"password":"password","api_key":"${API_KEY_VALUE}","otp":12345678,"credentials":"same-origin-x","secret_key":"********"}`))
	for _, s := range []string{"the password", "${API_KEY_VALUE}", "12345678", "********"} {
		if out, n := r.String(s); n != 0 {
			t.Errorf("%q = %q", s, out)
		}
	}
}

func TestArgv(t *testing.T) {
	v := chars(b62, 20)
	for _, c := range []struct{ in, want []string }{
		{[]string{"curl", "-H", "authorization: Bearer " + v, "https://u:" + v + "@h/p?key=" + v}, []string{"curl", "-H", "authorization: Bearer [REDACTED:header]", "https://[REDACTED:userinfo]@h/p?key=[REDACTED:header]"}},
		{[]string{"curl", "-Hx-api-key: " + v, "-u", "me:" + v, "-b", "a=" + v}, []string{"curl", "-Hx-api-key: [REDACTED:header]", "-u", "me:[REDACTED:argv]", "-b", "a=[REDACTED:cookie]"}},
		{[]string{"x", "--api-key", v, "--api-key=" + v, "--token", "abc", "-password=" + v}, []string{"x", "--api-key", "[REDACTED:argv]", "--api-key=[REDACTED:argv]", "--token", "[REDACTED:argv]", "-password=[REDACTED:argv]"}},
		{[]string{"env", "FOO_API_KEY=" + v, "DB_PASSWORD=x y", "PATH=/bin", "N=1"}, []string{"env", "FOO_API_KEY=[REDACTED:argv]", "DB_PASSWORD=[REDACTED:argv]", "PATH=/bin", "N=1"}},
		{[]string{"sh", "-c", "curl -H 'x-api-key: " + v + "' h"}, []string{"sh", "-c", "curl -H 'x-api-key: [REDACTED:header]' h"}},
		{[]string{"curl", "-d", `{"password":"` + v + `"}`, "--data", "password=" + v + "&a=1"}, []string{"curl", "-d", `{"password":"[REDACTED:json]"}`, "--data", "password=[REDACTED:json]&a=1"}},
		{[]string{"claude", "-p", "hello, my token count", "--max-tokens", "5", "--password-file", "/x", "--session", "s", "--no-auth", "--keylog=f"}, nil},
		{[]string{"docker", "run", "-u", "1000:1000", "--token", "$TOKEN", "--auth", "--x"}, nil},
	} {
		r := New(testKey)
		want, n := c.want, 1
		if want == nil {
			want, n = c.in, 0
		}
		got, m := r.Argv(c.in)
		if !reflect.DeepEqual(got, want) || (m > 0) != (n > 0) {
			t.Errorf("%q\n got %q, %d\nwant %q", c.in, got, m, want)
		}
		if again, m := r.Argv(got); m != 0 || !reflect.DeepEqual(again, got) {
			t.Errorf("twice: %q", again)
		}
	}
}

func TestTag(t *testing.T) {
	a, b := New([32]byte{1}), New([32]byte{2})
	a.Tag()
	b.Tag()
	in := `{"api_key":"` + chars(b62, 20) + `","x":"gh` + "p_" + chars(b62, 36) + `"}`
	x, _ := a.Body("application/json", []byte(in))
	y, _ := b.Body("application/json", []byte(in))
	z, n := a.Body("application/json", x)
	if string(x) == string(y) || n != 0 || string(z) != string(x) || strings.Count(string(x), ":json:") != 1 || strings.Count(string(x), ":github:") != 1 {
		t.Errorf("%s\n%s\n%s", x, y, z)
	}
	if s, _ := a.String("gh" + "p_" + chars(b62, 36)); !strings.Contains(string(x), s) {
		t.Errorf("the same secret has another tag: %s, %s", s, x)
	}
}

// TestHeadOfHTTP2: names in lower case, cookies in several fields (RFC 9113
// section 8.2.3), and an authority of its own.
func TestHeadOfHTTP2(t *testing.T) {
	v, w, q, password := chars(b62, 30), chars(b62, 24), chars(hex16, 20), "hunter2-"+chars(b62, 12)
	h := &flow.Head{Method: "GET", Target: "/x?token=" + q, Path: "/x?token=" + q, Authority: "me:" + password + "@Example.org:443", Scheme: "https", Host: "example.org",
		Version: "2", Stream: 5, Framing: flow.FramingGRPC, Protocol: "websocket", Fields: []flow.Field{
			{Name: "cookie", Value: "a=" + v}, {Name: "cookie", Value: "b=" + w + "; c=1"}, {Name: "authorization", Value: "Bearer " + w + w},
			{Name: "host", Value: "me:" + password + "@example.org"}, {Name: "x-note", Value: "it is " + password}, {Name: "te", Value: "trailers"},
		}}
	out, n := New(testKey).Head(h, false)
	want := &flow.Head{Method: "GET", Target: "/x?token=[REDACTED:query]", Path: "/x?token=[REDACTED:query]", Authority: "[REDACTED:userinfo]@Example.org:443", Scheme: "https", Host: "example.org",
		Version: "2", Stream: 5, Framing: flow.FramingGRPC, Protocol: "websocket", Fields: []flow.Field{
			{Name: "cookie", Value: "a=[REDACTED:cookie]"}, {Name: "cookie", Value: "b=[REDACTED:cookie]; c=[REDACTED:cookie]"}, {Name: "authorization", Value: "Bearer [REDACTED:header]"},
			{Name: "host", Value: "[REDACTED:userinfo]@example.org"}, {Name: "x-note", Value: "it is [REDACTED:userinfo]"}, {Name: "te", Value: "trailers"},
		}}
	if !reflect.DeepEqual(out, want) || n == 0 {
		t.Errorf("%d:\n got %+v\nwant %+v", n, out, want)
	}
	if again, m := New(testKey).Head(out, false); m != 0 || again != out {
		t.Errorf("not idempotent: %d, %+v", m, again)
	}
	connect, _ := New(testKey).Head(&flow.Head{Method: "CONNECT", Target: "me:" + password + "@example.org:443", Host: "me:" + password + "@example.org"}, false)
	if connect.Target != "[REDACTED:userinfo]@example.org:443" || connect.Host != "[REDACTED:userinfo]@example.org" {
		t.Errorf("%+v", connect)
	}
}

// TestTrailers: what gRPC says at the end may quote what it was given.
func TestTrailers(t *testing.T) {
	key := "gh" + "p_" + chars(b62, 36)
	status := func(text string) string { // google.rpc.Status
		return base64.RawStdEncoding.EncodeToString(append([]byte{8, 16}, protoField(2, []byte(text))...))
	}
	out, n := New(testKey).Fields([]flow.Field{
		{Name: "grpc-status", Value: "16"}, {Name: "grpc-message", Value: "token%20" + key + "%20is%20bad"}, {Name: "grpc-status-details-bin", Value: status("no such " + key)},
		{Name: "x-trace-bin", Value: "AAECAwQFBgc"},
	}, true)
	want := []flow.Field{
		{Name: "grpc-status", Value: "16"}, {Name: "grpc-message", Value: "token%20[REDACTED:github]%20is%20bad"}, {Name: "grpc-status-details-bin", Value: status("no such [REDACTED:github]")},
		{Name: "x-trace-bin", Value: "AAECAwQFBgc"},
	}
	if !reflect.DeepEqual(out, want) || n != 2 {
		t.Errorf("%d: %+v", n, out)
	}
}
