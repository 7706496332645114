package netns

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxMessage   = 64 << 10 // bytes of one packet on either socket
	maxFDs       = 64       // descriptors beside one packet
	maxNotes     = 100
	maxPayload   = 256 << 20        // bytes of a memory file
	payloadAlign = 8                // bytes of the length in front
	initPatience = 30 * time.Second // for init as a whole; a hanging network file system under a cover, say
)

// setup is the parent's first message to init.
type setup struct {
	UserNS       bool // init has to drop capabilities itself
	Device       DeviceKind
	MTU          int
	Offload      Offload
	GSOMaxSize   int
	Addr4, Addr6 netip.Prefix
	Routes       []netip.Prefix
	Sysctls      [][2]string // path below /proc/sys, value
	ListenDNS    []netip.Addr
}

// command is the parent's last message to init.
type command struct {
	Path    []byte // these four hold any bytes: JSON strings would not
	Args    [][]byte
	Env     [][]byte
	Dir     []byte
	Ignored uint64 // signals, bit n-1 for signal n, that the target shall find ignored
}

func toBytes(ss []string) [][]byte {
	ps := make([][]byte, len(ss))
	for i, s := range ss {
		ps[i] = []byte(s)
	}
	return ps
}

func toStrings(ps [][]byte) []string {
	ss := make([]string, len(ps))
	for i, p := range ps {
		ss[i] = string(p)
	}
	return ss
}

// report is what init says, once per step and once when all stands.
type report struct {
	Step  string
	Took  time.Duration
	Fault *fault
	Notes []noteMessage
	PID   int // of the helper, with its step
	Ready *ready
}

type noteMessage struct {
	Step, Object string
	Fault        fault
}

// ready describes the descriptors that come with it.
type ready struct {
	Device        Device       // without File
	DNS           []netip.Addr // two descriptors each, UDP and TCP
	NetNS, UserNS uint64       // inode numbers
}

// request asks the helper for a socket.
type request struct {
	ID      uint64
	Op      string // opListen, opDial, opDiag, opStarted
	Network string
	Address string
}

const (
	opListen = "listen"
	opDial   = "dial"
	opDiag   = "sock_diag"

	opStarted = "started" // the command was; no reply
)

type reply struct {
	ID    uint64
	Fault *fault
}

// fault carries an error over a socket so that errors.Is finds its errno on the other side.
type fault struct {
	Text  string
	Errno syscall.Errno
}

func (f *fault) Error() string { return f.Text }

func (f *fault) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return f.Errno
}

func newFault(err error) *fault {
	f := &fault{Text: err.Error()}
	errors.As(err, &f.Errno)
	return f
}

func isErrno(err error, errno ...syscall.Errno) bool {
	for _, e := range errno {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// sendPacket writes one packet. The socket is either end's raw descriptor.
func sendPacket(fd int, v any, fds ...int) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(p) > maxMessage {
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

// receivePacket reads one packet into v (with the flags of recvmsg(2)) and returns the descriptors beside it, of which there may be up to max. io.EOF is
// told apart as unix.EPIPE.
func receivePacket(fd int, v any, max, flags int) ([]int, error) {
	p := make([]byte, maxMessage)
	oob := make([]byte, unix.CmsgSpace(4*maxFDs))
	for {
		n, oobn, got, _, err := unix.Recvmsg(fd, p, oob, unix.MSG_CMSG_CLOEXEC|flags)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvmsg", err)
		}
		return openPacket(p[:n], oob[:oobn], got, v, max)
	}
}

// receiveFrom is receivePacket on a connection of the parent's, which obeys deadlines.
func receiveFrom(c *net.UnixConn, v any, max int) ([]int, error) {
	p := make([]byte, maxMessage)
	oob := make([]byte, unix.CmsgSpace(4*maxFDs))
	n, oobn, flags, _, err := c.ReadMsgUnix(p, oob)
	if err != nil {
		return nil, err
	}
	return openPacket(p[:n], oob[:oobn], flags, v, max)
}

func openPacket(p, oob []byte, flags int, v any, max int) ([]int, error) {
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
			if e := json.Unmarshal(p, v); e != nil {
				err = fmt.Errorf("message not understood: %v: %w", e, unix.EBADMSG)
			}
		}
	}
	if err != nil {
		closeAll(fds)
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

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// payload is a memory file in the making: JSON of any size and raw contents.
type payload struct{ blobs [][]byte }

// blob says where contents lie in the raw part of a payload.
type blob struct{ Off, Len int }

// add takes p, which is not copied and must not change until the payload is sent.
func (b *payload) add(p []byte) blob {
	at := blob{Len: len(p)}
	for _, q := range b.blobs {
		at.Off += len(q)
	}
	b.blobs = append(b.blobs, p)
	return at
}

// send writes the payload into a memory file and passes that over the socket.
func (b *payload) send(c *net.UnixConn, v any) error {
	head, err := json.Marshal(v)
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("trace-netns", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	defer f.Close()
	first := binary.LittleEndian.AppendUint64(make([]byte, 0, payloadAlign+len(head)), uint64(len(head)))
	bufs := append([][]byte{append(first, head...)}, b.blobs...)
	for _, p := range bufs {
		if _, err := f.Write(p); err != nil {
			return fmt.Errorf("memory file: %w", err)
		}
	}
	_, _, err = c.WriteMsgUnix([]byte("{}"), unix.UnixRights(fd), nil)
	return err
}

// receivePayload is the other side of send. The raw part stays mapped for good: init ends soon.
func receivePayload(fd int, v any) (raw []byte, err error) {
	var empty struct{}
	fds, err := receivePacket(fd, &empty, 1, 0)
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
	return p[n:], json.Unmarshal(p[:n], v)
}
