package datagram

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxPacket   = 1 << 16
	receiveRoom = 1 << 20 // bytes of answers that a socket may hold
	patience    = time.Second
	maxFails    = 100 // errors in a row after which a socket is given up
)

// errNoICMP says that this process can make no socket for echo requests.
var errNoICMP = errors.New("neither ping sockets nor raw sockets are permitted")

// A socket is connected to where the child sent something.
type socket struct {
	proto  uint8
	six    bool
	raw    bool   // an echo's, without a kernel that fills in and sorts
	ident  uint16 // of a raw one
	ttl    int
	file   *os.File
	conn   syscall.RawConn
	closed atomic.Bool
}

// connect makes the socket of a talk.
func (r *Relay) connect(k key) (*socket, error) {
	s := &socket{proto: k.proto, six: k.dst.Addr().Is6()}
	fd, err := r.open(s)
	if err != nil {
		return nil, err
	}
	if err := r.setUp(fd, s, k); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("send to %v: %w", k.dst.Addr(), err)
	}
	s.file = os.NewFile(uintptr(fd), "datagram")
	if s.conn, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, fmt.Errorf("send to %v: %w", k.dst.Addr(), err)
	}
	return s, nil
}

// open makes the descriptor for s.
func (r *Relay) open(s *socket) (int, error) {
	const flags = unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	domain, proto := unix.AF_INET, int(s.proto)
	if s.six {
		domain = unix.AF_INET6
	}
	if s.proto != unix.IPPROTO_UDP && s.six {
		proto = unix.IPPROTO_ICMPV6
	}
	create := r.Socket
	if create == nil {
		create = unix.Socket
	}
	fd, err := create(domain, unix.SOCK_DGRAM|flags, proto)
	if err == nil || s.proto == unix.IPPROTO_UDP {
		return fd, os.NewSyscallError("socket", err)
	}
	s.raw = true
	s.ident = uint16(r.ident.Add(1)) ^ uint16(os.Getpid())
	if fd, err = create(domain, unix.SOCK_RAW|flags, proto); err != nil {
		return -1, fmt.Errorf("%w: %w", errNoICMP, err)
	}
	return fd, nil
}

