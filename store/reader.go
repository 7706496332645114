package store

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"trace/flow"
)

// A Reader reads one session, also while it is being written. Its methods are
// safe for concurrent use.
type Reader struct {
	path  string
	conns *connections
	dec   *zstd.Decoder
	packs packCache
	live  *Store    // the session is written by this process
	gate  *readGate // nil: what is read is handed out as it is

	once sync.Once
}

// Open opens the session file at path for reading. Its errors are of type
// *FileError.
func Open(path string) (*Reader, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d, err := openReader(abs)
	if err != nil {
		return nil, err
	}
	c := &connections{open: func() (*db, error) { return openReader(abs) }, free: make(chan *db, maxReaders), made: 1, refs: 1}
	c.free <- d
	return newReader(abs, c, nil)
}

func newReader(path string, c *connections, live *Store) (*Reader, error) {
	dec, err := newDecoder()
	if err != nil {
		return nil, err
	}
	return &Reader{path: path, conns: c, dec: dec, live: live}, nil
}

// Reader returns a reader of the session being written. It can be used, and
// must be closed, also after Finish.
func (s *Store) Reader() (*Reader, error) {
	if s.shared != nil {
		if !s.shared.retain() {
			return nil, &FileError{Path: "unlinked", Problem: problemMissing}
		}
		return newReader("", s.shared, s)
	}
	r, err := Open(s.path)
	if err == nil {
		r.live = s
		s.readers.Add(1)
	}
	return r, err
}

// Close frees the reader. Follow calls must have returned.
func (r *Reader) Close() error {
	r.once.Do(func() {
		late := r.path != "" && r.isLate()
		r.dec.Close()
		r.conns.release()
		if r.live != nil && r.path != "" {
			r.live.readers.Add(-1)
		}
		if late {
			unwrap(r.path)
		}
	})
	return nil
}

// isLate reports whether the session has ended but is still in WAL mode,
// because this reader was attached.
func (r *Reader) isLate() (late bool) {
	r.with(func(d *db) error {
		mode, err := d.one("PRAGMA journal_mode")
		if err != nil || len(mode) == 0 || mode.text(0) != "wal" {
			return err
		}
		ended, err := d.one("SELECT ended FROM session")
		late = err == nil && ended != nil && !ended.null(0)
		return err
	})
	return late
}

// maxReaders bounds the connections of one reader, and of all readers of an
// unlinked session together.
const maxReaders = 4

// connections are read-only connections to one file, lent one call at a time.
type connections struct {
	open func() (*db, error) // nil: there will be no more than there are
	free chan *db

	mu   sync.Mutex
	made int
	refs int // users; the last one closes
}

// openShared opens all connections of an unlinked session.
func openShared(path string) (*connections, error) {
	c := &connections{free: make(chan *db, maxReaders), refs: 1}
	for range maxReaders {
		d, err := openReader(path)
		if err != nil {
			c.release()
			return nil, err
		}
		c.made++
		c.free <- d
	}
	return c, nil
}

func (c *connections) borrow() (*db, error) {
	select {
	case d := <-c.free:
		return d, nil
	default:
	}
	c.mu.Lock()
	if c.open != nil && c.made < maxReaders {
		c.made++
		c.mu.Unlock()
		d, err := c.open()
		if err != nil {
			c.mu.Lock()
			c.made--
			c.mu.Unlock()
		}
		return d, err
	}
	c.mu.Unlock()
	return <-c.free, nil
}

func (c *connections) retain() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refs == 0 {
		return false
	}
	c.refs++
	return true
}

func (c *connections) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refs--; c.refs > 0 {
		return
	}
	for ; c.made > 0; c.made-- {
		(<-c.free).close()
	}
}

// minPage is the size of the smallest database of SQLite.
const minPage = 512

// openReader opens a read-only connection and makes sure that it is to a
// session that this package can read.
func openReader(path string) (*db, error) {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fileError(path, err)
	case fi.IsDir():
		return nil, &FileError{Path: path, Problem: problemDirectory}
	case !fi.Mode().IsRegular():
		return nil, &FileError{Path: path, Problem: problemForeign}
	case fi.Size() == 0:
		return nil, &FileError{Path: path, Problem: problemEmpty}
	case fi.Size() < minPage: // SQLite would take it for an empty database
		return nil, &FileError{Path: path, Problem: problemForeign}
	}
	// mode=rw, since the reader of a log must lock it, and the last reader
	// of a crashed run folds it in. SQLite reads where it may not write.
	d, err := openChecked(path, url.Values{"mode": {"rw"}})
	if err == nil {
		return d, nil
	}
	if fe := err.(*FileError); fe.Problem != problemUnopened {
		return nil, err
	}
	if e := unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK, unix.AT_EACCESS); e != nil {
		return nil, &FileError{Path: path, Problem: problemUnopened + ": " + e.Error(), Err: e}
	}
	// A log of which nothing is left to fold, in a directory where SQLite
	// cannot make its shared memory: the file alone is all there is.
	if fi, e := os.Stat(path + "-wal"); e == nil && fi.Size() > 0 {
		return nil, &FileError{Path: path, Problem: problemCrashed, Err: err}
	}
	return openChecked(path, url.Values{"mode": {"ro"}, "immutable": {"1"}})
}

