package wire_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"trace/flow"
)

// A writer makes random valid messages.
type writer struct{ *rand.Rand }

func (w writer) pick(words ...string) string { return words[w.IntN(len(words))] }

func (w writer) bytes(n int) string {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(w.Uint32())
	}
	return string(p)
}

func (w writer) fields() string {
	var b strings.Builder
	for range w.IntN(6) {
		name := w.pick("Accept", "x-a", "X-LONG-name-9", "cookie", "Via", "x_under.score~")
		value := w.pick("", "a", "b, c; d=\"e\"", "obs \xe9\xff", "tab\there", "UPPER lower") + w.pick("", ",z")
		fmt.Fprintf(&b, "%s:%s%s%s\r\n", name, w.pick("", " ", "\t ", "   "), value, w.pick("", " ", "\t"))
	}
	return b.String()
}

// content returns the fields that frame body, and the framed body.
func (w writer) content(body string) (fields, framed string) {
	if w.IntN(2) == 0 {
		return fmt.Sprintf("%s: %d\r\n", w.pick("Content-Length", "content-length"), len(body)), body
	}
	var b strings.Builder
	for body != "" {
		n := 1 + w.IntN(len(body))
		fmt.Fprintf(&b, w.pick("%x%s\r\n", "%X%s\r\n", "0%x%s\r\n"), n, w.pick("", ";a", "; a=b", ";a=\"c;d\""))
		b.WriteString(body[:n] + "\r\n")
		body = body[n:]
	}
	trailers := w.pick("", "", "X-Sum: abc\r\n", "X-Sum: 1\r\nX-More: 2\r\n")
	return "Transfer-Encoding: " + w.pick("chunked", "Chunked") + "\r\n", b.String() + "0\r\n" + trailers + "\r\n"
}

func (w writer) size() int { return w.IntN(1 << w.IntN(18)) }

