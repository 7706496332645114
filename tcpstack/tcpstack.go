// Package tcpstack turns IP packets into TCP and UDP conversations that know
// where they wanted to go.
//
//	dev, err := tcpstack.NewDevice(tcpstack.DeviceOptions{File: tun, MTU: 1500})
//	s, err := tcpstack.New(tcpstack.Options{Link: dev, Accept: serve})
//	defer s.Close()
//
//	func serve(in *tcpstack.Incoming) {
//		up, err := net.Dial("tcp", in.Dst().String())
//		if err != nil {
//			in.Refuse(err) // the child's connect fails the way ours did
//			return
//		}
//		down, err := in.Accept()
//		…
//	}
//
// It does not dial, relay, resolve or record: it hands over conversations.
//
// # Theory of operation
//
// A [Link] carries IP packets between the child's kernel and a gVisor stack
// whose one interface claims every address there is (promiscuous for what
// comes in, spoofing for what goes out). There are two links: [Device] reads
// and writes a TUN or a packet socket itself ("direct"), [Tunnel] is the far
// end of a WireGuard tunnel. Both have back-pressure instead of drops: a full
// queue makes the stack wait.
//
// TCP. A SYN for which no connection exists becomes an [Incoming] in a
// goroutine of its own, and nothing is answered until somebody decided
// (Accept or Refuse). Meanwhile the headers of the SYN are kept, at most
// maxInFlight of them, because an ICMP error must quote them. Retransmissions
// of a SYN that is being decided, or whose dial timed out, are dropped. A SYN
// beyond the limit is dropped and counted; the child's kernel sends it again
// after a second.
//
// The child sees, by the error that Refuse is given:
//
//	ECONNREFUSED, any other   RST                         ECONNREFUSED
//	EHOSTUNREACH, EHOSTDOWN,  ICMP host unreachable,      EHOSTUNREACH
//	a name that has no addr.  ICMPv6 address unreachable
//	ENETUNREACH, ENETDOWN,    ICMP net unreachable,       ENETUNREACH
//	EADDRNOTAVAIL             ICMPv6 no route
//	EACCES, EPERM             ICMP communication          EHOSTUNREACH (IPv4),
//	                          administratively prohibited EACCES (IPv6)
//	a timeout                 nothing                     ETIMEDOUT, its own
//
// A child that gives up while its SYN is pending tells nobody (its kernel
// forgets a socket in SYN-SENT silently); Accept then fails, because the
// answer is met by RST.
//
// UDP. Each datagram is offered to Options.Datagram; one that is not taken is
// answered with port unreachable at once, so that QUIC falls back to TCP
// without waiting. A datagram keeps what it takes to answer it, later too:
// with datagrams (Reply), as an error of our own tells (Refuse), or with an
// ICMP error that somebody further on sent (Fail).
//
// ICMP. Each echo request is offered to Options.Echo; one that is not taken
// is answered with administratively prohibited. Nothing is answered in the
// destination's name without it: an answer of ours would lie about who can be
// reached.
//
// Dropped without an answer, and counted: truncated or malformed packets,
// loopback, multicast, broadcast and unspecified addresses, protocols other
// than TCP, UDP and ICMP.
//
// Goroutines: one reader and one writer per Device, gVisor's processors (one
// per CPU), one for each Incoming and each Datagram.Go. Close ends all of
// them and waits.
package tcpstack

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	nicID = 1

	// bufferDefault and bufferMax bound the send and the receive buffer of a
	// connection, in bytes. 4 MiB is where throughput stops growing; more
	// only costs memory.
	bufferDefault = 1 << 20
	bufferMax     = 4 << 20

	// timeWait is short because no segment can wander about on a link inside
	// one machine, and because a SYN that reuses the port waits for its end.
	timeWait = time.Second

	// maxDatagrams bounds the goroutines of Datagram.Go.
	maxDatagrams = 1024
)

// Options says what a Stack is made of. Link is required.
type Options struct {
	// Link carries the packets: a *Device or a *Tunnel. The stack uses it up:
	// a link serves one stack.
	Link Link

	// Accept is called for each connection that the child wants, in a
	// goroutine of its own, and decides by in.Accept or in.Refuse; one that
	// decided nothing by its return is refused. Nil refuses all.
	Accept func(in *Incoming)

	// Datagram is called for each UDP datagram in the order of arrival, on
	// the packet path: it must not block (see Datagram.Go). It returns whether
	// the datagram was taken; others are answered with port unreachable. Nil
	// takes none.
	Datagram func(d *Datagram) bool

	// Echo is called for each ICMP echo request in the order of arrival, on
	// the packet path: it must not block. It returns whether the request was
	// taken; others are refused. Nil takes none.
	Echo func(e *Echo) bool

	// Capture sees every packet of the link: those of the child before
	// anything else does, refused and malformed ones too, those to the child
	// when they leave. It is called from several goroutines, on the packet
	// path: it must not block. The parts of a packet are valid during the
	// call. Checksums may not be filled in yet: there is the sum of the
	// pseudo header then, or 0. Nil sees none.
	Capture func(toChild bool, parts ...[]byte)

	// KeepAlive is after what silence the other end of a connection is asked
	// whether it is still there: one that is not would keep it for ever. 0:
	// never, because a child's kernel cannot vanish.
	KeepAlive time.Duration

	// LinkDown is called once, from the link's reader, when the device failed
	// for good, so that no packet will come any more. Nil is allowed.
	LinkDown func(err error)
}

