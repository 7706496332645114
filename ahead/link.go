package ahead

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// link is the child's interface.
type link struct {
	index  int
	mac    [6]byte
	rtnl   *rtnl
	routes *rtnl // tells of changes of IPv6 routes
}

func openLink(name string) (*link, error) {
	index, mac, err := findInterface(name)
	if err != nil {
		return nil, err
	}
	c, err := openRTNL(0)
	if err != nil {
		return nil, err
	}
	return &link{index: index, mac: mac, rtnl: c}, nil
}

// loopback brings lo up; the kernel then gives it 127.0.0.1/8 and ::1 itself.
func (b *builder) loopback() error {
	if err := setFlags("lo", unix.IFF_UP); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return nil
}

func (b *builder) addAddress() error {
	// No link-local address: the kernel would solicit routers that are not there.
	writeSysctl("net/ipv6/conf/"+nearName+"/addr_gen_mode", "1")
	if err := setFlags(nearName, unix.IFF_UP); err != nil {
		return fmt.Errorf("bring up %s: %w", nearName, err)
	}
	if !b.setup.Addr4.valid() {
		return nil
	}
	return b.link.add(b.setup.Addr4)
}

// addAddress6 is the only step that may come to nothing: hosts without IPv6 are common.
func (b *builder) addAddress6() error {
	if !b.setup.Addr6.valid() {
		return nil
	}
	_, err := os.Stat("/proc/net/if_inet6")
	if err == nil {
		b.link.routes, err = openRTNL(unix.RTMGRP_IPV6_ROUTE)
	}
	if err == nil {
		err = b.link.add(b.setup.Addr6)
		if IsErrno(err, unix.EACCES) && writeSysctl("net/ipv6/conf/"+nearName+"/disable_ipv6", "0") == nil {
			err = b.link.add(b.setup.Addr6)
		}
	}
	if err == nil {
		return nil
	}
	if !b.setup.Addr4.valid() {
		return err
	}
	b.note("ipv6", b.setup.Addr6.Text, err)
	b.setup.Addr6 = Prefix{}
	return nil
}

// settlePatience bounds the wait for the kernel's own work on an address. It takes less than a millisecond on an idle machine.
const settlePatience = time.Second

// awaitAddress6 waits until packets to the child's IPv6 address are taken in. The kernel enters the route for that in a worker, some time
// after it said that the address is there, and until then drops answers: the first connection would lose a second.
func (b *builder) awaitAddress6() {
	if !b.setup.Addr6.valid() || b.link.routes == nil {
		return
	}
	defer b.link.routes.close()
	wait := unix.NsecToTimeval(int64(settlePatience))
	err := unix.SetsockoptTimeval(b.link.routes.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	for err == nil {
		var is bool
		if is, err = b.link.rtnl.isLocal(b.setup.Addr6); is {
			return
		}
		if err == nil {
			_, err = b.link.routes.receive() // some route changed
		}
	}
	b.note("ipv6", b.setup.Addr6.Text, err)
}

func (l *link) add(p Prefix) error {
	if err := l.rtnl.addAddress(l.index, p); err != nil {
		return fmt.Errorf("add %s to %s: %w", p.Text, nearName, err)
	}
	return nil
}

func (b *builder) addRoutes() error {
	for _, p := range b.setup.Routes {
		if !p.is6() && !b.setup.Addr4.valid() || p.is6() && !b.setup.Addr6.valid() {
			continue
		}
		err := b.link.rtnl.addRoute(b.link.index, p)
		if err != nil && !IsErrno(err, unix.EEXIST) {
			return fmt.Errorf("add route %s dev %s: %w", p.Text, nearName, err)
		}
	}
	return nil
}

// bindDNS makes the sockets of a nameserver on the child's loopback: UDP and TCP of each address, in ListenDNS's order.
func (b *builder) bindDNS() error {
	for i, a := range b.setup.ListenDNS {
		udp, err := bindPort53(a, unix.SOCK_DGRAM)
		tcp := -1
		if err == nil {
			if tcp, err = bindPort53(a, unix.SOCK_STREAM); err != nil {
				unix.Close(udp)
			}
		}
		if err != nil {
			if a.is6() && IsErrno(err, unix.EAFNOSUPPORT, unix.EADDRNOTAVAIL) {
				b.note("dns-sockets", a.Text, err)
				continue
			}
			return err
		}
		b.ready.DNS = append(b.ready.DNS, i)
		b.out = append(b.out, udp, tcp)
	}
	return nil
}

func bindPort53(a Prefix, kind int) (int, error) {
	fd, err := openSocket(a.IP, 53, kind)
	if err != nil {
		return -1, fmt.Errorf("bind port 53 of %s: %w", a.Text, err)
	}
	return fd, nil
}
