package ahead

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeSysctls never fails: none is essential, and containers mount /proc/sys read-only.
func (b *builder) writeSysctls() error {
	for _, s := range b.setup.Sysctls {
		err := writeSysctl(s[0], s[1])
		if err == nil {
			continue
		}
		b.note("sysctl", s[0], err)
		if IsErrno(err, unix.EROFS) {
			return nil // the others will say the same
		}
	}
	return nil
}

func writeSysctl(name, value string) error {
	file := "/proc/sys/" + name
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return &os.PathError{Op: "write", Path: file, Err: err}
	}
	return nil
}
