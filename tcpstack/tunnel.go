package tcpstack

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// tunnelBatch is how many packets WireGuard takes from a tunnel at once. Each
// costs it a buffer of 64 kB in several places.
const tunnelBatch = 32

// Tunnel is a link whose other end is a WireGuard device in this process: to
// WireGuard it is a tun.Device, to the stack a link. Of one that NewTunnel
// made, transport checksums are neither filled in nor verified, because the
// tunnel authenticates every packet; who writes one to a kernel has to complete
// it there. Behind one that NewPeerTunnel made are the kernels of other
// machines, which need them and see to their own.
type Tunnel struct {
	base
	peers   bool // made by NewPeerTunnel
	events  chan tun.Event
	reading atomic.Bool // packets from WireGuard go to the stack

	// mu is held while a packet is delivered, so that stopReading can wait.
	mu sync.RWMutex

	closeOnce sync.Once
}

// tunnelDevice is the Tunnel as WireGuard sees it: MTU and Close have
// other signatures there.
type tunnelDevice struct{ t *Tunnel }

// NewTunnel makes a tunnel's far end whose packets are of at most mtu bytes.
func NewTunnel(mtu int) (*Tunnel, error) {
	if mtu < header.IPv6MinimumMTU || mtu > maxPacket {
		return nil, fmt.Errorf("tunnel: mtu %d is not within %d and %d", mtu, header.IPv6MinimumMTU, maxPacket)
	}
	t := &Tunnel{events: make(chan tun.Event, 1)}
	t.mtu = uint32(mtu)
	t.caps = stack.CapabilityRXChecksumOffload | stack.CapabilityTXChecksumOffload
	t.queue = make(chan *stack.PacketBuffer, queueLength)
	t.closed = make(chan struct{})
	return t, nil
}

// NewPeerTunnel makes the far end of a tunnel to other machines, of which each
// has an MTU of its own of at most mtu: TCP learns it from them, all else is
// cut to the 1280 bytes that everybody takes.
func NewPeerTunnel(mtu int) (*Tunnel, error) {
	t, err := NewTunnel(mtu)
	if err != nil {
		return nil, err
	}
	t.peers, t.caps = true, 0
	return t, nil
}

// WritePackets implements stack.LinkWriter.
func (t *Tunnel) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	if !t.peers {
		return t.base.WritePackets(pkts)
	}
	for i, pkt := range pkts.AsSlice() {
		if err := t.writePacket(pkt); err != nil {
			return i, err
		}
	}
	return pkts.Len(), nil
}

// writePacket queues a packet, in pieces where it is too long for some.
func (t *Tunnel) writePacket(pkt *stack.PacketBuffer) tcpip.Error {
	var list stack.PacketBufferList
	if pkt.Size() <= header.IPv6MinimumMTU {
		list.PushBack(pkt.IncRef())
	} else {
		whole := pkt.ToView()
		defer whole.Release()
		for _, p := range fragments(whole.AsSlice(), header.IPv6MinimumMTU) {
			list.PushBack(stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p)}))
		}
	}
	defer list.DecRef()
	_, err := t.base.WritePackets(list)
	return err
}

// Device returns the end that a WireGuard device reads and writes.
func (t *Tunnel) Device() tun.Device { return tunnelDevice{t} }

func (t *Tunnel) endpoint() endpoint { return t }

func (t *Tunnel) start() { t.reading.Store(true) }

func (t *Tunnel) stopReading() {
	t.reading.Store(false)
	t.mu.Lock() // then the last delivery is over
	defer t.mu.Unlock()
}

// stop leaves the queue to WireGuard, which drains it until it closes the
// device.
func (t *Tunnel) stop() {}

// File implements tun.Device: there is none.
func (d tunnelDevice) File() *os.File { return nil }

// MTU implements tun.Device.
func (d tunnelDevice) MTU() (int, error) { return int(d.t.mtu), nil }

// Name implements tun.Device.
func (d tunnelDevice) Name() (string, error) { return "far", nil }

// Events implements tun.Device. None is ever sent: who makes the WireGuard
// device brings it up.
func (d tunnelDevice) Events() <-chan tun.Event { return d.t.events }

// BatchSize implements tun.Device.
func (d tunnelDevice) BatchSize() int { return tunnelBatch }

// Close implements tun.Device: it ends Read and throws away what is queued.
func (d tunnelDevice) Close() error {
	d.t.closeOnce.Do(d.t.closeDevice)
	return nil
}

func (t *Tunnel) closeDevice() {
	close(t.closed)
	close(t.events)
	for {
		select {
		case pkt := <-t.queue:
			pkt.DecRef()
		default:
			return
		}
	}
}

// Read implements tun.Device: it waits for a packet of the stack and takes
// along those that are there already.
func (d tunnelDevice) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	t := d.t
	select {
	case <-t.closed:
		return 0, os.ErrClosed
	default:
	}
	n := 0
	select {
	case pkt := <-t.queue:
		sizes[n] = t.take(bufs[n][offset:], pkt)
		n++
	case <-t.closed:
		return 0, os.ErrClosed
	}
	for n < len(bufs) {
		select {
		case pkt := <-t.queue:
			sizes[n] = t.take(bufs[n][offset:], pkt)
			n++
		default:
			return n, nil
		}
	}
	return n, nil
}

// take copies pkt to buf, releases it and returns its length; one that does
// not fit is returned as empty, which WireGuard skips.
func (t *Tunnel) take(buf []byte, pkt *stack.PacketBuffer) (n int) {
	defer pkt.DecRef()
	if pkt.Size() > len(buf) {
		return 0
	}
	for _, s := range pkt.AsSlices() {
		n += copy(buf[n:], s)
	}
	t.captured(true, buf[:n])
	return n
}

// Write implements tun.Device: it delivers packets of the child to the stack.
func (d tunnelDevice) Write(bufs [][]byte, offset int) (int, error) {
	t := d.t
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.reading.Load() {
		return len(bufs), nil
	}
	for _, buf := range bufs {
		t.deliver(buf[offset:])
	}
	return len(bufs), nil
}
