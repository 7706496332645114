package netns

import (
	"fmt"
	"io"
	"net"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// listDescriptors prints the open descriptors that came with the process. What Go's runtime opened since is close-on-exec.
func listDescriptors(string) int {
	fds := inherited()
	sort.Ints(fds)
	for _, fd := range fds {
		to, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		fmt.Println(fd, to)
	}
	return 0
}

// askUDP sends a datagram to arg and prints the answer.
func askUDP(arg string) int {
	c, err := net.Dial("udp", arg)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "who is there?")
	p := make([]byte, 1500)
	n, err := c.Read(p)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Printf("%s", p[:n])
	return 0
}

// serveOnce listens on arg, says so, and gives one caller what it says.
func serveOnce(arg string) int {
	l, err := net.Listen("tcp", arg)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("listening", l.Addr())
	c, err := l.Accept()
	if err != nil {
		return 1
	}
	io.Copy(c, c)
	c.Close()
	return 0
}

// printIgnored prints the ignored signals as the kernel has them for a program that is not written in Go.
func printIgnored(string) int {
	fmt.Printf("%x", ignoredAtStart)
	return 0
}

// carry is a small trace: it runs a shell command in a namespace and says what it made.
func carry(arg string) int {
	ns, err := Start(unixContext(), &Config{Path: "sh", Args: []string{"sh", "-c", arg}, Env: withoutRole(), Addr4: addr4})
	if err != nil {
		fmt.Println(err)
		return 125
	}
	if err := ns.Go(); err != nil {
		fmt.Println(err)
		return 126
	}
	fmt.Println("pids", ns.PID(), ns.HelperPID())
	st, err := ns.Wait()
	if err != nil {
		return 125
	}
	ns.Close()
	return st.ExitCode()
}

func withoutRole() (env []string) {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, roleVar+"=") {
			env = append(env, kv)
		}
	}
	return env
}

// leadSession is a shell with job control, of one job: arg. Lines on its standard input drive it.
func leadSession(arg string) int {
	if _, err := unix.Setsid(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
