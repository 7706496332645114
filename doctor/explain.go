package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"trace/netns"
)

// Host reads the machine's settings. The zero value reads this machine's;
// Root is put before every path in tests.
type Host struct{ Root string }

// Kernel returns the release of the running kernel.
func (h Host) Kernel() string { return h.read("/proc/sys/kernel/osrelease") }

// read returns the trimmed contents of a small file, "" if there is none.
func (h Host) read(path string) string {
	b, err := os.ReadFile(filepath.Join(h.Root, path))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// status returns a field of /proc/self/status.
func (h Host) status(field string) string {
	for l := range strings.SplitSeq(h.read("/proc/self/status"), "\n") {
		if v, ok := strings.CutPrefix(l, field+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// Explain returns what a person can do about err, "" where it knows nothing.
// It understands netns.StepError, netns.ExecError and errors of files.
func (h Host) Explain(err error) string {
	var step *netns.StepError
	var path *os.PathError
	switch {
	case errors.As(err, &step):
		return h.explainStep(step)
	case errors.As(err, &path):
		return explainPath(path)
	}
	return ""
}

func explainPath(e *os.PathError) string {
	switch {
	case errors.Is(e, syscall.ENOSPC), errors.Is(e, syscall.EDQUOT):
		return "free some space, or write elsewhere with --output FILE or XDG_STATE_HOME=DIR"
	case errors.Is(e, os.ErrPermission), errors.Is(e, syscall.EROFS), errors.Is(e, syscall.ENOTDIR), errors.Is(e, os.ErrNotExist):
		return "choose another place: --output FILE, XDG_STATE_HOME=DIR, or --no-save"
	}
	return ""
}

func (h Host) explainStep(e *netns.StepError) string {
	switch e.Step {
	case "userns", "netns", "mntns":
		return h.explainClone(e)
	case "device", "offload":
		return explainDevice(e.Err)
	case "lo", "address", "route", "mounts", "helper":
		return h.explainInside(e)
	case "ipv6", "ipv6-public":
		return "IPv6 is not needed: where the host has it, trace gives it to the command too"
	case "sysctl":
		return "nothing needs to be done: these settings are a convenience (a container mounts /proc/sys read-only)"
	case "dns-sockets":
		return "name resolution of the command may fail: name a non-loopback nameserver in /etc/resolv.conf"
	case "link":
		return "try: trace run --inspect --link direct -- CMD"
	case "store":
		return "choose another place: --output FILE, XDG_STATE_HOME=DIR, or --no-save"
	case "dns":
		return "the host itself resolves no names: look at /etc/resolv.conf"
	case "ipv4":
		return "the host itself has no way out: runs against local servers work all the same"
	}
	return ""
}

// explainClone explains why the kernel refused a namespace.
func (h Host) explainClone(e *netns.StepError) string {
	switch {
	case errors.Is(e, syscall.ENOSPC):
		for _, kind := range []string{"user", "net", "mnt"} {
			limit := "user.max_" + kind + "_namespaces"
			if h.read("/proc/sys/"+strings.ReplaceAll(limit, ".", "/")) == "0" {
				return "the limit " + limit + " is 0 here: sudo sysctl -w " + limit + "=15000"
			}
		}
		return "the limit of namespaces is reached or this sandbox forbids them (bwrap --disable-userns): end other runs, or raise it: sudo sysctl -w user.max_user_namespaces=15000"
	case errors.Is(e, syscall.EAGAIN):
		return "the limit of processes is reached: raise it with `ulimit -u`, or end some"
	case errors.Is(e, syscall.EINVAL):
		return "this kernel is built without user namespaces (CONFIG_USER_NS): run trace as root, or use another kernel"
	case errors.Is(e, syscall.EPERM), errors.Is(e, syscall.EACCES):
		return h.explainDenied()
	}
	return ""
}

func (h Host) explainDenied() string {
	switch {
	case h.chroot():
		return "user namespaces cannot be made inside a chroot: run trace outside of it, or as root"
	case h.read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		return apparmorHint()
	case h.read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		return "this kernel gives user namespaces to root only (kernel.unprivileged_userns_clone=0): run trace as root, or ask the machine's owner to set it to 1"
	case h.status("Seccomp") == "2":
		return "a seccomp filter forbids namespaces, as containers do by default: start the container with --security-opt seccomp=unconfined, or a profile that allows clone and unshare"
	}
	return "a security module refused it: look for a denial in the kernel's log (sudo dmesg | grep -i -e apparmor -e avc), or run trace as root"
}

// apparmorHint prints a profile for this binary only; it loosens nothing for
// others.
func apparmorHint() string {
	exe, err := os.Executable()
	if err != nil {
		exe = "/path/to/trace"
	}
	return fmt.Sprintf(`AppArmor keeps user namespaces from programs without a profile; give this one a profile: printf 'abi <abi/4.0>,\nprofile trace %s flags=(unconfined) {\n  userns,\n}\n' | sudo tee /etc/apparmor.d/trace && sudo apparmor_parser -r /etc/apparmor.d/trace`, exe)
}

// chroot tells whether this process's root is not that of its mount
// namespace: no mount point is "/" then.
func (h Host) chroot() bool {
	info := h.read("/proc/self/mountinfo")
	if info == "" {
		return false
	}
	for l := range strings.SplitSeq(info, "\n") {
		if f := strings.Fields(l); len(f) > 4 && f[4] == "/" {
			return false
		}
	}
	return true
}

func explainDevice(err error) string {
	switch {
	case errors.Is(err, syscall.ENOENT):
		return "there is no /dev/net/tun: sudo modprobe tun (in a container: --device /dev/net/tun), or use --device veth"
	case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return "the kernel has no TUN driver loaded: sudo modprobe tun, or use --device veth"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "/dev/net/tun may not be opened by this user: sudo chmod 0666 /dev/net/tun, or use --device veth"
	case errors.Is(err, syscall.EOPNOTSUPP):
		return "the kernel has no veth driver: sudo modprobe veth"
	}
	return "try the other device: --device tun or --device veth"
}

// explainInside explains a refusal after the namespaces were made: a security
// module gave them without rights.
func (h Host) explainInside(e *netns.StepError) string {
	if !errors.Is(e, syscall.EPERM) && !errors.Is(e, syscall.EACCES) {
		return ""
	}
	if h.read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
		return apparmorHint()
	}
	return "the namespace was made, but without its rights; a security module does that: look for a denial in the kernel's log (sudo dmesg | grep -i -e apparmor -e avc)"
}

// errnoName returns the symbolic name of the errno in err, "" if it has none.
func errnoName(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return ""
}
