package redact

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestKeys: members are judged by their names and by what stands beside them.
func TestKeys(t *testing.T) {
	for in, want := range map[string]string{
		`{"Access-Token":"a","refresh_token":"b","clientSecret":"c","max_tokens":1}`:                    `{"Access-Token":"[REDACTED:json]","refresh_token":"[REDACTED:json]","clientSecret":"[REDACTED:json]","max_tokens":1}`,
		`{"mcp_servers":[{"url":"u","authorization_token":"t"}]}`:                                       `{"mcp_servers":[{"url":"u","authorization_token":"[REDACTED:json]"}]}`,
		`{"tools":[{"headers":{"X-A":"value","n":1},"type":"mcp"}]}`:                                    `{"tools":[{"headers":{"X-A":"[REDACTED:json]","n":1},"type":"mcp"}]}`,
		`{"tools":[{"type":"mcp","authorization":"Bearer abc"}]}`:                                       `{"tools":[{"type":"mcp","authorization":"Bearer [REDACTED:json]"}]}`,
		`{"headers":{"X-A":"value","X-My-Auth":"k","Accept":"*/*"},"type":"x"}`:                         `{"headers":{"X-A":"value","X-My-Auth":"[REDACTED:header]","Accept":"*/*"},"type":"x"}`,
		`{"client_secret":{"value":"abc","expires_at":1},"value":"x"}`:                                  `{"client_secret":{"value":"[REDACTED:json]","expires_at":1},"value":"x"}`,
		`{"grant_type":"authorization_code","code":"abc","state":"s","n":"v"}`:                          `{"grant_type":"authorization_code","code":"[REDACTED:json]","state":"[REDACTED:json]","n":"v"}`,
		`{"code":"abc","grant_type":"x"}`:                                                               `{"code":"[REDACTED:json]","grant_type":"x"}`,
		`{"code":"abc","state":"on"}`:                                                                   `{"code":"abc","state":"on"}`,
		`[{"name":"authorization","value":"v"},{"name":"accept","value":"v"}]`:                          `[{"name":"authorization","value":"[REDACTED:json]"},{"name":"accept","value":"v"}]`,
		`{"password":12, "otp" : 123456 ,"passphrase":null,"api_key":true}`:                             `{"password":"[REDACTED:json]", "otp" : "[REDACTED:json]" ,"passphrase":null,"api_key":true}`,
		`{"credentials":5,"credential":"s","password":{"type":"string"}}`:                               `{"credentials":5,"credential":"[REDACTED:json]","password":{"type":"string"}}`,
		`{"input":"{\"password\":\"p\",\"otp\":12}"}`:                                                   `{"input":"{\"password\":\"[REDACTED:json]\",\"otp\":\"[REDACTED:json]\"}"}`,
		`{"pass\u0077ord":"p\u0022q"}`:                                                                  `{"pass\u0077ord":"[REDACTED:json]"}`,
		`{"x":"is {\"api_key\": \"abc\"} ok"}`:                                                          `{"x":"is {\"api_key\": \"[REDACTED:json]\"} ok"}`,
		`{"token":"Zq8l6lH54UFmQOx1","secret":"3f9a0c41d2e85b76","n":{"jwt":"abcdefgh.12345678="}}`:     `{"token":"[REDACTED:json]","secret":"[REDACTED:json]","n":{"jwt":"[REDACTED:json]"}}`,
		`{"token":"internationalization","secret":"two words of 16 letters","pwd":"/home/user/work16"}`: `{"token":"internationalization","secret":"two words of 16 letters","pwd":"/home/user/work16"}`,
		`{"fallback_credit_token":"x","token":"y","secret":"z"}`:                                        `{"fallback_credit_token":"[REDACTED:json]","token":"y","secret":"z"}`,
		`{"password":"cut off`: `{"password":"[REDACTED:json]`,
	} {
		out, n := New(testKey).Body("application/json", []byte(in))
		if string(out) != want || (n == 0) != (in == want) {
			t.Errorf("%s\n got %s, %d\nwant %s", in, out, n, want)
		}
	}
}

func TestBlobs(t *testing.T) {
	blob := strings.Repeat("abc+/1/"+"/abcdefghijklmnopqrstuvwxyz", 100)
	for _, in := range []string{
		`{"source":{"type":"base64","data":"` + blob + `"}}`, `{"image_url":"data:image/png;base64,` + blob + `"}`,
		`{"signature":"` + strings.Repeat("abc-sk-"+"abcdefghijklmnopqrstuvwxyz", 3) + `"}`,
	} {
		if _, n := New(testKey).Body("application/json", []byte(in)); n != 0 {
			t.Errorf("found something in %.60s", in)
		}
	}
	key := "gh" + "p_" + chars(b62, 70)
	if _, n := New(testKey).Body("application/json", []byte(`{"signature":"`+key+`"}`)); n != 1 {
		t.Error("a key as signature stays")
	}
}

// TestJSONStream: answers in pieces that are no event streams.
func TestJSONStream(t *testing.T) {
	secret := "sk-" + "ant-api03-" + chars(b62, 60)
	for name, c := range map[string]struct{ format, between, end string }{
		"ollama": {`{"model":"m","message":{"role":"assistant","content":%},"done":false}`, "\n", "\n"},
		"gemini": {`{"candidates":[{"content":{"parts":[{"text":%}]}}]}`, "\n,\r\n", "]"},
	} {
		for i := minBegun; i < len(secret); i += 5 {
			body := strings.Replace(c.format, "%", quoteJSON("so "+secret[:i]), 1) + c.between + strings.Replace(c.format, "%", quoteJSON(secret[i:]+" ok"), 1) + c.end
			want := strings.Replace(c.format, "%", quoteJSON("so [REDACTED:anthropic]"), 1) + c.between + strings.Replace(c.format, "%", quoteJSON(" ok"), 1) + c.end
			if c.end == "]" {
				body, want = "[ "+body, "[ "+want
			}
			out, n := New(testKey).Body("application/json", []byte(body))
			if string(out) != want || n != 1 {
				t.Errorf("%s at %d: %d\n got %s\nwant %s", name, i, n, out, want)
				break
			}
		}
	}
}

// TestEscapedPieces: escapes inside the text of a channel, cut anywhere.
func TestEscapedPieces(t *testing.T) {
	key := "sk-" + "ant-api03-" + chars(b62, 40)
	inner, err := json.Marshal(map[string]string{"command": "export K=\n" + key, "password": "a \"b\" \\ c"})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(inner), "sk-", `\u0073k-`, 1)
	want := `{"command":"export K=\n[REDACTED:anthropic]","password":"[REDACTED:json]"}`
	d := dialects[1]
	for i := 1; i < len(text); i++ {
		got := feed(t, d.block(text[:i]), d.block(text[i:]), d.end)
		if all := d.piece(t, got[0]) + d.piece(t, got[1]); !alike(all, want) {
			t.Errorf("cut at %d (%s):\n got %s\nwant %s", i, text[max(0, i-9):i], all, want)
		}
	}
}
