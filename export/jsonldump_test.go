package export

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"trace/flow"
)

// TestLogLarge: a body too large to be held stands in its line as any other.
func TestLogLarge(t *testing.T) {
	for name, c := range map[string]struct{ body, encoding string }{
		"text":    {"<" + strings.Repeat("naïve \"text\"\n", 400_000), "text"},
		"binary":  {"\x00" + strings.Repeat("\xff\x01\x02", 1_600_000), "base64"},
		"json":    {"[" + strings.Repeat("1, ", 1_600_000) + "2]", "json"},
		"no json": {"[" + strings.Repeat("1, ", 1_600_000), "text"},
	} {
		x := plain(1)
		n := int64(len(c.body))
		x.Response.Body = &flow.Ended{Size: n + 5, Decoded: n + 5, Kept: n, Truncated: c.encoding != "json"}
		var out bytes.Buffer
		l := &Log{W: &out}
		l.From(flow.Session{ID: "01KDY"}, &memory{bodies: map[int64][2]string{1: {"small", c.body}}})
		if err := l.Flow(x); err != nil {
			t.Fatal(err)
		}
		lines := parse(t, out.Bytes())
		end := lines[len(lines)-1]
		if end["type"] != "response" || end["body_encoding"] != c.encoding || c.encoding != "json" && end["body_truncated"] != float64(n) {
			t.Errorf("%s: %v %v, %v of %d", name, end["type"], end["body_encoding"], end["body_truncated"], n)
		}
		got, _ := end["body"].(string)
		switch c.encoding {
		case "base64":
			p, _ := base64.StdEncoding.DecodeString(got)
			got = string(p)
		case "json":
			p, _ := json.Marshal(end["body"])
			got, c.body = string(p), strings.ReplaceAll(c.body, " ", "")
		}
		if got != c.body {
			t.Errorf("%s: a body of %d bytes, want %d", name, len(got), len(c.body))
		}
	}
}

// TestLogUnreadable: a flow whose body cannot be read has its lines without it,
// and others follow.
func TestLogUnreadable(t *testing.T) {
	var out bytes.Buffer
	l := &Log{W: &out}
	l.From(flow.Session{ID: "01KDY"}, &memory{fail: errors.New("chunk 3 is damaged")})
	for id := range int64(2) {
		var body *BodyError
		if err := l.Flow(plain(id + 1)); !errors.As(err, &body) || body.ID != id+1 {
			t.Errorf("flow %d: %v", id+1, err)
		}
	}
	if got, want := kinds(parse(t, out.Bytes())), "meta connection_open request:1 response_headers:1 response:1 connection_open request:2 response_headers:2 response:2"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
