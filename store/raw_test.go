package store

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"trace/flow"
	"trace/redact"
)

// raw puts p as it is on the wire, in uneven pieces.
func (c *script) raw(side flow.Side, p []byte) {
	for n := 100; len(p) > 0; n = n*3 + 1 {
		k := min(n, len(p))
		c.put(flow.Event{Kind: flow.Raw, Side: side, Data: p[:k]})
		p = p[k:]
	}
}

// wired puts a body and, piece by piece beside it, its wire form.
func (c *script) wired(side flow.Side, head, wire, body []byte) {
	c.put(flow.Event{Kind: flow.Raw, Side: side, Data: head})
	for len(wire) > 0 || len(body) > 0 {
		k, n := min(16<<10, len(wire)), min(16<<10, len(body))
		c.put(flow.Event{Kind: flow.Raw, Side: side, Data: wire[:k]})
		c.put(flow.Event{Kind: flow.Body, Side: side, Data: body[:n]})
		wire, body = wire[k:], body[n:]
	}
	c.ended(side, nil, 0)
}

func rawOf(t *testing.T, r *Reader, id int64, side flow.Side) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := r.WriteRaw(&b, id, side)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteRaw: %d of %d bytes, %v", n, b.Len(), err)
	}
	if size, err := r.RawSize(id, side); err != nil || size != n {
		t.Fatalf("RawSize: %d, want %d, %v", size, n, err)
	}
	return b.Bytes()
}

func TestRaw(t *testing.T) {
	was := slowEvery
	slowEvery = 20 * time.Millisecond
	t.Cleanup(func() { slowEvery = was })
	s, path := create(t, Options{})
	c := &script{s: s, conn: 1}
	c.open()
	c.request("POST", "/", "text/plain", []byte("hello"))
	request := []byte("POST / HTTP/1.1\r\nHost: api.example.org\r\nContent-Length: 5\r\n\r\nhello")
	c.raw(flow.Client, request)
	r := open(t, path)
	for deadline := time.Now().Add(10 * time.Second); ; { // it is seen before its flow ends
		flush(t, s)
		var b bytes.Buffer
		if _, err := r.WriteRaw(&b, 1, flow.Client); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(b.Bytes(), request) {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("of the open flow: %q", b.Bytes())
		}
		time.Sleep(5 * time.Millisecond)
	}
	c.response(200, "application/octet-stream", false)
	big := noise(1, 3<<20)
	head := []byte("HTTP/1.1 200 OK\r\nContent-Length: 3145728\r\n\r\n")
	c.wired(flow.Server, head, big, big)
	c.end(nil)
	c.flow++
	c.put(flow.Event{Kind: flow.Opaque})
	for i := range 20 {
		c.put(flow.Event{Kind: flow.Message, Side: flow.Side(i % 2), Data: fmt.Appendf(nil, "%d,", i), Size: 3})
	}
	c.put(flow.Event{Kind: flow.End})
	c.request("GET", "/", "", nil)
	c.end(nil)
	c.close(nil)
	fs := finish(t, s)
	for i, want := range [][]byte{request, append(head, big...)} {
		if b := rawOf(t, r, 1, flow.Side(i)); !bytes.Equal(b, want) {
			t.Errorf("side %d: %d bytes, want %d", i, len(b), len(want))
		}
	}
	if b, err := r.Body(1, flow.Server); err != nil || !bytes.Equal(b, big) {
		t.Errorf("the body: %d bytes, %v", len(b), err)
	}
	if fs.Bytes > int64(len(big))+200_000 {
		t.Errorf("%d bytes in the file for a body of %d", fs.Bytes, len(big))
	}
	if b := rawOf(t, r, 2, flow.Client); string(b) != "0,2,4,6,8,10,12,14,16,18," {
		t.Errorf("of the opaque connection: %q", b)
	}
	if b := rawOf(t, r, 3, flow.Client); len(b) != 0 {
		t.Errorf("of a flow without any: %q", b)
	}
	if _, err := r.RawSize(9, flow.Client); err != ErrNoFlow {
		t.Errorf("of no flow: %v", err)
	}
	told := newAccount(t, "follower")
	if err := r.Follow(t.Context(), true, told.change); err != nil {
		t.Fatal(err)
	}
	told.compare(r)
}

// TestRawNeedsSecrets: nobody could look for secrets in the wire form.
func TestRawNeedsSecrets(t *testing.T) {
	key, _, _ := planted()
	s, path := create(t, Options{Redact: redact.New([32]byte{1})})
	c := &script{s: s, conn: 1}
	c.open()
	c.request("GET", "/", "", nil)
	c.raw(flow.Client, []byte("GET / HTTP/1.1\r\nAuthorization: Bearer "+key+"\r\n\r\n"))
	c.raw(flow.Server, noise(1, 2<<20))
	c.end(nil)
	if fs := finish(t, s); fs.Bytes > 1<<20 {
		t.Errorf("%d bytes in the file", fs.Bytes)
	}
	r := open(t, path)
	for _, side := range []flow.Side{flow.Client, flow.Server} {
		if b := rawOf(t, r, 1, side); len(b) > 0 {
			t.Errorf("%d bytes of the wire form", len(b))
		}
	}
	if p, err := os.ReadFile(path); err != nil || bytes.Contains(p, []byte(key)) {
		t.Errorf("the key is there, or %v", err)
	}
}

