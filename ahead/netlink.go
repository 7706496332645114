package ahead

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rtnl speaks rtnetlink(7), one request at a time. A package that does all of netlink would bring net with it, and with net
// everything that this package must not wait for.
type rtnl struct {
	fd  int
	seq uint32
}

// rtnlBuffer holds any answer of the kinds that are asked for here.
const rtnlBuffer = 16 << 10

// openRTNL joins the multicast groups whose bits are set in groups (RTMGRP_*).
func openRTNL(groups uint32) (*rtnl, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket AF_NETLINK", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind AF_NETLINK", err)
	}
	return &rtnl{fd: fd}, nil
}

func (c *rtnl) close() { unix.Close(c.fd) }

// do sends one request, a fixed part and its attributes, and returns the answer's body: nil where it is only that all is well.
func (c *rtnl) do(kind, flags uint16, body []byte) ([]byte, error) {
	c.seq++
	p := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	p = append(p, body...)
	ne := binary.NativeEndian
	ne.PutUint32(p, uint32(len(p)))
	ne.PutUint16(p[4:], kind)
	ne.PutUint16(p[6:], unix.NLM_F_REQUEST|flags)
	ne.PutUint32(p[8:], c.seq)
	if err := unix.Sendto(c.fd, p, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto AF_NETLINK", err)
	}
	for {
		got, err := c.receive()
		if err != nil {
			return nil, err
		}
		if ne.Uint32(got[8:]) != c.seq {
			continue // an answer that nobody waited for
		}
		body := got[unix.SizeofNlMsghdr:]
		if ne.Uint16(got[4:]) != unix.NLMSG_ERROR {
			return body, nil
		}
		if len(body) < 4 {
			return nil, unix.EBADMSG
		}
		if errno := -int32(ne.Uint32(body)); errno != 0 {
			return nil, unix.Errno(errno)
		}
		return nil, nil
	}
}

// receive returns the first message of the next packet.
func (c *rtnl) receive() ([]byte, error) {
	p := make([]byte, rtnlBuffer)
	for {
		n, _, err := unix.Recvfrom(c.fd, p, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvfrom AF_NETLINK", err)
		}
		if n < unix.SizeofNlMsghdr {
			return nil, unix.EBADMSG
		}
		size := int(binary.NativeEndian.Uint32(p))
		if size < unix.SizeofNlMsghdr || size > n {
			return nil, unix.EBADMSG
		}
		return p[:size], nil
	}
}

// attribute appends one to a message.
func attribute(msg []byte, kind uint16, data []byte) []byte {
	msg = binary.NativeEndian.AppendUint16(msg, uint16(unix.SizeofRtAttr+len(data)))
	msg = binary.NativeEndian.AppendUint16(msg, kind)
	msg = append(msg, data...)
	for len(msg)%unix.NLMSG_ALIGNTO != 0 {
		msg = append(msg, 0)
	}
	return msg
}

func attribute32(msg []byte, kind uint16, v uint32) []byte {
	return attribute(msg, kind, binary.NativeEndian.AppendUint32(nil, v))
}

// ifInfo is a struct ifinfomsg for the interface with this index, 0 for a new one.
func ifInfo(index int) []byte {
	p := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(p[4:], uint32(index))
	return p
}

const (
	vethInfoPeer = 1 // VETH_INFO_PEER
	newObject    = unix.NLM_F_CREATE | unix.NLM_F_EXCL | unix.NLM_F_ACK
)

// addVeth makes a pair of interfaces.
func (c *rtnl) addVeth(name, peer string, mtu, queue int) error {
	end := func(name string) []byte {
		p := attribute(ifInfo(0), unix.IFLA_IFNAME, append([]byte(name), 0))
		p = attribute32(p, unix.IFLA_MTU, uint32(mtu))
		return attribute32(p, unix.IFLA_TXQLEN, uint32(queue))
	}
	info := attribute(nil, unix.IFLA_INFO_KIND, []byte("veth"))
	info = attribute(info, unix.IFLA_INFO_DATA, attribute(nil, vethInfoPeer, end(peer)))
	_, err := c.do(unix.RTM_NEWLINK, newObject, attribute(end(name), unix.IFLA_LINKINFO, info))
	return err
}

