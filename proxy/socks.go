package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"trace/flow"
)

// Values of RFC 1928 and RFC 1929.
const (
	socks5Version  = 5
	passwordVer    = 1
	methodNone     = 0
	methodPassword = 2
	methodNoneOK   = 0xff
	commandConnect = 1
	typeIPv4       = 1
	typeName       = 3
	typeIPv6       = 4
)

// Replies of RFC 1928 section 6.
const (
	replyGranted     = 0
	replyFailure     = 1
	replyNotAllowed  = 2
	replyNetwork     = 3
	replyHost        = 4
	replyRefused     = 5
	replyTTL         = 6
	replyCommand     = 7
	replyAddressType = 8
)

// Values of SOCKS 4.
const (
	socks4Version  = 4
	socks4Granted  = 90
	socks4Rejected = 91
	socks4User     = 93 // the user is not who the proxy knows
	maxSocks4      = 8 + 256 + 256
)

// commands are what else a client can ask for.
var commands = map[byte]string{2: "BIND", 3: "UDP ASSOCIATE", 0xf0: "RESOLVE", 0xf1: "RESOLVE_PTR"}

// socks5 agrees on a method, follows it, reads a request, and returns what carries it; nil
// if nothing does.
func (c *client) socks5() (then func() bool) {
	if !c.need(2) || !c.need(2+int(c.buf[1])) {
		return nil
	}
	methods := c.take(2 + int(c.buf[1]))[2:]
	if !c.identify(methods) || !c.need(4) {
		return nil
	}
	head := c.buf[:4]
	if head[0] != socks5Version {
		return c.badSocks("what follows the method is no request of SOCKS 5")
	}
	command := head[1]
	to, err := c.socksPlace(head[3])
	var kind *addressTypeError
	switch {
	case errors.Is(err, errGone):
		return nil
	case command != commandConnect:
		return c.deny5(replyCommand, notCarried(command), to)
	case errors.As(err, &kind):
		return c.deny5(replyAddressType, err.Error(), to)
	case err != nil:
		return c.deny5(replyFailure, err.Error(), to)
	}
	t := &tunnel{to: to, granted: reply5(replyGranted), refused: func(err error) []byte { return reply5(replyFor(err)) }}
	return func() bool { return c.tunnel(t) }
}

// notCarried says that a command is not.
func notCarried(command byte) string {
	name := commands[command]
	if name == "" {
		name = fmt.Sprint(command)
	}
	return "the SOCKS command " + name + " is not supported: only CONNECT is"
}

// identify agrees on how the client says who it is, and has it do so.
func (c *client) identify(methods []byte) bool {
	label, anonymous := c.p.admit("", "")
	switch {
	case bytes.IndexByte(methods, methodPassword) >= 0 && (c.p.Users != nil || bytes.IndexByte(methods, methodNone) < 0):
		c.conn.Write([]byte{socks5Version, methodPassword})
		return c.password()
	case bytes.IndexByte(methods, methodNone) >= 0 && anonymous:
		c.who.Label = label
		c.conn.Write([]byte{socks5Version, methodNone})
		return true
	case bytes.IndexByte(methods, methodNone) >= 0:
		c.refuse([]byte{socks5Version, methodNoneOK}, denial{err: &flow.Error{Where: flow.AtClient, Code: codeProxyAuth,
			Message: "the client gives the proxy no user and password", Hint: "put them into the URL of the proxy, before the host"}})
	default:
		c.refuse([]byte{socks5Version, methodNoneOK}, denial{err: &flow.Error{Where: flow.AtClient, Code: codeProxyAuth,
			Message: fmt.Sprintf("the client offers methods %d of SOCKS 5: want 0 (none) or 2 (user and password)", methods)}})
	}
	return false
}

// password reads user and password (RFC 1929).
func (c *client) password() bool {
	if !c.need(2) || !c.need(3+int(c.buf[1])) {
		return false
	}
	if c.buf[0] != passwordVer {
		c.badSocks("what follows the method is no user and password of SOCKS 5")
		return false
	}
	n := int(c.buf[1])
	size := 3 + n + int(c.buf[2+n])
	if !c.need(size) {
		return false
	}
	p := c.take(size)
	user, password := string(p[2:2+n]), string(p[3+n:])
	c.who.User = user
	label, ok := c.p.admit(user, password)
	if !ok {
		c.refuse([]byte{passwordVer, 1}, denial{err: &flow.Error{Where: flow.AtClient, Code: codeProxyAuth,
			Message: fmt.Sprintf("the user %q or the password is not known to the proxy", user)}})
		return false
	}
	c.who.Label = label
	c.conn.Write([]byte{passwordVer, 0})
	return true
}

// addressTypeError is an address of a kind that RFC 1928 does not have.
type addressTypeError struct{ kind byte }

