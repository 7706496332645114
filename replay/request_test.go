package replay

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"trace/flow"
)

// detail makes a recorded POST with a body.
func detail(body string, fields ...flow.Field) *flow.Detail {
	h := &flow.Head{Method: "POST", Target: "/v1/messages?beta=true", Path: "/v1/messages?beta=true", Scheme: "https", Host: "api.anthropic.com", Port: 443,
		Version: "1.1", Fields: append([]flow.Field{{Name: "Host", Value: "api.anthropic.com"}}, fields...)}
	n := int64(len(body))
	d := &flow.Detail{RequestBody: []byte(body)}
	d.Kind = flow.KindHTTP
	d.Request = &flow.Part{Head: h, Body: &flow.Ended{Size: n, Decoded: n, Kept: n}}
	return d
}

func env(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

func TestSetJSON(t *testing.T) {
	const body = `{ "a" : 1, "big":12345678901234567890 , "m":[{"c":"x"},{"c":"y"}],"o":{},"e":[], "q.r":{"\u006b":2}}`
	for _, c := range []struct{ edit, want string }{
		{"a=2", strings.Replace(body, `"a" : 1`, `"a" : 2`, 1)},
		{".a=text", strings.Replace(body, `"a" : 1`, `"a" : "text"`, 1)},
		{`a={"x":[1,2]}`, strings.Replace(body, `"a" : 1`, `"a" : {"x":[1,2]}`, 1)},
		{`a=<"é>`, strings.Replace(body, `"a" : 1`, `"a" : "<\"é>"`, 1)},
		{"a=", strings.Replace(body, `"a" : 1`, `"a" : ""`, 1)},
		{"m[1].c=z", strings.Replace(body, `"y"`, `"z"`, 1)},
		{"m.0.c=z", strings.Replace(body, `"x"`, `"z"`, 1)},
		{"m[-1].c=z", strings.Replace(body, `"y"`, `"z"`, 1)},
		{"m[2]=3", strings.Replace(body, `{"c":"y"}]`, `{"c":"y"},3]`, 1)},
		{"e[0]=3", strings.Replace(body, `[]`, `[3]`, 1)},
		{"o.new=true", strings.Replace(body, `{}`, `{"new":true}`, 1)},
		{"m[0].d=null", strings.Replace(body, `{"c":"x"}`, `{"c":"x","d":null}`, 1)},
		{`["q.r"].k=3`, strings.Replace(body, `{"\u006b":2}`, `{"\u006b":3}`, 1)},
		{"new=1", body[:len(body)-1] + `,"new":1}`},
	} {
		got, err := SetJSON([]byte(body), c.edit)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n got %s\nwant %s", c.edit, err, got, c.want)
		}
	}
	for edit, want := range map[string]string{"a": "PATH=VALUE", "=1": "empty", "a.b=1": "neither", "m.x=1": "is a name", "m[5]=1": "no element 5", "o.x.y=1": `no "x"`,
		"m[1=2": "no ]", "a..b=1": "a name is missing", "o[0]=1": "is an index"} {
		if _, err := SetJSON([]byte(body), edit); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", edit, err, want)
		}
	}
	if _, err := SetJSON([]byte("no json"), "a=1"); err == nil {
		t.Error("a body that is no JSON was set")
	}
}

