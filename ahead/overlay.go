package ahead

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// overlay makes a mount of the directory that src is open on, with the directory dst, name in the tmpfs, over it. The alternative is a
// copy: two system calls for each of hundreds of links. An overlay is not always to be had: not before Linux 5.11 in a user
// namespace, nor before 6.6, whose tmpfs has no attributes of users; not in a tmpfs without a place before 6.15; not over overlays of overlays.
func (m *mounter) overlay(src, dst int, name string) (mount int, err error) {
	name += ".work"
	if err := unix.Mkdirat(m.root, name, 0o700); err != nil {
		return -1, os.NewSyscallError("mkdirat", err)
	}
	work, err := unix.Openat(m.root, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("openat", err)
	}
	defer unix.Close(work)
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fsfd)
	if m.userNS {
		err = unix.FsconfigSetFlag(fsfd, "userxattr")
	}
	// By descriptor: a path would have to be quoted, and the directory may be covered by now.
	for _, layer := range []struct {
		name string
		fd   int
	}{{"lowerdir", src}, {"upperdir", dst}, {"workdir", work}} {
		if err == nil {
			err = unix.FsconfigSetString(fsfd, layer.name, fmt.Sprintf("/proc/thread-self/fd/%d", layer.fd))
		}
	}
	if err == nil {
		err = unix.FsconfigSetString(fsfd, "source", "trace")
	}
	if err == nil {
		err = unix.FsconfigCreate(fsfd)
	}
	if err != nil {
		return -1, os.NewSyscallError("fsconfig", err)
	}
	mount, err = unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	return mount, os.NewSyscallError("fsmount", err)
}
