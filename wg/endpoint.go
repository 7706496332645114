package wg

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// PeerMTU is the MTU of an Endpoint's tunnel, in bytes: what fits the usual
// 1500 of the network between, over IPv6 too.
const PeerMTU = 1420

// Endpoint is where peers outside join a stack: see the package doc. Key, Far
// and Conns are required. The fields must not be changed after Up.
type Endpoint struct {
	// Key is the private key of this end.
	Key Key

	// Far is the stack's end: packets written to it go to the stack. Peers
	// are the kernels of other machines: checksums are complete.
	Far tun.Device

	// Conns are the sockets, of Listen or handed over by who started this
	// program. Close closes them, also where Up was never called.
	Conns []*net.UDPConn

	// Refused is told of what came from outside and was not let in: for each
	// kind and sender at once, and then seldom. It must not block. Nil: nobody
	// is told.
	Refused func(Refusal)

	// Log receives what the WireGuard device complains about. Nil is silent.
	Log func(format string, args ...any)

	device  *device.Device
	doorman doorman
	closing atomic.Bool

	// mu makes changes of the peers one at a time.
	mu        sync.Mutex
	closeOnce sync.Once
}

// Peer is somebody who may join.
type Peer struct {
	PublicKey Key

	// AllowedIPs are the addresses inside the tunnel that are this peer's and
	// nobody else's: packets from it with another source are dropped.
	AllowedIPs []netip.Prefix
}

// PeerStats is what is known of a peer.
type PeerStats struct {
	Peer
	Endpoint        netip.AddrPort // where it was heard last; invalid: never
	LatestHandshake time.Time      // zero: none
	Received, Sent  uint64         // bytes of WireGuard messages, on the outside
}

// Up starts to answer. It may be called once; Close must follow also after an
// error.
func (e *Endpoint) Up() error {
	if e.Far == nil || len(e.Conns) == 0 || e.device != nil {
		return errors.New("wireguard endpoint: no far end, no socket, or up already")
	}
	log := &device.Logger{Verbosef: e.hear, Errorf: e.complain}
	e.doorman.init(e.Key, e.Refused)
	bind := &bindSockets{}
	for _, c := range e.Conns {
		bind.sockets = append(bind.sockets, newSocket(c, e.doorman.see))
	}
	e.device = device.NewDevice(e.Far, bind, log)
	err := e.device.IpcSet("private_key=" + e.Key.hex() + "\n")
	if err == nil {
		err = e.device.Up()
	}
	if err != nil {
		return fmt.Errorf("wireguard endpoint: %w", err)
	}
	return nil
}

// Addrs returns the addresses that are listened on.
func (e *Endpoint) Addrs() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, c := range e.Conns {
		if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
			addrs = append(addrs, unmapped(a.AddrPort()))
		}
	}
	return addrs
}

// Add lets a peer in, from now on. One that is known gets the addresses that
// are given; its connection goes on.
func (e *Endpoint) Add(p Peer) error {
	if len(p.AllowedIPs) == 0 {
		return fmt.Errorf("wireguard peer %v: no addresses", p.PublicKey)
	}
	if p.PublicKey == e.Key.Public() || p.PublicKey == (Key{}) {
		return fmt.Errorf("wireguard peer %v: not the key of a peer", p.PublicKey)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	known, err := e.peers()
	if err != nil {
		return err
	}
	for _, k := range known {
		for _, a := range k.AllowedIPs {
			if k.PublicKey != p.PublicKey && slices.ContainsFunc(p.AllowedIPs, a.Overlaps) {
				return fmt.Errorf("wireguard peer %v: %v is that of peer %v", p.PublicKey, a, k.PublicKey)
			}
		}
	}
	conf := "public_key=" + p.PublicKey.hex() + "\nreplace_allowed_ips=true\n"
	for _, a := range p.AllowedIPs {
		conf += "allowed_ip=" + a.Masked().String() + "\n"
	}
	if err := e.device.IpcSet(conf); err != nil {
		return fmt.Errorf("wireguard peer %v: %w", p.PublicKey, err)
	}
	e.doorman.know(p.PublicKey, true)
	return nil
}

// Remove shuts a peer out, from now on. One that is not known is fine.
func (e *Endpoint) Remove(key Key) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.doorman.know(key, false)
	if err := e.device.IpcSet("public_key=" + key.hex() + "\nremove=true\n"); err != nil {
		return fmt.Errorf("wireguard peer %v: %w", key, err)
	}
	return nil
}

// Peers returns who may join, in the order of their first address.
func (e *Endpoint) Peers() ([]PeerStats, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.peers()
}

// Refusals returns how many messages were not let in, by kind.
func (e *Endpoint) Refusals() map[RefusalKind]uint64 { return e.doorman.totals() }

func (e *Endpoint) peers() ([]PeerStats, error) {
	if e.device == nil || e.closing.Load() {
		return nil, net.ErrClosed
	}
	text, err := e.device.IpcGet()
	if err != nil {
		return nil, fmt.Errorf("wireguard endpoint: %w", err)
	}
	var all []PeerStats
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		if name == "public_key" {
			all = append(all, PeerStats{})
		}
		if len(all) > 0 {
			all[len(all)-1].read(name, value)
		}
	}
	slices.SortFunc(all, func(a, b PeerStats) int {
		if len(a.AllowedIPs) == 0 || len(b.AllowedIPs) == 0 {
			return len(b.AllowedIPs) - len(a.AllowedIPs)
		}
		return a.AllowedIPs[0].Addr().Compare(b.AllowedIPs[0].Addr())
	})
	return all, nil
}

// read takes in a line of WireGuard's configuration protocol.
func (p *PeerStats) read(name, value string) {
	number, _ := strconv.ParseUint(value, 10, 63) // 0 where it is none
	switch name {
	case "public_key":
		hex.Decode(p.PublicKey[:], []byte(value))
	case "endpoint":
		p.Endpoint, _ = netip.ParseAddrPort(value)
	case "last_handshake_time_sec":
		if number > 0 {
			p.LatestHandshake = time.Unix(int64(number), 0)
		}
	case "last_handshake_time_nsec":
		if !p.LatestHandshake.IsZero() {
			p.LatestHandshake = p.LatestHandshake.Add(time.Duration(number))
		}
	case "rx_bytes":
		p.Received = number
	case "tx_bytes":
		p.Sent = number
	case "allowed_ip":
		if a, err := netip.ParsePrefix(value); err == nil {
			p.AllowedIPs = append(p.AllowedIPs, a)
			slices.SortFunc(p.AllowedIPs, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
		}
	}
}

// complain passes on what the WireGuard device says, but for what it says
// about sockets that Close has stopped.
func (e *Endpoint) complain(format string, args ...any) {
	if e.Log != nil && !e.closing.Load() {
		e.Log(format, args...)
	}
}

// hear is told everything that the WireGuard device does.
func (e *Endpoint) hear(format string, args ...any) {
	if !e.closing.Load() {
		e.doorman.hear(format, args)
	}
}

// Close shuts everybody out, ends the goroutines and waits for them. Packets
// on the way are lost: close the stack first. It closes Far and the sockets.
func (e *Endpoint) Close() error {
	e.closeOnce.Do(e.close)
	return nil
}

func (e *Endpoint) close() {
	e.closing.Store(true)
	if e.device != nil {
		e.device.Close()
		<-e.device.Wait()
	}
	for _, c := range e.Conns {
		c.Close()
	}
}
