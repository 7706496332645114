package ahead

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// resolve follows the symbolic links of a path that exists. It asks the kernel: path/filepath must not be imported here.
func resolve(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	return os.Readlink(fmt.Sprintf("/proc/thread-self/fd/%d", fd))
}

// split returns the directory that path lies in and its name there.
func split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	switch {
	case i < 0:
		return ".", path
	case i == 0:
		return "/", path[1:]
	}
	return path[:i], path[i+1:]
}

func join(dir, name string) string { return strings.TrimSuffix(dir, "/") + "/" + name }
