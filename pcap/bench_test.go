package pcap

import (
	"fmt"
	"testing"
	"time"
)

// sink takes everything.
type sink struct{ tape }

func (*sink) Write(p []byte) (int, error) { return len(p), nil }

// awaitRoom waits until the queue is half empty.
func awaitRoom(w *Writer) {
	for {
		w.mu.Lock()
		size := w.queue.size
		w.mu.Unlock()
		if size <= w.limit/2 {
			return
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// BenchmarkPacket measures what handing over a packet and writing it beside
// that take. Dropping would be cheap: packets are not faster than the file
// here.
func BenchmarkPacket(b *testing.B) {
	for _, n := range []int{60, 1500, 65000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w, err := start(&sink{}, Options{}, time.Now)
			if err != nil {
				b.Fatal(err)
			}
			p := make([]byte, n)
			p[0] = 0x45
			b.SetBytes(int64(n))
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				w.Packet(true, p)
				if n++; n%128 == 0 {
					awaitRoom(w)
				}
			}
			sum, _ := w.Close()
			if sum.Dropped > 0 {
				b.Errorf("%+v", sum)
			}
		})
	}
}
