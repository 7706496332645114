package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"trace/flow"
)

// TestFramingsHostile: events that never end are marked and go on as part of the
// body, all of it, and what is held of them is bounded.
func TestFramingsHostile(t *testing.T) {
	const size = 20 << 20
	for _, c := range []struct {
		name, contentType, lead, repeat string
		long                            bool // there is an event that is too long
	}{
		{"line", "application/x-ndjson", "", "x", true},
		{"nested lines", "application/x-ndjson", "", "[{", true},
		{"nested record", "application/json-seq", "\x1e", "[\n", true},
		{"string", "application/x-ndjson", `"`, `\"`, true},
		{"empty lines", "application/x-ndjson", "", " \n", false},
		{"nested array", "application/json", "[", "[", true},
		{"string in an array", "application/json", `["`, `\\`, true},
		{"number in an array", "application/json", "[", "1", true},
		{"commas", "application/json", "[", ",", false},
		{"message", "application/vnd.amazon.eventstream", forever(), "x", true},
		{"headers", "multipart/mixed; boundary=b", "--b\r\n", "X: y\r\n", true},
		{"header", "multipart/mixed; boundary=b", "--b\r\n", "x", true},
		{"boundary", "multipart/mixed; boundary=b", "--b", " ", true},
		{"near boundaries", "multipart/mixed; boundary=b", "--b\r\n\r\n", "\r\n--b-\r\n--", true},
		{"parts", "multipart/mixed; boundary=b", "", "--b\r\n", false},
		{"preamble", "multipart/mixed; boundary=b", "", "\n--a", false},
		{"gRPC", "application/grpc", "\x00\xff\xff\xff\xff", "x", true},
		{"gRPC-Web text", "application/grpc-web-text", "AP////8A", "AAAA", true},
		{"empty messages", "application/grpc", "", "\x00\x00\x00\x00\x00", false},
	} {
		before := heap()
		var kept, most, n int64
		var ended *flow.Ended
		marks := map[string]int{}
		d := newDecoder(func(e flow.Event) {
			switch {
			case e.Kind == flow.Body, e.Kind == flow.StreamEvent:
				kept += int64(len(e.Data))
			case e.Kind == flow.Mark:
				marks[e.Error.Code]++
			case e.Kind == flow.BodyEnd:
				ended = e.Ended
			}
		})
		d.Data(flow.Client, epoch, []byte("GET /m:stream HTTP/1.1\r\n\r\n"))
		d.Data(flow.Server, epoch, fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n%s", c.contentType, c.lead))
		p := []byte(strings.Repeat(c.repeat, 64<<10/len(c.repeat)))
		for ; n < size; n += int64(len(p)) {
			d.Data(flow.Server, epoch, p)
			if n%(8<<20) < int64(len(p)) {
				most = max(most, heap()-before)
			}
		}
		d.End(flow.Server, epoch, flow.FIN)
		d.Close(epoch)
		if most > 24<<20 {
			t.Errorf("%s: %d MiB are held", c.name, most>>20)
		}
		if (marks[flow.CodeLimit] > 0) != c.long || marks[flow.CodeLimit] > 1 {
			t.Errorf("%s: marks %v", c.name, marks)
		}
		if kept != ended.Kept || kept != ended.Decoded || ended.Truncated || ended.Encoding == "" && kept != ended.Size {
			t.Errorf("%s: %d bytes, %+v", c.name, kept, ended)
		}
	}
}
