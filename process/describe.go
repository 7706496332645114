package process

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"trace/flow"
)

// argvLimit bounds what is kept of a command line, in bytes. The argument that it would cut is left
// out whole, and what follows it, for an ellipsis: half a secret is not recognised as one.
const argvLimit = 32 << 10

const ellipsis = "…"

// describe tells who a holder is; nil if it ended or let go of the socket. With inode 0 the latter
// is not looked at.
func (v *view) describe(h holder, inode uint64) *flow.Process {
	// An open directory of /proc stays that of its process, whoever has the number next.
	dir, err := unix.Open(h.base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(dir)
	if inode != 0 {
		if now, _ := v.readAt(dir, h.door, h.door.dir()+strconv.Itoa(h.fd)); now != inode {
			return nil
		}
	}
	p := &flow.Process{PID: h.pid, Parents: v.parents(h.pid)}
	n, _ := readFile(dir, "cmdline", v.buf[:argvLimit+1])
	p.Argv = splitArgv(v.buf[:n])
	if n, err := unix.Readlinkat(dir, "exe", v.buf); err == nil {
		p.Exe = strings.TrimSuffix(string(v.buf[:n]), " (deleted)")
	}
	return p
}

// splitArgv splits what /proc/PID/cmdline says. A program that wrote a title over its arguments has
// the title, and NULs up to where its arguments ended.
func splitArgv(p []byte) []string {
	if len(p) == 0 {
		return nil
	}
	cut := len(p) > argvLimit
	argv := strings.Split(string(bytes.TrimSuffix(p, []byte{0})), "\x00")
	if cut {
		argv[len(argv)-1] = ellipsis
		return argv
	}
	if title := argv[0]; strings.Contains(title, " ") && strings.Join(argv[1:], "") == "" {
		return argv[:1]
	}
	return argv
}
