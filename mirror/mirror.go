// Package mirror makes listeners on the loopback of one side reachable on the
// other.
//
// The sides are this process's network namespace (outside, the host) and that
// of a child (inside), whose loopback devices know nothing of each other.
//
//	m := &mirror.Mirror{
//		Inside: ns,                                        // *netns.Namespace
//		Accept: func(ctx context.Context, in *mirror.Incoming) { proxy.Serve(ctx, in) },
//		Note:   func(n mirror.Note) { … },
//	}
//	err := m.Start(ctx)  // every service of the host can be reached inside now
//	// … let the child run …
//	m.Settle(ctx)
//	err = m.Close()
//
// The package carries TCP only: no UDP, no Unix sockets. It does not look at
// what passes; Accept may.
//
// # Theory of operation
//
// Loopback inside stays the kernel's: a program inside that talks to another
// inside never meets us. What a side does not have is lent to it: for each
// listener on loopback (or on the wildcard address) of one side a listener of
// ours stands on the other, the *mirror*, and each connection to it is joined
// with a new one to the original. So all that a program can observe is what
// it would observe if both sides were one: a port without a service refuses,
// a port with one is in use. A mirror goes when its original does; what is
// connected stays connected.
//
//	original                     mirror
//	outside 127.0.0.1:80         inside 127.0.0.1:80, also for ::1 and other addresses of 127/8
//	outside 0.0.0.0:80           inside 0.0.0.0:80, or 127.0.0.1:80 where that cannot be had
//	outside [::]:80              inside both of [::]:80 and 0.0.0.0:80, unless IPV6_V6ONLY
//	inside 127.0.0.1:80          outside 127.0.0.1:80, also for ::1 and other addresses of 127/8
//	inside 0.0.0.0:80            outside 127.0.0.1:80, never an address that another machine can reach
//	inside [::]:80               outside both of [::1]:80 and 127.0.0.1:80, unless IPV6_V6ONLY
//
// Inside the wildcard is kept, so that a bind to any address of that port
// fails there as it would outside; nobody else can reach that namespace.
//
// Listeners are found by asking the kernel: a NETLINK_SOCK_DIAG socket per
// side (that of inside was made there) lists the sockets in state LISTEN. Two
// lists a side, IPv4 and IPv6, every Interval; while nothing changes a pass
// ends there and allocates nothing, and after a while of that the pauses get
// longer, because being woken costs more than looking. A child that opens
// listeners by the ten thousand makes looking expensive: it takes a twentieth of
// the time at most.
//
// Own listeners are nobody's original, or mirrors would be mirrored back:
// mirrors are known by their inode, and so is every other listener of this
// process (the page of a user interface, a name server's socket that was bound
// inside) since its descriptor is in /proc/self/fd, closed on exec. Whatever
// another process holds is an original, even if that is a mirror of another
// trace: chains of mirrors follow the tree of namespaces (two traces beside
// each other, one inside the other), each link goes away with the one before
// it, and as each trace has a namespace of its own there are no two mirrors
// between the same two sides that could feed each other.
//
// A port that both sides hold, because both came to listen on it before the
// mirrors stood, stays each side's own; a [Note] says so, once. It is looked at
// again whenever the lists change. Other failures to listen are tried again with growing pauses,
// except that a privileged port, once denied, stays so.
//
// A connection to a mirror has been completed by the kernel before we see it.
// If its original refuses then (it went away in this instant) it is
// reset. Half-close and resets are carried in both directions.
//
// The child can kill whoever makes sockets inside. Then, after one Note, no
// more mirrors are made, those outside are closed (their connections could
// not be joined to anything), and those inside work on for as long as their
// originals live.
//
// Goroutines: one that keeps the lists, one per mirror that accepts, two per
// connection. Close ends all of them and waits.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Limits of a Mirror. Those that say "a side" hold for each side by itself, so
// that a child that uses one up takes nothing from the host's services.
const (
	defaultInterval = 50 * time.Millisecond
	quietInterval   = 100 * time.Millisecond // once nothing has changed for quietAfter
	quietAfter      = 2 * time.Second
	busyShare       = 20 // looking takes at most this fraction of the time

	maxOutside   = 512   // mirrors that stand outside
	maxInside    = 1024  // more: a second trace whose child uses up its limit must not use up ours
	maxConns     = 2048  // connections through the mirrors of a side; more wait to be accepted
	maxListeners = 16384 // that are looked at on a side
	listenAtOnce = 16    // requests for listeners that Inside works on

	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
	noteAfter  = 5 // failures to listen in a row
)

// Inside makes sockets in the child's namespace. A *netns.Namespace is one.
type Inside interface {
	// Listen makes a listener: network "tcp4" or "tcp6" (IPv6 only). The
	// listener is the caller's to close.
	Listen(ctx context.Context, network, address string) (*net.TCPListener, error)
	// Dial connects to a listener. The conn, a *net.TCPConn, is the caller's
	// to close.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// Diag makes a non-blocking NETLINK_SOCK_DIAG socket. It is the caller's
	// to close.
	Diag(ctx context.Context) (*os.File, error)
	// HelperDone is closed when the others will not succeed any more.
	HelperDone() <-chan struct{}
}