// setUp sets the options of fd and connects it.
func (r *Relay) setUp(fd int, s *socket, k key) error {
	var dst unix.Sockaddr
	if s.six {
		dst = &unix.SockaddrInet6{Port: int(k.dst.Port()), Addr: k.dst.Addr().As16()}
	} else {
		dst = &unix.SockaddrInet4{Port: int(k.dst.Port()), Addr: k.dst.Addr().As4()}
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveRoom)
	level, errs, ttl := unix.SOL_IP, unix.IP_RECVERR, unix.IP_RECVTTL
	if s.six {
		level, errs, ttl = unix.SOL_IPV6, unix.IPV6_RECVERR, unix.IPV6_RECVHOPLIMIT
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err := unix.SetsockoptInt(fd, level, errs, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if s.proto != unix.IPPROTO_UDP {
		unix.SetsockoptInt(fd, level, ttl, 1)
		if s.raw {
			s.filter(fd)
		}
		return os.NewSyscallError("connect", unix.Connect(fd, dst))
	}
	if err := r.bind(fd, s.six, k.src); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Connect(fd, dst); err != nil {
		r.release(k.src)
		return os.NewSyscallError("connect", err)
	}
	// What came to the port before it was connected came from somebody else.
	var b [1]byte
	for range maxQueued {
		if _, _, err := unix.Recvfrom(fd, b[:], unix.MSG_DONTWAIT); err != nil {
			break
		}
	}
	return nil
}

// filter lets only echo replies come to a raw socket.
func (s *socket) filter(fd int) {
	if s.six {
		var f unix.ICMPv6Filter
		for i := range f.Data {
			f.Data[i] = ^uint32(0)
		}
		f.Data[icmp6Reply/32] &^= 1 << (icmp6Reply % 32)
		unix.SetsockoptICMPv6Filter(fd, unix.SOL_ICMPV6, unix.ICMPV6_FILTER, &f)
		return
	}
	const solRaw, icmpFilter = 255, 1 // SOL_RAW, ICMP_FILTER
	unix.SetsockoptInt(fd, solRaw, icmpFilter, ^(1 << icmpReply))
}

// bind gives fd the host's port that stands for src. The first socket takes
// a port that nobody has; the others may share that because all of them are
// connected, each to another destination.
func (r *Relay) bind(fd int, six bool, src netip.AddrPort) error {
	at := func(port uint16) unix.Sockaddr {
		if six {
			return &unix.SockaddrInet6{Port: int(port)}
		}
		return &unix.SockaddrInet4{Port: int(port)}
	}
	r.binding.Lock()
	defer r.binding.Unlock()
	p := r.ports[src]
	if p != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if unix.Bind(fd, at(p.number)) == nil {
			p.users++
			return nil
		}
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
	}
	if err := unix.Bind(fd, at(0)); err != nil {
		return err
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if p != nil {
		p.users++
		return nil
	}
	p = &port{users: 1}
	switch name, _ := unix.Getsockname(fd); name := name.(type) {
	case *unix.SockaddrInet4:
		p.number = uint16(name.Port)
	case *unix.SockaddrInet6:
		p.number = uint16(name.Port)
	}
	if r.ports == nil {
		r.ports = make(map[netip.AddrPort]*port)
	}
	r.ports[src] = p
	return nil
}

// release undoes bind.
func (r *Relay) release(src netip.AddrPort) {
	r.binding.Lock()
	defer r.binding.Unlock()
	if p := r.ports[src]; p != nil {
		if p.users--; p.users == 0 {
			delete(r.ports, src)
		}
	}
}

// port is the host's port of one source of the child.
type port struct {
	number uint16
	users  int
}

// send sends one datagram, or an echo request with that sequence number. Only
// one call at a time.
func (s *socket) send(p []byte, ttl int, seq uint16) error {
	if s.proto != unix.IPPROTO_UDP {
		p = s.request(p, seq)
	}
	var err error
	write := func(fd uintptr) {
		if ttl != s.ttl && ttl > 0 {
			s.setTTL(int(fd), ttl)
		}
		_, err = unix.SendmsgN(int(fd), p, nil, nil, unix.MSG_DONTWAIT)
	}
	if cerr := s.conn.Control(write); cerr != nil {
		return cerr
	}
	if err == unix.EAGAIN {
		s.file.SetWriteDeadline(time.Now().Add(patience))
		werr := s.conn.Write(func(fd uintptr) bool {
			write(fd)
			return err != unix.EAGAIN
		})
		if werr != nil {
			err = werr
		}
	}
	return os.NewSyscallError("send", err)
}

func (s *socket) setTTL(fd, ttl int) {
	s.ttl = ttl
	if s.six {
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS, ttl)
		return
	}
	unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TTL, ttl)
}

var buffers = sync.Pool{New: func() any { return new([maxPacket]byte) }}

// receive waits for one packet and hands it over; what is none of ours is
// left out. It holds no buffer while it waits.
func (s *socket) receive(f func(p []byte, seq uint16, ttl int)) error {
	var buf *[maxPacket]byte
	var n, ttl int
	var err error
	rerr := s.conn.Read(func(fd uintptr) bool {
		buf = buffers.Get().(*[maxPacket]byte)
		n, ttl, err = s.read(int(fd), buf[:])
		if err != nil {
			buffers.Put(buf)
			buf = nil
		}
		return err != unix.EAGAIN
	})
	if rerr != nil {
		return rerr
	}
	if err != nil {
		return err
	}
	defer buffers.Put(buf)
	if s.proto == unix.IPPROTO_UDP {
		f(buf[:n], 0, 0)
	} else if p, seq, ok := s.reply(buf[:n]); ok {
		f(p, seq, ttl)
	}
	return nil
}

func (s *socket) read(fd int, p []byte) (n, ttl int, err error) {
	if s.proto == unix.IPPROTO_UDP {
		n, err = unix.Read(fd, p)
		return n, 0, err
	}
	var oob [64]byte
	n, m, _, _, err := unix.Recvmsg(fd, p, oob[:], unix.MSG_DONTWAIT)
	if err != nil {
		return 0, 0, err
	}
	return n, hops(oob[:m]), nil
}

func (s *socket) close() {
	s.closed.Store(true)
	s.file.Close()
}

func (s *socket) isClosed() bool { return s.closed.Load() }
