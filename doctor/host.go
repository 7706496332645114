package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Host reads the machine's settings. The zero value reads this machine's;
// Root is put before every path in tests.
type Host struct{ Root string }

// read returns the trimmed contents of a small file, "" if there is none.
func (h Host) read(path string) string {
	b, err := os.ReadFile(filepath.Join(h.Root, path))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// SQLite's primary result codes of a file that cannot grow.
const (
	sqliteIOErr = 10
	sqliteFull  = 13
)

// explainWrite knows only errors that nothing but writing gives: reading a
// file that is not there is another matter.
func explainWrite(err error) string {
	var path *os.PathError
	var database interface{ Code() int }
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT),
		errors.As(err, &database) && (database.Code()&0xff == sqliteFull || database.Code()&0xff == sqliteIOErr):
		return "free some space, or write elsewhere with --output FILE or XDG_STATE_HOME=DIR"
	case errors.Is(err, syscall.EROFS), errors.As(err, &path) && path.Op == "mkdir":
		return elsewhere
	}
	return ""
}

const elsewhere = "choose another place: --output FILE, XDG_STATE_HOME=DIR, or --no-save"