// TestRawShare says what the wire form costs on disk.
func TestRawShare(t *testing.T) {
	text := func(i, n int) []byte { return []byte(prose(rand.New(rand.NewPCG(uint64(i), 7)), n)) }
	zip := func(p []byte) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(p)
		z.Close()
		return b.Bytes()
	}
	chunked := func(p []byte) []byte {
		var b bytes.Buffer
		for len(p) > 0 {
			n := min(8<<10, len(p))
			fmt.Fprintf(&b, "%x\r\n%s\r\n", n, p[:n])
			p = p[n:]
		}
		b.WriteString("0\r\n\r\n")
		return b.Bytes()
	}
	framed := func(p []byte) []byte { // DATA of HTTP/2
		var b bytes.Buffer
		for len(p) > 0 {
			n := min(16<<10, len(p))
			b.Write([]byte{0, byte(n >> 8), byte(n), 0, 0, 0, 0, 0, 1})
			b.Write(p[:n])
			p = p[n:]
		}
		return b.Bytes()
	}
	same := func(p []byte) []byte { return p }
	turns := 20
	if testing.Short() {
		turns = 8
	}
	for _, c := range []struct {
		name string
		n    int
		form func([]byte) []byte
		most float64 // of the disk without it
	}{
		{"plain 2 KB", 2 << 10, same, 1.2}, {"plain 20 KB", 20 << 10, same, 1.1}, {"plain 200 KB", 200 << 10, same, 1.05},
		{"framed 2 KB", 2 << 10, framed, 1.3}, {"framed 20 KB", 20 << 10, framed, 2}, {"chunked 20 KB", 20 << 10, chunked, 2}, {"chunked 200 KB", 200 << 10, chunked, 2}, {"gzip 20 KB", 20 << 10, zip, 2.6}, {"gzip 200 KB", 200 << 10, zip, 2.6},
	} {
		size := func(wire bool) int64 {
			s, _ := create(t, Options{})
			f := &script{s: s, conn: 1}
			f.open()
			for i := range turns {
				f.request("GET", fmt.Sprint("/", i), "", nil)
				f.response(200, "text/plain", false)
				body := text(i, c.n)
				if wire {
					f.wired(flow.Server, fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nDate: Fri, 02 Jan 2026 03:04:%02d GMT\r\nContent-Length: %d\r\nContent-Type: text/plain\r\n\r\n", i, c.n), c.form(body), body)
				} else {
					f.body(flow.Server, body)
				}
				f.end(nil)
			}
			return finish(t, s).Bytes
		}
		without, with := size(false), size(true)
		share := float64(with) / float64(without)
		t.Logf("%s: %d KB without, %d KB with the wire form: %+.0f %%", c.name, without>>10, with>>10, (share-1)*100)
		if share > c.most {
			t.Errorf("%s: it costs too much", c.name)
		}
	}
}

// TestRawIsPartOfTheRecord: what of it is committed survives, and what comes
// while the disk is full is counted as lost.
func TestRawIsPartOfTheRecord(t *testing.T) {
	quicken(t)
	s, path := create(t, Options{})
	set := setter(s)
	c := &script{s: s, conn: 1}
	c.open()
	c.request("GET", "/", "", nil)
	wire := noise(1, 5*segmentBody)
	c.raw(flow.Client, wire)
	flush(t, s)
	r := open(t, path)
	before := rawOf(t, r, 1, flow.Client) // nothing but what is committed
	if len(before) < 3*segmentBody || !bytes.HasPrefix(wire, before) {
		t.Errorf("%d bytes of %d are committed", len(before), len(wire))
	}
	if pend := len(s.writer.conns[1].open[1].bodies[partRaw].pend); pend > blockBody {
		t.Errorf("%d bytes in memory", pend)
	}
	set("PRAGMA max_page_count=1")
	c.raw(flow.Server, noise(2, 2*segmentBody))
	for deadline := time.Now().Add(10 * time.Second); s.Flush() == nil; {
		if time.Now().After(deadline) {
			t.Fatal("the disk does not fill")
		}
		c.raw(flow.Server, noise(3, segmentBody))
	}
	c.raw(flow.Server, noise(4, 4*defaultQueue)) // nobody waits
	set("PRAGMA max_page_count=1000000")
	waitRecording(t, s)
	c.end(nil)
	fs := finish(t, s)
	x, err := r.Flow(1)
	if err != nil || fs.Gaps != 1 || len(x.Marks) != 1 || x.Marks[0].Error.Code != flow.CodeGap {
		t.Errorf("%d gaps, %+v, %v", fs.Gaps, x, err)
	}
	if after := rawOf(t, r, 1, flow.Client); !bytes.Equal(after, wire) {
		t.Errorf("%d bytes of %d", len(after), len(wire))
	}
}