// set changes one 32-bit property of an interface.
func (c *rtnl) set(index int, property uint16, v uint32) error {
	_, err := c.do(unix.RTM_NEWLINK, unix.NLM_F_ACK, attribute32(ifInfo(index), property, v))
	return err
}

// addAddress gives an interface an address.
func (c *rtnl) addAddress(index int, a Prefix) error {
	p := make([]byte, unix.SizeofIfAddrmsg)
	p[0], p[1] = a.family(), byte(a.Bits)
	binary.NativeEndian.PutUint32(p[4:], uint32(index))
	p = attribute(p, unix.IFA_LOCAL, a.IP)
	p = attribute(p, unix.IFA_ADDRESS, a.IP)
	if a.is6() {
		p = attribute32(p, unix.IFA_FLAGS, unix.IFA_F_NODAD) // nobody else is on the link
	}
	_, err := c.do(unix.RTM_NEWADDR, newObject, p)
	return err
}

// rtMsg is a struct rtmsg with its destination.
func rtMsg(to Prefix, table, protocol, scope, kind byte) []byte {
	p := make([]byte, unix.SizeofRtMsg)
	p[0], p[1], p[4], p[5], p[6], p[7] = to.family(), byte(to.Bits), table, protocol, scope, kind
	if to.Bits > 0 {
		p = attribute(p, unix.RTA_DST, to.IP)
	}
	return p
}

// addRoute leads what goes to a prefix through an interface.
func (c *rtnl) addRoute(index int, to Prefix) error {
	scope := byte(unix.RT_SCOPE_LINK)
	if to.is6() {
		scope = unix.RT_SCOPE_UNIVERSE // IPv6 knows no other
	}
	p := rtMsg(to, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, scope, unix.RTN_UNICAST)
	_, err := c.do(unix.RTM_NEWROUTE, newObject, attribute32(p, unix.RTA_OIF, uint32(index)))
	return err
}

// isLocal tells whether the kernel takes packets to an address for its own.
func (c *rtnl) isLocal(a Prefix) (bool, error) {
	a.Bits = 8 * len(a.IP)
	p, err := c.do(unix.RTM_GETROUTE, 0, rtMsg(a, 0, 0, 0, 0))
	if IsErrno(err, unix.ENETUNREACH, unix.EHOSTUNREACH) {
		return false, nil
	}
	return len(p) >= unix.SizeofRtMsg && p[7] == unix.RTN_LOCAL, err
}

// ifRequest is struct ifreq. Of its union it has what is used here.
type ifRequest struct {
	name [unix.IFNAMSIZ]byte
	data [24]byte
}

// ioctl asks something about an interface, or changes it, through any socket. The answer lies in the request.
func (r *ifRequest) ioctl(name string, op uint) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	copy(r.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(op), uintptr(unsafe.Pointer(r))); errno != 0 {
		return errno
	}
	return nil
}

// findInterface returns the index and the hardware address of an interface.
func findInterface(name string) (index int, mac [6]byte, err error) {
	var r ifRequest
	if err := r.ioctl(name, unix.SIOCGIFINDEX); err != nil {
		return 0, mac, fmt.Errorf("find %s: %w", name, err)
	}
	index = int(int32(binary.NativeEndian.Uint32(r.data[:])))
	var hw ifRequest
	if err := hw.ioctl(name, unix.SIOCGIFHWADDR); err != nil {
		return 0, mac, fmt.Errorf("address of %s: %w", name, err)
	}
	copy(mac[:], hw.data[2:]) // behind sa_family
	return index, mac, nil
}

// setFlags adds flags (IFF_*) to those that an interface has.
func setFlags(name string, flags uint16) error {
	var r ifRequest
	if err := r.ioctl(name, unix.SIOCGIFFLAGS); err != nil {
		return err
	}
	binary.NativeEndian.PutUint16(r.data[:], binary.NativeEndian.Uint16(r.data[:])|flags)
	return r.ioctl(name, unix.SIOCSIFFLAGS)
}
