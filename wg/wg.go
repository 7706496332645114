// Package wg joins a device to a stack by a WireGuard tunnel that lives in
// this process, or lets peers outside join it.
//
//	link := &wg.Link{Far: tunnel.Device()}
//	err := link.Up(ctx)              // needs no device yet
//	err = link.Attach(wg.Device{File: tun})
//	defer link.Close()
//
// # Theory of operation
//
// Two wireguard-go devices with fresh keys face each other:
//
//	child's device ── near ══ bind ══ far ── Link.Far (the stack)
//
// near reads and writes the child's TUN or packet socket, far is given and
// belongs to the stack. Between them messages go by a rendezvous: who sends
// copies straight into the buffer of who receives, and waits until there is
// one. So there is no queue to overflow and no packet is lost on the way.
//
// Checksums of transport protocols are not carried through the tunnel, whose
// authentication is stronger: near takes packets whose checksums the child's
// kernel left out, and asks it to complete those that it writes. The far end
// must neither verify nor fill them in.
//
// A packet costs about as much whatever its size, so the MTU is as large as
// a WireGuard message can be. Kernel offloads towards us: checksums only. A
// TCP packet that is larger than the MTU all the same (segmentation offload
// of a packet socket) passes if it fits a message, and looks like one large
// segment to the stack; a UDP one that stands for several datagrams is cut.
//
// Order: far comes up first, then near, then near starts the handshake,
// because a lost first initiation is tried again after five seconds only.
// What near reads before the handshake is done waits in the child's device.
//
// # Peers outside
//
//	conns, err := wg.Listen(":51820")
//	e := &wg.Endpoint{Key: key, Far: tunnel.Device(), Conns: conns}
//	err = e.Up()
//	defer e.Close()
//	err = e.Add(wg.Peer{PublicKey: theirs, AllowedIPs: addresses})
//
// An Endpoint is one wireguard-go device on real UDP sockets, whose peers come
// and go while it runs. It never begins a conversation: where a peer is, is
// learned from what it sends, so that it may roam. Answers leave from the
// address that was asked. Packets of peers end in other kernels: checksums are
// complete in both directions.
//
// Who is not listed gets no answer at all. What was refused, and why, is only
// logged by WireGuard, without the sender's key: handshakes are kept in a ring
// until they were judged, and those that were refused are read again (see
// Refusal).
package wg

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// MTU is what the child's interface must have at most, in bytes: a WireGuard
// message of 65535 holds it, its padding to 16 and 32 bytes of overhead, also
// inside a UDP datagram.
const MTU = 65456

// handshakeTime bounds Up. In memory a handshake takes a few milliseconds.
const handshakeTime = time.Second

// Device describes the device that the child's packets come out of.
type Device struct {
	// File is a TUN with IFF_NO_PI|IFF_VNET_HDR, or an AF_PACKET, SOCK_RAW
	// socket with PACKET_VNET_HDR that is bound to one end of a veth pair. It
	// must have been non-blocking when the os.File was made, and it stays its
	// owner's: close it after the Link.
	File *os.File

	// Ethernet says that packets carry an Ethernet header: a packet socket.
	Ethernet bool

	// PeerMAC is the address of the child's interface. Only with Ethernet.
	PeerMAC net.HardwareAddr
}

// Link is a tunnel between a device and a stack. Far is required. The fields
// must not be changed after Up.
type Link struct {
	// Far is the stack's end: packets written to it go to the stack.
	Far tun.Device

	// Log receives what the WireGuard devices complain about. Nil is silent.
	Log func(format string, args ...any)

	// Down is called once when the device failed for good, so that no packet
	// will come any more. Nil is allowed.
	Down func(err error)

	// mu guards what follows.
	mu        sync.Mutex
	near      *nearDevice
	wire      *binds
	closed    bool
	nearWG    *device.Device
	farWG     *device.Device
	closeOnce sync.Once
}

// Up makes both ends and returns when their handshake is complete, or with an
// error when ctx ends or a second has passed. It may be called once; Close
// must follow also after an error.
func (l *Link) Up(ctx context.Context) error {
	if l.Far == nil {
		return errors.New("wireguard link: no far end")
	}
	l.mu.Lock()
	if l.near != nil || l.closed {
		l.mu.Unlock()
		return errors.New("wireguard link: up or closed already")
	}
	l.wire = newBinds()
	l.near = newNearDevice(l.Down)
	log := &device.Logger{Verbosef: device.DiscardLogf, Errorf: device.DiscardLogf}
	if l.Log != nil {
		log.Errorf = l.complain
	}
	l.farWG = device.NewDevice(l.Far, l.wire.far, log)
	l.nearWG = device.NewDevice(l.near, l.wire.near, log)
	err := l.introduce()
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("wireguard link: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	select {
	case <-l.wire.established:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wireguard link: handshake: %w", context.Cause(ctx))
	}
}

// complain passes on what a WireGuard device says, but for what it says
// about the wire that Close has cut.
func (l *Link) complain(format string, args ...any) {
	if !isClosed(l.wire.cut) {
		l.Log(format, args...)
	}
}

// introduce gives both ends their keys, brings them up and starts the
// handshake.
func (l *Link) introduce() error {
	nearKey, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	farKey, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	if err := configure(l.farWG, farKey, nearKey.PublicKey()); err != nil {
		return fmt.Errorf("far end: %w", err)
	}
	if err := configure(l.nearWG, nearKey, farKey.PublicKey()); err != nil {
		return fmt.Errorf("near end: %w", err)
	}
	peer := l.nearWG.LookupPeer(device.NoisePublicKey(farKey.PublicKey().Bytes()))
	if peer == nil {
		return errors.New("near end: peer is missing")
	}
	return peer.SendHandshakeInitiation(false)
}

// configure gives a device its key and its one peer, from whom and to whom
// everything goes, and brings it up.
func configure(d *device.Device, own *ecdh.PrivateKey, peer *ecdh.PublicKey) error {
	conf := fmt.Sprintf("private_key=%s\npublic_key=%s\nendpoint=%s\nallowed_ip=0.0.0.0/0\nallowed_ip=::/0\n",
		hex.EncodeToString(own.Bytes()), hex.EncodeToString(peer.Bytes()), onlyEndpoint)
	if err := d.IpcSet(conf); err != nil {
		return err
	}
	return d.Up()
}

// Attach starts carrying packets between the tunnel and the child's device.
// It may be called once, after Up.
func (l *Link) Attach(dev Device) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.near == nil || l.closed {
		return errors.New("wireguard link: attach: not up")
	}
	if err := l.near.attach(dev); err != nil {
		return fmt.Errorf("wireguard link: attach: %w", err)
	}
	return nil
}

// Close ends the tunnel and its goroutines. Packets on the way are lost:
// close the stack first. It closes Far, but not the device's file, on which it
// leaves a deadline in the past.
func (l *Link) Close() error {
	l.closeOnce.Do(l.close)
	return nil
}

func (l *Link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.near == nil {
		return
	}
	close(l.wire.cut)
	l.nearWG.Close()
	l.farWG.Close()
	<-l.nearWG.Wait()
	<-l.farWG.Wait()
}