func TestFillPlaceholders(t *testing.T) {
	d := detail(`{"model":"m","client_secret":"[REDACTED:json]","text":"run with [REDACTED:github] now"}`,
		flow.Field{Name: "X-Api-Key", Value: "[REDACTED:anthropic]"}, flow.Field{Name: "authorization", Value: "Bearer [REDACTED:anthropic:0a1b2c3d]"},
		flow.Field{Name: "Cookie", Value: "a=[REDACTED:cookie]; b=[REDACTED:cookie]"}, flow.Field{Name: "X-Own-Token", Value: "[REDACTED:header]"},
		flow.Field{Name: "Content-Type", Value: "application/json"})
	d.Request.Head.Target += "&sig=[REDACTED:query]"
	vars := map[string]string{"ANTHROPIC_API_KEY": "key", "CLAUDE_CODE_OAUTH_TOKEN": "oauth", "TRACE_COOKIE_A": "1", "TRACE_COOKIE_B": "2",
		"TRACE_X_OWN_TOKEN": "own", "TRACE_QUERY_SIG": "a b&c", "TRACE_BODY_CLIENT_SECRET": `q"uote`, "GITHUB_TOKEN": "ghp_x"}
	r, secrets, err := Make(d, Options{Env: env(vars)})
	if err != nil {
		t.Fatal(err)
	}
	if len(secrets) != len(vars) {
		t.Errorf("secrets: %q", secrets)
	}
	wire := string(r.Wire())
	for _, want := range []string{"POST /v1/messages?beta=true&sig=a+b%26c HTTP/1.1\r\n", "X-Api-Key: key\r\n", "authorization: Bearer oauth\r\n", "Cookie: a=1; b=2\r\n",
		"X-Own-Token: own\r\n", `"client_secret":"q\"uote"`, "run with ghp_x now"} {
		if !strings.Contains(wire, want) {
			t.Errorf("no %q in\n%s", want, wire)
		}
	}
	for missing, says := range map[string]string{"ANTHROPIC_API_KEY": "--header 'X-Api-Key: …'", "CLAUDE_CODE_OAUTH_TOKEN": "ANTHROPIC_AUTH_TOKEN", "TRACE_COOKIE_B": "cookie b", "TRACE_QUERY_SIG": "query sig",
		"TRACE_BODY_CLIENT_SECRET": "body client_secret", "GITHUB_TOKEN": "GH_TOKEN"} {
		less := map[string]string{}
		for k, v := range vars {
			if k != missing {
				less[k] = v
			}
		}
		_, _, err := Make(d, Options{Env: env(less)})
		var m *MissingError
		if !errors.As(err, &m) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), missing) {
			t.Errorf("without %s: %v", missing, err)
		}
	}
	delete(vars, "GITHUB_TOKEN")
	if r, _, err = Make(d, Options{Env: env(vars), Keep: true}); err != nil || !strings.Contains(string(r.Body), "run with [REDACTED:github] now") {
		t.Errorf("kept: %v", err)
	}
	r, _, err = Make(d, Options{Names: true})
	if err != nil || !strings.Contains(string(r.Wire()), "X-Api-Key: $ANTHROPIC_API_KEY\r\n") || !strings.Contains(string(r.Wire()), "Bearer $ANTHROPIC_AUTH_TOKEN") {
		t.Errorf("names: %v\n%s", err, r.Wire())
	}
}

// TestVariablesByServer finds whose key is wanted by the host first, then by
// what is asked for.
func TestVariablesByServer(t *testing.T) {
	for _, c := range []struct{ host, path, name, want string }{
		{"api.openai.com", "/v1/responses", "authorization", "OPENAI_API_KEY"},
		{"localhost", "/v1/chat/completions", "authorization", "OPENAI_API_KEY"},
		{"gateway.corp", "/v1/messages", "x-api-key", "ANTHROPIC_API_KEY"},
		{"openrouter.ai", "/api/v1/messages", "x-api-key", "OPENROUTER_API_KEY"},
		{"generativelanguage.googleapis.com", "/v1beta/models/g:generateContent", "x-goog-api-key", "GEMINI_API_KEY"},
		{"x.openai.azure.com", "/openai/deployments/d/chat/completions", "api-key", "AZURE_OPENAI_API_KEY"},
		{"notopenai.com", "/other", "x-internal-token", "TRACE_X_INTERNAL_TOKEN"},
	} {
		got := Variables(&flow.Head{Host: c.host, Path: c.path}, Place{In: "header", Name: c.name, Kind: "header"})
		if got[0] != c.want || !strings.HasPrefix(got[len(got)-1], "TRACE_") {
			t.Errorf("%v: %v", c, got)
		}
	}
}

