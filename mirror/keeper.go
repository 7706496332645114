package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keeper compares the listeners of both sides and keeps the mirrors. Only one
// goroutine at a time calls its methods.
type keeper struct {
	m     *Mirror
	begin func(*port) // has a mirror accept
	diags [2]*diag
	spare [2][]listener
	ports [2]map[netip.AddrPort]*port // the mirrors by the side they stand on and the place they are for
	tries [2]map[netip.AddrPort]*try
	mine  map[uint32]bool // inodes of mirrors, also of closed ones while a list has them
	known map[uint32]bool // inodes of other listeners: whether they are this process's
	noted map[noted]bool
	again bool      // the next pass has work to do though nothing may have changed
	due   time.Time // of the next try; zero if there is none
	lone  bool      // no more sockets can be made inside

	took [3]time.Duration // by the last passes, without making mirrors
}

// A try is a mirror that could not be made yet.
type try struct {
	at    time.Time // of the next one; zero means never
	wait  time.Duration
	count int
}

type noted struct {
	kind  Kind
	port  uint16
	child bool
}

// open makes what it takes to look at both sides.
func (k *keeper) open(ctx context.Context, m *Mirror, begin func(*port)) (err error) {
	k.m, k.begin = m, begin
	k.mine, k.known, k.noted = map[uint32]bool{}, map[uint32]bool{}, map[noted]bool{}
	for s := range k.ports {
		k.ports[s], k.tries[s] = map[netip.AddrPort]*port{}, map[netip.AddrPort]*try{}
	}
	k.diags[inside] = &diag{fd: -1} // has no list yet
	if k.diags[outside], err = diagHere(); err != nil {
		return err
	}
	asked := make(chan struct{})
	var there *diag
	var failed error
	go func() {
		defer close(asked)
		there, failed = diagThere(ctx, m.Inside)
	}()
	err = k.advance(ctx)
	<-asked
	if failed != nil {
		return failed
	}
	k.diags[inside] = there
	return err
}

// advance makes the mirrors inside before inside can be looked at. Nothing of
// the child's is there yet, and whoever makes sockets there has just been
// started and answers two questions at once sooner than one after the other.
func (k *keeper) advance(ctx context.Context) (err error) {
	if k.spare[outside], _, err = k.diags[outside].look(nil); err != nil {
		return fmt.Errorf("%v: %w", outside, err)
	}
	if err := k.sort(); err != nil {
		return err
	}
	k.again = true
	k.add(ctx, inside, wanted(k.originals(outside), inside), time.Now())
	return nil
}

func (k *keeper) close() error {
	var errs []error
	for s := range k.ports {
		for at, p := range k.ports[s] {
			errs = append(errs, p.close())
			delete(k.ports[s], at)
		}
	}
	k.m.wait.Wait() // what the mirrors began
	for _, d := range k.diags {
		d.close()
	}
	return errors.Join(errs...)
}

// pass looks at both sides once and does what follows from it. changed tells
// whether there was anything new.
func (k *keeper) pass(ctx context.Context, now time.Time) (changed bool, err error) {
	want, changed, err := k.compare(now)
	copy(k.took[1:], k.took[:])
	k.took[0] = time.Since(now)
	for s := range want {
		k.add(ctx, side(s), want[s], now)
	}
	return changed, err
}

// cost is what looking takes, without the occasional pass during which others
// had the processor.
func (k *keeper) cost() time.Duration { return slices.Min(k.took[:]) }

// compare looks at both sides, drops the mirrors that are not wanted any more,
// and returns where some should stand.
func (k *keeper) compare(now time.Time) (want [2]map[netip.AddrPort]bool, changed bool, err error) {
	for s, d := range k.diags {
		var other bool
		if k.spare[s], other, err = d.look(k.spare[s]); err != nil {
			return want, true, fmt.Errorf("%v: %w", side(s), err)
		}
		k.again = k.again || other
	}
	if !k.again && (k.due.IsZero() || now.Before(k.due)) {
		return want, false, nil
	}
	if err := k.sort(); err != nil {
		return want, true, err
	}
	k.again = false
	for s := range want {
		want[s] = wanted(k.originals(side(s).other()), side(s))
	}
	for s := range want { // first: what goes may make room
		err = errors.Join(err, k.drop(side(s), want[s]))
	}
	k.due = time.Time{}
	return want, true, err
}

