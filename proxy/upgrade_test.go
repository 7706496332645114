package proxy

import (
	"strings"
	"testing"
)

func TestWithoutH2C(t *testing.T) {
	head := func(fields ...string) string {
		return "GET / HTTP/1.1\r\nHost: h2c\r\n" + strings.Join(append(fields, "\r\n"), "\r\n")[:]
	}
	for _, c := range [][2]string{
		{head("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA", "X-A: h2c"), head("X-A: h2c")},
		{head("Upgrade: websocket, H2C", "Connection: keep-alive, upgrade, http2-settings"), head("Upgrade: websocket", "Connection: keep-alive, upgrade")},
		{head("connection: close, upgrade", "upgrade: h2c"), head("connection: close")},
		{head("Connection: Upgrade", "Upgrade: websocket", "X-A: h2c"), head("Connection: Upgrade", "Upgrade: websocket", "X-A: h2c")},
		{head("Accept: */*"), head("Accept: */*")},
	} {
		if got := string(withoutH2C([]byte(c[0]))); got != c[1] {
			t.Errorf("%q becomes %q, want %q", c[0], got, c[1])
		}
	}
}
