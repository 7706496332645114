package ahead

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// MaxMessage is the size of one packet on either socket, in bytes.
	MaxMessage = 64 << 10
	// MaxFDs is how many descriptors there may be beside one packet.
	MaxFDs = 64

	maxNotes     = 100
	maxNoted     = MaxMessage / 2 // bytes of notes
	maxPayload   = 256 << 20      // bytes of a memory file
	payloadAlign = 8              // bytes of the length in front
)

// Setup is the parent's first message to init.
type Setup struct {
	UserNS       bool // init has to drop capabilities itself
	Device       DeviceKind
	MTU          int
	Offload      Offload
	GSOMaxSize   int
	Addr4, Addr6 Prefix
	Routes       []Prefix
	Sysctls      [][2]string // path below /proc/sys, value
	ListenDNS    []Prefix    // of which only the address counts
}

// A Prefix is an address with the length of its network, in bits, and the text that stands for it in messages.
type Prefix struct {
	IP   []byte // four or sixteen; none: there is none
	Bits int
	Text string
}

func (p Prefix) valid() bool { return len(p.IP) > 0 }

func (p Prefix) is6() bool { return len(p.IP) == 16 }

func (p Prefix) family() byte {
	if p.is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// Command is the parent's last message to init.
type Command struct {
	Path    []byte
	Args    [][]byte
	Env     [][]byte
	Dir     []byte
	Ignored uint64 // signals, bit n-1 for signal n, that the target shall find ignored
}

func toStrings(ps [][]byte) []string {
	ss := make([]string, len(ps))
	for i, p := range ps {
		ss[i] = string(p)
	}
	return ss
}

// Report is what init says, once per step and once when all stands.
type Report struct {
	Step  string
	Took  time.Duration
	Fault *Fault
	Notes []Note
	PID   int // of the helper, with its step
	Ready *Ready
}

// Note tells of something that was not done as asked without being a reason to stop.
type Note struct {
	Step, Object string
	Fault        Fault
}

// Ready describes the descriptors that come with it.
type Ready struct {
	Device        Device // without File
	DNS           []int  // indexes of Setup.ListenDNS; two descriptors each, UDP and TCP
	Diags, UDPs   int    // further descriptors: sockets that will be asked for
	NetNS, UserNS uint64 // inode numbers
}

// Diags is how many sock_diag sockets come with Ready, and one of UDP, bound to no address.
const Diags = 2

// Request asks the helper for a socket.
type Request struct {
	ID   uint64
	Op   string // one of these constants
	UDP  bool   // else TCP
	IP   []byte // four or sixteen
	Port uint16
}

// What a helper is asked to do.
const (
	OpListen = "listen"
	OpDial   = "dial"
	OpDiag   = "sock_diag"

	OpStarted = "started" // the command was; no reply
)

// Reply answers a Request. One descriptor comes with it unless there is a Fault.
type Reply struct {
	ID    uint64
	Fault *Fault
}

// Fault carries an error over a socket so that errors.Is finds its errno on the other side.
type Fault struct {
	Text  string
	Errno syscall.Errno
}

// Error is the text of the error on the other side.
func (f *Fault) Error() string { return f.Text }

// Unwrap leads to the errno, if there was one.
func (f *Fault) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return f.Errno
}

func newFault(err error) *Fault {
	f := &Fault{Text: err.Error()}
	errors.As(err, &f.Errno)
	return f
}

// IsErrno tells whether err wraps one of several errnos.
func IsErrno(err error, errno ...syscall.Errno) bool {
	for _, e := range errno {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Send writes one packet. The socket is either end's raw descriptor.
func Send(fd int, m Message, fds ...int) error {
	p := Encode(m)
	if len(p) > MaxMessage {
		return fmt.Errorf("message of %d bytes: %w", len(p), unix.EMSGSIZE)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(fd, p, oob, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

// Receive reads one packet into m (with the flags of recvmsg(2)) and returns the descriptors beside it, of which there may be up to
// max. The end of the stream is unix.EPIPE.
func Receive(fd int, m Message, max, flags int) ([]int, error) {
	p := make([]byte, MaxMessage)
	oob := make([]byte, unix.CmsgSpace(4*MaxFDs))
	for {
		n, oobn, got, _, err := unix.Recvmsg(fd, p, oob, unix.MSG_CMSG_CLOEXEC|flags)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvmsg", err)
		}
		return Open(p[:n], oob[:oobn], got, m, max)
	}
}

// Open reads what one recvmsg brought, with these flags: a message into m, and the descriptors beside it.
func Open(p, oob []byte, flags int, m Message, max int) ([]int, error) {
	fds, err := rights(oob)
	if err == nil {
		switch {
		case len(p) == 0 && len(fds) == 0:
			err = unix.EPIPE // a packet of ours is never empty
		case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
			err = fmt.Errorf("message cut short: %w", unix.EMSGSIZE)
		case len(fds) > max:
			err = fmt.Errorf("message with %d descriptors, expected %d at most: %w", len(fds), max, unix.EBADMSG)
		default:
			err = decode(p, m)
		}
	}
	if err != nil {
		CloseAll(fds)
		return nil, err
	}
	return fds, nil
}

func rights(oob []byte) (fds []int, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, os.NewSyscallError("control message", err)
	}
	for i := range msgs {
		got, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // some other kind of control message
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// CloseAll closes descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// Payload is a memory file in the making: a message of any size and raw contents.
type Payload struct{ blobs [][]byte }

// Blob says where contents lie in the raw part of a payload.
type Blob struct{ Off, Len int }

// Add takes p, which is not copied and must not change until the payload is sent.
func (b *Payload) Add(p []byte) Blob {
	at := Blob{Len: len(p)}
	for _, q := range b.blobs {
		at.Off += len(q)
	}
	b.blobs = append(b.blobs, p)
	return at
}

// File writes the payload, with m in front, into a memory file.
func (b *Payload) File(m Message) (*os.File, error) {
	head := Encode(m)
	fd, err := unix.MemfdCreate("trace-netns", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	first := binary.LittleEndian.AppendUint64(make([]byte, 0, payloadAlign+len(head)), uint64(len(head)))
	for _, p := range append([][]byte{append(first, head...)}, b.blobs...) {
		if _, err := f.Write(p); err != nil {
			f.Close()
			return nil, fmt.Errorf("memory file: %w", err)
		}
	}
	return f, nil
}

// receivePayload is the other side of it. The raw part stays mapped for good: init ends soon.
func receivePayload(fd int, m Message) (raw []byte, err error) {
	fds, err := Receive(fd, empty{}, 1, 0)
	if err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		return nil, unix.EBADMSG
	}
	defer unix.Close(fds[0])
	var st unix.Stat_t
	if err := unix.Fstat(fds[0], &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Size < payloadAlign || st.Size > maxPayload {
		return nil, unix.EBADMSG
	}
	p, err := unix.Mmap(fds[0], 0, int(st.Size), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	n := binary.LittleEndian.Uint64(p)
	p = p[payloadAlign:]
	if n > uint64(len(p)) {
		return nil, unix.EBADMSG
	}
	return p[n:], decode(p[:n], m)
}
