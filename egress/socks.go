package egress

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// Values of RFC 1928 and RFC 1929.
const (
	socksVersion   = 5
	passwordVer    = 1
	methodNone     = 0
	methodPassword = 2
	commandConnect = 1
	typeIPv4       = 1
	typeName       = 3
	typeIPv6       = 4
)

// replies are the reasons why a SOCKS proxy has not connected (RFC 1928
// section 6), with what a connect to the destination would have failed with.
var replies = map[byte]struct {
	text  string
	errno syscall.Errno
}{
	1: {"general failure", syscall.ECONNREFUSED},
	2: {"not allowed by its rules", syscall.EACCES},
	3: {"network unreachable", syscall.ENETUNREACH},
	4: {"host unreachable", syscall.EHOSTUNREACH},
	5: {"connection refused", syscall.ECONNREFUSED},
	6: {"TTL expired", syscall.ETIMEDOUT},
	7: {"command not supported", syscall.ECONNREFUSED},
	8: {"address type not supported", syscall.EAFNOSUPPORT},
}

// declinedReplies are those that do not depend on the destination's state.
var declinedReplies = map[byte]bool{2: true, 7: true}

// socks asks for a connection (RFC 1928). All lengths are known before they
// are read, so nothing of what follows is.
func (p *proxy) socks(conn net.Conn, to destination) error {
	target := p.target(to)
	if err := p.introduce(conn); err != nil {
		return err
	}
	asked := "connect " + target + ": "
	if _, err := conn.Write(request(target)); err != nil {
		return p.failed(asked+err.Error(), err)
	}
	head, err := read(conn, 4)
	switch {
	case err != nil:
		return p.failed(asked+err.Error(), err)
	case head[0] != socksVersion:
		return p.failed(asked+fmt.Sprintf("its answer begins with %q, which is not SOCKS 5", head), syscall.ECONNREFUSED)
	case head[1] != 0:
		return p.refused(asked, head[1])
	}
	if err := skipBound(conn, head[3]); err != nil {
		return p.failed(asked+err.Error(), err)
	}
	return nil
}

// refused returns the failure that a reply tells of.
func (p *proxy) refused(asked string, code byte) error {
	r, ok := replies[code]
	if !ok {
		return p.failed(asked+fmt.Sprintf("reply %d", code), syscall.ECONNREFUSED)
	}
	f := p.failed(asked+r.text, r.errno)
	f.declined = declinedReplies[code]
	return f
}

// introduce agrees on a method and follows it.
func (p *proxy) introduce(conn net.Conn) error {
	hello := []byte{socksVersion, 1, methodNone}
	if p.known {
		hello = []byte{socksVersion, 2, methodNone, methodPassword}
	}
	if _, err := conn.Write(hello); err != nil {
		return p.failed(err.Error(), err)
	}
	chosen, err := read(conn, 2)
	switch {
	case err != nil:
		return p.failed(err.Error(), err)
	case chosen[0] != socksVersion:
		return p.failed(fmt.Sprintf("its answer begins with %q, which is not SOCKS 5", chosen), syscall.ECONNREFUSED)
	case chosen[1] == methodNone:
		return nil
	case chosen[1] == methodPassword && p.known:
		return p.authenticate(conn)
	case p.known:
		return p.failed("it offers no way of saying who one is that trace has", syscall.EACCES)
	}
	return p.failed("it wants a user name and password, "+p.variable+" has none", syscall.EACCES)
}

// authenticate tells user name and password (RFC 1929).
func (p *proxy) authenticate(conn net.Conn) error {
	b := []byte{passwordVer, byte(len(p.user))}
	b = append(b, p.user...)
	b = append(b, byte(len(p.password)))
	b = append(b, p.password...)
	if _, err := conn.Write(b); err != nil {
		return p.failed(err.Error(), err)
	}
	status, err := read(conn, 2)
	if err != nil {
		return p.failed("user name and password: "+err.Error(), err)
	}
	if status[1] != 0 {
		return p.failed("it does not accept the user name and password of "+p.variable, syscall.EACCES)
	}
	return nil
}

// request builds the request to connect to a name or address with its port.
func request(target string) []byte {
	host, port, _ := net.SplitHostPort(target) // made by JoinHostPort
	n, _ := strconv.Atoi(port)
	b := []byte{socksVersion, commandConnect, 0}
	switch a, err := netip.ParseAddr(host); {
	case err != nil:
		b = append(b, typeName, byte(len(host)))
		b = append(b, host...)
	case a.Is4():
		b = append(b, typeIPv4)
		b = append(b, a.AsSlice()...)
	default:
		b = append(b, typeIPv6)
		b = append(b, a.AsSlice()...)
	}
	return append(b, byte(n>>8), byte(n))
}

// skipBound reads the address that the proxy connected from, and its port.
func skipBound(conn net.Conn, kind byte) error {
	size := 0
	switch kind {
	case typeIPv4:
		size = 4
	case typeIPv6:
		size = 16
	case typeName:
		n, err := read(conn, 1)
		if err != nil {
			return err
		}
		size = int(n[0])
	default:
		return fmt.Errorf("its answer has an address of unknown type %d", kind)
	}
	_, err := read(conn, size+2)
	return err
}

func read(conn net.Conn, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(conn, b)
	return b, err
}
