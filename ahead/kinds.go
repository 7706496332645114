package ahead

import "os"

// DeviceKind says what carries the packets of the namespace.
type DeviceKind string

const (
	Auto DeviceKind = "auto" // TUN where /dev/net/tun opens, else veth
	TUN  DeviceKind = "tun"  // a TUN device: IP packets
	Veth DeviceKind = "veth" // a veth pair, read through an AF_PACKET socket: Ethernet frames
)

// Device is the end of the child's link that lies outside.
//
// File is non-blocking, was made once from the descriptor and belongs to whoever takes the device over; Namespace.Close
// closes it too, which is harmless twice. Use Read, Write and SyscallConn; Fd would make it blocking for the helper's
// duplicate as well.
//
// One read or write is one packet behind a virtio_net_hdr of 10 bytes (host byte order, le on little-endian hosts). With Veth an
// Ethernet header of 14 bytes lies between the two, and a frame written must carry ChildMAC as its destination or the kernel
// takes it for somebody else's. Reads need room for 65535 bytes and the headers.
type Device struct {
	File     *os.File
	Kind     DeviceKind // TUN or Veth
	Name     string     // of the child's interface
	MTU      int
	Offload  Offload // what the child's packets may leave undone
	ChildMAC [6]byte // Veth: of the child's interface
	MAC      [6]byte // Veth: of our end
}

// HeaderLen is the number of bytes before the IP header of each packet read or written.
func (d *Device) HeaderLen() int {
	if d.Kind == Veth {
		return vnetHeaderLen + ethernetHeaderLen
	}
	return vnetHeaderLen
}

const (
	vnetHeaderLen     = 10
	ethernetHeaderLen = 14
	txQueueLen        = 1000 // packets waiting for the device, as an Ethernet card's
	nearName          = "trace0"
	farName           = "trace1" // veth: our end, which has to live in the namespace too
)

// Offload is a set of tasks that the child's kernel leaves to the device. The bits are TUN's (TUN_F_*).
type Offload uint

const (
	Checksum Offload = 0x01 // checksums are partial (VIRTIO_NET_HDR_F_NEEDS_CSUM)
	TSO4     Offload = 0x02 // TCP segments over IPv4 up to 64 KB
	TSO6     Offload = 0x04 // the same over IPv6
	ECN      Offload = 0x08 // such segments may carry CWR
	USO4     Offload = 0x20 // UDP_SEGMENT datagrams over IPv4
	USO6     Offload = 0x40 // the same over IPv6

	TSO = TSO4 | TSO6 | ECN // whatever TCP can leave undone
	USO = USO4 | USO6       // whatever UDP can; Linux 6.2 and later
)

// NearName is what the interface of a namespace is called.
const NearName = nearName