func (e *addressTypeError) Error() string {
	return fmt.Sprintf("%d is no type of address of SOCKS 5", e.kind)
}

// errGone stands for what fill has told already.
var errGone = errors.New("the client left")

// socksPlace takes the rest of a request, whose first four octets have been read.
func (c *client) socksPlace(kind byte) (place, error) {
	size := 0
	switch kind {
	case typeIPv4:
		size = 4
	case typeIPv6:
		size = 16
	case typeName:
		if !c.need(5) {
			return place{}, errGone
		}
		size = 1 + int(c.buf[4])
	default:
		return place{}, &addressTypeError{kind}
	}
	if !c.need(4 + size + 2) {
		return place{}, errGone
	}
	p := c.take(4 + size + 2)[4:]
	port := binary.BigEndian.Uint16(p[size:])
	if kind == typeName {
		return newPlace(string(p[1:size]), port)
	}
	a, _ := netip.AddrFromSlice(p[:size])
	return place{a.Unmap().String(), a.Unmap(), port}, portError(port)
}

// reply5 is an answer to a request. The address that it names is nobody's: what is
// bound is no business of the client of a CONNECT.
func reply5(code byte) []byte {
	return []byte{socks5Version, code, 0, typeIPv4, 0, 0, 0, 0, 0, 0}
}

// replyFor is how a client is told that its server cannot be reached.
func replyFor(err error) byte {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return replyNotAllowed
	case errors.As(err, &dns), errors.Is(err, syscall.EHOSTUNREACH):
		return replyHost
	case errors.Is(err, syscall.ENETUNREACH):
		return replyNetwork
	case errors.Is(err, syscall.ECONNREFUSED), isReset(err):
		return replyRefused
	case isTimeout(err):
		return replyTTL
	}
	return replyFailure
}

// deny5 answers a request of SOCKS 5 that is not carried.
func (c *client) deny5(code byte, why string, to place) func() bool {
	c.refuse(reply5(code), denial{to: to, err: &flow.Error{Where: flow.AtClient, Code: flow.CodeMalformed, Message: why}})
	return nil
}

// badSocks ends a negotiation that makes no sense.
func (c *client) badSocks(why string) func() bool {
	c.refuse(nil, denial{err: &flow.Error{Where: flow.AtClient, Code: flow.CodeMalformed, Message: why}})
	return nil
}

// socks4 reads a request of SOCKS 4 or 4a and returns what carries it, nil if nothing
// does. Such a client has a user and no password.
func (c *client) socks4() (then func() bool) {
	if !c.need(8) {
		return nil
	}
	command, port := c.buf[1], binary.BigEndian.Uint16(c.buf[2:])
	addr := netip.AddrFrom4([4]byte(c.buf[4:8]))
	texts := 1 // the user, and of 4a the name
	if ip := addr.As4(); ip[0] == 0 && ip[1] == 0 && ip[2] == 0 && ip[3] != 0 {
		texts = 2
	}
	end := 0
	for end = afterNULs(c.buf[8:], texts); end == 0; end = afterNULs(c.buf[8:], texts) {
		if len(c.buf) > maxSocks4 {
			return c.deny4(socks4Rejected, flow.CodeMalformed, "a user or a name of more than 255 octets", place{})
		}
		if !c.fill() {
			return nil
		}
	}
	said := bytes.Split(c.take(8 + end)[8:], []byte{0})
	to, err := place{addr.String(), addr, port}, portError(port)
	if texts == 2 {
		to, err = newPlace(string(said[1]), port)
	}
	c.who.User = string(said[0])
	label, ok := c.p.admit(c.who.User, "")
	switch {
	case err != nil:
		return c.deny4(socks4Rejected, flow.CodeMalformed, err.Error(), to)
	case command != commandConnect:
		return c.deny4(socks4Rejected, flow.CodeMalformed, notCarried(command), to)
	case !ok:
		return c.deny4(socks4User, codeProxyAuth, "the proxy wants a password, which SOCKS 4 cannot give", to)
	}
	c.who.Label = label
	t := &tunnel{to: to, granted: reply4(socks4Granted), refused: func(error) []byte { return reply4(socks4Rejected) }}
	return func() bool { return c.tunnel(t) }
}

// afterNULs returns where n texts, a NUL behind each, end; 0 if they do not yet.
func afterNULs(p []byte, n int) int {
	end := 0
	for range n {
		i := bytes.IndexByte(p[end:], 0)
		if i < 0 {
			return 0
		}
		end += i + 1
	}
	return end
}

func reply4(code byte) []byte { return []byte{0, code, 0, 0, 0, 0, 0, 0} }

// deny4 answers a request of SOCKS 4 that is not carried.
func (c *client) deny4(reply byte, code, why string, to place) func() bool {
	c.refuse(reply4(reply), denial{to: to, err: &flow.Error{Where: flow.AtClient, Code: code, Message: why}})
	return nil
}