func (w writer) request() string {
	fields, body, version := "", "", "1"
	switch w.IntN(5) {
	case 0, 1:
		fields, body = w.content(w.bytes(w.size()))
	case 2: // 1.0 knows no chunks
		version, body = "0", w.bytes(w.size())
		fields = fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	method := w.pick("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "X-OWN")
	target := w.pick("/", "/a/b?c=d&e=%20", "http://h.test/abs?q", "/~x;y=z", "*")
	if target == "*" {
		method = "OPTIONS"
	}
	return method + " " + target + " HTTP/1." + version + "\r\nHost: h.test\r\n" + w.fields() + fields + w.fields() + "\r\n" + body
}

func (w writer) response(method string) string {
	interim := strings.Repeat(w.pick("", "", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"), w.IntN(3))
	status := w.pick("200 OK", "404 Not Found", "500", "204 No Content", "304 Not Modified", "299 ")
	fields, body := w.content(w.bytes(w.size()))
	if method == "HEAD" || status[:3] == "204" || status[:3] == "304" {
		body = ""
		if status[:3] == "204" {
			fields = ""
		}
	}
	return interim + "HTTP/1.1 " + status + "\r\n" + w.fields() + fields + w.fields() + "\r\n" + body
}

// headers folds fields as net/http does, without those that it takes out.
func headers(fs []flow.Field) map[string][]string {
	m := map[string][]string{}
	for _, f := range fs {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		m[name] = append(m[name], f.Value)
	}
	for _, name := range []string{"Host", "Transfer-Encoding", "Trailer"} {
		delete(m, name)
	}
	return m
}

func equalHeaders(a map[string][]string, b http.Header) bool {
	return maps.EqualFunc(a, b, slices.Equal)
}

// TestAgainstNetHTTP has net/http read the same messages: it finds the same
// heads, bodies and trailers, in the same order.
func TestAgainstNetHTTP(t *testing.T) {
	for seed := range uint64(150) {
		w := writer{rand.New(rand.NewPCG(seed, 7))}
		s := newScript()
		var sent, received string
		var heads []*flow.Head
		for range 1 + w.IntN(5) {
			q := w.request()
			method, _, _ := strings.Cut(q, " ")
			a := w.response(method)
			sent, received = sent+q, received+a
			s.client(q)
			s.server(a)
		}
		s.end(flow.Client, flow.FIN)
		s.end(flow.Server, flow.FIN)
		events := s.run(random(seed))
		requests := bufio.NewReader(strings.NewReader(sent))
		responses := bufio.NewReader(strings.NewReader(received))
		bodies := map[int64]*[2][]byte{}
		for _, e := range events {
			if e.Kind == flow.Mark || e.Error != nil {
				t.Fatalf("seed %d: %v", seed, e.Error)
			}
			switch e.Kind {
			case flow.Request:
				heads, bodies[e.Flow] = append(heads, e.Head), new([2][]byte)
			case flow.Response, flow.Informational:
				heads = append(heads, e.Head)
			case flow.Body:
				b := bodies[e.Flow]
				b[e.Side] = append(b[e.Side], e.Data...)
			case flow.BodyEnd:
				// The oracle reads a message when the decoder says that it is over.
				if e.Side == flow.Client {
					compareRequest(t, requests, heads, bodies[e.Flow][e.Side], e.Ended)
				} else {
					compareResponse(t, responses, heads, bodies[e.Flow][e.Side], e.Ended)
				}
			}
			if e.Kind == flow.End {
				heads = heads[:0]
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		if _, err := requests.Peek(1); err != io.EOF {
			t.Fatalf("seed %d: requests are left", seed)
		}
		if _, err := responses.Peek(1); err != io.EOF {
			t.Fatalf("seed %d: answers are left", seed)
		}
	}
}

func compareRequest(t *testing.T, r *bufio.Reader, heads []*flow.Head, body []byte, e *flow.Ended) {
	t.Helper()
	h := heads[len(heads)-1]
	q, err := http.ReadRequest(r)
	if err != nil {
		t.Errorf("net/http: %v", err)
		return
	}
	want, err := io.ReadAll(q.Body)
	if err != nil {
		t.Errorf("net/http: %v", err)
	}
	if q.Method != h.Method || q.RequestURI != h.Target || q.Proto != "HTTP/"+h.Version || q.Host != h.Host {
		t.Errorf("head %+v, want %+v", h, q)
	}
	if !equalHeaders(headers(h.Fields), q.Header) {
		t.Errorf("fields %v, want %v", headers(h.Fields), q.Header)
	}
	compareBody(t, body, want, e, q.Trailer)
}

func compareResponse(t *testing.T, r *bufio.Reader, heads []*flow.Head, body []byte, e *flow.Ended) {
	t.Helper()
	for _, h := range heads[1:] {
		a, err := http.ReadResponse(r, &http.Request{Method: heads[0].Method})
		if err != nil {
			t.Errorf("net/http: %v", err)
			return
		}
		if a.StatusCode != h.Status || !equalHeaders(headers(h.Fields), a.Header) {
			t.Errorf("head %+v, want %+v", h, a)
		}
		want, err := io.ReadAll(a.Body)
		if err != nil {
			t.Errorf("net/http: %v", err)
		}
		if h.Status >= 200 {
			compareBody(t, body, want, e, a.Trailer)
		}
	}
}

func compareBody(t *testing.T, body, want []byte, e *flow.Ended, trailers http.Header) {
	t.Helper()
	if !bytes.Equal(body, want) || e.Size != int64(len(want)) || e.SHA256 != sha256.Sum256(want) || e.Cut || e.Truncated {
		t.Errorf("body of %d bytes, %+v, want %d bytes", len(body), e, len(want))
	}
	if !equalHeaders(headers(e.Trailers), trailers) && len(e.Trailers)+len(trailers) > 0 {
		t.Errorf("trailers %v, want %v", e.Trailers, trailers)
	}
}
