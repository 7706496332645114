package tcpstack

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// maxInFlight bounds the SYNs that nobody has decided about yet.
	maxInFlight = 8192

	// maxSettled bounds the memory of SYNs that were refused, and settledFor
	// is how long one is remembered: as long as Linux goes on sending it
	// again (tcp_syn_retries 6).
	maxSettled = 4096
	settledFor = 130 * time.Second
)

// Incoming is a connection that the child asked for and that is not decided
// yet: exactly one of Accept and Refuse counts, the first. Its methods may be
// called concurrently.
type Incoming struct {
	stack *Stack
	req   *tcp.ForwarderRequest
	id    stack.TransportEndpointID
	syn   syn
	once  atomic.Bool
}

// Src returns the child's end.
func (in *Incoming) Src() netip.AddrPort { return addrPort(in.id.RemoteAddress, in.id.RemotePort) }

// Dst returns where the child wanted to go.
func (in *Incoming) Dst() netip.AddrPort { return addrPort(in.id.LocalAddress, in.id.LocalPort) }

// Accept completes the handshake with the child and returns the connection,
// a *Conn. It fails when the child is gone, or has reset the connection before
// Accept could return (ECONNRESET or ETIMEDOUT in the error), and after
// Refuse, Accept or Stack.Close (net.ErrClosed).
func (in *Incoming) Accept() (net.Conn, error) {
	if in.once.Swap(true) {
		return nil, in.wrap(net.ErrClosed)
	}
	defer in.stack.syns.forget(in.id)
	select {
	case <-in.stack.done:
		in.req.Complete(false)
		return nil, in.wrap(net.ErrClosed)
	default:
	}
	wq := new(waiter.Queue)
	ep, terr := in.req.CreateEndpoint(wq)
	if terr != nil {
		in.req.Complete(false)
		in.stack.counters.abandoned.Add(1)
		err := errno(terr)
		if err == syscall.ECONNABORTED { // by our Close
			err = net.ErrClosed
		}
		return nil, in.wrap(err)
	}
	in.req.Complete(false)
	if idle := in.stack.opt.KeepAlive; idle > 0 {
		keepAlive(ep, idle)
	}
	return newConn(ep, wq, in.Dst(), in.Src(), in.stack.done), nil
}

// keepAlive lets a connection end whose other end does not answer any more:
// after a silence it is asked up to six times.
func keepAlive(ep tcpip.Endpoint, idle time.Duration) {
	after, every := tcpip.KeepaliveIdleOption(idle), tcpip.KeepaliveIntervalOption(idle/4)
	ep.SetSockOpt(&after) // fails for no value
	ep.SetSockOpt(&every)
	ep.SetSockOptInt(tcpip.KeepaliveCountOption, 6)
	ep.SocketOptions().SetKeepAlive(true)
}

func (in *Incoming) wrap(err error) error {
	return fmt.Errorf("accept %v for %v: %w", in.Src(), in.Dst(), err)
}

// Refuse makes the child's connect fail in the way that err tells; the
// package doc has the table. A nil err counts as ECONNREFUSED.
func (in *Incoming) Refuse(err error) {
	if in.once.Swap(true) {
		return
	}
	kind := refusalOf(err)
	in.stack.syns.settle(in.id, in.syn.seq, kind)
	in.req.Complete(kind == reset)
	in.stack.syns.forget(in.id)
	if kind != silence {
		in.stack.counters.refused.Add(1)
	}
	if kind != reset && kind != silence {
		in.stack.unreachable(kind, in.id, in.syn.headers)
	}
}

// syn is what is kept of a SYN until it is decided.
type syn struct {
	seq     uint32
	headers []byte // network and transport header, as they came
}

// synTable knows the SYNs that are not decided yet, and how those that were
// refused are answered when they are sent again.
type synTable struct {
	stack     *Stack
	forwarder *tcp.Forwarder

	// mu guards the maps.
	mu      sync.Mutex
	pending map[stack.TransportEndpointID]syn
	settled map[stack.TransportEndpointID]settledSYN
}

