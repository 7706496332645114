package tcpstack_test

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"trace/tcpstack"
)

// relayBuffer is what a relay would use.
const relayBuffer = 256 << 10

func eachBench(b *testing.B, opt tcpstack.Options, f func(b *testing.B, r *road)) {
	for _, k := range kinds {
		b.Run(k.link+"/"+k.device, func(b *testing.B) {
			f(b, newRoad(b, k.link, k.device, opt))
		})
	}
}

// cpu returns the processor time of this process, in seconds. The child is
// part of it. Unlike the wall clock it is the same on a busy machine.
func cpu() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return (time.Duration(u.Utime.Nano()) + time.Duration(u.Stime.Nano())).Seconds()
}

// reportBulk adds the figures of a transfer that began when cpu was start.
func reportBulk(b *testing.B, r *road, start float64) {
	b.ReportMetric((cpu()-start)/(float64(b.N)*relayBuffer/1e9), "cpu-s/GB")
	b.ReportMetric(float64(r.stack.Stats().Retransmits), "retransmits")
}

// BenchmarkUpload measures what the child sends, into nothing.
func BenchmarkUpload(b *testing.B) {
	opt := tcpstack.Options{Accept: accept(b, func(c *tcpstack.Conn) {
		buf := make([]byte, relayBuffer)
		for {
			if _, err := c.Read(buf); err != nil {
				c.CloseWrite()
				return
			}
		}
	})}
	eachBench(b, opt, upload)
}

// upload measures what the child sends to a server that reads it all and then
// ends the connection.
func upload(b *testing.B, r *road) {
	c, err := r.dial("tcp", dst["tcp4"])
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, relayBuffer)
	b.SetBytes(relayBuffer)
	start := cpu()
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	closeWrite(b, c)
	io.ReadAll(c) // it has all
	reportBulk(b, r, start)
}

// BenchmarkDownload measures what the child receives, from nothing.
func BenchmarkDownload(b *testing.B) {
	opt := tcpstack.Options{Accept: accept(b, func(c *tcpstack.Conn) {
		buf := make([]byte, relayBuffer)
		for {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	})}
	eachBench(b, opt, func(b *testing.B, r *road) {
		c, err := r.dial("tcp", dst["tcp4"])
		if err != nil {
			b.Fatal(err)
		}
		buf := make([]byte, relayBuffer)
		b.SetBytes(relayBuffer)
		start := cpu()
		for b.Loop() {
			if _, err := io.ReadFull(c, buf); err != nil {
				b.Fatal(err)
			}
		}
		reportBulk(b, r, start)
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	})
}

// BenchmarkEcho measures the round trip of 64 bytes.
func BenchmarkEcho(b *testing.B) {
	eachBench(b, tcpstack.Options{Accept: accept(b, echo)}, func(b *testing.B, r *road) {
		c, err := r.dial("tcp", dst["tcp4"])
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		buf := make([]byte, 64)
		for b.Loop() {
			if _, err := c.Write(buf); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(c, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func echo(c *tcpstack.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// BenchmarkConnect measures connections of one byte there and back. The dial
// itself costs a thread (see space.do).
func BenchmarkConnect(b *testing.B) {
	eachBench(b, tcpstack.Options{Accept: accept(b, echo)}, func(b *testing.B, r *road) {
		err := r.do(func() error {
			buf := make([]byte, 1)
			for b.Loop() {
				c, err := net.Dial("tcp", dst["tcp4"])
				if err != nil {
					return err
				}
				c.Write(buf)
				if _, err := io.ReadFull(c, buf); err != nil {
					return err
				}
				c.Close()
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	})
}