func openChecked(path string, params url.Values) (*db, error) {
	d, err := dial(path, params)
	if err != nil {
		return nil, fileError(path, err)
	}
	if err := check(d, path); err != nil {
		d.close()
		return nil, fileError(path, err)
	}
	return d, nil
}

// check reads the header fields that make the file a session, and its one row.
func check(d *db, path string) error {
	app, err := d.one("PRAGMA application_id")
	if err != nil {
		return err
	}
	version, err := d.one("PRAGMA user_version")
	if err != nil {
		return err
	}
	if len(app) == 0 || app.int(0) != applicationID {
		return &FileError{Path: path, Problem: problemOther}
	}
	if v := version.int(0); v > schemaVersion {
		return &FileError{Path: path, Problem: fmt.Sprintf(problemNewer, v, schemaVersion)}
	}
	if err := d.script("PRAGMA query_only=ON"); err != nil {
		return err
	}
	r, err := d.one("SELECT id FROM session")
	if err == nil && r == nil {
		err = &FileError{Path: path, Problem: problemEmpty}
	}
	return err
}

// with lends fn a connection.
func (r *Reader) with(fn func(d *db) error) error {
	d, err := r.conns.borrow()
	if err != nil {
		return err
	}
	defer func() { r.conns.free <- d }()
	return r.wrap(fn(d))
}

// wrap names the file in an error of SQLite.
func (r *Reader) wrap(err error) error {
	if sqliteCode(err) != 0 {
		return fileError(r.path, err)
	}
	return err
}

// Session returns what is known of the session itself.
func (r *Reader) Session() (s flow.Session, err error) {
	err = r.with(func(d *db) error {
		return d.snapshot(func() error {
			if s, err = r.session(d); err != nil {
				return err
			}
			return countSession(d, &s)
		})
	})
	if fi, e := os.Stat(r.path); e == nil {
		s.Bytes = fi.Size()
		if fi, e := os.Stat(r.path + "-wal"); e == nil {
			s.Bytes += fi.Size()
		}
	}
	return s, err
}

// session reads the session's row and finds out whether it still runs.
func (r *Reader) session(d *db) (flow.Session, error) {
	row, err := d.one(`SELECT id,name,source,argv,dir,pid,version,link,device,started,ended,exit,secrets,pid_start FROM session`)
	if err != nil || row == nil {
		return flow.Session{}, err
	}
	s := flow.Session{ID: row.text(0), Name: row.text(1), Source: flow.Source(row.text(2)), Dir: row.text(4),
		PID: int(row.int(5)), Version: row.text(6), Link: row.text(7), Device: row.text(8),
		Started: fromMicros(row.int(9)), Ended: fromMicros(row.int(10)), Exit: int(row.int(11)),
		Secrets: row.int(12) != 0, File: r.path}
	if err := json.Unmarshal(row.blob(3), &s.Argv); err != nil {
		return s, fmt.Errorf("session %s: command line: %w", r.path, err)
	}
	for i, a := range s.Argv {
		s.Argv[i] = unarmour(a)
	}
	s.State = r.state(!row.null(10), s.PID, row.int(13))
	r.gate.session(&s)
	return s, nil
}

func (r *Reader) state(ended bool, pid int, start int64) string {
	switch {
	case ended:
		return stateEnded
	case r.live != nil && !r.live.ended.Load():
		return stateRunning
	case r.live == nil && isRunning(r.path, pid, start):
		return stateRunning
	}
	return stateCrashed
}

// stateNow asks for the state only.
func (r *Reader) stateNow(d *db) (string, error) {
	row, err := d.one("SELECT ended,pid,pid_start FROM session")
	if err != nil || row == nil {
		return "", err
	}
	return r.state(!row.null(0), int(row.int(1)), row.int(2)), nil
}

// countSession fills in what is counted. Opaque are the TLS connections that
// were carried, or tried, without being decrypted.
func countSession(d *db, s *flow.Session) (err error) {
	if s.Flows, err = d.number("SELECT count(*) FROM flow"); err != nil {
		return err
	}
	if s.Gaps, err = d.number("SELECT count(*) FROM note WHERE gap<>0"); err != nil {
		return err
	}
	s.Opaque, err = d.number(`SELECT count(*) FROM flow f JOIN conn c ON c.id=f.conn
		WHERE f.kind='tcp' AND c.decrypted=0 AND c.protocol='tls' AND coalesce(c.opaque,'')<>'not_connected'`)
	return err
}

// Notes returns the marks that were made on the run itself, oldest first:
// those that count as gaps, and others.
func (r *Reader) Notes() (notes []flow.Note, err error) {
	err = r.with(func(d *db) error {
		return d.each("SELECT at,error FROM note ORDER BY id", nil, func(row row) error {
			notes = append(notes, r.gate.note(toNote(row.int(0), row.blob(1))))
			return nil
		})
	})
	return notes, err
}

func toNote(at int64, p []byte) flow.Note {
	n := flow.Note{At: fromMicros(at), Error: &flow.Error{}}
	if json.Unmarshal(p, n.Error) != nil {
		n.Error.Message = string(p)
	}
	return n
}
