package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"trace/flow"
)

// TestWalls: an answer of a wall against programs is marked, and where it was
// not trace's ClientHello that it judged by, it is not.
func TestWalls(t *testing.T) {
	for _, v := range []struct {
		status    int
		field     string
		decrypted bool
		detail    string
	}{
		{403, "cf-mitigated: challenge", true, "cf-mitigated: challenge"},
		{503, "CF-Mitigated: challenge", true, "cf-mitigated: challenge"},
		{202, "x-amzn-waf-action: challenge", true, "x-amzn-waf-action: challenge"},
		{429, "X-Vercel-Mitigated: Challenge", true, "x-vercel-mitigated: Challenge"},
		{403, "X-DataDome: protected", true, "x-datadome: protected"},
		{200, "X-DataDome: protected", true, ""},
		{403, "Server: cloudflare", true, ""},
		{403, "Cf-Mitigated:", true, ""},
		{200, "X-Amzn-Waf-Action: count", true, ""},
		{403, "cf-mitigated: challenge", false, ""},
	} {
		s := newScript()
		s.conn.Decrypted = v.decrypted
		s.client("GET / HTTP/1.1\r\nHost: name.test\r\n\r\n")
		s.server(fmt.Sprintf("HTTP/1.1 %d x\r\n%s\r\nContent-Length: 0\r\n\r\n", v.status, v.field))
		s.end(flow.Client, flow.FIN)
		s.end(flow.Server, flow.FIN)
		var marks []*flow.Error
		for _, e := range s.run(whole) {
			if e.Kind == flow.Mark {
				marks = append(marks, e.Error)
			}
			if e.Kind == flow.End && e.Error != nil {
				t.Errorf("%s: the flow failed: %v", v.field, e.Error)
			}
		}
		switch {
		case v.detail == "" && len(marks) > 0:
			t.Errorf("%d %s: marked %+v", v.status, v.field, marks[0])
		case v.detail == "":
		case len(marks) != 1 || marks[0].Detail != v.detail || marks[0].Code != flow.CodeHelloRefusedMaybe ||
			marks[0].Where != flow.AtUpstream || !strings.HasPrefix(marks[0].Hint, "--bypass name.test "):
			t.Errorf("%d %s: marks %+v", v.status, v.field, marks)
		}
	}
}
