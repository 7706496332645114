package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"trace/flow"
)

// suffix is how the names of session files end.
const suffix = ".db"

// Dir returns the directory of sessions, $XDG_STATE_HOME/trace/sessions or
// ~/.local/state/trace/sessions (XDG Base Directory Specification). It need
// not exist: see MakeDir.
func Dir() (string, error) {
	// The specification tells to ignore relative paths.
	if base := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "trace", "sessions"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("session directory: %w", err)
	}
	return filepath.Join(home, ".local", "state", "trace", "sessions"), nil
}

// MakeDir creates the directory of sessions, for its owner only.
func MakeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("session directory: %w", err)
	}
	return nil
}

// crockford is the alphabet of ULIDs, in the order of ASCII.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewID returns a new session id: a ULID, that is 48 bits of milliseconds and
// 80 random bits in base 32, of which the first ten are the microseconds here.
// Ids sort by time.
func NewID(now time.Time) string {
	var b [16]byte
	rand.Read(b[6:]) // never fails (crypto/rand)
	us := uint64(now.UnixMicro())
	ms := us / 1000
	for i := range 6 {
		b[i] = byte(ms >> (8 * (5 - i)))
	}
	us %= 1000
	b[6], b[7] = byte(us>>2), byte(us<<6)|b[7]&0x3f
	var s [26]byte // 26 digits of 5 bits hold 130: the first has three
	for i := range s {
		s[i] = crockford[bits5(b, 5*i-2)]
	}
	return string(s[:])
}

// bits5 returns the five bits of b from bit at on; those before b are zero.
func bits5(b [16]byte, at int) byte {
	var v byte
	for i := at; i < at+5; i++ {
		v <<= 1
		if i >= 0 {
			v |= b[i/8] >> (7 - i%8) & 1
		}
	}
	return v
}

// timeOf returns the time in an id, zero if it is none.
func timeOf(id string) time.Time {
	if len(id) != 26 {
		return time.Time{}
	}
	var ms int64
	for _, c := range id[:10] {
		i := strings.IndexRune(crockford, c)
		if i < 0 {
			return time.Time{}
		}
		ms = ms<<5 | int64(i)
	}
	return time.UnixMilli(ms).UTC()
}

// Path returns the name of the file of s in dir.
func Path(dir string, s flow.Session) string { return filepath.Join(dir, s.ID+suffix) }

// files returns the session files in dir, oldest first.
func files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("session directory: %w", err)
	}
	var paths []string
	for _, e := range entries { // sorted by name
		if !strings.HasSuffix(e.Name(), suffix) || !e.Type().IsRegular() {
			continue
		}
		if fi, err := e.Info(); err != nil || fi.Size() == 0 { // being created, or gone
			continue
		}
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	return withoutCopies(paths), nil
}

// inspect reads the session's own facts from a file.
func inspect(path string) (flow.Session, error) {
	r, err := Open(path)
	if err != nil {
		return flow.Session{}, err
	}
	defer r.Close()
	return r.Session()
}

// List returns the sessions in dir by their start, oldest first; none if dir
// does not exist. A file that cannot be read is in the list with the state
// "unreadable" and nothing but its id and file.
func List(dir string) ([]flow.Session, error) {
	return Newest(dir, 0)
}

// Newest is List of the n sessions that were started last; of all for 0.
func Newest(dir string, n int) ([]flow.Session, error) {
	paths, err := files(dir)
	if err != nil {
		return nil, err
	}
	if n > 0 && len(paths) > n {
		paths = paths[len(paths)-n:]
	}
	list := make([]flow.Session, 0, len(paths))
	for _, p := range paths {
		s, err := inspect(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			id := strings.TrimSuffix(filepath.Base(p), suffix)
			s = flow.Session{ID: id, Started: timeOf(id), State: stateUnreadable, File: p}
			if fi, err := os.Stat(p); err == nil {
				s.Bytes = fi.Size()
			}
		}
		list = append(list, s)
	}
	slices.SortStableFunc(list, func(a, b flow.Session) int { return a.Started.Compare(b.Started) })
	return list, nil
}

// ErrNoSession is returned where nothing fits a reference.
var ErrNoSession = errors.New("no such session")

// Find returns the file that ref names: "" the session started last, an id or
// the unique beginning of one, a NAME (the last run that has it), or a FILE.
func Find(dir, ref string) (string, error) {
	if strings.ContainsRune(ref, filepath.Separator) {
		return existing(ref)
	}
	paths, err := files(dir)
	if err != nil {
		return "", err
	}
	if ref == "" {
		if len(paths) == 0 {
			return "", fmt.Errorf("%w: nothing was recorded yet in %s", ErrNoSession, dir)
		}
		return paths[len(paths)-1], nil
	}
	var begun []string
	for _, p := range paths {
		id := strings.TrimSuffix(filepath.Base(p), suffix)
		if strings.EqualFold(id, ref) {
			return p, nil
		}
		if len(ref) >= minPrefix && len(ref) < len(id) && strings.EqualFold(id[:len(ref)], ref) {
			begun = append(begun, p)
		}
	}
	for _, p := range slices.Backward(paths) {
		if s, err := inspect(p); err == nil && s.Name == ref {
			return p, nil
		}
	}
	switch len(begun) {
	case 1:
		return begun[0], nil
	case 0:
	default:
		return "", fmt.Errorf("session %q: %d sessions begin so", ref, len(begun))
	}
	if p, err := existing(ref); err == nil {
		return p, nil
	}
	return "", fmt.Errorf("session %q: %w", ref, ErrNoSession)
}

// minPrefix is the shortest beginning of an id that is taken for one.
const minPrefix = 4

func existing(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", fileError(path, err)
	}
	return filepath.Abs(path)
}

// Remove deletes the session that ref names, with what a crash may have left
// beside its file. It refuses one that is running with ErrRunning. A FILE is
// deleted only if it is a session, or lies in dir.
func Remove(dir, ref string) error {
	path, err := Find(dir, ref)
	if err != nil {
		return err
	}
	s, err := inspect(path)
	if err != nil && filepath.Dir(path) != filepath.Clean(dir) {
		return err
	}
	if s.State == stateRunning || isRunning(path, 0, 0) {
		return fmt.Errorf("session %s: %w", path, ErrRunning)
	}
	if err := removeAll(path); err != nil {
		return fileError(path, err)
	}
	return nil
}

// tmpfs returns the directory with most room that lies in memory, else the one
// for temporary files.
func tmpfs() string {
	best, room := os.TempDir(), uint64(0)
	for _, dir := range []string{"/dev/shm", os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/run/user/" + fmt.Sprint(os.Getuid())} {
		if dir == "" || unix.Access(dir, unix.W_OK) != nil {
			continue
		}
		if free := inMemory(dir); free > room {
			best, room = dir, free
		}
	}
	return best
}
