package redact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
)

// want is the text of s with its secret replaced.
func (s sample) want() string {
	if s.secret == "" {
		return "[REDACTED:" + s.kind + "]"
	}
	return strings.Replace(s.text, s.secret, "[REDACTED:"+s.kind+"]", 1)
}

func TestPositive(t *testing.T) {
	for _, s := range samples() {
		for _, around := range []string{"%s", "see %s here", "a\n%s\nb", "(%s)", "x=1, %s, y", "\x1b[32m%s\x1b[0m"} {
			in := fmt.Sprintf(around, s.text)
			out, n := New(testKey).String(in)
			if strings.Contains(out, s.secret) || n == 0 {
				t.Errorf("%s: %q stays", s.name, in)
				continue
			}
			if strings.Contains(s.text, "-----BEGIN") && !strings.Contains(s.text, "-----END") || s.kind == "env" && around == "(%s)" {
				continue // what follows belongs to the alphabet
			}
			if want := fmt.Sprintf(around, s.want()); out != want && s.name != "query" && !strings.Contains(around, "\x1b") && around != "a\n%s\nb" {
				t.Errorf("%s:\n got %q\nwant %q", s.name, out, want)
			}
			if again, m := New(testKey).String(out); again != out || m != 0 {
				t.Errorf("%s: twice: %q, %d", s.name, again, m)
			}
		}
	}
}

func TestNegative(t *testing.T) {
	for _, s := range negatives {
		if out, n := New(testKey).String(s); n != 0 || out != s {
			t.Errorf("String(%q) = %q", s, out)
		}
		if out, n := New(testKey).Body("application/json", []byte(s)); n != 0 || string(out) != s {
			t.Errorf("Body(%q) = %q", s, out)
		}
	}
}

// TestInside puts each secret where it may be met: escaped, nested, encoded.
func TestInside(t *testing.T) {
	for _, s := range samples() {
		quoted, err := json.Marshal(s.text)
		if err != nil {
			t.Fatal(err)
		}
		tool, err := json.Marshal(map[string]any{"messages": []any{map[string]any{"content": []any{map[string]any{"type": "tool_result", "content": "$ cat x\n" + s.text + "\n"}}}}})
		if err != nil {
			t.Fatal(err)
		}
		arguments, err := json.Marshal(map[string]string{"arguments": string(tool)})
		if err != nil {
			t.Fatal(err)
		}
		var unicode strings.Builder
		for _, c := range []byte(s.text) {
			fmt.Fprintf(&unicode, `\u%04x`, c)
		}
		bodies := map[string]string{
			"escaped":  `{"x":` + string(quoted) + `}`,
			"tool":     string(tool),
			"nested":   string(arguments),
			"unicode":  `{"x":"` + unicode.String() + `"}`,
			"ndjson":   "{\"a\":1}\n{\"x\":" + string(quoted) + "}\n",
			"cut":      strings.TrimSuffix(string(tool), `\n"}]}]}`),
			"key":      `{` + string(quoted) + `:1}`,
			"two-deep": `"` + strings.ReplaceAll(strings.ReplaceAll(string(quoted), `\`, `\\`), `"`, `\"`) + `"`,
		}
		for name, body := range bodies {
			out, n := New(testKey).Body("application/json", []byte(body))
			if n == 0 {
				t.Errorf("%s %s: nothing found in %s", s.name, name, body)
				continue
			}
			if name != "cut" && !valid(string(out)) {
				t.Errorf("%s %s: no JSON any more: %s", s.name, name, out)
			}
			if decoded := decodeAll(string(out)); strings.Contains(decoded, s.secret) {
				t.Errorf("%s %s: stays in %s", s.name, name, out)
			}
			if again, m := New(testKey).Body("application/json", out); m != 0 {
				t.Errorf("%s %s: not idempotent:\n%s\n%s", s.name, name, out, again)
			}
		}
		encoded, _ := New(testKey).String("https://h.example/?q=" + url.QueryEscape(" "+s.text+" "))
		if decoded, err := url.QueryUnescape(encoded); err != nil || strings.Contains(decoded, s.secret) {
			t.Errorf("%s: percent-encoded stays: %s", s.name, encoded)
		}
	}
}

// valid reports whether s is a sequence of JSON texts.
func valid(s string) bool {
	d := json.NewDecoder(strings.NewReader(s))
	for {
		var v any
		if err := d.Decode(&v); err != nil {
			return err == io.EOF
		}
	}
}

// decodeAll undoes JSON escapes until none are left.
func decodeAll(s string) string {
	var v view
	for range 4 {
		v.unescape([]byte(s), 0)
		s = string(v.text)
	}
	return s
}

func TestSpeedOfBeginnings(t *testing.T) {
	// Texts of nothing but beginnings must not cost more than their length.
	for _, s := range []string{"sk-", "-eyJ", "-eyJaaaaaaaaaa.", "-----BEGIN PRIVATE KEY-----\n", `"password":"`, "://a:", "bearer ", "token=", "?key=", "AKIA", "://", "%25", `\u005c`, `\"api_key\":\"`, "[", `{"a":`, `"\\`} {
		b := bytes.Repeat([]byte(s), 1<<19/len(s))
		New(testKey).Body("application/json", b)
		New(testKey).Body("text/plain", b)
	}
}

func TestMultipart(t *testing.T) {
	secret := chars(b62, 20)
	body := "--XX\r\nContent-Disposition: form-data; name=\"client_secret\"\r\n\r\n" + secret + "\r\n--XX\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nthe " + secret + "\r\n--XX--\r\n"
	r := New(testKey)
	out, n := r.Body("multipart/form-data; boundary=XX", []byte(body))
	if want := strings.Replace(body, secret, "[REDACTED:form]", 1); n == 0 || string(out) != want && string(out) != strings.ReplaceAll(body, secret, "[REDACTED:form]") {
		t.Errorf("%d\n%s\nwant\n%s", n, out, want)
	}
	if out, _ := r.String(secret); out != "[REDACTED:form]" {
		t.Errorf("not remembered: %s", out)
	}
}

// TestKnow has a secret that nothing but Know tells, also after much else was learnt.
func TestKnow(t *testing.T) {
	r := New([32]byte{})
	r.Know("plainwords-0123", "token")
	for range 2 {
		if out, n := r.String("GET /@x:plainwords-0123/y"); n != 1 || strings.Contains(out, "0123") {
			t.Errorf("%q, %d", out, n)
		}
		r.known.forget()
		r.known.forget()
		r.seen = nil
	}
}
