package process

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roles are the programs that connect.
var roles map[string]func(args []string) int

func init() {
	roles = map[string]func(args []string) int{
		"connect":  connectOnce,
		"tree":     growTree,
		"hand":     handDown,
		"become":   connectAndBecome,
		"vfork":    connectBesideVfork,
		"hide":     connectHidden,
		"headless": connectHeadless,
		"storm":    storm,
		"crowd":    crowd,
		"member":   member,
		"listen":   listen,
	}
}

// as is this binary in another role.
func as(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

// open makes a socket that does not wait, not close-on-exec. kind is one of
//
//	tcp udp     connected to addr
//	mapped      TCP over IPv6 to an IPv4 address; mapped-udp: a datagram sent so
//	bound       TCP, bound to the device
//	mptcp       multipath TCP
//	datagram    sent to addr without being connected
func open(kind string, addr netip.AddrPort) (int, error) {
	family, typ, protocol := unix.AF_INET, unix.SOCK_STREAM, 0
	if addr.Addr().Is6() || strings.HasPrefix(kind, "mapped") {
		family = unix.AF_INET6
	}
	switch kind {
	case "udp", "datagram", "mapped-udp", "bound-udp":
		typ = unix.SOCK_DGRAM
	case "mptcp":
		protocol = unix.IPPROTO_MPTCP
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return -1, err
	}
	if strings.HasPrefix(kind, "bound") {
		if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "trace0"); err != nil {
			return -1, err
		}
	}
	var to unix.Sockaddr
	if family == unix.AF_INET6 {
		to = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	} else {
		to = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	switch {
	case typ == unix.SOCK_STREAM:
		err = unix.Connect(fd, to)
	case kind == "udp":
		if err = unix.Connect(fd, to); err == nil {
			_, err = unix.Write(fd, []byte("hello"))
		}
	default:
		err = unix.Sendto(fd, []byte("hello"), 0, to)
	}
	if err == unix.EINPROGRESS {
		err = nil
	}
	return fd, err
}

// finish waits until the connection is refused.
func finish(fd int) int {
	for {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 20_000); err != unix.EINTR {
			break
		}
	}
	if e, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); e != int(unix.ECONNREFUSED) {
		fmt.Fprintln(os.Stderr, "connect:", unix.Errno(e))
		return 1
	}
	return 0
}

// connectOnce KIND ADDR waits until it is refused, or for the end of stdin where nobody would refuse.
func connectOnce(args []string) int {
	fd, err := open(args[0], netip.MustParseAddrPort(args[1]))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if strings.Contains(args[0], "udp") || args[0] == "datagram" {
		bufio.NewReader(os.Stdin).ReadString('\n')
		return 0
	}
	return finish(fd)
}

// growTree DEPTH ADDR connects from the lowest of DEPTH processes; "orphan" as DEPTH: from one whose parent has ended.
func growTree(args []string) int {
	if args[0] == "orphan" {
		return code(as("connect", "tcp", args[1]).Start())
	}
	if depth, _ := strconv.Atoi(args[0]); depth > 1 {
		return code(as("tree", strconv.Itoa(depth-1), args[1]).Run())
	}
	return connectOnce([]string{"tcp", args[1]})
}

func code(err error) int {
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// handDown connects, and runs DEPTH more of itself that inherit the socket.
func handDown(args []string) int {
	depth, _ := strconv.Atoi(args[0])
	fd, _ := strconv.Atoi(args[2])
	if depth > 0 {
		cmd := as("hand", strconv.Itoa(depth-1), args[1], args[2])
		if fd == 0 {
			var err error
			if fd, err = open("tcp", netip.MustParseAddrPort(args[1])); err != nil {
				return code(err)
			}
			cmd.Args[3] = strconv.Itoa(fd)
		}
		return code(cmd.Run())
	}
	fmt.Println("inherited", os.Getpid())
	return finish(fd)
}

// connectAndBecome executes a shell over itself while the connection is open.
func connectAndBecome(args []string) int {
	if _, err := open("tcp", netip.MustParseAddrPort(args[0])); err != nil {
		return code(err)
	}
	return code(syscall.Exec("/bin/sh", []string{"sh", "-c", "echo became $$; read x", "new name"}, os.Environ()))
}

// connectBesideVfork connects while a child of vfork waits for its execve: FILE has a lease on it that must be broken
// first.
func connectBesideVfork(args []string) int {
	f, err := os.OpenFile(args[1], os.O_RDWR, 0)
	if err != nil {
		return code(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return code(err)
	}
	for err = unix.EAGAIN; err == unix.EAGAIN; { // whoever was forked while the file was written has it until its execve
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	}
	if err != nil {
		return code(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, _, err := syscall.StartProcess(args[1], []string{"child"}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}})
		ended <- err
	}()
	for {
		if childOfThread() {
			break
		}
		runtime.Gosched()
	}
	a := netip.MustParseAddrPort(args[0])
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()})
	if err != unix.EINPROGRESS {
		return code(err)
	}
	r := finish(fd)
	f.Close() // with the lease
	<-ended
	return r
}

