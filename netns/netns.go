// Package netns starts a command in its own user, network and mount namespaces and hands back the device its packets
// come out of.
//
//	func main() {
//		netns.Init()
//		ns, err := netns.Start(ctx, &netns.Config{Path: "curl", Args: os.Args[1:], Addr4: netip.MustParsePrefix("198.19.255.2/32")})
//		// … join ns.Device() to a stack …
//		err = ns.Go()           // the command runs from here on
//		status, err := ns.Wait()
//		ns.Close()
//		os.Exit(status.ExitCode())
//	}
//
// The package does not look at packets, does not know of TLS or names, and never prints. It needs Linux and /proc.
//
// # Theory of operation
//
// Three processes run the same binary, of which package ahead holds what the other two do. The *parent* called Start. It clones *init* into the new namespaces; init makes
// the loopback and the device, sets addresses, routes, sysctls and mounts, passes the device out, forks the *helper* as its
// sibling (CLONE_PARENT) and waits. On Go it gives up every capability and executes the target in place,
// so the target is the parent's direct child: exit status, signals, job control and the terminal need no forwarding.
// The helper stays inside to make sockets on request, since a multi-threaded process can enter neither a user nor (without
// privilege) a network namespace later, while a socket keeps its namespace for life wherever it is passed.
//
// Rights. An ordinary user gets a user namespace with uid and gid mapped to themselves, and ambient capabilities carry init
// over its execve. Root with CAP_SYS_ADMIN and CAP_NET_ADMIN gets no user namespace and the target keeps what root had.
// Root without them (a container's) gets a user namespace that maps every range of its own uid_map and gid_map to itself,
// setgroups allowed. Nothing is ever mapped to root.
//
// Lifetimes. Init is cloned from a goroutine that keeps its thread until init's process ended: PR_SET_PDEATHSIG fires when the
// forking thread dies, not the process. The target keeps that death signal, so it does not outlive the parent. The helper
// has none (Go kills a CLONE_PARENT child that has one); it ends 200 ms after its socket does:
// it holds a duplicate of the device, and whoever closes the last one waits 20-30 ms for the kernel. Until Go every failure ends
// all processes and nothing of the command has run.
//
// Descriptors. What the parent inherited from its own parent (no close-on-exec) reaches the target under the same
// number; nothing of ours does. Init gets its socket above the highest inherited number.
//
// Guests. Another process can start further commands in the namespaces (OpenPlace, Place.Enter). It reaches them over /proc, by the
// helper. What goes in is forked without an execve, since only a process of one thread may enter a user namespace; it enters user,
// network and mount namespace in this order, since the first gives the right to the others, takes the root directory there, and
// executes this binary. That is a fourth stage, *enter*, which becomes the command as init does. It is the child of the process that
// asked for it, so its terminal, job control and status are as native as the first command's. Nobody tells the namespace of it: it is
// known by being there.
//
// # Messages
//
// Parent and init speak over one SOCK_SEQPACKET pair, parent and helper over another that init makes. Every message is one
// packet, coded as ahead/coder.go has it, with descriptors beside it (SCM_RIGHTS). What can be large goes as a memory file:
// eight bytes of length (little endian), the message, and the raw contents it refers to by offset.
//
//	parent → init    setup                what to build in the network, at once after the clone
//	parent → init    memory file: covers  what to mount
//	init → parent    report               a step that ended, well or not; not well is the last one
//	init → parent    report               Ready set; fds: device, helper socket, UDP and TCP of each DNS address, then sockets made ahead
//	init → parent    report               the helper's process id
//	parent → init    memory file: command what to execute: this is "go"
//	init → parent    report               only if the execve failed; success is the end of the stream
//	parent → helper  request              fds: none; until go, init answers what the helper has not taken
//	helper → parent  reply                same ID; fds: one if it succeeded
//
// Enter is told by its own parent, over one pair:
//
//	parent → enter   entry                where to be, and whether there are rights to give up
//	enter → parent   report               it is there
//	parent → enter   memory file: command what to execute; then as with init
//
// The target can kill, stop and starve the helper, not speak for it (its socket is in no process of the target). All the
// same the parent checks the length and the number of descriptors of each message, waits for no answer longer than
// helperPatience, and takes a broken stream as the helper's end, which HelperDone tells.
package netns

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"ahead"
)