// A Mirror joins the loopback of two network namespaces. Its fields are set
// before Start, which is called once, as is Close.
type Mirror struct {
	Inside Inside // required

	// Accept carries a connection of the child to a service of the host, and
	// returns when it is over. ctx ends with Close. Nil: bytes are relayed
	// to in.Dst() and nobody sees them.
	Accept func(ctx context.Context, in *Incoming)

	// Exclude says which ports are left alone on both sides. Listeners of
	// this process are always. Nil: no others.
	Exclude func(port uint16) bool

	// Note is told what is not as one might expect. Calls come one after the
	// other and should not block. Nil: nobody is told.
	Note func(Note)

	// Log is for those who look for faults. Nil: silent.
	Log func(format string, args ...any)

	// Interval is the pause between two looks at the listeners. While nothing
	// changes it is 100 ms at least. Zero: 50 ms.
	Interval time.Duration

	keeper keeper
	conns  [2]chan struct{} // a slot per connection, by the side of the mirror
	cancel context.CancelFunc
	kept   sync.WaitGroup // keep
	wait   sync.WaitGroup // mirrors and their connections

	mu        sync.Mutex // guards what follows: what stands inside
	accepting map[*net.TCPListener]struct{}
	carrying  map[*net.TCPConn]struct{}
}

// Start looks at both sides and makes their mirrors, and returns when those
// stand: what listens now can be reached. From here on Close is due, also
// after an error. ctx is for Start alone.
func (m *Mirror) Start(ctx context.Context) error {
	running, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	for s := range m.conns {
		m.conns[s] = make(chan struct{}, maxConns)
	}
	begin := func(p *port) { m.wait.Go(func() { p.serve(running) }) }
	if err := m.keeper.open(ctx, m, begin); err != nil {
		return fmt.Errorf("mirror localhost: %w", err)
	}
	if _, err := m.keeper.pass(ctx, time.Now()); err != nil {
		return fmt.Errorf("mirror localhost: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("mirror localhost: %w", err)
	}
	m.kept.Go(func() { m.keep(running) })
	return nil
}

// Close closes the mirrors, resets their connections, and waits until all is
// over.
func (m *Mirror) Close() error {
	if m.cancel == nil {
		return nil
	}
	m.cancel()
	m.kept.Wait()
	return m.keeper.close()
}

// keep looks at the listeners until ctx is done.
func (m *Mirror) keep(ctx context.Context) {
	gone := m.Inside.HelperDone()
	timer := time.NewTimer(m.interval())
	defer timer.Stop()
	news := time.Now()
	var fault string
	for {
		select {
		case <-ctx.Done():
			return
		case <-gone:
			gone = nil
			if ctx.Err() == nil {
				m.keeper.orphan()
			}
			continue
		case <-timer.C:
		}
		start := time.Now()
		changed, err := m.keeper.pass(ctx, start)
		if err != nil && ctx.Err() == nil && err.Error() != fault {
			fault = err.Error()
			m.log("localhost: %v", err)
		}
		if changed {
			news = start
		}
		timer.Reset(m.pause(start.Sub(news), m.keeper.cost()))
	}
}

// pause is how long to wait after a pass, with nothing new for a while, where
// looking takes so long.
func (m *Mirror) pause(quiet, cost time.Duration) time.Duration {
	p := m.interval()
	if quiet >= quietAfter {
		p = max(p, quietInterval)
	}
	return max(p, busyShare*min(cost, lastRetry/busyShare))
}

func (m *Mirror) interval() time.Duration {
	if m.Interval > 0 {
		return m.Interval
	}
	return defaultInterval
}

func (m *Mirror) log(format string, args ...any) {
	if m.Log != nil {
		m.Log(format, args...)
	}
}

func (m *Mirror) excluded(port uint16) bool { return m.Exclude != nil && m.Exclude(port) }

// listen makes a mirror on a side.
func (m *Mirror) listen(ctx context.Context, on side, at netip.AddrPort) (*net.TCPListener, error) {
	if on == inside {
		return m.Inside.Listen(ctx, network(at), at.String())
	}
	var c net.ListenConfig
	c.SetMultipathTCP(false) // both ends are this machine
	l, err := c.Listen(ctx, network(at), at.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// dial connects to an original.
func (m *Mirror) dial(ctx context.Context, on side, to netip.AddrPort) (*net.TCPConn, error) {
	dial := new(net.Dialer).DialContext
	if on == inside {
		dial = m.Inside.Dial
	}
	c, err := dial(ctx, network(to), to.String())
	if err != nil {
		return nil, err
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("dial %v %v: %w", to, on, errors.ErrUnsupported)
	}
	return t, nil
}

func network(at netip.AddrPort) string {
	if at.Addr().Is4() {
		return "tcp4"
	}
	return "tcp6"
}
