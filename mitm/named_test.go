package mitm

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"trace/flow"
)

// named is an Incoming that was asked for by name, which has said something already.
type named struct {
	host    string
	port    uint16
	child   net.Conn
	refused error
}

func (n *named) Src() netip.AddrPort   { return netip.MustParseAddrPort("127.0.0.1:5") }
func (n *named) Dst() netip.AddrPort   { return netip.AddrPortFrom(netip.IPv4Unspecified(), n.port) }
func (n *named) Host() string          { return n.host }
func (n *named) Local() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:6") }
func (n *named) Early() []byte         { return []byte("early, ") }
func (n *named) Accept() (net.Conn, error) {
	return n.child, nil
}
func (n *named) Refuse(err error) {
	n.refused = err
	n.child.Close()
}

// TestNamed: a name is what is dialled, what rules choose by and what stands in the
// record, with the address that it led to unless it led elsewhere.
func TestNamed(t *testing.T) {
	at := netip.MustParseAddrPort(listen(t, func(c net.Conn) {
		b, _ := io.ReadAll(c)
		c.Write([]byte(strings.ToUpper(string(b))))
	}))
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	for _, x := range []struct {
		host, to, dst string
		reason        string
	}{
		{"LocalHost", "", "127.0.0.1", ReasonNotHTTP},
		{"a.bypass.test.", "a.bypass.test:0:127.0.0.1:0", "0.0.0.0", ReasonBypass},
		{"other.test", "::127.0.0.1:", "0.0.0.0", ReasonNotHTTP},
	} {
		child, err := net.Dial("tcp", door.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ours, err := door.Accept()
		if err != nil {
			t.Fatal(err)
		}
		in := &named{host: x.host, port: at.Port(), child: ours}
		var last flow.Conn
		var asked netip.AddrPort
		p := &Proxy{Bypass: []string{"*.bypass.test"}, Process: func(_, dst netip.AddrPort) *flow.Process { asked = dst; return nil }, Record: func(e flow.Event) {
			if e.Kind == flow.ConnEnd {
				last = *e.Facts
			}
		}}
		if x.to != "" {
			to, err := ParseConnectTo(strings.ReplaceAll(x.to, ":0", ":"))
			if err != nil {
				t.Fatal(err)
			}
			p.ConnectTo = []ConnectTo{to}
		}
		done := make(chan struct{})
		go func() {
			p.Serve(context.Background(), in)
			close(done)
		}()
		child.Write([]byte("late"))
		child.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(child); string(got) != "EARLY, LATE" || err != nil {
			t.Errorf("%s: read %q, %v", x.host, got, err)
		}
		child.Close()
		<-done
		if in.refused != nil {
			t.Fatalf("%s: %v", x.host, in.refused)
		}
		if want := strings.ToLower(strings.TrimSuffix(x.host, ".")); last.Host != want || last.Dst != netip.AddrPortFrom(netip.MustParseAddr(x.dst), at.Port()) {
			t.Errorf("%s: recorded as %s, %s; want %s, %s", x.host, last.Host, last.Dst, want, x.dst)
		}
		if last.Opaque != x.reason || last.Sent != int64(len("early, late")) || asked != in.Local() {
			t.Errorf("%s: %s, %d bytes, process of %s", x.host, last.Opaque, last.Sent, asked)
		}
	}
}
