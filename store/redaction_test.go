package store

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"

	"trace/flow"
	"trace/redact"
)

// planted returns secrets of several kinds; they are built here so that no
// scanner finds them in the source.
func planted() (key, cookie, password string) {
	return "sk-ant-" + "api03-" + strings.Repeat("Zq9", 30), "sid=" + strings.Repeat("c00k1e", 5), "hunter2-" + strings.Repeat("p4ss", 4)
}

// leak records an exchange with secrets wherever they may stand.
func leak(t *testing.T, o Options) (*Store, string) {
	key, cookie, password := planted()
	path := t.TempDir() + "/s.db"
	fs := testSession()
	fs.Argv = []string{"curl", "-H", "x-api-key: " + key, "https://api.example.org"}
	s, err := Create(path, fs, o)
	if err != nil {
		t.Fatal(err)
	}
	c := &script{s: s, conn: 1, flow: 1}
	f := conn(1)
	f.Process.Argv = fs.Argv
	c.put(flow.Event{Kind: flow.ConnOpen, Facts: f})
	c.put(flow.Event{Kind: flow.Request, Head: &flow.Head{Method: "POST", Target: "/v1?api_key=" + key, Path: "/v1?api_key=" + key, Host: "api.example.org",
		Fields: []flow.Field{{Name: "X-Api-Key", Value: key}, {Name: "Cookie", Value: cookie}, {Name: "Content-Type", Value: "application/json"}}}})
	c.body(flow.Client, fmt.Appendf(nil, `{"password":%q,"text":"the key is %s"}`, password, key))
	c.response(200, "text/event-stream", true)
	for i := range key { // one letter at a time
		c.event(fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%q}}`, key[i:i+1]))
	}
	flush(t, s)
	c.end(&flow.Error{Where: flow.AtUpstream, Code: flow.CodeReset, Message: "reset after " + key})
	c.flow++
	c.put(flow.Event{Kind: flow.Opaque})
	for i := 0; i < len(key); i += 10 {
		p := []byte(key[i:min(i+10, len(key))])
		c.put(flow.Event{Kind: flow.Message, Data: p, Size: int64(len(p)), SHA256: sha256.Sum256(p), HasSum: true})
	}
	c.put(flow.Event{Kind: flow.End})
	c.request("POST", "/text", "text/plain", []byte(strings.Repeat("words ", 200_000)+key+strings.Repeat(" words", 100)))
	c.end(nil)
	flush(t, s)
	return s, path
}

func TestNoSecretReachesTheFile(t *testing.T) {
	s, path := leak(t, Options{Redact: redact.New([32]byte{1})})
	r := open(t, path)
	var all bytes.Buffer
	fs, err := r.Session()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&all, fs)
	for _, x := range flows(t, r, Query{Heads: true}) {
		d, err := r.Detail(x.ID)
		if err != nil {
			t.Fatal(err)
		}
		p, err := d.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		all.Write(p)
	}
	finish(t, s)
	for _, p := range []string{path, path + "-wal"} {
		raw, err := os.ReadFile(p)
		if err != nil && p == path {
			t.Fatal(err)
		}
		all.Write(raw)
	}
	key, cookie, password := planted()
	for _, secret := range []string{key, key[15:40], cookie[4:], password} {
		if i := bytes.Index(all.Bytes(), []byte(secret)); i >= 0 {
			t.Errorf("%q is there: %q", secret, all.Bytes()[max(0, i-60):i+20])
		}
	}
	x, err := r.Flow(1)
	if err != nil || !x.Request.Withheld || x.Request.Body.SHA256 != [32]byte{} || x.Redacted < 5 {
		t.Errorf("%+v %d, %v", x.Request, x.Redacted, err)
	}
	b, err := r.Body(3, flow.Client)
	if err != nil || !bytes.HasSuffix(b, []byte(" words words")) || !bytes.Contains(b, []byte("[REDACTED:anthropic")) {
		t.Errorf("streamed body: %d bytes, %v", len(b), err)
	}
}

func TestKeepSecrets(t *testing.T) {
	s, path := leak(t, Options{})
	if fs := finish(t, s); !fs.Secrets {
		t.Error("the session does not say that it holds secrets")
	}
	key, _, password := planted()
	r := open(t, path)
	x, err := r.Flow(1)
	if err != nil || x.Request.Withheld || x.Request.Head.Get("x-api-key") != key || x.Redacted != 0 {
		t.Errorf("%+v, %v", x, err)
	}
	b, err := r.Body(1, flow.Client)
	if err != nil || !bytes.Contains(b, []byte(password)) || sha256.Sum256(b) != x.Request.Body.SHA256 {
		t.Errorf("%s, %v", b, err)
	}
	ms, err := r.Messages(2)
	if err != nil || !ms[0].HasSum || ms[0].SHA256 != sha256.Sum256([]byte(key[:10])) {
		t.Errorf("%v, %v", ms, err)
	}
}

// TestHugeBodies go through gathering, streaming and both sizes of chunks.
func TestHugeBodies(t *testing.T) {
	for _, o := range []Options{{}, {Redact: redact.New([32]byte{1})}} {
		s, path := create(t, o)
		c := &script{s: s, conn: 1}
		c.open()
		huge := bytes.Repeat(noise(1, 1<<20), 20)
		c.request("POST", "/", "application/octet-stream", huge)
		big := fmt.Appendf(nil, `{"data":"%s"}`, bytes.Repeat([]byte("0123456789abcdefghij "), 100_000))
		c.response(200, "application/json", false)
		c.body(flow.Server, big)
		c.end(nil)
		fs := finish(t, s)
		r := open(t, path)
		if b, err := r.Body(1, flow.Client); err != nil || o.Redact == nil && !bytes.Equal(b, huge) || len(b) < len(huge)-1000 {
			t.Errorf("%d bytes of %d, %v", len(b), len(huge), err)
		}
		if b, err := r.Body(1, flow.Server); err != nil || !bytes.Equal(b, big) {
			t.Errorf("%d bytes of %d, %v", len(b), len(big), err)
		}
		if fs.Bytes > 8<<20 {
			t.Errorf("%d bytes for a body that repeats itself each MB", fs.Bytes)
		}
	}
}