// Stack is a TCP/IP stack that takes every connection on its link for its
// own. Its methods may be called concurrently.
type Stack struct {
	opt  Options
	ns   *stack.Stack
	link endpoint
	syns synTable

	verify bool // checksums of UDP and ICMP; gVisor sees to those of TCP

	datagrams atomic.Int64
	counters  counters

	// mu guards closed, and handlers against an Add after closed is set.
	mu       sync.Mutex
	closed   bool
	handlers sync.WaitGroup
	done     chan struct{} // closed by Close

	closeOnce sync.Once
}

// New builds a stack on opt.Link and starts serving. It fails only when the
// link cannot be used.
func New(opt Options) (*Stack, error) {
	if opt.Link == nil {
		return nil, errors.New("tcp stack: no link")
	}
	s := &Stack{opt: opt, link: opt.Link.endpoint(), done: make(chan struct{})}
	s.ns = stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
		HandleLocal: false,
	})
	s.verify = s.link.Capabilities()&stack.CapabilityRXChecksumOffload == 0
	s.link.bind(&s.counters, opt.LinkDown, opt.Capture)
	if err := s.configure(); err != nil {
		s.ns.Destroy()
		s.link.stop()
		return nil, err
	}
	s.link.start()
	return s, nil
}

// configure sets the protocol options, the interface and the handlers. The
// values are measured ones: SACK and RACK on (no cost where nothing is lost,
// and a packet socket may lose), Nagle off, reno.
func (s *Stack) configure() error {
	sack := tcpip.TCPSACKEnabled(true)
	delay := tcpip.TCPDelayEnabled(false)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	cc := tcpip.CongestionControlOption("reno")
	snd := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: bufferDefault, Max: bufferMax}
	rcv := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: bufferDefault, Max: bufferMax}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &delay, &moderate, &wait, &cc, &snd, &rcv} {
		if err := s.ns.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("tcp stack: set %T: %s", o, err)
		}
	}
	if err := s.ns.CreateNIC(nicID, s.link); err != nil {
		return fmt.Errorf("tcp stack: create interface: %s", err)
	}
	if err := s.ns.SetPromiscuousMode(nicID, true); err != nil {
		return fmt.Errorf("tcp stack: promiscuous mode: %s", err)
	}
	if err := s.ns.SetSpoofing(nicID, true); err != nil {
		return fmt.Errorf("tcp stack: spoofing: %s", err)
	}
	s.ns.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID},
		{Destination: header.IPv6EmptySubnet, NIC: nicID},
	})
	s.syns.init(s)
	s.ns.SetTransportProtocolHandler(tcp.ProtocolNumber, s.syns.handle)
	s.ns.SetTransportProtocolHandler(udp.ProtocolNumber, s.handleDatagram)
	s.ns.SetTransportProtocolHandler(icmp.ProtocolNumber4, s.handleEcho4)
	s.ns.SetTransportProtocolHandler(icmp.ProtocolNumber6, s.handleEcho6)
	return nil
}

// enter counts a handler in; it reports false once the stack is closing.
func (s *Stack) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.handlers.Add(1)
	return true
}

// Close resets all connections, stops reading the link, and returns when
// every goroutine of the stack has ended, those of Options.Accept and
// Datagram.Go too: cancel what they wait for first. What was queued for the
// link is still written. It does not close the device's file.
func (s *Stack) Close() error {
	s.closeOnce.Do(s.close)
	return nil
}

func (s *Stack) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.done)
	s.link.stopReading()

	idle := make(chan struct{})
	go s.awaitHandlers(idle)
	// A handshake that began while we were closing is not among the endpoints
	// of the first round, and nobody else would wake it.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting; {
		for _, ep := range s.ns.RegisteredEndpoints() {
			ep.Abort()
		}
		select {
		case <-idle:
			waiting = false
		case <-tick.C:
		}
	}
	s.ns.Destroy()
	s.link.stop()
}

func (s *Stack) awaitHandlers(idle chan<- struct{}) {
	s.handlers.Wait()
	close(idle)
}
