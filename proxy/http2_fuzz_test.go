package proxy

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"trace/flow"
	"trace/mitm"
	"trace/wire"
)

// FuzzLink has a child say anything behind the preface: the connection comes to its end,
// and nothing is left.
func FuzzLink(f *testing.F) {
	var block, all bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/s/x"}, {"content-length", "3"}} {
		enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	fr := http2.NewFramer(&all, nil)
	fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	fr.WriteData(1, true, []byte("abc"))
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
	fr.WriteRSTStream(3, http2.ErrCodeCancel)
	fr.WriteWindowUpdate(0, 100)
	fr.WritePing(false, [8]byte{})
	fr.WriteGoAway(0, http2.ErrCodeNo, nil)
	f.Add(all.Bytes())
	f.Fuzz(func(t *testing.T, say []byte) {
		route, err := NewRoute("s", "http://192.0.2.1:1")
		if err != nil {
			t.Fatal(err)
		}
		var id int64
		p := &Reverse{Routes: Routes{route}, Record: func(flow.Event) {}, NextID: func() int64 { id++; return id },
			Dial: func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				go func() {
					io.Copy(io.Discard, io.LimitReader(far, 50))
					far.Close()
				}()
				return near, nil
			},
			NewTap: func(c *flow.Conn, emit func(flow.Event)) mitm.Tap { return &wire.Decoder{Conn: c, Emit: emit} }}
		p.spoken.Store("http://192.0.2.1:1", len(say)%2 == 0)
		child, ours := net.Pipe()
		over := make(chan struct{})
		go func() {
			defer close(over)
			p.carry(context.Background(), ours)
		}()
		go io.Copy(io.Discard, child)
		child.Write(append(bytes.Clone(preface), say...))
		child.Close()
		select {
		case <-over:
		case <-time.After(10 * time.Second):
			t.Fatal("the connection has not come to its end")
		}
	})
}
