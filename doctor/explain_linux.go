package doctor

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"trace/netns"
)

// Kernel returns the release of the running kernel.
func (h Host) Kernel() string { return h.read("/proc/sys/kernel/osrelease") }

// status returns a field of /proc/self/status.
func (h Host) status(field string) string {
	for l := range strings.SplitSeq(h.read("/proc/self/status"), "\n") {
		if v, ok := strings.CutPrefix(l, field+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// Explain returns what a person can do about err, a thing a line, "" where it knows
// nothing.
// It understands netns.StepError and errors of writing the record.
func (h Host) Explain(err error) string {
	var step *netns.StepError
	if errors.As(err, &step) {
		return h.explainStep(step)
	}
	return explainWrite(err)
}

func (h Host) explainStep(e *netns.StepError) string {
	switch e.Step {
	case "processes":
		return processesHint
	case "userns", "netns", "mntns":
		return orWithout(h.explainClone(e))
	case "device", "offload":
		return orWithout(h.explainDevice(e.Err))
	case "ipv6", "ipv6-public":
		return "IPv6 is not needed: where the host has it, trace gives it to the command too"
	case "sysctl":
		if errors.Is(e, syscall.EROFS) {
			return "nothing needs to be done: these settings are a convenience (a container mounts /proc/sys read-only)"
		}
		return "nothing needs to be done: these settings are a convenience, the kernel's defaults serve"
	case "dns-sockets":
		return "name resolution of the command may fail: name a non-loopback nameserver in /etc/resolv.conf"
	case "link":
		return "try: trace run --inspect --link direct -- CMD"
	case "store":
		return explainStore(e.Err)
	case "roots":
		return rootsHint
	case "dns":
		return "the host itself resolves no names: look at /etc/resolv.conf"
	case "ipv4":
		return "the host itself has no way out: runs against local servers work all the same"
	}
	return orWithout(h.explainInside(e))
}

// withoutNamespaces is for machines that give no namespace, and cannot be mended by
// whoever asks.
const withoutNamespaces = "without namespaces, for programs that obey proxy variables: trace run --proxy -- CMD"

// orWithout adds how to do without namespaces to what would give them.
func orWithout(hint string) string {
	if hint == processesHint {
		return hint
	}
	return hint + "\n" + withoutNamespaces
}

// Hints that more than one error leads to.
const (
	processesHint = "the limit of processes is reached: raise it with `ulimit -u`, or end some"
	rootsHint     = "trace uses the roots of the Mozilla project that are compiled into it; for those of this system: sudo apt install ca-certificates (or your distribution's package of that name)"
)

// explainStore is for a record that cannot be begun.
func explainStore(err error) string {
	if hint := explainWrite(err); hint != "" {
		return hint
	}
	return elsewhere
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
		return processesHint
	case errors.Is(e, syscall.EINVAL):
		return "this kernel is built without user namespaces (CONFIG_USER_NS): run trace as root, or use another kernel"
	case errors.Is(e, syscall.EPERM), errors.Is(e, syscall.EACCES):
		return h.explainDenied()
	}
	return unexpected
}

func (h Host) explainDenied() string {
	switch {
	case h.chroot():
		return "user namespaces cannot be made inside a chroot: run trace outside of it"
	case h.apparmorRestricts():
		return apparmorHint
	case h.read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		return "this kernel gives user namespaces to root only (kernel.unprivileged_userns_clone=0): run trace as root, or ask the machine's owner to set it to 1"
	case h.status("Seccomp") == "2":
		return "a seccomp filter forbids namespaces, as containers do by default: start this container with --security-opt seccomp=PROFILE, one that allows clone and unshare, or seccomp=unconfined (a systemd unit: RestrictNamespaces=no)"
	}
	return "a security module refused it, or this is a chroot: look for a denial in the kernel's log (sudo dmesg | grep -i -e apparmor -e avc), or run trace as root"
}

func (h Host) apparmorRestricts() bool {
	return h.read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1"
}

// apparmorHint gives a profile to this binary only; it loosens nothing for
// others.
const apparmorHint = "AppArmor keeps user namespaces from programs without a profile; give this one a profile: trace namespace apparmor-profile | sudo tee /etc/apparmor.d/trace && sudo apparmor_parser -r /etc/apparmor.d/trace"

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

// explainDevice is for runs that no device could be made for.
func (h Host) explainDevice(err error) string {
	if strings.Contains(err.Error(), "veth") || errors.Is(err, syscall.EOPNOTSUPP) { // it was asked for, or tried after TUN
		return "for veth: sudo modprobe veth; for TUN: " + h.explainTUN(err)
	}
	return h.explainTUN(err) + ", or use --device veth"
}

const (
	tunNode   = "/dev/net/tun"
	tunDevice = 10<<8 | 200 // as Linux numbers it
)

// explainTUN tells how /dev/net/tun is made to open.
func (h Host) explainTUN(err error) string {
	const makeNode = "sudo mkdir -p /dev/net && sudo mknod -m 0666 " + tunNode + " c 10 200"
	var st unix.Stat_t
	missing := unix.Stat(filepath.Join(h.Root, tunNode), &st) != nil
	switch {
	case errors.Is(err, syscall.ENOENT):
		return "sudo modprobe tun; in a container start it with --device " + tunNode + ", or: " + makeNode
	case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		if !missing && st.Rdev != tunDevice {
			return tunNode + " is no TUN node: sudo rm " + tunNode + " && " + makeNode
		}
		return "the kernel has no TUN driver loaded: sudo modprobe tun"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		if !missing && st.Mode&0o006 == 0o006 {
			return "/dev/net is mounted without devices: sudo mount -o remount,dev /dev/net"
		}
		return "sudo chmod 0666 " + tunNode + ", as most distributions have it (the device is of no use without a namespace's rights)"
	}
	return "sudo modprobe tun"
}

// unexpected is for errors that no machine is known to give.
const unexpected = "this is not known to happen: please report it with the output of trace namespace doctor --json"

// explainInside explains what went wrong after the namespaces were made.
func (h Host) explainInside(e *netns.StepError) string {
	switch {
	case errors.Is(e, syscall.EAGAIN):
		return processesHint
	case e.Step == "mounts" && errors.Is(e, syscall.EINVAL) && h.chroot():
		return "the root directory of this chroot is no mount point: run trace outside of it, or make it one (mount --bind DIR DIR) before chroot DIR"
	case e.Step == "mounts" && errors.Is(e, syscall.ENOSPC):
		return "the limit of mounts is reached: sudo sysctl -w fs.mount-max=100000"
	case !errors.Is(e, syscall.EPERM) && !errors.Is(e, syscall.EACCES):
		return unexpected
	case h.apparmorRestricts():
		return apparmorHint
	case h.status("Seccomp") == "2":
		return "a seccomp filter forbids it, as containers do by default: start this container with --security-opt seccomp=PROFILE, one that allows mount and its kin, or seccomp=unconfined"
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
