package store

import (
	"crypto/sha256"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"trace/flow"
	"trace/redact"
)

// The load of BenchmarkKeepAlive: what a client does that keeps its
// connections open, in numbers that a busy one reaches.
const (
	loadConns = 16
	loadRate  = 8000 // exchanges a second, where it is paced
)

// BenchmarkKeepAlive records small exchanges over 16 connections, with the
// heads that real clients and servers send. Paced, the bursts are as small as
// they are on the road; else they are as large as the queue. cpu-µs/op is the
// time of both cores in user and kernel mode for one exchange, file-B/op what
// it adds to the file.
func BenchmarkKeepAlive(b *testing.B) {
	for _, c := range []struct {
		name            string
		paced, repeated bool
	}{{"distinct", false, false}, {"repeated", false, true}, {"paced/distinct", true, false}, {"paced/repeated", true, true}} {
		b.Run(c.name, func(b *testing.B) {
			script := exchanges(min(b.N, 10_000), c.repeated)
			s, path := create(b, Options{Redact: redact.New([32]byte{})})
			for i := range loadConns {
				s.Append(flow.Event{Kind: flow.ConnOpen, At: at(0), Conn: int64(i + 1), Facts: conn(int64(i + 1))})
			}
			flush(b, s)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			cpu, began := cpuTime(), time.Now()
			b.ResetTimer()
			for i := range b.N {
				for _, e := range script[i%len(script)] {
					e.Conn, e.Flow = int64(i%loadConns+1), int64(i/loadConns+1)
					s.Append(e)
				}
				if c.paced {
					if ahead := time.Duration(i)*time.Second/loadRate - time.Since(began); ahead > time.Millisecond {
						time.Sleep(ahead)
					}
				}
			}
			flush(b, s)
			b.StopTimer()
			cpu = cpuTime() - cpu
			runtime.ReadMemStats(&after)
			finish(b, s)
			fi, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			n := float64(b.N)
			b.ReportMetric(float64(cpu.Nanoseconds())/1e3/n, "cpu-µs/op")
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "objects/op")
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/n, "heap-B/op")
			b.ReportMetric(float64(fi.Size())/n, "file-B/op")
		})
	}
}

// exchanges returns the events of n exchanges, without the numbers of their
// connections and flows.
func exchanges(n int, repeated bool) [][]flow.Event {
	all := make([][]flow.Event, n)
	for i := range all {
		k := i
		if repeated {
			k = i % 50
		}
		var p []byte
		for j := 0; len(p) < 1000; j++ {
			p = fmt.Appendf(p, `{"id":"item_%06d_%03d","name":"entry %d","ok":true,"score":%d.5},`, k, j, k*j, k*17%1000)
		}
		p = append(append([]byte("["), p[:len(p)-1]...), ']')
		path := fmt.Sprintf("/v1/items/%d?page=%d&limit=50", k, k%7)
		n := int64(len(p))
		all[i] = []flow.Event{
			{Kind: flow.Request, At: at(i), Head: &flow.Head{Method: "GET", Target: path, Scheme: "https", Host: "api.example.org", Port: 443,
				Path: path, Version: "1.1", Fields: []flow.Field{{Name: "Host", Value: "api.example.org"}, {Name: "User-Agent", Value: "python-requests/2.32.3"},
					{Name: "Accept-Encoding", Value: "gzip, deflate, br, zstd"}, {Name: "Accept", Value: "application/json"}, {Name: "Connection", Value: "keep-alive"},
					{Name: "Authorization", Value: "Bearer sk-test-0123456789abcdefghijklmnopqrstuvwxyz"}}}},
			{Kind: flow.BodyEnd, At: at(i), Ended: &flow.Ended{SHA256: sha256.Sum256(nil)}},
			{Kind: flow.Response, At: at(i + 3), Side: flow.Server, Head: &flow.Head{Status: 200, Reason: "OK", Version: "1.1",
				Fields: []flow.Field{{Name: "Date", Value: at(i * 10).Format("Mon, 02 Jan 2006 15:04:05 GMT")}, {Name: "Content-Type", Value: "application/json"},
					{Name: "Content-Length", Value: fmt.Sprint(n)}, {Name: "Server", Value: "nginx/1.27.3"}, {Name: "X-Request-Id", Value: fmt.Sprintf("%032x", sha256.Sum256([]byte{byte(k), byte(k >> 8)}))[:32]},
					{Name: "Cache-Control", Value: "private, max-age=0"}, {Name: "Strict-Transport-Security", Value: "max-age=31536000; includeSubDomains"}}}},
			{Kind: flow.Body, At: at(i + 3), Side: flow.Server, Data: p},
			{Kind: flow.BodyEnd, At: at(i + 3), Side: flow.Server, Ended: &flow.Ended{Size: n, Decoded: n, Kept: n, SHA256: sha256.Sum256(p)}},
			{Kind: flow.End, At: at(i + 3), Side: flow.Server},
		}
	}
	return all
}

// cpuTime is what this process has used of both cores.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBulk records bodies of 16 MB, as much as is kept of larger ones, in
// the pieces in which they pass. cpu-ms/MB is the time of both cores.
func BenchmarkBulk(b *testing.B) {
	noisy, wordy := noise(1, 16<<20), make([]byte, 0, 16<<20)
	for i := 0; len(wordy) < 16<<20; i++ {
		wordy = fmt.Appendf(wordy, "line %d: request answer token prompt of cache turn %d and result file\n", i, i*i%1013)
	}
	for _, c := range []struct {
		name, ctype string
		body        []byte
	}{{"noise", "application/octet-stream", noisy}, {"text", "text/plain", wordy[:16<<20]}} {
		b.Run(c.name, func(b *testing.B) {
			s, path := create(b, Options{Redact: redact.New([32]byte{})})
			l := &script{s: s, conn: 1}
			l.open()
			flush(b, s)
			b.SetBytes(int64(len(c.body)))
			cpu := cpuTime()
			for i := range b.N {
				for j := 100; j < len(c.body); j += 4000 { // nothing is met again
					c.body[j], c.body[j+1], c.body[j+2] = byte(i)|0x80, byte(i>>8)|0x80, byte(j)|0x80
				}
				l.request("GET", "/", "", nil)
				l.response(200, c.ctype, false)
				for p := c.body; len(p) > 0; p = p[min(len(p), 32<<10):] {
					l.put(flow.Event{Kind: flow.Body, Side: flow.Server, Data: p[:min(len(p), 32<<10)]})
				}
				l.ended(flow.Server, nil, 0)
				l.end(nil)
			}
			flush(b, s)
			cpu = cpuTime() - cpu
			fi, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			mb := float64(b.N) * float64(len(c.body)) / 1e6
			b.ReportMetric(cpu.Seconds()*1e3/mb, "cpu-ms/MB")
			b.ReportMetric(float64(fi.Size())/mb/1e6, "file-B/B")
		})
	}
}
