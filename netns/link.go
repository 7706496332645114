package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// link is the child's interface.
type link struct {
	handle *netlink.Handle
	near   netlink.Link
	routes *nl.NetlinkSocket // tells of changes of IPv6 routes
}

func openLink(name string) (*link, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	l, err := h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", name, err)
	}
	return &link{handle: h, near: l}, nil
}

// loopback brings lo up; the kernel then gives it 127.0.0.1/8 and ::1 itself.
func (b *builder) loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return nil
}

func (b *builder) addAddress() error {
	// No link-local address: the kernel would solicit routers that are not there.
	writeSysctl("net/ipv6/conf/"+nearName+"/addr_gen_mode", "1")
	if err := b.link.handle.LinkSetUp(b.link.near); err != nil {
		return fmt.Errorf("bring up %s: %w", nearName, err)
	}
	if !b.setup.Addr4.IsValid() {
		return nil
	}
	return b.link.add(b.setup.Addr4)
}

// addAddress6 is the only step that may come to nothing: hosts without IPv6 are common.
func (b *builder) addAddress6() error {
	if !b.setup.Addr6.IsValid() {
		return nil
	}
	_, err := os.Stat("/proc/net/if_inet6")
	if err == nil {
		b.link.routes, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	}
	if err == nil {
		err = b.link.add(b.setup.Addr6)
		if isErrno(err, unix.EACCES) && writeSysctl("net/ipv6/conf/"+nearName+"/disable_ipv6", "0") == nil {
			err = b.link.add(b.setup.Addr6)
		}
	}
	if err == nil {
		return nil
	}
	if !b.setup.Addr4.IsValid() {
		return err
	}
	b.note("ipv6", b.setup.Addr6.String(), err)
	b.setup.Addr6 = netip.Prefix{}
	return nil
}

// settlePatience bounds the wait for the kernel's own work on an address. It takes less than a millisecond on an idle machine.
const settlePatience = time.Second

// awaitAddress6 waits until packets to the child's IPv6 address are taken in. The kernel enters the route for that in a worker, some time
// after it said that the address is there, and until then drops answers: the first connection would lose a second.
func (b *builder) awaitAddress6() {
	if !b.setup.Addr6.IsValid() || b.link.routes == nil {
		return
	}
	defer b.link.routes.Close()
	own := net.IP(b.setup.Addr6.Addr().AsSlice())
	wait := unix.NsecToTimeval(int64(settlePatience))
	err := b.link.routes.SetReceiveTimeout(&wait)
	for err == nil {
		var found []netlink.Route
		found, err = b.link.handle.RouteGet(own)
		if len(found) > 0 && found[0].Type == unix.RTN_LOCAL {
			return
		}
		if err == nil {
			_, _, err = b.link.routes.Receive() // some route changed
		}
	}
	b.note("ipv6", b.setup.Addr6.String(), err)
}

func (l *link) add(p netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // nobody else is on the link
	}
	if err := l.handle.AddrAdd(l.near, a); err != nil {
		return fmt.Errorf("add %v to %s: %w", p, nearName, err)
	}
	return nil
}

func (b *builder) addRoutes() error {
	for _, p := range b.setup.Routes {
		if p.Addr().Is4() && !b.setup.Addr4.IsValid() || p.Addr().Is6() && !b.setup.Addr6.IsValid() {
			continue
		}
		r := &netlink.Route{LinkIndex: b.link.near.Attrs().Index, Dst: ipNet(p.Masked()), Scope: netlink.SCOPE_LINK}
		if p.Addr().Is6() {
			r.Scope = netlink.SCOPE_UNIVERSE // IPv6 knows no other
		}
		err := b.link.handle.RouteAdd(r)
		if err != nil && !isErrno(err, unix.EEXIST) {
			return fmt.Errorf("add route %v dev %s: %w", p, nearName, err)
		}
	}
	return nil
}

// ipNet writes a default route out: netlink would take a nil destination for a missing one.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// bindDNS makes the sockets of a nameserver on the child's loopback: UDP and TCP of each address, in ListenDNS's order.
func (b *builder) bindDNS() error {
	for _, a := range b.setup.ListenDNS {
		udp, err := bindPort53(a, unix.SOCK_DGRAM)
		tcp := -1
		if err == nil {
			if tcp, err = bindPort53(a, unix.SOCK_STREAM); err != nil {
				unix.Close(udp)
			}
		}
		if err != nil {
			if a.Is6() && isErrno(err, unix.EAFNOSUPPORT, unix.EADDRNOTAVAIL) {
				b.note("dns-sockets", a.String(), err)
				continue
			}
			return err
		}
		b.ready.DNS = append(b.ready.DNS, a)
		b.out = append(b.out, udp, tcp)
	}
	return nil
}

const dnsBacklog = 128

func bindPort53(a netip.Addr, kind int) (int, error) {
	family, to := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: 53, Addr: [4]byte(a.AsSlice()[:4])})
	if a.Is6() {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Port: 53, Addr: a.As16()}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err = unix.Bind(fd, to); err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, dnsBacklog)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind %v: %w", netip.AddrPortFrom(a, 53), err)
	}
	return fd, nil
}
