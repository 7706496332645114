package e2e

import (
	"compress/gzip"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// A framed is a stream of three events in one of the framings.
type framed struct {
	framing, path, contentType string
	events                     [3]string // as they pass
	want                       [3]string // their data in JSON
}

// eventFrame makes a message of an AWS event stream, of the kind that Bedrock
// sends.
func eventFrame(inner string) string {
	var h []byte
	for _, f := range [][2]string{{":event-type", "chunk"}, {":content-type", "application/json"}, {":message-type", "event"}} {
		h = append(append(h, byte(len(f[0]))), f[0]...)
		h = append(binary.BigEndian.AppendUint16(append(h, 7), uint16(len(f[1]))), f[1]...)
	}
	payload := `{"bytes":"` + base64.StdEncoding.EncodeToString([]byte(inner)) + `"}`
	b := binary.BigEndian.AppendUint32(nil, uint32(16+len(h)+len(payload)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(h)))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	b = append(append(b, h...), payload...)
	return string(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)))
}

func grpcMessage(p string) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(p)))) + p
}

func framedStreams() []framed {
	image := func(text string) string {
		return fmt.Sprintf("\r\n--b\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	}
	one, two, three := `{"type":"one"}`, `{"type":"two"}`, `{"type":"three"}`
	all := [3]string{one, two, three}
	each := func(f func(string) string) (s [3]string) {
		for i := range all {
			s[i] = f(all[i])
		}
		return s
	}
	return []framed{
		{"", "/sse", "text/event-stream", each(func(s string) string { return "data: " + s + "\n\n" }), all},
		{"", "/sse/crlf", "text/event-stream", each(func(s string) string { return "data: " + s + "\r\n\r\n" }), all},
		{"", "/sse/cr", "text/event-stream", each(func(s string) string { return "data: " + s + "\r\r" }), all},
		{"ndjson", "/lines", "application/x-ndjson", each(func(s string) string { return s + "\n" }), all},
		{"ndjson", "/api/v1/pods?watch=true", "application/json", each(func(s string) string { return s + "\n" }), all},
		{"json-array", "/v1beta/models/m:streamGenerateContent", "application/json; charset=UTF-8", [3]string{"[" + one, "\n,\r\n" + two, "\n,\r\n" + three + "\n]\n"}, all},
		{"aws-eventstream", "/model/m/invoke-with-response-stream", "application/vnd.amazon.eventstream", each(eventFrame), all},
		{"multipart", "/camera", "multipart/x-mixed-replace; boundary=b", each(image), all},
		{"grpc", "/pkg.S/M", "application/grpc-web+proto", each(func(s string) string { return grpcMessage("\x0a" + string(byte(len(s))) + s) }),
			each(func(s string) string { return `{"1":` + fmt.Sprintf("%q", s) + `}` })},
	}
}

// serveFramed sends the streams of framedStreams, gzipped if that is accepted.
// After each event it calls sent and goes on when that returns.
func serveFramed(sent func(stream framed, n int)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		i := slices.IndexFunc(framedStreams(), func(f framed) bool { return f.path == r.URL.RequestURI() })
		if i < 0 {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		f := framedStreams()[i]
		w.Header().Set("Content-Type", f.contentType)
		var out io.Writer = w
		var z *gzip.Writer
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			z = gzip.NewWriter(w)
			out = z
		}
		for n, event := range f.events {
			io.WriteString(out, event)
			if z != nil {
				z.Flush()
			}
			w.(http.Flusher).Flush()
			sent(f, n+1)
		}
		if z != nil {
			z.Close()
		}
	}
}

// streamed is what `flows show --json` says of a stream.
type streamed struct {
	State    string
	Response part
	Events   []struct {
		At      float64 `json:"at_ms"`
		Framing string
		Event   string
		Data    json.RawMessage
	}
}

func (j *job) streamed(id string) (s streamed) {
	j.t.Helper()
	r := j.must(j.trace("flows", "show", id, "--json"), 0)
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		j.t.Fatalf("flows show: %v\n%.500s", err, r.stdout)
	}
	return s
}

// TestFramingsLive: of every framing each event can be read while the stream
// goes on, before the server has sent the next.
func TestFramingsLive(t *testing.T) {
	need(t, "curl")
	w := worlds(t)[0]
	ca := newAuthority(t, "framings")
	for _, mode := range []string{"--http1.1", "--http2"} {
		t.Run(mode, func(t *testing.T) {
			j := newJob(t, w)
			live := func(f framed, n int) {
				for begun := time.Now(); time.Since(begun) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
					r := j.trace("flows", "show", "last", "--json")
					if r.code == 0 && strings.Contains(r.stdout, `"path":"`+f.path+`"`) && strings.Count(r.stdout, `"at_ms"`) >= n {
						return
					}
				}
				t.Errorf("%s: event %d is not there while the stream goes on", f.path, n)
			}
			o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}, NextProtos: []string{"h2", "http/1.1"}}, serveFramed(live))
			argv := []string{"curl", "-sS", "-N"}
			for i, f := range framedStreams() {
				if i > 0 {
					argv = append(argv, "--next", "-sS", "-N")
				}
				argv = append(argv, mode, "--max-time", "60", "-o", "/dev/null", "https://"+host+f.path)
				if i%2 == 1 {
					argv = append(argv, "--compressed")
				}
			}
			j.must(j.inspect([]string{"--upstream-ca", j.file("ca.pem", ca.pem()), "--connect-to", host + ":443:127.0.0.1:" + o.port}, argv...), 0)
			entries, rows := o.settled(len(framedStreams())), j.flows("--kind", "http")
			if len(entries) != len(framedStreams()) || len(rows) != len(entries) {
				t.Fatalf("the server saw %d requests, the record %d", len(entries), len(rows))
			}
			for i, f := range framedStreams() {
				s := j.streamed(rows[i].ID)
				if s.State != "complete" || s.Response.Size != entries[i].respSize || s.Response.SHA256 != entries[i].respHash || s.Response.Events != 3 || len(s.Events) != 3 {
					t.Errorf("%s: %+v, the server sent %d bytes", f.path, s, entries[i].respSize)
					continue
				}
				for n, e := range s.Events {
					if string(e.Data) != f.want[n] || e.Framing != f.framing || n > 0 && e.At < s.Events[n-1].At {
						t.Errorf("%s: event %d is %+v %s, want %s", f.path, n, e, e.Data, f.want[n])
					}
				}
			}
		})
	}
}
