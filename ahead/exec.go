package ahead

import (
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// defaultPath is searched where the environment has no PATH, as execvp does.
const defaultPath = "/bin:/usr/bin"

// execute becomes the command; it returns only with the reason why not. The search follows execvp: a file that may not be executed is
// remembered, and the search goes on.
func execute(path string, args, env []string) error {
	if strings.Contains(path, "/") {
		return tryExec(path, args, env)
	}
	denied := ""
	for _, dir := range strings.Split(searchPath(env), ":") {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + path
		err := tryExec(file, args, env)
		switch {
		case IsErrno(err, unix.EACCES):
			if denied == "" && isRegular(file) {
				denied = file
			}
		case IsErrno(err, unix.ENOENT, unix.ENOTDIR, unix.ESTALE, unix.ENODEV, unix.ETIMEDOUT, unix.ELOOP, unix.ENAMETOOLONG):
			if IsErrno(err, unix.ENOENT) && isRegular(file) {
				return err // the interpreter of a script, or the loader, is what is missing
			}
		default:
			return err
		}
	}
	if denied != "" {
		return &os.PathError{Op: "exec", Path: denied, Err: unix.EACCES}
	}
	return &os.PathError{Op: "find", Path: path, Err: unix.ENOENT}
}

func tryExec(file string, args, env []string) error {
	return &os.PathError{Op: "exec", Path: file, Err: syscall.Exec(file, args, env)}
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