// Config is a command and the surroundings to build for it. Path and one of Addr4 and Addr6 are required.
type Config struct {
	Path           string   // looked up in the PATH of Env, in the child's view, unless it has a slash
	Args           []string // with argv[0]; empty means just Path
	Env            []string // nil: this process's
	Dir            string   // working directory; empty: this process's
	Stdin          *os.File // nil: this process's; also below
	Stdout, Stderr *os.File

	Device     DeviceKind // "" is Auto
	MTU        int        // of the child's interface; 0 is 1500, at most 65535
	Offload    Offload    // what may be left undone in packets of the child; see Device.Offload for what was granted
	GSOMaxSize int        // limit of the child's segments in bytes before cutting; 0: the kernel's

	Addr4, Addr6 netip.Prefix      // the child's addresses; Addr6 is left out, with a Note, where IPv6 cannot be had
	Routes       []netip.Prefix    // through the device; nil: the default route of each family that has an address
	Sysctls      map[string]string // written last, best effort, as "net.ipv4.tcp_rmem"

	Covers     Covers                 // what the child sees instead of the host's files
	CoversFunc func() (Covers, error) // called, if set, instead of reading Covers, while init starts up

	ListenDNS []netip.Addr // loopback addresses whose port 53, UDP and TCP, is bound inside and handed out; see DNS

	Step    func(Step) // told of each step as it ends; called from Start
	Stopped func()     // what Wait does when the target was stopped from the terminal; nil: stops this process too
}

// A Step is one part of the construction that ended.
type Step struct {
	Name string // userns, netns, mntns, lo, device, offload, address, route, ipv6, sysctl, dns-sockets, helper, mounts
	Took time.Duration
	Err  error // a StepError's Err if it ended the construction
}

// A StepError says which step kept the command from being started. Nothing of the command has run.
type StepError struct {
	Step string
	Err  error // wraps a syscall.Errno where the kernel refused
}

// Error names the step.
func (e *StepError) Error() string { return fmt.Sprintf("namespace %s: %v", e.Step, e.Err) }

// Unwrap leads to the errno.
func (e *StepError) Unwrap() error { return e.Err }

// An ExecError says that everything stood but the command could not be executed.
type ExecError struct {
	Path string
	Err  error // wraps a syscall.Errno; ENOENT if it was found nowhere
}

// Error names the command as it was given.
func (e *ExecError) Error() string { return fmt.Sprintf("execute %s: %v", e.Path, e.Err) }

// Unwrap leads to the errno.
func (e *ExecError) Unwrap() error { return e.Err }

// ExitCode is what shells exit with in this case: 127 for a command that is not there, 126 for one that cannot run.
func (e *ExecError) ExitCode() int {
	if isErrno(e.Err, syscall.ENOENT) {
		return 127
	}
	return 126
}

// A Note tells of something that was not done as asked without being a reason to stop.
type Note struct {
	Step   string // as in Step
	Object string // the device, sysctl, address or path
	Err    error
}

// String is one line for a log.
func (n Note) String() string { return fmt.Sprintf("%s %s: %v", n.Step, n.Object, n.Err) }

// What init makes and what it says of it is defined where init is.
type (
	// DeviceKind says what carries the packets of the namespace.
	DeviceKind = ahead.DeviceKind
	// Device is the end of the child's link that lies outside.
	Device = ahead.Device
	// Offload is a set of tasks that the child's kernel leaves to the device.
	Offload = ahead.Offload
	// Rights says which of the three ways this process can build namespaces.
	Rights = ahead.Rights
)

// The kinds of devices.
const (
	Auto = ahead.Auto // TUN where /dev/net/tun opens, else veth
	TUN  = ahead.TUN  // a TUN device: IP packets
	Veth = ahead.Veth // a veth pair, read through an AF_PACKET socket: Ethernet frames
)

// What can be left to the device: see ahead.Offload.
const (
	Checksum = ahead.Checksum
	TSO4     = ahead.TSO4
	TSO6     = ahead.TSO6
	ECN      = ahead.ECN
	USO4     = ahead.USO4
	USO6     = ahead.USO6

	TSO = ahead.TSO
	USO = ahead.USO
)

// The rights of a process.
const (
	OrdinaryUser  = ahead.OrdinaryUser  // a user namespace with one uid and one gid
	Root          = ahead.Root          // no user namespace
	ContainerRoot = ahead.ContainerRoot // a user namespace with all of this one's ids
)

// CurrentRights tells what Start would do in this process.
func CurrentRights() Rights { return ahead.CurrentRights() }

// Trim gives back the pages of this program's file that start-up touched.
func Trim() error { return ahead.Trim() }

const (
	defaultMTU = 1500
	maxMTU     = 65535 // 65536 is EINVAL for both kinds
)
