package netns

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// defaultPath is searched where the environment has no PATH, as execvp does.
const defaultPath = "/bin:/usr/bin"

// execute becomes c; it returns only with the reason why not. The search follows execvp: a file that may not be executed is
// remembered, and the search goes on.
func execute(c *command) error {
	if strings.Contains(c.Path, "/") {
		return &os.PathError{Op: "exec", Path: c.Path, Err: syscall.Exec(c.Path, c.Args, c.Env)}
	}
	denied := ""
	for _, dir := range filepath.SplitList(searchPath(c.Env)) {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + c.Path
		err := tryExec(file, c)
		switch {
		case isErrno(err, unix.EACCES):
			if denied == "" && isRegular(file) {
				denied = file
			}
		case isErrno(err, unix.ENOENT, unix.ENOTDIR, unix.ESTALE, unix.ENODEV, unix.ETIMEDOUT, unix.ELOOP, unix.ENAMETOOLONG):
			if isErrno(err, unix.ENOENT) && isRegular(file) {
				return err // the interpreter of a script, or the loader, is what is missing
			}
		default:
			return err
		}
	}
	if denied != "" {
		return &os.PathError{Op: "exec", Path: denied, Err: unix.EACCES}
	}
	return &os.PathError{Op: "find", Path: c.Path, Err: unix.ENOENT}
}

func tryExec(file string, c *command) error {
	return &os.PathError{Op: "exec", Path: file, Err: syscall.Exec(file, c.Args, c.Env)}
}

func isRegular(file string) bool {
	st, err := os.Stat(file)
	return err == nil && st.Mode().IsRegular()
}

func searchPath(env []string) string {
	path := defaultPath
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	return path
}