// sort finds out which listeners are this process's own.
func (k *keeper) sort() error {
	mine, known, unknown := map[uint32]bool{}, map[uint32]bool{}, false
	for _, ports := range k.ports {
		for _, p := range ports {
			mine[p.inode] = true
		}
	}
	for _, d := range k.diags {
		for _, l := range d.list {
			if k.mine[l.inode] {
				mine[l.inode] = true
				continue
			}
			own, ok := k.known[l.inode]
			known[l.inode] = own
			unknown = unknown || !ok
		}
	}
	k.mine = mine
	if unknown {
		own, err := ownSockets()
		if err != nil {
			return err
		}
		for inode := range known {
			known[inode] = known[inode] || own[inode]
		}
	}
	k.known = known
	return nil
}

// ownSockets lists the inodes of this process's sockets. Those that it would
// pass on to a program it executes came to it in the same way and are not
// meant.
func ownSockets() (map[uint32]bool, error) {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	own := map[uint32]bool{}
	for _, name := range names {
		link, err := os.Readlink(filepath.Join("/proc/self/fd", name))
		if err != nil {
			continue // closed meanwhile
		}
		link, isSocket := strings.CutPrefix(link, "socket:[")
		if !isSocket {
			continue
		}
		fd, err1 := strconv.Atoi(name)
		inode, err2 := strconv.ParseUint(strings.TrimSuffix(link, "]"), 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC != 0 {
			own[uint32(inode)] = true
		}
	}
	return own, nil
}

// originals lists the listeners of a side that the other should have.
func (k *keeper) originals(of side) []listener {
	return slices.DeleteFunc(slices.Clone(k.diags[of].list), func(l listener) bool {
		return k.mine[l.inode] || k.known[l.inode] || l.at.Port() == 0 || k.m.excluded(l.at.Port())
	})
}

// drop closes the mirrors on a side that are not wanted any more.
func (k *keeper) drop(on side, want map[netip.AddrPort]bool) error {
	var errs []error
	for at, p := range k.ports[on] {
		switch {
		case want[at]:
			p.missed = false
		case !k.diags[on.other()].whole && !p.missed:
			p.missed = true
			k.again = true
		default:
			errs = append(errs, k.remove(on, at, p))
		}
	}
	for at := range k.tries[on] {
		if !want[at] {
			delete(k.tries[on], at)
		}
	}
	maps.DeleteFunc(k.noted, func(n noted, _ bool) bool {
		return n.kind == Both && !k.held(outside, n.port) && !k.held(inside, n.port)
	})
	return errors.Join(errs...)
}

// held tells whether somebody else than a mirror listens on a port of a side.
func (k *keeper) held(on side, port uint16) bool {
	return slices.ContainsFunc(k.diags[on].list, func(l listener) bool { return l.at.Port() == port && !k.mine[l.inode] })
}

func (k *keeper) remove(on side, at netip.AddrPort, p *port) error {
	delete(k.ports[on], at)
	return p.close()
}

// An outcome is what became of the mirror wanted at a place.
type outcome struct {
	at       netip.AddrPort
	places   []netip.AddrPort // to try
	listener *net.TCPListener
	err      error
}

// add makes the mirrors that a side lacks.
func (k *keeper) add(ctx context.Context, on side, want map[netip.AddrPort]bool, now time.Time) {
	if k.lone || len(want) == 0 {
		return
	}
	var lacking []*outcome
	for at := range want {
		if k.ports[on][at] != nil {
			continue
		}
		t := k.tries[on][at]
		switch {
		case t != nil && t.at.IsZero():
		case t != nil && now.Before(t.at):
			k.remind(t.at)
		default:
			if places := k.free(on, at); len(places) > 0 {
				lacking = append(lacking, &outcome{at: at, places: places})
			}
		}
	}
	slices.SortFunc(lacking, func(a, b *outcome) int { return comparePlaces(a.at, b.at) })
	room := max(0, on.limit()-len(k.ports[on]))
	for _, o := range lacking[min(room, len(lacking)):] {
		k.note(Note{Kind: Limit, Port: o.at.Port(), Child: on == outside})
	}
	lacking = lacking[:min(room, len(lacking))]
	k.listen(ctx, on, lacking)
	for _, o := range lacking {
		if o.err == nil {
			o.err = k.put(on, o)
		}
		if o.err != nil && ctx.Err() == nil {
			k.failed(on, o, now)
		}
	}
}

// free returns the places where a mirror may stand as far as the lists tell.
func (k *keeper) free(on side, at netip.AddrPort) []netip.AddrPort {
	var both bool
	places := slices.DeleteFunc(candidates(on, at), func(place netip.AddrPort) bool {
		for _, l := range k.diags[on].list {
			if k.mine[l.inode] {
				continue
			}
			taken := false
			l.places(func(p netip.AddrPort) { taken = taken || overlap(p, place) })
			if taken {
				// What this process itself holds inside is there instead of
				// the host's: its name server.
				both = both || on == outside || !k.known[l.inode]
				return true
			}
		}
		return false
	})
	if len(places) == 0 && both {
		k.note(Note{Kind: Both, Port: at.Port()})
	}
	return places
}

// listen makes listeners, several at a time where that is done by another
// process.
func (k *keeper) listen(ctx context.Context, on side, lacking []*outcome) {
	var wait sync.WaitGroup
	var stuck atomic.Bool // no answer: do not wait for each of them
	slots := make(chan struct{}, listenAtOnce)
	for _, o := range lacking {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			for _, place := range o.places {
				if stuck.Load() {
					o.err = context.DeadlineExceeded
					return
				}
				if o.listener, o.err = k.m.listen(ctx, on, place); !errors.Is(o.err, unix.EADDRINUSE) {
					break
				}
			}
			if errors.Is(o.err, context.DeadlineExceeded) {
				stuck.Store(true)
			}
		})
	}
	wait.Wait()
}

