package tcpstack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"trace/nonblock"
)

const (
	// vnetSize is the length of struct virtio_net_hdr, which stands before
	// every packet of a device, in the machine's byte order.
	vnetSize     = 10
	etherSize    = header.EthernetMinimumSize
	maxPacket    = 65535 // an IP packet's total length has 16 bits
	frameSize    = vnetSize + etherSize + maxPacket + 1
	maxReadFails = 1000 // errors in a row after which a device is dead

	vnetNeedsCsum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	vnetGSOTCPv4  = 1 // VIRTIO_NET_HDR_GSO_TCPV4
	vnetGSOTCPv6  = 4 // VIRTIO_NET_HDR_GSO_TCPV6
	vnetGSOUDPL4  = 5 // VIRTIO_NET_HDR_GSO_UDP_L4
)

// DeviceOptions describes the device that the child's packets come out of.
type DeviceOptions struct {
	// File is a TUN with IFF_NO_PI|IFF_VNET_HDR, or an AF_PACKET, SOCK_RAW
	// socket with PACKET_VNET_HDR that is bound to one end of a veth pair. It
	// must have been non-blocking when the os.File was made, and it stays its
	// owner's: close it after the stack.
	File *os.File

	// MTU is that of the child's interface, in bytes.
	MTU int

	// Ethernet says that packets carry an Ethernet header: a packet socket.
	Ethernet bool

	// PeerMAC is the address of the child's interface. Frames to any other
	// are dropped by its kernel. Only with Ethernet.
	PeerMAC net.HardwareAddr

	// NoGSO keeps segments towards the child within the MTU, where its
	// kernel does not take larger ones.
	NoGSO bool
}

// Device is the direct link: it reads and writes the child's device itself.
type Device struct {
	base
	opt   DeviceOptions
	raw   syscall.RawConn
	ether [etherSize]byte // destination, source; the type is set per packet

	reader, writer sync.WaitGroup
	stopOnce       sync.Once
}

// NewDevice makes the direct link on a device. Nothing is read before the
// stack is made.
func NewDevice(opt DeviceOptions) (*Device, error) {
	if opt.MTU < header.IPv6MinimumMTU || opt.MTU > maxPacket {
		return nil, fmt.Errorf("device: mtu %d is not within %d and %d", opt.MTU, header.IPv6MinimumMTU, maxPacket)
	}
	if opt.Ethernet && len(opt.PeerMAC) != 6 {
		return nil, fmt.Errorf("device: %q is no Ethernet address", opt.PeerMAC)
	}
	raw, err := opt.File.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("device: %w", err)
	}
	// A file that is not polled could not be told to stop reading.
	if err := opt.File.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("device: file is not non-blocking: %w", err)
	}
	d := &Device{opt: opt, raw: raw}
	d.mtu = uint32(opt.MTU)
	// The child's kernel leaves checksums to the device (TUN_F_CSUM).
	d.caps = stack.CapabilityRXChecksumOffload
	d.queue = make(chan *stack.PacketBuffer, queueLength)
	d.closed = make(chan struct{})
	if opt.Ethernet {
		copy(d.ether[0:6], opt.PeerMAC)
		copy(d.ether[6:12], []byte{0x02, 0, 0, 0, 0, 1}) // locally administered
	}
	return d, nil
}

func (d *Device) endpoint() endpoint { return d }

// GSOMaxSize implements stack.GSOEndpoint.
func (d *Device) GSOMaxSize() uint32 { return maxPacket }

// SupportedGSO implements stack.GSOEndpoint.
func (d *Device) SupportedGSO() stack.SupportedGSO {
	if d.opt.NoGSO {
		return stack.GSONotSupported
	}
	return stack.HostGSOSupported
}

func (d *Device) start() {
	d.reader.Add(1)
	d.writer.Add(1)
	go d.readLoop()
	go d.writeLoop()
}

func (d *Device) stopReading() {
	d.opt.File.SetReadDeadline(time.Unix(1, 0))
	d.reader.Wait()
	d.opt.File.SetReadDeadline(time.Time{})
}

func (d *Device) stop() { d.stopOnce.Do(d.stopWriting) }

// stopWriting ends the writer once the queue is empty. The queue itself stays
// open, because a timer of gVisor's may still fire.
func (d *Device) stopWriting() {
	close(d.closed)
	d.writer.Wait()
}

func (d *Device) readLoop() {
	defer d.reader.Done()
	buf := make([]byte, frameSize)
	fails := 0
	for {
		n, err := d.read(buf)
		switch {
		case err == nil:
			fails = 0
			d.receive(buf[:n])
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, os.ErrClosed):
			return
		case fatal(err), fails == maxReadFails:
			if d.down != nil {
				d.down(fmt.Errorf("read device: %w", err))
			}
			return
		default:
			fails++
			d.counters.readErrors.Add(1)
		}
	}
}

// fatal reports whether a device that answered err is gone: closed by its
// kernel, detached or removed with its namespace.
func fatal(err error) bool {
	return errors.Is(err, unix.EBADF) || errors.Is(err, errDetached) ||
		errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EFAULT)
}

// read waits for one frame. os.File.Read would do, were it not for the
// errors: it takes a read of length 0 for the end of the file.
func (d *Device) read(buf []byte) (n int, err error) {
	rerr := d.raw.Read(func(fd uintptr) bool {
		n, err = nonblock.Read(fd, buf)
		return !errors.Is(err, unix.EAGAIN)
	})
	if rerr != nil {
		return 0, rerr
	}
	return n, err
}

