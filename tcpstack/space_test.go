package tcpstack_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The child's addresses. Anything else is reached through the device.
const (
	child4 = "198.19.255.2"
	child6 = "2001:db8:19::2"
)

// TestMain gives an ordinary user a user namespace to be root in.
func TestMain(m *testing.M) {
	const again = "TCPSTACK_TEST_USERNS"
	if os.Geteuid() == 0 || os.Getenv(again) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), again+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		// No user namespaces: the tests that need one say so.
		os.Exit(m.Run())
	}
}

// skip ends a test that this machine cannot run; where machines are made to
// run them all, it fails.
func skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("TRACE_NO_SKIP") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// space is a network namespace. A socket made in it stays in it.
type space struct{ ns *os.File }

func newSpace(t testing.TB) *space {
	t.Helper()
	s := new(space)
	errs := make(chan error)
	go func() { // its thread dies with it
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			errs <- err
			return
		}
		var err error
		s.ns, err = os.Open("/proc/thread-self/ns/net")
		errs <- err
	}()
	if err := <-errs; errors.Is(err, unix.EPERM) {
		skip(t, "no right to make a network namespace, and no user namespaces: "+err.Error())
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.ns.Close() })
	return s
}

// do runs f in a thread that is in the namespace, and waits for it.
func (s *space) do(f func() error) error {
	errs := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(s.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			errs <- err
			return
		}
		errs <- f()
	}()
	return <-errs
}

// dial connects from within the namespace.
func (s *space) dial(network, addr string) (conn net.Conn, err error) {
	err = s.do(func() error {
		conn, err = net.Dial(network, addr)
		return err
	})
	return conn, err
}

// nic is a device that the child's packets come out of.
type nic struct {
	file     *os.File
	ethernet bool
	mac      net.HardwareAddr
	mtu      int
}

// tun makes a TUN with the given offloads (TUN_F_*).
func (s *space) tun(t testing.TB, mtu int, offload int) *nic {
	t.Helper()
	var n *nic
	err := s.do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		ifr, err := unix.NewIfreq("trace0")
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
			return fmt.Errorf("TUNSETIFF: %w", err)
		}
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offload); err != nil {
			return fmt.Errorf("TUNSETOFFLOAD: %w", err)
		}
		n = &nic{file: os.NewFile(uintptr(fd), "tun"), mtu: mtu}
		return s.configure("trace0", mtu)
	})
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		skip(t, "no TUN on this machine: "+err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.file.Close() })
	return n
}

// veth makes a veth pair whose far end is a packet socket.
func (s *space) veth(t testing.TB, mtu int) *nic {
	t.Helper()
	var n *nic
	err := s.do(func() error {
		link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "trace0", MTU: mtu, TxQLen: 1000}, PeerName: "trace1"}
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		os.WriteFile("/proc/sys/net/ipv6/conf/trace1/disable_ipv6", []byte("1"), 0)
		peer, err := netlink.LinkByName("trace1")
		if err != nil {
			return err
		}
		near, err := netlink.LinkByName("trace0")
		if err != nil {
			return err
		}
		for _, l := range []netlink.Link{peer, near} {
			if err := netlink.LinkSetMTU(l, mtu); err != nil {
				return err
			}
			if err := netlink.LinkSetARPOff(l); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(peer); err != nil {
			return err
		}
		fd, err := packetSocket(peer.Attrs().Index)
		if err != nil {
			return err
		}
		n = &nic{file: os.NewFile(uintptr(fd), "veth"), ethernet: true, mac: near.Attrs().HardwareAddr, mtu: mtu}
		return s.configure("trace0", mtu)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.file.Close() })
	return n
}

func packetSocket(index int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	for _, opt := range []int{unix.PACKET_IGNORE_OUTGOING, unix.PACKET_VNET_HDR, unix.PACKET_QDISC_BYPASS} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, opt, 1); err != nil {
			return 0, fmt.Errorf("packet socket option %d: %w", opt, err)
		}
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<20)
	all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8)
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index})
}

// configure gives an interface its addresses and the default routes.
func (s *space) configure(name string, mtu int) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	os.WriteFile("/proc/sys/net/ipv4/tcp_congestion_control", []byte("reno"), 0)
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(l, mtu); err != nil {
		return err
	}
	if err := netlink.LinkSetTxQLen(l, 8192); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return err
	}
	for _, a := range []string{child4 + "/32", child6 + "/64"} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(l, addr); err != nil {
			return err
		}
	}
	for _, dst := range []string{"0.0.0.0/0", "::/0"} {
		_, cidr, _ := net.ParseCIDR(dst)
		route := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: cidr, Scope: netlink.SCOPE_LINK}
		if err := netlink.RouteAdd(route); err != nil {
			return err
		}
	}
	return awaitLocal(net.ParseIP(child6))
}

// awaitLocal waits until the kernel takes packets to ip as its own. For an
// IPv6 address it gets there in a work queue, also without duplicate address
// detection; what comes earlier is dropped.
func awaitLocal(ip net.IP) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		routes, err := netlink.RouteGet(ip)
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%v is not local: %v, %v", ip, routes, err)
		}
	}
}

// remove takes an interface away.
func (s *space) remove(t testing.TB, name string) {
	t.Helper()
	err := s.do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	if err != nil {
		t.Fatal(err)
	}
}
