package datagram

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"trace/flow"
)

// Types of ICMP (RFC 792) and ICMPv6 (RFC 4443), and the size of an echo's
// header in both.
const (
	icmpReply, icmpRequest                   = 0, 8
	icmpUnreachable, icmpExceeded, icmpParam = 3, 11, 12
	icmpTooBig                               = 4 // a code of unreachable

	icmp6Request, icmp6Reply                    = 128, 129
	icmp6Unreachable, icmp6Exceeded, icmp6Param = 1, 3, 4

	echoHeader = 8
)

// maxComplaints bounds the ICMP errors that are read in one go.
const maxComplaints = 64

// request builds an echo request. The kernel fills in the identifier of a
// ping socket, and the checksum of that and of any over IPv6.
func (s *socket) request(p []byte, seq uint16) []byte {
	b := make([]byte, echoHeader, echoHeader+len(p))
	b[0] = icmpRequest
	if s.six {
		b[0] = icmp6Request
	}
	binary.BigEndian.PutUint16(b[4:], s.ident)
	binary.BigEndian.PutUint16(b[6:], seq)
	b = append(b, p...)
	if s.raw && !s.six {
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return b
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// reply takes an echo reply apart; ok is false for what is none of ours.
func (s *socket) reply(p []byte) (payload []byte, seq uint16, ok bool) {
	if s.raw && !s.six { // with the IP header
		if len(p) == 0 || int(p[0]&15)*4 > len(p) {
			return nil, 0, false
		}
		p = p[int(p[0]&15)*4:]
	}
	want := byte(icmpReply)
	if s.six {
		want = icmp6Reply
	}
	if len(p) < echoHeader || p[0] != want || s.raw && binary.BigEndian.Uint16(p[4:]) != s.ident {
		return nil, 0, false
	}
	return p[echoHeader:], binary.BigEndian.Uint16(p[6:]), true
}

// hops finds the time to live in control messages, 0 if it is not there.
func hops(oob []byte) int {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, c := range list {
		four := c.Header.Level == unix.SOL_IP && c.Header.Type == unix.IP_TTL
		six := c.Header.Level == unix.SOL_IPV6 && c.Header.Type == unix.IPV6_HOPLIMIT
		if (four || six) && len(c.Data) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(c.Data)))
		}
	}
	return 0
}

// A complaint is what the kernel tells about a packet that was sent (struct
// sock_extended_err, ip(7)).
type complaint struct {
	errno     unix.Errno
	icmp      bool
	six       bool
	typ, code uint8
	from      netip.Addr
	seq       uint16 // of an echo request
	stranger  bool   // about a packet that is not ours
}

// complaint takes one from the socket's queue of errors.
func (s *socket) complaint() (c complaint, ok bool) {
	var quoted, oob [256]byte
	var n, m int
	var err error
	cerr := s.conn.Control(func(fd uintptr) {
		n, m, _, _, err = unix.Recvmsg(int(fd), quoted[:], oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	})
	if cerr != nil || err != nil {
		return c, false
	}
	c.six = s.six
	if s.proto != unix.IPPROTO_UDP {
		c.stranger = n < echoHeader || s.raw && binary.BigEndian.Uint16(quoted[4:]) != s.ident
		c.seq = binary.BigEndian.Uint16(quoted[6:])
	}
	list, err := unix.ParseSocketControlMessage(oob[:m])
	if err != nil {
		return c, true
	}
	for _, one := range list {
		four := one.Header.Level == unix.SOL_IP && one.Header.Type == unix.IP_RECVERR
		six := one.Header.Level == unix.SOL_IPV6 && one.Header.Type == unix.IPV6_RECVERR
		if (four || six) && len(one.Data) >= 16 {
			c.read(one.Data)
		}
	}
	return c, true
}

// read takes in a sock_extended_err and the address behind it.
func (c *complaint) read(b []byte) {
	c.errno = unix.Errno(binary.NativeEndian.Uint32(b))
	c.icmp = b[4] == unix.SO_EE_ORIGIN_ICMP || b[4] == unix.SO_EE_ORIGIN_ICMP6
	c.typ, c.code = b[5], b[6]
	switch from := b[16:]; {
	case len(from) >= 8 && binary.NativeEndian.Uint16(from) == unix.AF_INET:
		c.from, _ = netip.AddrFromSlice(from[4:8])
	case len(from) >= 24 && binary.NativeEndian.Uint16(from) == unix.AF_INET6:
		c.from, _ = netip.AddrFromSlice(from[8:24])
		c.from = c.from.Unmap()
	}
}

// passable reports whether the child should hear of it: somebody on the way
// could not deliver a packet, for another reason than its size.
func (c *complaint) passable() bool {
	switch {
	case !c.icmp || c.stranger:
		return false
	case c.six:
		return c.typ == icmp6Unreachable || c.typ == icmp6Exceeded || c.typ == icmp6Param
	}
	return c.typ == icmpUnreachable && c.code != icmpTooBig || c.typ == icmpExceeded || c.typ == icmpParam
}

// fault says it in a row.
func (c *complaint) fault() *flow.Error {
	f := &flow.Error{Where: flow.AtUpstream, Code: flow.CodeUnreachable}
	what := c.errno.Error()
	switch exceeded := c.typ == icmpExceeded && !c.six || c.typ == icmp6Exceeded && c.six; {
	case exceeded:
		what = "time to live exceeded"
	case errors.Is(c.errno, unix.ECONNREFUSED):
		f.Code = flow.CodeRefused
	}
	f.Message = fmt.Sprintf("%v says: %s", c.from, what)
	return f
}
