package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// portHolder says who listens on a TCP port, as "process NAME[PID]"; "" if that
// cannot be found out.
func portHolder(addr string) string { return socketHolder(addr, "tcp", "0A") }

// datagramHolder says the same of a UDP port.
func datagramHolder(addr string) string { return socketHolder(addr, "udp", "07") }

// socketHolder looks for a socket in a state, as the kernel numbers them.
func socketHolder(addr, network, state string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return ""
	}
	for _, table := range []string{"/proc/net/" + network, "/proc/net/" + network + "6"} {
		if uid, inode := listening(table, state, uint16(n)); inode != "" {
			return holder(uid, inode)
		}
	}
	return ""
}

// listening finds the owner and the inode of the socket that listens on a port
// (proc_pid_net(5)).
func listening(table, state string, port uint16) (uid, inode string) {
	f, err := os.Open(table)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	want := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && fields[3] == state && strings.HasSuffix(fields[1], want) {
			return fields[7], fields[9]
		}
	}
	return "", ""
}

// holder names the process that has a socket open, or else its owner.
func holder(uid, inode string) string {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != "socket:["+inode+"]" {
			continue
		}
		pid := strings.Split(link, "/")[2]
		name, err := os.ReadFile("/proc/" + pid + "/comm")
		if err == nil {
			return fmt.Sprintf("%s[%s]", printable(strings.TrimSpace(string(name))), pid)
		}
	}
	if u, err := user.LookupId(uid); err == nil {
		return "a process of " + u.Username
	}
	return "a process of uid " + uid
}