func childOfThread() bool {
	pid := os.Getpid()
	for _, tid := range threads(pid, nil, make([]byte, 4096)) {
		if len(children(pid, tid, nil, make([]byte, 4096))) > 0 {
			return true
		}
	}
	return false
}

// connectHidden connects from a process that is not dumpable.
func connectHidden(args []string) int {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return code(err)
	}
	return connectOnce(args)
}

// connectHeadless connects from a process whose first thread has ended.
func connectHeadless(args []string) int {
	done := make(chan int)
	go func() {
		tid := strconv.Itoa(os.Getpid())
		for {
			if p, err := os.ReadFile("/proc/thread-self/../" + tid + "/stat"); err != nil || strings.Contains(string(p), ") Z ") {
				break
			}
			time.Sleep(time.Millisecond) // nothing tells the end of a thread
		}
		done <- connectOnce(args)
	}()
	go func() { os.Exit(<-done) }()
	unix.Syscall(unix.SYS_EXIT, 0, 0, 0) // the scheduler takes back what the thread worked with
	return 0
}

// storm FIRST COUNT WIDTH runs COUNT processes, WIDTH at once, that connect to ports from FIRST and end.
func storm(args []string) int {
	first, _ := strconv.Atoi(args[0])
	count, _ := strconv.Atoi(args[1])
	width, _ := strconv.Atoi(args[2])
	slots := make(chan bool, width)
	bad := make(chan error, count)
	for i := range count {
		slots <- true
		go func() {
			bad <- brief(first + i)
			<-slots
		}()
	}
	for range count {
		if err := <-bad; err != nil {
			return code(err)
		}
	}
	fmt.Println("done")
	return 0
}

// brief runs a process that connects to a port and ends once it is refused. A shell starts faster than this binary.
func brief(port int) error {
	bash, err := exec.LookPath("bash")
	if err != nil {
		return as("connect", "tcp", "192.0.2.1:"+strconv.Itoa(port)).Run()
	}
	err = exec.Command(bash, "-c", "exec 3<>/dev/tcp/192.0.2.1/"+strconv.Itoa(port)).Run()
	if e := (*exec.ExitError)(nil); errors.As(err, &e) && e.ExitCode() == 1 {
		return nil
	}
	return fmt.Errorf("bash: %v", err)
}

// crowd COUNT FDS runs COUNT members.
func crowd(args []string) int {
	count, _ := strconv.Atoi(args[0])
	for range count {
		cmd := as("member", args[1])
		cmd.Stdin = os.Stdin
		if err := cmd.Start(); err != nil {
			return code(err)
		}
	}
	select {}
}

// member FDS has that many descriptors open, and connects whenever it gets to read a byte: once to close it after, once to keep it.
func member(args []string) int {
	fds, _ := strconv.Atoi(args[0])
	for {
		fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return code(err)
		}
		if fd >= fds-1 {
			break
		}
	}
	fmt.Println("ready")
	var keep bool
	for p := make([]byte, 1); ; keep = !keep {
		if n, err := unix.Read(0, p); n != 1 {
			return code(err)
		}
		fd, err := open("tcp", netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), memberPort(os.Getpid())))
		if err != nil {
			return code(err)
		}
		finish(fd)
		if !keep {
			unix.Close(fd)
		}
		fmt.Println("refused")
	}
}

// memberPort is the port that a member connects to, by its process id.
func memberPort(pid int) uint16 { return uint16(10_000 + pid%50_000) }

// listen has a listener until stdin ends, and says on which port.
func listen([]string) int {
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		return code(err)
	}
	fmt.Println("port", l.Addr().(*net.TCPAddr).Port)
	bufio.NewReader(os.Stdin).ReadString('\n')
	return code(l.Close())
}