// put sets up a mirror.
func (k *keeper) put(on side, o *outcome) error {
	inode, err := inodeOf(o.listener)
	if err != nil {
		o.listener.Close()
		return err
	}
	p := &port{m: k.m, on: on, at: o.at, inode: inode, listener: o.listener}
	k.mine[inode] = true
	k.ports[on][o.at] = p
	delete(k.tries[on], o.at)
	k.begin(p)
	return nil
}

func inodeOf(c syscall.Conn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.Fstat(int(fd), &st) }); err != nil {
		return 0, err
	}
	return uint32(st.Ino), os.NewSyscallError("fstat", failed)
}

// failed decides when to try again.
func (k *keeper) failed(on side, o *outcome, now time.Time) {
	port, child := o.at.Port(), on == outside
	t := k.tries[on][o.at]
	if t == nil {
		t = &try{wait: firstRetry / 2}
		k.tries[on][o.at] = t
	}
	t.count++
	switch {
	case errors.Is(o.err, unix.EACCES), errors.Is(o.err, unix.EPERM):
		t.at = time.Time{}
		k.note(Note{Kind: Denied, Port: port, Child: child, Err: cause(o.err)})
		return
	case errors.Is(o.err, unix.EADDRNOTAVAIL), errors.Is(o.err, unix.EAFNOSUPPORT):
		t.at = time.Time{} // that side has no IPv6
		k.m.log("localhost: mirror %v %v: %v", o.at, on, o.err)
		return
	case t.count == noteAfter:
		k.note(Note{Kind: Failed, Port: port, Child: child, Err: cause(o.err)})
	}
	t.wait = min(2*t.wait, lastRetry)
	t.at = now.Add(t.wait)
	k.remind(t.at)
	k.m.log("localhost: mirror %v %v: %v; trying again in %v", o.at, on, o.err, t.wait)
}

// cause takes the operation and addresses off an error where the kernel said why.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// remind has the next pass done in full from a time on.
func (k *keeper) remind(at time.Time) {
	if k.due.IsZero() || at.Before(k.due) {
		k.due = at
	}
}

// note tells something once.
func (k *keeper) note(n Note) {
	key := noted{n.Kind, n.Port, n.Child}
	if n.Kind == Limit {
		key.port = 0 // the first stands for all
	}
	if k.noted[key] {
		return
	}
	k.noted[key] = true
	k.m.log("localhost: %v", n)
	if k.m.Note != nil {
		k.m.Note(n)
	}
}

// orphan goes on without what makes sockets inside.
func (k *keeper) orphan() {
	k.lone = true
	for at, p := range k.ports[outside] {
		if err := k.remove(outside, at, p); err != nil {
			k.m.log("localhost: %v", err)
		}
	}
	k.note(Note{Kind: HelperGone})
}
