package wg

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

// chanDevice is a far end in memory.
type chanDevice struct {
	in, out chan []byte // towards the tunnel, out of it
	events  chan tun.Event
	closed  chan struct{}
	once    sync.Once
}

func newChanDevice() *chanDevice {
	return &chanDevice{
		in: make(chan []byte), out: make(chan []byte),
		events: make(chan tun.Event), closed: make(chan struct{}),
	}
}

func (d *chanDevice) File() *os.File           { return nil }
func (d *chanDevice) MTU() (int, error)        { return MTU, nil }
func (d *chanDevice) Name() (string, error)    { return "chan", nil }
func (d *chanDevice) Events() <-chan tun.Event { return d.events }
func (d *chanDevice) BatchSize() int           { return batch }

func (d *chanDevice) Close() error {
	d.once.Do(func() { close(d.closed); close(d.events) })
	return nil
}

func (d *chanDevice) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case p := <-d.in:
		sizes[0] = copy(bufs[0][offset:], p)
		return 1, nil
	case <-d.closed:
		return 0, os.ErrClosed
	}
}

func (d *chanDevice) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		select {
		case d.out <- bytes.Clone(b[offset:]):
		case <-d.closed:
			return 0, os.ErrClosed
		}
	}
	return len(bufs), nil
}

// pair is a child's device made of a socket pair that keeps packets apart:
// the first end is for the link, the other for the test.
func pair(t *testing.T) (device, child *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
	}
	device, child = os.NewFile(uintptr(fds[0]), "device"), os.NewFile(uintptr(fds[1]), "child")
	t.Cleanup(func() { device.Close(); child.Close() })
	return device, child
}

// up brings up a link with a far end in memory.
func up(t *testing.T) (*Link, *chanDevice) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	far := newChanDevice()
	l := &Link{Far: far, Log: t.Logf}
	t.Cleanup(func() { l.Close() })
	start := time.Now()
	if err := l.Up(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Logf("up after %v", time.Since(start))
	return l, far
}

// tcpPacket is a packet of a length, without a checksum.
func tcpPacket(version byte, size int) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(i * 7)
	}
	p[0] = version<<4 | 5
	if version == 4 {
		p[2], p[3] = byte(size>>8), byte(size)
		p[6], p[7], p[9] = 0x40, 0, protoTCP
	} else {
		p[0] = version << 4
		p[4], p[5], p[6] = byte((size-ip6Size)>>8), byte(size-ip6Size), protoTCP
	}
	return p
}

func TestLink(t *testing.T) {
	for _, ethernet := range []bool{false, true} {
		l, far := up(t)
		device, child := pair(t)
		mac := net.HardwareAddr{2, 3, 4, 5, 6, 7}
		if err := l.Attach(Device{File: device, Ethernet: ethernet, PeerMAC: mac}); err != nil {
			t.Fatal(err)
		}
		if err := l.Attach(Device{File: device}); err == nil {
			t.Error("attached twice")
		}
		for _, version := range []byte{4, 6} {
			for _, size := range []int{60, 61, 1500, MTU, maxPlain} {
				p := tcpPacket(version, size)
				frame := make([]byte, vnetSize)
				if ethernet {
					frame = append(frame, make([]byte, etherSize)...)
					kind := map[byte][]byte{4: {8, 0}, 6: {0x86, 0xdd}}[version]
					copy(frame[len(frame)-2:], kind)
					child.Write(append(bytes.Clone(frame[:len(frame)-2]), 8, 6, 1, 2, 3)) // ARP
				}
				if _, err := child.Write(append(frame, p...)); err != nil {
					t.Fatal(err)
				}
				if got := <-far.out; !bytes.Equal(got, p) {
					t.Errorf("IPv%d, %d bytes: far end got %d others", version, size, len(got))
				}
				far.in <- p
				checkFrame(t, child, p, ethernet, mac)
			}
		}
		child.Write(append(make([]byte, vnetSize+len(l.near.ether)*min(l.near.link, 1)), tcpPacket(4, maxPlain+1)...)) // too long: left out
		child.Write(nil)
		child.Write([]byte{1, 2, 3})
		far.in <- tcpPacket(4, 40)
		checkFrame(t, child, tcpPacket(4, 40), ethernet, mac)
	}
}

// checkFrame reads what the child gets: p, with a checksum left to complete.
func checkFrame(t *testing.T, child *os.File, p []byte, ethernet bool, mac net.HardwareAddr) {
	t.Helper()
	buf := make([]byte, 1<<17)
	n, err := child.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	head, link := vnetSize, 0
	if ethernet {
		head, link = vnetSize+etherSize, etherSize
		if !bytes.Equal(buf[vnetSize:vnetSize+6], mac) {
			t.Errorf("to %x", buf[vnetSize:vnetSize+6])
		}
	}
	ip := ip4Size
	if p[0]>>4 == 6 {
		ip = ip6Size
	}
	want := append(make([]byte, vnetSize), p...)
	leaveChecksum(want[:vnetSize], link, want[vnetSize:])
	if buf[0] != vnetNeedsCsum || int(buf[6]) != link+ip || buf[8] != tcpCsum {
		t.Errorf("header % x", buf[:vnetSize])
	}
	if !bytes.Equal(buf[head:n], want[vnetSize:]) {
		t.Errorf("%d bytes: child got %d others", len(p), n-head)
	}
}

// TestCloseBlocked closes links in which everything is stuck: the far end
// takes nothing, and neither does the child.
func TestCloseBlocked(t *testing.T) {
	l, far := up(t)
	device, child := pair(t)
	if err := l.Attach(Device{File: device}); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			child.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			if _, err := child.Write(append(make([]byte, vnetSize), tcpPacket(4, 60000)...)); err != nil {
				return
			}
		}
	})
	wg.Go(func() {
		for {
			select {
			case far.in <- tcpPacket(6, 60000):
			case <-stop:
				return
			}
		}
	})
	time.Sleep(100 * time.Millisecond) // until they are stuck
	done := make(chan struct{})
	go func() { l.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("Close hangs")
	}
	close(stop)
	wg.Wait()
}

// TestUpFails has nobody answer the handshake.
func TestUpFails(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	if err := new(Link).Up(context.Background()); err == nil {
		t.Error("up without a far end")
	}
	l := &Link{Far: newChanDevice()}
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("the child is gone")
	cancel(why)
	if err := l.Up(ctx); err != nil && !errors.Is(err, why) {
		t.Error(err)
	}
	l.Close()
	if err := l.Attach(Device{}); err == nil {
		t.Error("attached to a closed link")
	}
	if err := l.Up(context.Background()); err == nil {
		t.Error("up after Close")
	}
	l = &Link{Far: newChanDevice()}
	l.Close() // never up
}

// TestDeviceGone has the device fail.
func TestDeviceGone(t *testing.T) {
	l, _ := up(t)
	down := make(chan error, 1)
	l.near.down = func(err error) { down <- err }
	device, _ := pair(t)
	if err := l.Attach(Device{File: device}); err != nil {
		t.Fatal(err)
	}
	device.Close()
	select {
	case err := <-down:
		t.Log(err)
	case <-time.After(5 * time.Second):
		t.Error("Down is not called")
	}
}

func BenchmarkUp(b *testing.B) {
	for b.Loop() {
		l := &Link{Far: newChanDevice()}
		if err := l.Up(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		l.Close()
		b.StartTimer()
	}
}