// A settledSYN was refused. The child may send it again all the same: a
// retransmission crossed our answer, or its kernel could not take an ICMP
// error just then. It is answered as before, and is no new attempt.
type settledSYN struct {
	seq   uint32
	kind  refusal
	until time.Time
}

func (t *synTable) init(s *Stack) {
	t.stack = s
	t.pending = make(map[stack.TransportEndpointID]syn)
	t.settled = make(map[stack.TransportEndpointID]settledSYN)
	// Ours is the limit that counts; gVisor's must never be met first.
	t.forwarder = tcp.NewForwarder(s.ns, 0, 2*maxInFlight, t.serve)
}

// handle sees each TCP segment that belongs to no connection. It returns
// false to have it answered with RST.
func (t *synTable) handle(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	seg := header.TCP(pkt.TransportHeader().Slice())
	if len(seg) < header.TCPMinimumSize {
		t.stack.counters.malformed.Add(1)
		return true
	}
	const kinds = header.TCPFlagSyn | header.TCPFlagAck | header.TCPFlagRst | header.TCPFlagFin
	if seg.Flags()&kinds != header.TCPFlagSyn {
		return false
	}
	admitted, again := t.admit(id, pkt, seg.SequenceNumber())
	if again != nil && again.kind == reset {
		return false
	}
	if again != nil && again.kind != silence {
		t.stack.unreachable(again.kind, id, headersOf(id, pkt))
	}
	if !admitted {
		return true
	}
	if !t.forwarder.HandlePacket(id, pkt) {
		t.forget(id)
		t.stack.counters.malformed.Add(1)
	}
	return true
}

// headersOf copies the network and transport header of a SYN.
func headersOf(id stack.TransportEndpointID, pkt *stack.PacketBuffer) []byte {
	network := pkt.NetworkHeader().Slice()
	headers := slices.Concat(network, pkt.TransportHeader().Slice())
	if pkt.Data().Size() == 0 {
		completeChecksum(header.TCPProtocolNumber, id, headers[len(network):], nil)
	}
	return headers
}

// admit notes a SYN, unless it is one sent again or one too many. One that
// was refused before is returned.
func (t *synTable) admit(id stack.TransportEndpointID, pkt *stack.PacketBuffer, seq uint32) (bool, *settledSYN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.pending[id]; ok {
		return false, nil
	}
	if s, ok := t.settled[id]; ok {
		if s.seq == seq && time.Now().Before(s.until) {
			return false, &s
		}
		delete(t.settled, id)
	}
	if len(t.pending) >= maxInFlight {
		t.stack.counters.synsDropped.Add(1)
		return false, nil
	}
	t.pending[id] = syn{seq: seq, headers: headersOf(id, pkt)}
	return true, nil
}

func (t *synTable) forget(id stack.TransportEndpointID) {
	t.mu.Lock()
	delete(t.pending, id)
	t.mu.Unlock()
}

// settle remembers how a SYN was refused, so that one attempt of the child is
// one attempt of ours.
func (t *synTable) settle(id stack.TransportEndpointID, seq uint32, kind refusal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if len(t.settled) >= maxSettled {
		for id, s := range t.settled {
			if now.After(s.until) || s.kind != silence {
				delete(t.settled, id)
			}
		}
	}
	if len(t.settled) < maxSettled {
		t.settled[id] = settledSYN{seq: seq, kind: kind, until: now.Add(settledFor)}
	}
}

// serve runs in a goroutine that gVisor's forwarder starts for each SYN.
func (t *synTable) serve(req *tcp.ForwarderRequest) {
	s := t.stack
	id := req.ID()
	if !s.enter() {
		req.Complete(false)
		t.forget(id)
		return
	}
	defer s.handlers.Done()
	t.mu.Lock()
	in := &Incoming{stack: s, req: req, id: id, syn: t.pending[id]}
	t.mu.Unlock()
	s.counters.syns.Add(1)
	if s.opt.Accept != nil {
		s.opt.Accept(in)
	}
	in.Refuse(syscall.ECONNREFUSED) // unless it was decided
}

func addrPort(a tcpip.Address, port uint16) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(a.AsSlice())
	return netip.AddrPortFrom(ip, port)
}