func TestMakeChanges(t *testing.T) {
	d := detail(`{"model":"a"}`, flow.Field{Name: "x-KEY", Value: "1"}, flow.Field{Name: "Content-Length", Value: "13"}, flow.Field{Name: "x-key", Value: "2"}, flow.Field{Name: "Accept", Value: "*/*"})
	to, _ := url.Parse("http://other.test:8080/new")
	r, _, err := Make(d, Options{Set: []string{"model=longer"}, To: to, Header: []flow.Field{{Name: "X-Key", Value: "3"}, {Name: "accept"}, {Name: "X-New", Value: "n"}}})
	if err != nil {
		t.Fatal(err)
	}
	const want = "POST /new?beta=true HTTP/1.1\r\nHost: other.test:8080\r\nx-KEY: 3\r\nContent-Length: 18\r\nX-New: n\r\n\r\n" + `{"model":"longer"}`
	if got := string(r.Wire()); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if r, _, err = Make(d, Options{Edit: func(p []byte) ([]byte, error) { return []byte("x"), nil }}); err != nil || string(r.Body) != "x" || r.Head.Get("Content-Length") != "1" {
		t.Errorf("edited: %v %q", err, r.Body)
	}
	d.Request.Head.Version, d.Request.Head.Authority = "2", "api.anthropic.com"
	if r, _, err = Make(d, Options{To: to}); err != nil || r.Head.Version != "1.1" || r.Head.Get("host") != "other.test:8080" {
		t.Errorf("h2 to the clear: %v %+v", err, r.Head)
	}
}