// receive strips what stands before the IP packet of a frame.
func (d *Device) receive(frame []byte) {
	head := vnetSize
	if d.opt.Ethernet {
		head += etherSize
	}
	if len(frame) < head {
		d.counters.malformed.Add(1)
		return
	}
	if d.opt.Ethernet {
		switch binary.BigEndian.Uint16(frame[head-2:]) {
		case uint16(header.IPv4ProtocolNumber), uint16(header.IPv6ProtocolNumber):
		default:
			d.counters.ignored.Add(1)
			return
		}
	}
	packet := frame[head:]
	if frame[1] == vnetGSOUDPL4 {
		d.receiveSegments(packet, int(binary.NativeEndian.Uint16(frame[4:])))
		return
	}
	d.deliver(packet)
}

// receiveSegments delivers each datagram of a UDP packet that the child's
// kernel left for us to cut (UDP_SEGMENT): the payload in pieces of size
// bytes, each with the packet's headers.
func (d *Device) receiveSegments(packet []byte, size int) {
	proto, ok := d.admit(packet)
	if !ok {
		d.captured(false, packet)
		return
	}
	head := header.IPv6MinimumSize
	if proto == header.IPv4ProtocolNumber {
		head = int(packet[0]&15) * 4
	}
	if size == 0 || len(packet) < head+header.UDPMinimumSize {
		d.captured(false, packet)
		d.counters.malformed.Add(1)
		return
	}
	rest := packet[head+header.UDPMinimumSize:]
	one := make([]byte, head+header.UDPMinimumSize, head+header.UDPMinimumSize+size)
	for len(rest) > 0 {
		n := min(size, len(rest))
		one = append(one[:head+header.UDPMinimumSize], rest[:n]...)
		copy(one, packet[:head+header.UDPMinimumSize])
		rest = rest[n:]
		binary.BigEndian.PutUint16(one[head+4:], uint16(header.UDPMinimumSize+n))
		if proto == header.IPv4ProtocolNumber {
			ip := header.IPv4(one)
			ip.SetTotalLength(uint16(len(one)))
			ip.SetChecksum(0)
			ip.SetChecksum(^ip.CalculateChecksum())
		} else {
			header.IPv6(one).SetPayloadLength(uint16(len(one) - header.IPv6MinimumSize))
		}
		partialChecksum(proto, one, head)
		d.deliver(one)
	}
}

// partialChecksum leaves in the UDP packet p, whose headers are those of a
// longer one, the sum of the pseudo header (RFC 768): its checksum is not
// filled in. head is the length of the IP header.
func partialChecksum(proto tcpip.NetworkProtocolNumber, p []byte, head int) {
	var src, dst tcpip.Address
	if proto == header.IPv4ProtocolNumber {
		src, dst = header.IPv4(p).SourceAddress(), header.IPv4(p).DestinationAddress()
	} else {
		src, dst = header.IPv6(p).SourceAddress(), header.IPv6(p).DestinationAddress()
	}
	header.UDP(p[head:]).SetChecksum(header.PseudoHeaderChecksum(header.UDPProtocolNumber, src, dst, uint16(len(p)-head)))
}

// writeLoop writes what the stack queued. It is a goroutine of its own
// because a write runs the child's receive path, and the stack would hold a
// connection's lock meanwhile.
func (d *Device) writeLoop() {
	defer d.writer.Done()
	var head [vnetSize + etherSize]byte
	iovs := make([][]byte, 0, 8)
	for {
		pkt := d.next()
		if pkt == nil {
			return
		}
		iovs = append(iovs[:0], d.head(&head, pkt))
		iovs = append(iovs, pkt.AsSlices()...)
		if d.capture != nil {
			d.capture(true, iovs[1:]...)
		}
		if err := d.write(iovs); err != nil {
			d.counters.writeErrors.Add(1)
		}
		pkt.DecRef()
	}
}

// next waits for a packet to write; nil means that none will come.
func (d *Device) next() *stack.PacketBuffer {
	select {
	case pkt := <-d.queue:
		return pkt
	case <-d.closed:
	}
	select {
	case pkt := <-d.queue:
		return pkt
	default:
		return nil
	}
}

func (d *Device) write(iovs [][]byte) (err error) {
	werr := d.raw.Write(func(fd uintptr) bool {
		_, err = nonblock.Writev(fd, iovs...)
		return !errors.Is(err, unix.EAGAIN)
	})
	if werr != nil {
		return werr
	}
	return err
}

// head fills in what stands before the IP packet pkt: struct virtio_net_hdr,
// and the Ethernet header if there is one.
func (d *Device) head(buf *[vnetSize + etherSize]byte, pkt *stack.PacketBuffer) []byte {
	clear(buf[:vnetSize])
	link := 0
	if d.opt.Ethernet {
		link = etherSize
		copy(buf[vnetSize:], d.ether[:])
		binary.BigEndian.PutUint16(buf[vnetSize+12:], uint16(pkt.NetworkProtocolNumber))
	}
	gso := &pkt.GSOOptions
	if gso.Type != stack.GSONone && gso.NeedsCsum {
		buf[0] = vnetNeedsCsum
		binary.NativeEndian.PutUint16(buf[6:], uint16(link)+gso.L3HdrLen)
		binary.NativeEndian.PutUint16(buf[8:], gso.CsumOffset)
		if pkt.Data().Size() > int(gso.MSS) {
			buf[1] = vnetGSOTCPv4
			if gso.Type == stack.GSOTCPv6 {
				buf[1] = vnetGSOTCPv6
			}
			binary.NativeEndian.PutUint16(buf[2:], uint16(link+pkt.HeaderSize()))
			binary.NativeEndian.PutUint16(buf[4:], gso.MSS)
		}
	}
	return buf[:vnetSize+link]
}
