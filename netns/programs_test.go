package netns

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"ahead"

	"golang.org/x/sys/unix"
)

// listDescriptors prints the open descriptors that came with the process. What Go's runtime opened since is close-on-exec.
func listDescriptors(string) int {
	fds := ahead.Inherited()
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
	fmt.Printf("%x", ahead.IgnoredAtStart)
	return 0
}

// carry is a small trace: it runs a shell command in a namespace and ends as it does.
func carry(arg string) int {
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGQUIT, unix.SIGHUP)
	signal.Ignore(unix.SIGTERM)
	c := &Config{Path: "sh", Args: []string{"sh", "-c", arg}, Env: withoutRole(), Addr4: addr4}
	if arg == "ignored" {
		c = &Config{Path: ahead.SelfExe, Env: append(withoutRole(), roleVar+"=ignored"), Addr4: addr4}
	}
	ns, err := Start(context.Background(), c)
	if err != nil {
		fmt.Println(err)
		return 125
	}
	if arg == "pids; exec sleep 1000" {
		fmt.Println(ns.PID(), ns.HelperPID())
	}
	if err := ns.Go(); err != nil {
		fmt.Println(err)
		return 126
	}
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

// leadSession is a shell with job control and one job: arg, carried. Each time it stops, it is put into the foreground again.
func leadSession(arg string) int {
	attr := &syscall.ProcAttr{Env: append(withoutRole(), roleVar+"=carrier "+arg), Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Foreground: true, Ctty: 0}}
	pid, err := syscall.ForkExec(ahead.SelfExe, []string{"carrier"}, attr)
	signal.Ignore(unix.SIGTTOU, unix.SIGTTIN, unix.SIGTSTP, unix.SIGINT, unix.SIGQUIT) // only now: the job must not inherit it
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for {
		var ws unix.WaitStatus
		if _, err := unix.Wait4(pid, &ws, unix.WUNTRACED, nil); err == unix.EINTR {
			continue
		}
		unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, unix.Getpgrp())
		if !ws.Stopped() {
			fmt.Println("job ended", ws.ExitStatus(), ws.Signal())
			return 0
		}
		fmt.Println("job stopped")
		unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, pid)
		unix.Kill(-pid, unix.SIGCONT)
		fmt.Println("job continued")
	}
}

// trimTwice trims itself and goes on working.
func trimTwice(string) int {
	before := residentFile()
	for range 2 {
		if err := Trim(); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	after := residentFile()
	addrs, err := net.InterfaceAddrs()
	fmt.Println(len(addrs) > 0, err, after < before) // how much less depends on what the kernel maps around each page
	return 0
}

// residentFile is the number of KB of files that this process has mapped and present.
func residentFile() (kb int) {
	p, _ := os.ReadFile("/proc/self/status")
	fmt.Sscan(field(string(p), "RssFile"), &kb)
	return kb
}
