package mitm

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"trace/flow"
)

// secrets is a key log in memory. crypto/tls writes to it from many goroutines.
type secrets struct {
	mu  sync.Mutex
	log bytes.Buffer
}

func (s *secrets) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *secrets) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
	slices.Sort(lines)
	return slices.Compact(lines)
}

// heard remembers what passes on a conn of a server.
type heard struct {
	net.Conn
	mu   sync.Mutex
	said []said
}

func (h *heard) note(side flow.Side, p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(p) > 0 {
		h.said = append(h.said, said{side, bytes.Clone(p)})
	}
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.note(flow.Client, p[:n])
	return n, err
}

func (h *heard) Write(p []byte) (int, error) {
	h.note(flow.Server, p)
	return h.Conn.Write(p)
}

// TestKeyLog: the secrets of both legs are those that the child and the server
// have, and they decrypt what passed.
func TestKeyLog(t *testing.T) {
	need(t, "tshark")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		var up, down, atServer, atChild secrets
		cfg := &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}, MaxVersion: version, KeyLogWriter: &atServer}
		heards := make(chan *heard, 1)
		r := newRoad(t, listen(t, func(raw net.Conn) {
			h := &heard{Conn: raw}
			c := tls.Server(h, cfg)
			c.Read(make([]byte, 4096))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer")
			c.Close()
			heards <- h
		}), func(p *Proxy) { p.KeyLogChild, p.KeyLogUpstream = &down, &up })
		c, err := dialTLS(r, &tls.Config{KeyLogWriter: &atChild})
		if err != nil {
			t.Fatal(err)
		}
		get(c)
		c.Close()
		r.wait()
		if !slices.Equal(up.lines(), atServer.lines()) || !slices.Equal(down.lines(), atChild.lines()) || slices.Equal(up.lines(), down.lines()) {
			t.Errorf("upstream %q, the server %q\nchild's leg %q, the child %q", up.lines(), atServer.lines(), down.lines(), atChild.lines())
		}
		pcap := file(t, "upstream.pcap", capture((<-heards).said))
		keys := file(t, "keys.log", up.log.Bytes())
		_, out := run(t, nil, "sh", "-c", `tshark -r "$0" -o tls.keylog_file:"$1" -Y http -T fields -e http.host -e http.response.code -e http.file_data 2>/dev/null`, pcap, keys)
		if !strings.Contains(out, host) || !strings.Contains(out, "200\t") {
			t.Errorf("tshark reads %q", out)
		}
	}
}
