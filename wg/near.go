package wg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"

	"trace/nonblock"
)

const (
	etherSize = 14
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd

	// maxPlain is the longest packet whose message fits into 65535 bytes:
	// 32 bytes of overhead, and padding to a multiple of 16.
	maxPlain = (65535 - 32) &^ 15

	// nearBatch is how many packets are read at once at most.
	nearBatch = 8

	maxReadFails = 1000 // errors in a row after which a device is dead
)

// nearDevice is the child's end: a tun.Device on its TUN or packet socket.
type nearDevice struct {
	events chan tun.Event
	down   func(error)

	attached chan struct{} // closed when file, raw and ether are set
	file     *os.File
	raw      syscall.RawConn
	link     int             // length of the link header: 0 or 14
	ether    [etherSize]byte // destination and source
	rest     [][]byte        // datagrams of a packet that was cut, for the next Read
	in       [vnetSize + etherSize]byte

	// outMu guards the buffers of Write.
	outMu sync.Mutex
	out   [vnetSize + etherSize]byte

	closed    chan struct{}
	closeOnce sync.Once
}

func newNearDevice(down func(error)) *nearDevice {
	return &nearDevice{
		events:   make(chan tun.Event),
		down:     down,
		attached: make(chan struct{}),
		closed:   make(chan struct{}),
	}
}

// attach gives the device its file. The caller excludes concurrent calls.
func (d *nearDevice) attach(dev Device) error {
	if d.raw != nil {
		return errors.New("attached already")
	}
	if dev.Ethernet {
		if len(dev.PeerMAC) != 6 {
			return fmt.Errorf("%q is no Ethernet address", dev.PeerMAC)
		}
		d.link = etherSize
		copy(d.ether[0:6], dev.PeerMAC)
		copy(d.ether[6:12], []byte{0x02, 0, 0, 0, 0, 1}) // locally administered
	}
	raw, err := dev.File.SyscallConn()
	if err != nil {
		return err
	}
	// A file that is not polled could not be told to stop reading.
	if err := dev.File.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("file is not non-blocking: %w", err)
	}
	d.file, d.raw = dev.File, raw
	close(d.attached)
	return nil
}

// File implements tun.Device.
func (d *nearDevice) File() *os.File { return nil }

// MTU implements tun.Device. WireGuard pads with it.
func (d *nearDevice) MTU() (int, error) { return MTU, nil }

// Name implements tun.Device.
func (d *nearDevice) Name() (string, error) { return "near", nil }

// Events implements tun.Device. None is ever sent.
func (d *nearDevice) Events() <-chan tun.Event { return d.events }

// BatchSize implements tun.Device.
func (d *nearDevice) BatchSize() int { return nearBatch }

// Close implements tun.Device: it ends Read and Write. The file stays open.
func (d *nearDevice) Close() error {
	d.closeOnce.Do(d.close)
	return nil
}

func (d *nearDevice) close() {
	close(d.closed)
	close(d.events)
	if isClosed(d.attached) {
		d.file.SetDeadline(time.Unix(1, 0))
	}
}

// Read implements tun.Device: it waits for a packet of the child and takes
// along those that are there already.
func (d *nearDevice) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case <-d.attached:
	case <-d.closed:
		return 0, os.ErrClosed
	}
	if len(d.rest) > 0 {
		n := 0
		for n < len(bufs) && len(d.rest) > 0 {
			sizes[n] = copy(bufs[n][offset:], d.rest[0])
			d.rest = d.rest[1:]
			n++
		}
		return n, nil
	}
	for fails := 0; ; fails++ {
		n, err := d.readBatch(bufs, sizes, offset)
		if isClosed(d.closed) {
			return 0, os.ErrClosed
		}
		switch {
		case n > 0:
			return n, nil
		case err == nil:
			fails = 0 // nothing that is carried
		case fatal(err), fails == maxReadFails:
			if d.down != nil {
				d.down(fmt.Errorf("read device: %w", err))
			}
			<-d.closed // WireGuard would close itself, and Attach's caller decides that
			return 0, os.ErrClosed
		}
	}
}

// readBatch waits until at least one read was made, and returns the number
// of packets.
func (d *nearDevice) readBatch(bufs [][]byte, sizes []int, offset int) (n int, err error) {
	rerr := d.raw.Read(func(fd uintptr) bool {
		got := false
		for n < min(len(bufs), nearBatch) && len(d.rest) == 0 {
			var m int
			m, err = d.readOne(fd, bufs[n][offset:])
			if err != nil {
				break
			}
			got = true
			if m > 0 {
				sizes[n] = m
				n++
			}
		}
		if got && errors.Is(err, unix.EAGAIN) {
			err = nil
		}
		return !errors.Is(err, unix.EAGAIN)
	})
	if rerr != nil {
		return n, rerr
	}
	return n, err
}

// readOne reads one packet into buf and returns its length: 0 if it is none
// that the tunnel carries. What stands before it goes elsewhere.
func (d *nearDevice) readOne(fd uintptr, buf []byte) (int, error) {
	head := d.in[:vnetSize+d.link]
	n, err := nonblock.Readv(fd, head, buf)
	if err != nil {
		return 0, err
	}
	if n -= len(head); n <= 0 {
		return 0, nil
	}
	if d.link != 0 {
		switch binary.BigEndian.Uint16(head[len(head)-2:]) {
		case etherIPv4, etherIPv6:
		default:
			return 0, nil
		}
	}
	if head[1] == vnetGSOUDPL4 {
		if d.rest = segments(buf[:n], int(binary.NativeEndian.Uint16(head[4:]))); len(d.rest) == 0 {
			return 0, nil
		}
		n = copy(buf, d.rest[0])
		d.rest = d.rest[1:]
	}
	if n > maxPlain {
		return 0, nil
	}
	return n, nil
}

// Write implements tun.Device: it writes packets of the stack to the child.
func (d *nearDevice) Write(bufs [][]byte, offset int) (int, error) {
	if !isClosed(d.attached) {
		return 0, os.ErrClosed // nobody asked anything yet
	}
	d.outMu.Lock()
	defer d.outMu.Unlock()
	var failed error
	n := 0
	for _, buf := range bufs {
		packet := buf[offset:]
		head := d.out[:vnetSize+d.link]
		clear(head)
		if d.link != 0 {
			copy(head[vnetSize:], d.ether[:12])
			kind := uint16(etherIPv4)
			if packet[0]>>4 == 6 {
				kind = etherIPv6
			}
			binary.BigEndian.PutUint16(head[vnetSize+12:], kind)
		}
		leaveChecksum(head, d.link, packet)
		if err := d.write(head, packet); err != nil {
			failed = err
			continue
		}
		n++
	}
	return n, failed
}

func (d *nearDevice) write(head, packet []byte) (err error) {
	werr := d.raw.Write(func(fd uintptr) bool {
		_, err = nonblock.Writev(fd, head, packet)
		return !errors.Is(err, unix.EAGAIN)
	})
	if werr != nil {
		return werr
	}
	return err
}

// fatal reports whether a device that answered err is gone: closed by its
// kernel, detached or removed with its namespace.
func fatal(err error) bool {
	return errors.Is(err, os.ErrClosed) ||
		errors.Is(err, unix.EBADF) || errors.Is(err, errDetached) ||
		errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EFAULT)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