// TestMakeWireForm sends the very bytes where they are there and nothing is
// changed, the very body where only the head is, and codes anew else.
func TestMakeWireForm(t *testing.T) {
	const plain = `{"model":"a","text":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}`
	for _, coding := range []string{"gzip", "br", "zstd", "deflate"} {
		d := detail(plain, flow.Field{Name: "Content-Encoding", Value: coding}, flow.Field{Name: "Transfer-Encoding", Value: "chunked"})
		d.Request.Body.Encoding = coding
		d.Request.Head.Host = "example.test"
		coded, err := encodeBody(coding, []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		raw := append([]byte("POST /odd  HTTP/1.1\r\nContent-Encoding: "+coding+"\r\ntransfer-encoding:chunked\r\n\r\n3\r\n"), coded[:3]...)
		raw = append(append(append(raw, "\r\n"+itoaHex(len(coded)-3)+";ext=1\r\n"...), coded[3:]...), "\r\n0\r\n\r\n"...)
		r, _, err := Make(d, Options{Raw: raw})
		if err != nil || !bytes.Equal(r.Wire(), raw) {
			t.Errorf("%s: not the very bytes: %v", coding, err)
		}
		r, _, err = Make(d, Options{Raw: raw, Header: []flow.Field{{Name: "X-A", Value: "1"}}})
		if err != nil || r.Exact != nil || !bytes.Equal(r.Body, coded) {
			t.Errorf("%s: not the very body: %v", coding, err)
		}
		r, _, err = Make(d, Options{Set: []string{"model=b"}})
		if err != nil || string(DecodeBody(coding, r.Body)) != strings.Replace(plain, `"a"`, `"b"`, 1) || !strings.Contains(strings.Join(r.Notes, "\n"), coding) {
			t.Errorf("%s: coded anew: %v %q", coding, err, r.Notes)
		}
	}
	d := detail(plain, flow.Field{Name: "Content-Encoding", Value: "secret-sauce"})
	d.Request.Body.Encoding = "secret-sauce"
	if r, _, err := Make(d, Options{}); err != nil || string(r.Body) != plain || r.Head.Get("Content-Encoding") != "" || len(r.Notes) != 1 {
		t.Errorf("unknown coding: %v %+v", err, r)
	}
}

func itoaHex(n int) string {
	const digits = "0123456789abcdef"
	s := ""
	for ; n > 0; n /= 16 {
		s = string(digits[n%16]) + s
	}
	return s
}

// TestMakeStays: an offer to switch protocols is not made again.
func TestMakeStays(t *testing.T) {
	d := detail("", flow.Field{Name: "Connection", Value: "Upgrade, close, HTTP2-Settings"}, flow.Field{Name: "Upgrade", Value: "h2c"}, flow.Field{Name: "HTTP2-Settings", Value: "AA"})
	r, _, err := Make(d, Options{Raw: []byte("POST / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n")})
	if want := "POST /v1/messages?beta=true HTTP/1.1\r\nHost: api.anthropic.com\r\nConnection: close\r\n\r\n"; err != nil || string(r.Wire()) != want {
		t.Errorf("%v %q", err, r.Wire())
	}
}

func TestMakeRefuses(t *testing.T) {
	signed := detail("", flow.Field{Name: "Authorization", Value: "AWS4-HMAC-SHA256 [REDACTED:sigv4]"})
	query := detail("")
	query.Request.Head.Target = "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=[REDACTED:query]"
	cut := detail("abc")
	cut.Request.Body.Truncated, cut.Request.Body.Size, cut.Request.Body.Decoded = true, 9, 9
	open := detail("")
	open.Request.Body = nil
	socket := detail("")
	socket.Kind = flow.KindWebSocket
	tunnel := detail("")
	tunnel.Request.Head.Method = "CONNECT"
	for want, d := range map[string]*flow.Detail{"Signature Version 4": signed, "signed with AWS": query, "3 of the 9 bytes": cut, "ends before": open, "WebSocket": socket, "CONNECT": tunnel,
		"no HTTP request": {Exchange: flow.Exchange{Kind: flow.KindDNS}}} {
		if _, _, err := Make(d, Options{Names: true}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, _, err := Make(signed, Options{}); !errors.Is(err, ErrSigned) {
		t.Errorf("signed: %v", err)
	}
}

func TestWireBodyHTTP2(t *testing.T) {
	frame := func(kind, flags byte, p string) string {
		return string([]byte{0, 0, byte(len(p)), kind, flags, 0, 0, 0, 1}) + p
	}
	raw := frame(1, 4, "head") + frame(0, 0, "ab") + frame(0, 8, "\x02cd00") + frame(0, 1, "e")
	if p, ok := wireBody([]byte(raw), "2", nil); !ok || string(p) != "abcde" {
		t.Errorf("%q %v", p, ok)
	}
	for _, bad := range []string{raw[:len(raw)-1], frame(0, 8, "\x05ab"), raw + "x"} {
		if _, ok := wireBody([]byte(bad), "2", nil); ok {
			t.Errorf("%q was taken", bad)
		}
	}
	for _, bad := range []string{"POST / HTTP/1.1\r\n", "P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"} {
		if _, ok := wireBody([]byte(bad), "1.1", &flow.Head{Fields: []flow.Field{{Name: "Transfer-Encoding", Value: "chunked"}}}); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestTemplate(t *testing.T) {
	d := detail(`{"model":"gpt-4o-2024-08-06","metadata":{"user_id":"u"},"messages":[{"content":"now: 2026-01-02 03:04"}]}`,
		flow.Field{Name: "x-api-key", Value: "[REDACTED:anthropic]"}, flow.Field{Name: "anthropic-version", Value: "2023-06-01"}, flow.Field{Name: "X-Request-Id", Value: "1"})
	d.Request.Body.Encoding = "gzip"
	tpl, err := NewTemplate("hello", "S/1", d, d.Started)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(tpl.Volatile.Headers, " ") + " | " + strings.Join(tpl.Volatile.Body, " "); got != "x-api-key X-Request-Id | messages[0].content metadata.user_id" {
		t.Errorf("volatile: %s", got)
	}
	text, err := flow.MarshalJSON(tpl)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseTemplate(text)
	if err != nil {
		t.Fatal(err)
	}
	got := again.Detail()
	if string(got.RequestBody) != string(d.RequestBody) || len(got.Request.Head.Fields) != len(d.Request.Head.Fields) || got.Request.Body.Encoding != "gzip" || got.Request.Head.Target != d.Request.Head.Target {
		t.Errorf("%+v", got.Request)
	}
	d.RequestBody = []byte("\xff\x00")
	if tpl, err = NewTemplate("b", "S/1", d, d.Started); err != nil || !bytes.Equal(tpl.Detail().RequestBody, d.RequestBody) {
		t.Errorf("binary body: %v", err)
	}
	for _, name := range []string{"", "12", "last", "-1", "a/b", "../x", ".x", "a b"} {
		if CheckName(name) == nil {
			t.Errorf("%q is a name", name)
		}
	}
	for _, bad := range []string{"", "{}", `{"request":{"method":"GET","scheme":"ftp","host":"h"}}`, `{"request":{"method":"GET","scheme":"http","host":"h","body_base64":"!"}}`} {
		if _, err := ParseTemplate([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestDiff(t *testing.T) {
	answer := func(status int, body string, fields ...flow.Field) *flow.Detail {
		d := &flow.Detail{ResponseBody: []byte(body)}
		d.Response = &flow.Part{Head: &flow.Head{Status: status, Version: "1.1", Fields: fields}}
		return d
	}
	a := answer(200, `{"id":1,"content":[{"text":"a"}],"gone":true}`, flow.Field{Name: "Date", Value: "x"}, flow.Field{Name: "X-A", Value: "1"})
	b := answer(429, `{"id":1,"content":[{"text":"b"}],"new":null}`, flow.Field{Name: "Date", Value: "y"}, flow.Field{Name: "x-b", Value: "2"})
	var got []string
	for _, c := range Diff(a, b) {
		got = append(got, c.What+":"+c.Old+">"+c.New)
	}
	const want = `status:200>429 header x-a:1> header x-b:>2 body content[0].text:"a">"b" body gone:true> body new:><nil>`
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	if c := Diff(a, a); len(c) != 0 {
		t.Errorf("the same differs: %v", c)
	}
	stream := func(events ...string) *flow.Detail {
		d := answer(200, strings.Join(events, ""))
		for _, e := range events {
			d.Events = append(d.Events, flow.Piece{Side: flow.Server, Data: []byte(e)})
		}
		return d
	}
	c := Diff(stream("event: x\ndata: {\"a\":1}\n\n"), stream("event: x\ndata: {\"a\":2}\n\n", "event: y\ndata: z\n\n"))
	if len(c) != 2 || c[0].New != "1 x, 1 y" || c[1].What != "event 1 x a" {
		t.Errorf("%+v", c)
	}
	if c := Diff(&flow.Detail{}, b); len(c) != 1 || c[0].Old != "no answer" {
		t.Errorf("%+v", c)
	}
}

// TestAddressed: what went by a proxy or a base URL is sent again as its server got
// it, and what was for the proxy stays out.
func TestAddressed(t *testing.T) {
	by := detail("x", flow.Field{Name: "Proxy-Authorization", Value: "Basic [REDACTED:basic]"}, flow.Field{Name: "Proxy-Connection", Value: "Keep-Alive"}, flow.Field{Name: "A", Value: "b"})
	by.Request.Head.Target = "https://api.anthropic.com" + by.Request.Head.Path
	base := detail("x", flow.Field{Name: "A", Value: "b"})
	base.Request.Head.Target = "/anthropic" + base.Request.Head.Path
	base.Request.Head.Fields[0].Value = "127.0.0.1:4000"
	base.Forwarded = &flow.Part{Head: &flow.Head{Fields: []flow.Field{{Name: "Host", Value: "api.anthropic.com:443"}}}}
	for host, d := range map[string]*flow.Detail{"api.anthropic.com": by, "api.anthropic.com:443": base} {
		raw := []byte("POST x HTTP/1.1\r\n\r\nx")
		r, _, err := Make(d, Options{Raw: raw})
		if err != nil {
			t.Fatal(err)
		}
		h := r.Head
		if h.Target != "/v1/messages?beta=true" || h.Get("Host") != host || h.Get("Proxy-Authorization") != "" || h.Get("Proxy-Connection") != "" || h.Get("A") != "b" || r.Exact != nil {
			t.Errorf("%+v, exact %q", h, r.Exact)
		}
		tpl, err := NewTemplate("n", "s/1", d, time.Now())
		if err != nil || tpl.Request.Target != "" || len(tpl.Request.Headers) != 2 || tpl.Request.Headers[0][1] != host {
			t.Errorf("%+v, %v", tpl.Request, err)
		}
		if d.Request.Head.Target == h.Target {
			t.Error("the record itself was changed")
		}
	}
}
