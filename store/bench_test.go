package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"trace/flow"
	"trace/redact"
)

func BenchmarkAppendEvents(b *testing.B) {
	for name, opt := range map[string]Options{"plain": {}, "redact": {Redact: redact.New([32]byte{})}} {
		b.Run(name, func(b *testing.B) {
			s, _ := create(b, opt)
			streams := make([]*script, 50)
			for i := range streams {
				streams[i] = &script{s: s, conn: int64(i + 1)}
				streams[i].open()
				streams[i].request("GET", "/", "", nil)
				streams[i].response(200, "text/event-stream", true)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				streams[i%50].event(fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"word %d "}}`, i))
			}
			flush(b, s)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkExchanges(b *testing.B) {
	s, _ := create(b, Options{Redact: redact.New([32]byte{})})
	c := &script{s: s, conn: 1}
	c.open()
	b.ReportAllocs()
	for i := range b.N {
		c.request("POST", fmt.Sprint("/v1/things/", i), "application/json", []byte(`{"name":"value","n":12}`))
		c.response(200, "application/json", false)
		c.body(flow.Server, []byte(`{"id":"thing_123456","ok":true}`))
		c.end(nil)
	}
	flush(b, s)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "flows/s")
}

func BenchmarkBody(b *testing.B) {
	p := make([]byte, 4<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range p {
		p[i] = byte(r.UintN(256))
	}
	s, _ := create(b, Options{})
	c := &script{s: s, conn: 1}
	c.open()
	b.SetBytes(int64(len(p)))
	for i := range b.N {
		p[0], p[len(p)/2] = byte(i), byte(i>>8)
		for j := 0; j < len(p); j += 65536 {
			p[j+100] = byte(i)
			p[j+101] = byte(i >> 8)
		}
		c.request("POST", "/", "application/octet-stream", p)
		c.end(nil)
	}
	flush(b, s)
}

// BenchmarkNewest reads the newest 200 of 100 000 flows.
func BenchmarkNewest(b *testing.B) {
	s, path := create(b, Options{})
	for i := range 100_000 {
		c := &script{s: s, conn: int64(i/10 + 1), flow: int64(i % 10), now: i}
		if c.flow == 0 {
			c.open()
		}
		c.request("GET", fmt.Sprint("/", i), "", nil)
		c.response(200+i%300, "text/plain", false)
		c.end(nil)
	}
	finish(b, s)
	fi, _ := os.Stat(path)
	b.Logf("file %d bytes", fi.Size())
	for _, q := range []struct {
		name string
		q    Query
	}{{"outline", Query{Limit: 200}}, {"heads", Query{Limit: 200, Heads: true}}, {"filter", Query{Limit: 200, Status: "404"}}, {"all", Query{}}} {
		b.Run(q.name, func(b *testing.B) {
			for range b.N {
				r, err := Open(path)
				if err != nil {
					b.Fatal(err)
				}
				xs, err := r.Flows(q.q)
				if err != nil || len(xs) < 200 {
					b.Fatal(len(xs), err)
				}
				r.Close()
			}
		})
	}
}

func BenchmarkCut(b *testing.B) {
	p := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog. "), 1<<15)
	r := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(p); i += 1 + int(r.UintN(50)) {
		p[i] = byte(r.UintN(256))
	}
	b.SetBytes(int64(len(p)))
	for range b.N {
		for rest := p; len(rest) > 0; {
			rest = rest[cut(rest, &smallChunks):]
		}
	}
}

func BenchmarkCreateFinish(b *testing.B) {
	dir := b.TempDir()
	for i := range b.N {
		s, err := Create(fmt.Sprint(dir, "/", i, ".db"), testSession(), Options{})
		if err != nil {
			b.Fatal(err)
		}
		s.Finish(0, time.Now())
	}
}

// BenchmarkMessages records what a websocket says, half of it in deltas.
func BenchmarkMessages(b *testing.B) {
	for name, opt := range map[string]Options{"plain": {}, "redact": {Redact: redact.New([32]byte{})}} {
		b.Run(name, func(b *testing.B) {
			s, _ := create(b, opt)
			sockets := make([]*script, 50)
			for i := range sockets {
				sockets[i] = &script{s: s, conn: int64(i + 1)}
				sockets[i].open()
				sockets[i].upgrade()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				c := sockets[i%50]
				if i%100 < 50 {
					c.say(flow.Server, 1, deltaMessage(fmt.Sprint("word ", i)))
				} else {
					c.say(flow.Client, 2, fmt.Sprint("\x00", i))
				}
			}
			flush(b, s)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// BenchmarkRaw records bodies of 64 KB with and without their wire form.
func BenchmarkRaw(b *testing.B) {
	for _, wire := range []bool{false, true} {
		b.Run(fmt.Sprint("wire=", wire), func(b *testing.B) {
			s, _ := create(b, Options{})
			c := &script{s: s, conn: 1}
			c.open()
			b.SetBytes(64 << 10)
			for i := range b.N {
				body := noise(i, 64<<10)
				c.request("GET", "/", "", nil)
				c.response(200, "application/octet-stream", false)
				if wire {
					c.wired(flow.Server, []byte("HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n"), body, body)
				} else {
					c.body(flow.Server, body)
				}
				c.end(nil)
			}
			flush(b, s)
		})
	}
}
