package tcpstack_test

import (
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"trace/tcpstack"
	"trace/wg"
)

// kinds are the ways from a child to a stack.
var kinds = []struct{ link, device string }{
	{"direct", "tun"}, {"direct", "veth"}, {"wireguard", "tun"}, {"wireguard", "veth"},
}

// road is a child's namespace and the stack at its other end.
type road struct {
	*space
	stack *tcpstack.Stack
}

// each runs f once for each kind of road.
func each(t *testing.T, opt tcpstack.Options, f func(t *testing.T, r *road)) {
	for _, k := range kinds {
		t.Run(k.link+"/"+k.device, func(t *testing.T) {
			f(t, newRoad(t, k.link, k.device, opt))
		})
	}
}

// newRoad builds a road, and at the end of the test takes it down and looks
// for goroutines that stayed.
func newRoad(t testing.TB, link, device string, opt tcpstack.Options) *road {
	t.Helper()
	mtu := 1500
	if link == "wireguard" {
		mtu = wg.MTU
	}
	return newRoadMTU(t, link, device, mtu, opt)
}

func newRoadMTU(t testing.TB, link, device string, mtu int, opt tcpstack.Options) *road {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	r := &road{space: newSpace(t)}
	offload := unix.TUN_F_CSUM
	if link == "direct" {
		offload |= unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	}
	var n *nic
	if device == "tun" {
		n = r.tun(t, mtu, offload)
	} else {
		n = r.veth(t, mtu)
	}
	if link == "direct" {
		dev, err := tcpstack.NewDevice(tcpstack.DeviceOptions{File: n.file, MTU: n.mtu, Ethernet: n.ethernet, PeerMAC: n.mac})
		if err != nil {
			t.Fatal(err)
		}
		opt.Link = dev
	} else {
		tunnel, err := tcpstack.NewTunnel(n.mtu)
		if err != nil {
			t.Fatal(err)
		}
		opt.Link = tunnel
		tied := &wg.Link{Far: tunnel.Device(), Log: t.Logf}
		t.Cleanup(func() { tied.Close() })
		if err := tied.Up(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := tied.Attach(wg.Device{File: n.file, Ethernet: n.ethernet, PeerMAC: n.mac}); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if r.stack, err = tcpstack.New(opt); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.stack.Close() })
	return r
}

// accept returns an Accept func that serves each connection with f.
func accept(t testing.TB, f func(c *tcpstack.Conn)) func(*tcpstack.Incoming) {
	return func(in *tcpstack.Incoming) {
		c, err := in.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		f(c.(*tcpstack.Conn))
		c.Close()
	}
}

// dst names a destination for each family.
var dst = map[string]string{"tcp4": "192.0.2.7:443", "tcp6": "[2001:db8:1::7]:443"}

// families runs f for IPv4 and IPv6.
func families(t *testing.T, f func(t *testing.T, network, addr string)) {
	for _, network := range []string{"tcp4", "tcp6"} {
		t.Run(network, func(t *testing.T) { f(t, network, dst[network]) })
	}
}

func closeWrite(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
}
