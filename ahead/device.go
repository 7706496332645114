package ahead

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const tunFile = "/dev/net/tun"

func (b *builder) makeDevice() error {
	d := &b.ready.Device
	d.Name, d.MTU = nearName, b.setup.MTU
	switch b.setup.Device {
	case TUN:
		return b.makeTUN()
	case Veth:
		return b.makeVeth()
	}
	err := b.makeTUN()
	if err == nil {
		return nil
	}
	if vethErr := b.makeVeth(); vethErr != nil {
		return fmt.Errorf("no TUN device (%w), and no veth pair: %w", err, vethErr)
	}
	b.note("device", string(TUN), err)
	return nil
}

// makeTUN fails for an ordinary user where the node is 0600: capabilities do not help, its owner is not mapped.
func (b *builder) makeTUN() error {
	fd, err := unix.Open(tunFile, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: tunFile, Err: err}
	}
	req, err := unix.NewIfreq(nearName)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = os.NewSyscallError("TUNSETIFF", unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	b.device, b.ready.Device.Kind = fd, TUN
	if b.link, err = openLink(nearName); err != nil {
		return err
	}
	if err := b.link.rtnl.set(b.link.index, unix.IFLA_MTU, uint32(b.setup.MTU)); err != nil {
		return fmt.Errorf("set MTU %d of %s: %w", b.setup.MTU, nearName, err)
	}
	if err := b.link.rtnl.set(b.link.index, unix.IFLA_TXQLEN, txQueueLen); err != nil {
		return fmt.Errorf("set queue length %d of %s: %w", txQueueLen, nearName, err)
	}
	return nil
}

// makeVeth needs no node under /dev and no right outside the namespaces. Both ends lie in the child's namespace; what
// reaches the far end is read there by a packet socket. Neither end does ARP or neighbour discovery: no one would answer.
func (b *builder) makeVeth() error {
	c, err := openRTNL(0)
	if err != nil {
		return err
	}
	if err := c.addVeth(nearName, farName, b.setup.MTU, txQueueLen); err != nil {
		c.close()
		return fmt.Errorf("add veth pair: %w", err)
	}
	c.close()
	if b.link, err = openLink(nearName); err != nil {
		return err
	}
	far, mac, err := findInterface(farName)
	if err != nil {
		return err
	}
	d := &b.ready.Device
	d.Kind, d.ChildMAC, d.MAC = Veth, b.link.mac, mac
	if err := setFlags(nearName, unix.IFF_NOARP); err != nil {
		return fmt.Errorf("switch off ARP: %w", err)
	}
	// The far end's own neighbour discovery would only be noise; where this cannot be written it is dropped by the stack.
	writeSysctl("net/ipv6/conf/"+farName+"/disable_ipv6", "1")
	if err := setFlags(farName, unix.IFF_NOARP|unix.IFF_UP); err != nil {
		return fmt.Errorf("bring up %s: %w", farName, err)
	}
	b.device, err = packetSocket(far)
	return err
}

// packetBuffer is asked of the kernel for both directions of the packet socket; without privilege it grants net.core.rmem_max.
const packetBuffer = 8 << 20

func packetSocket(ifindex int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket AF_PACKET", err)
	}
	set := func(name string, level, option, value int) {
		if err == nil {
			err = os.NewSyscallError("setsockopt "+name, unix.SetsockoptInt(fd, level, option, value))
		}
	}
	set("PACKET_IGNORE_OUTGOING", unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	// Without the header segments larger than the MTU would arrive with partial checksums and nothing would say so.
	set("PACKET_VNET_HDR", unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
	set("PACKET_QDISC_BYPASS", unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[0], packetBuffer) != nil {
			set("buffer", unix.SOL_SOCKET, o[1], packetBuffer)
		}
	}
	if err == nil {
		to := &unix.SockaddrLinklayer{Protocol: hostToNet16(unix.ETH_P_ALL), Ifindex: ifindex}
		err = os.NewSyscallError("bind AF_PACKET", unix.Bind(fd, to))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func hostToNet16(v uint16) uint16 { return v<<8 | v>>8 }

// setOffload asks for what the parent can take, and for less where the kernel knows less (USO came with Linux 6.2).
func (b *builder) setOffload() error {
	d := &b.ready.Device
	if b.setup.GSOMaxSize > 0 {
		if err := b.link.rtnl.set(b.link.index, unix.IFLA_GSO_MAX_SIZE, uint32(b.setup.GSOMaxSize)); err != nil {
			b.note("offload", fmt.Sprintf("gso_max_size %d", b.setup.GSOMaxSize), err)
		}
	}
	if d.Kind == Veth {
		got, err := setFeatures(nearName, b.setup.Offload)
		if err == nil {
			d.Offload = got
			return nil
		}
		if b.setup.Offload&(TSO|USO) != TSO|USO {
			// Segments of one packet only: whatever the device could do, the kernel cuts before it.
			if e := b.link.rtnl.set(b.link.index, unix.IFLA_GSO_MAX_SEGS, 1); e != nil {
				return errors.Join(err, e)
			}
		}
		b.note("offload", nearName, err)
		d.Offload = b.setup.Offload | Checksum
		if d.Offload&(TSO|USO) != TSO|USO {
			d.Offload = Checksum
		}
		return nil
	}
	var err error
	for _, want := range []Offload{b.setup.Offload, b.setup.Offload &^ USO, b.setup.Offload & Checksum, 0} {
		if err = unix.IoctlSetInt(b.device, unix.TUNSETOFFLOAD, int(want)); err == nil {
			d.Offload = want
			return nil
		}
	}
	return os.NewSyscallError("TUNSETOFFLOAD", err)
}
