package mirror

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Sizes and offsets of linux/inet_diag.h and linux/netlink.h.
const (
	netlinkHeader = 16 // struct nlmsghdr
	diagRequest   = 56 // struct inet_diag_req_v2
	diagMessage   = 72 // struct inet_diag_msg; attributes follow
	attrHeader    = 4  // struct nlattr

	stateListen  = 10 // TCP_LISTEN
	attrV6Only   = 11 // INET_DIAG_SKV6ONLY
	loopbackLink = 1  // the index of lo in every namespace

	// diagBuffer is the most that the kernel puts into one message of a dump.
	diagBuffer = 32 << 10
)

var errNoDone = errors.New("the list has no end")

// diag lists the listeners of one network namespace. Not safe for concurrent
// use.
type diag struct {
	fd   int
	seq  uint32
	list []listener // of the last look
	// whole says that nothing can be missing from list: each family came in one
	// message. Otherwise a listener that closes while the kernel goes from one
	// message to the next may hide another.
	whole bool

	batches int // messages with listeners of the current dump
	request [netlinkHeader + diagRequest]byte
	buf     [diagBuffer]byte
}

// newDiag takes over f. It uses the descriptor without the runtime's poller,
// which would be woken by every answer although none has to be waited for: the
// kernel makes them during the request.
func newDiag(f *os.File) (*diag, error) {
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	d := &diag{fd: -1}
	var dup error
	err = raw.Control(func(fd uintptr) { d.fd, dup = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = os.NewSyscallError("fcntl", dup)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// diagHere makes the socket that lists this process's namespace.
func diagHere() (*diag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("socket sock_diag: %w", err)
	}
	return &diag{fd: fd}, nil
}

// diagThere has the socket made that lists the child's namespace.
func diagThere(ctx context.Context, in Inside) (*diag, error) {
	f, err := in.Diag(ctx)
	if err != nil {
		return nil, err
	}
	return newDiag(f)
}

func (d *diag) close() {
	if d != nil && d.fd >= 0 {
		unix.Close(d.fd)
		d.fd = -1
	}
}

// look reads the listeners that loopback leads to into list, and tells whether they
// are others than before. into is what list is built from, so that two lists in
// turn need no memory. After an error list is as it was.
func (d *diag) look(into []listener) (spare []listener, changed bool, err error) {
	now, whole := into[:0], true
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		var one bool
		if now, one, err = d.dump(family, now); err != nil {
			return now, false, fmt.Errorf("list listeners: %w", err)
		}
		whole = whole && one
	}
	whole = whole && len(now) < maxListeners
	changed = len(now) != len(d.list)
	for i := 0; !changed && i < len(now); i++ {
		changed = now[i] != d.list[i]
	}
	spare, d.list, d.whole = d.list, now, whole
	return spare, changed, nil
}

// dump appends the listeners of one family; one says that they came in a
// single message.
func (d *diag) dump(family byte, to []listener) (list []listener, one bool, err error) {
	d.seq++
	r := d.request[:]
	clear(r)
	binary.NativeEndian.PutUint32(r[0:], uint32(len(r)))
	binary.NativeEndian.PutUint16(r[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(r[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(r[8:], d.seq)
	r[netlinkHeader], r[netlinkHeader+1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(r[netlinkHeader+4:], 1<<stateListen)
	if _, err := retry(func() (int, error) { return unix.Write(d.fd, r) }); err != nil {
		return to, false, os.NewSyscallError("write", err)
	}
	d.batches = 0
	for {
		n, err := retry(func() (int, error) { return unix.Read(d.fd, d.buf[:]) })
		if err == unix.EAGAIN {
			return to, false, errNoDone
		}
		if err != nil {
			return to, false, os.NewSyscallError("read", err)
		}
		var done bool
		if to, done, err = d.parse(d.buf[:n], to); err != nil || done {
			return to, d.batches <= 1, err
		}
	}
}

func retry(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}

// parse reads the netlink messages of one packet. What does not belong to the
// current request is passed over.
func (d *diag) parse(p []byte, to []listener) (list []listener, done bool, err error) {
	before := len(to)
	defer func() {
		if len(list) > before {
			d.batches++
		}
	}()
	for len(p) >= netlinkHeader {
		size := int(binary.NativeEndian.Uint32(p))
		if size < netlinkHeader || size > len(p) {
			return to, false, unix.EBADMSG
		}
		kind, seq, body := binary.NativeEndian.Uint16(p[4:]), binary.NativeEndian.Uint32(p[8:]), p[netlinkHeader:size]
		p = p[min(align(size), len(p)):]
		switch {
		case seq != d.seq:
		case kind == unix.NLMSG_DONE:
			return to, true, nil
		case kind == unix.NLMSG_ERROR:
			if len(body) < 4 {
				return to, false, unix.EBADMSG
			}
			return to, false, unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
		case kind == unix.SOCK_DIAG_BY_FAMILY:
			if l, ok := parseListener(body); ok && len(to) < maxListeners {
				to = append(to, l)
			}
		}
	}
	return to, false, nil
}

func align(n int) int { return (n + 3) &^ 3 }

// parseListener reads a struct inet_diag_msg and its attributes. ok says that
// it is a listener that loopback leads to.
func parseListener(p []byte) (l listener, ok bool) {
	if len(p) < diagMessage || p[1] != stateListen {
		return l, false
	}
	link := binary.NativeEndian.Uint32(p[4+36:]) // SO_BINDTODEVICE
	if link != 0 && link != loopbackLink {
		return l, false
	}
	var addr netip.Addr
	switch p[0] {
	case unix.AF_INET:
		addr = netip.AddrFrom4([4]byte(p[8:]))
	case unix.AF_INET6:
		addr = netip.AddrFrom16([16]byte(p[8:])).Unmap()
	}
	if !local(addr) {
		return l, false
	}
	l.at = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(p[4:]))
	l.inode = binary.NativeEndian.Uint32(p[68:])
	for p = p[diagMessage:]; len(p) >= attrHeader; {
		size := int(binary.NativeEndian.Uint16(p))
		if size < attrHeader || size > len(p) {
			break
		}
		if binary.NativeEndian.Uint16(p[2:]) == attrV6Only && size > attrHeader {
			l.v6only = p[attrHeader] != 0
		}
		p = p[min(align(size), len(p)):]
	}
	return l, true
}
