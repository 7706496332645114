package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"trace/flow"
)

// ErrCopy is returned where something would be added to a session that another
// process records and this file only follows.
var ErrCopy = errors.New("session is received from a run, which alone adds to it")

// ErrPosition says that a batch does not begin where the copy ends.
var ErrPosition = errors.New("batch does not begin where the copy ends")

// ErrUncopied is returned for a session, or part of one, that can never be kept: it
// is of another format, or damaged.
var ErrUncopied = errors.New("session cannot be kept")

// copySuffix is how the name of a copy ends that lies beside the file which it
// was made of. When that is gone, Find takes it by the beginning of its name.
const copySuffix = "-attached"

// copied is the table that only a copy has: how far it got, whether it is
// complete, and the note that says what is missing.
const copied = `CREATE TABLE copied(rev INTEGER NOT NULL, note INTEGER NOT NULL, pack INTEGER NOT NULL, complete INTEGER NOT NULL)`

// missingNote is the number of the note that a copy has of its own.
const missingNote = 1 << 40

// A Copy makes the session that a Feed reads, elsewhere: with the same id, the
// same numbers of flows, and the same rows but for the numbers of the bursts,
// which are its own, since it writes in bursts of its own. Its methods are safe
// for concurrent use. Readers open its file as that of any session; it counts as
// running as long as it is neither complete nor closed.
type Copy struct {
	path    string
	session flow.Session
	lock    *os.File

	mu       sync.Mutex
	db       *db
	at       feedPosition
	rev      int64
	flows    int64
	complete bool
	closed   bool
}

// NewCopy begins the copy of a session in dir, or goes on with one that was
// begun there, also by a process that is gone. row and format are what Feed says
// of the session. ErrRunning says that another process makes it.
func NewCopy(dir string, row []byte, format int) (*Copy, error) {
	if format != schemaVersion {
		return nil, fmt.Errorf("%w: it is of format %d, this trace keeps format %d: let both be of one version", ErrUncopied, format, schemaVersion)
	}
	t, r, rest, err := parseRow(row, nil)
	if err == nil && (t != rowSession || len(rest) > 0) {
		err = errBatch
	}
	if err != nil {
		return nil, fmt.Errorf("%w: its own row: %w", ErrUncopied, err)
	}
	id := r.text(0)
	if timeOf(id).IsZero() || strings.Trim(id, crockford) != "" {
		return nil, fmt.Errorf("%w: %q is no id", ErrUncopied, id)
	}
	r[11], r[12] = nil, nil // it has not ended
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	var foreign error
	for _, name := range []string{id, id + copySuffix} {
		path := filepath.Join(dir, name+suffix)
		c, err := resumeCopy(path, id)
		if errors.Is(err, os.ErrNotExist) && !existsAny(path) {
			c, err = createCopy(path, r)
		}
		if err == nil || !errors.Is(err, errForeign) {
			return c, err
		}
		foreign = err
	}
	return nil, foreign
}

// errForeign says that a file is there that is not the copy.
var errForeign = errors.New("there is another file of that name")

func existsAny(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func createCopy(path string, session row) (c *Copy, err error) {
	if err := touch(path); err != nil {
		return nil, err
	}
	c = &Copy{path: path}
	if c.lock, err = lockRunning(path); err == nil {
		err = c.lay(session)
	}
	if err != nil {
		c.release()
		removeAll(path)
		return nil, fmt.Errorf("session %s: %w", path, err)
	}
	return c, nil
}

// lay makes the tables of a new copy.
func (c *Copy) lay(session row) (err error) {
	if c.db, err = dial(c.path, url.Values{"mode": {"rw"}}); err != nil {
		return err
	}
	_, err = lay(c.db, c.path, func() error {
		if err := c.put("session", session); err != nil {
			return err
		}
		return c.db.script(copied + "; INSERT INTO copied VALUES(0,0,0,0)")
	})
	if err == nil {
		err = c.load()
	}
	return err
}

// resumeCopy opens a copy that was begun.
func resumeCopy(path, id string) (c *Copy, err error) {
	if _, err := os.Lstat(path); err != nil {
		return nil, err
	}
	s, err := inspect(path)
	if err != nil || s.ID != id {
		return nil, fmt.Errorf("%s: %w", path, errForeign)
	}
	d, err := openWriting(path)
	if err != nil {
		return nil, err
	}
	c = &Copy{path: path, db: d}
	defer func() {
		if err != nil {
			c.release()
		}
	}()
	if is, err := isCopy(d); err != nil || !is {
		return c, errors.Join(err, fmt.Errorf("%s: %w", path, errForeign))
	}
	if c.lock, err = lockRunning(path); errors.Is(err, unix.EWOULDBLOCK) {
		return c, fmt.Errorf("session %s: %w", path, ErrRunning)
	} else if err != nil {
		return c, fileError(path, err)
	}
	if err = c.load(); err == nil && !c.complete { // nothing is missing for good
		_, err = d.exec("DELETE FROM note WHERE id=?", int64(missingNote))
	}
	if err != nil {
		return c, fileError(path, err)
	}
	return c, nil
}

// isCopy tells whether the file has the table of a copy.
func isCopy(d *db) (bool, error) {
	n, err := d.number("SELECT count(*) FROM sqlite_master WHERE type='table' AND name='copied'")
	return n > 0, err
}

// refuseCopy returns ErrCopy for a copy that is not complete: what it will get
// has its numbers already.
func refuseCopy(d *db, path string) error {
	is, err := isCopy(d)
	if err != nil || !is {
		return err
	}
	complete, err := d.number("SELECT complete FROM copied")
	if err == nil && complete == 0 {
		err = fmt.Errorf("session %s: %w", path, ErrCopy)
	}
	return err
}

// load reads how far the copy is.
func (c *Copy) load() error {
	r, err := c.db.one("SELECT rev,note,pack,complete FROM copied")
	if err != nil {
		return err
	}
	if r == nil {
		return errForeign
	}
	c.at, c.complete = feedPosition{r.int(0), r.int(1), r.int(2)}, r.int(3) != 0
	if c.rev, err = lastRev(c.db); err != nil {
		return err
	}
	if c.flows, err = c.db.number("SELECT count(*) FROM flow"); err != nil {
		return err
	}
	rd := &Reader{path: c.path}
	if c.session, err = rd.session(c.db); err != nil {
		return err
	}
	c.session.State = stateRunning
	return nil
}

// put writes one row, in place of one with the same key.
func (c *Copy) put(table string, r row) error {
	s, err := c.db.bind("INSERT OR REPLACE INTO " + table + " VALUES(?" + strings.Repeat(",?", len(r)-1) + ")")
	if err != nil {
		return err
	}
	for _, v := range r {
		s.any(v)
	}
	_, err = s.insert()
	return err
}

// Path returns the file of the copy.
func (c *Copy) Path() string { return c.path }

// Session returns the session that is copied, as it began.
func (c *Copy) Session() flow.Session { return c.session }

// Flows returns how many there are.
func (c *Copy) Flows() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flows
}

// Position returns how far the copy is: where the feed has to go on.
func (c *Copy) Position() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.String()
}

// Reader opens the copy for reading. It must be closed.
func (c *Copy) Reader() (*Reader, error) { return Open(c.path) }

// Flush has nothing to wait for: what was taken is committed.
func (c *Copy) Flush() error { return nil }

// Annotate does what that of a Store does.
func (c *Copy) Annotate(id int64, doc []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(doc) > 0 && len(doc) <= maxAnnotation && !c.closed {
		c.db.exec("INSERT OR REPLACE INTO call SELECT id,? FROM flow WHERE id=?", doc, id) // without it readers work it out
	}
}

// Apply takes a batch that a feed handed out at the position from, and returns
// once it is committed. A batch that does not begin where the copy ends is not
// taken (ErrPosition), nor one that is damaged.
func (c *Copy) Apply(from string, batch []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return os.ErrClosed
	case c.complete:
		return fmt.Errorf("session %s: %w", c.path, ErrEnded)
	case from != c.at.String():
		return fmt.Errorf("session %s: %w: at %s, not %s", c.path, ErrPosition, c.at, from)
	}
	to, rows, err := parseBatch(batch)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUncopied, err)
	}
	flows := c.flows
	err = c.db.immediate(func() error {
		c.rev++
		var r row
		for len(rows) > 0 {
			var t rowTable
			if t, r, rows, err = parseRow(rows, r); err != nil {
				return err
			}
			if err := c.take(t, r); err != nil {
				return err
			}
		}
		_, err := c.db.exec("UPDATE copied SET rev=?, note=?, pack=?", to.rev, to.note, to.pack)
		if err == nil {
			flows, err = c.db.number("SELECT count(*) FROM flow")
		}
		return err
	})
	if err != nil {
		c.rev--
		if errors.Is(err, errBatch) {
			return fmt.Errorf("%w: %w", ErrUncopied, err)
		}
		return fmt.Errorf("session %s: %w", c.path, err)
	}
	c.at, c.flows = to, flows
	return nil
}

// copyInto are the tables of the rows that are kept as they come.
var copyInto = map[rowTable]string{
	rowPack: "pack", rowConn: "conn", rowFlow: "flow", rowDetail: "detail", rowBody: "body", rowTailPiece: "tail", rowNote: "note", rowCall: "call",
}

// take writes a row of a batch. The numbers of bursts become ours.
func (c *Copy) take(t rowTable, r row) (err error) {
	switch t {
	case rowTail:
		_, err = c.db.exec("DELETE FROM tail WHERE flow=?", r.int(0))
		return err
	case rowTouched:
		_, err = c.db.exec("UPDATE flow SET rev=? WHERE id=?", c.rev, r.int(0))
		return err
	case rowFlow:
		r[1], r[2] = c.rev, c.rev
	case rowConn, rowNote:
		r[1] = c.rev
	}
	table, ok := copyInto[t]
	if !ok {
		return fmt.Errorf("%w: row of table %d", errBatch, t)
	}
	return c.put(table, r)
}

// Complete ends the copy as the session ended: at the zero time if it crashed. The
// copy is closed, one file, and safe against power loss.
func (c *Copy) Complete(ended time.Time, exit int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return os.ErrClosed
	}
	if c.complete { // said again
		return c.shut()
	}
	err := c.db.immediate(func() error {
		if !ended.IsZero() {
			if _, err := c.db.exec("UPDATE session SET ended=?, exit=?", micros(ended), exit); err != nil {
				return err
			}
		}
		_, err := c.db.exec("UPDATE copied SET complete=1")
		return err
	})
	if err != nil {
		return fmt.Errorf("session %s: mark as ended: %w", c.path, err)
	}
	w := &writer{db: c.db}
	w.oneFile(false)
	c.complete = true
	return c.shut()
}

// miss notes what is missing for now or for good.
func (c *Copy) miss(what string) error {
	if what == "" {
		return nil
	}
	p, err := json.Marshal(&flow.Error{Where: flow.AtCapture, Code: flow.CodeGap, Message: what})
	if err != nil {
		return err
	}
	c.rev++
	return c.put("note", row{int64(missingNote), c.rev, micros(time.Now()), int64(1), string(p)})
}

// Close leaves the copy as far as it is: its run counts as crashed, unless it
// goes on later (NewCopy). missing says why, "" if that need not stand in the
// record.
func (c *Copy) Close(missing string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	err := c.db.immediate(func() error { return c.miss(missing) })
	return errors.Join(err, c.shut())
}

// shut closes what is open.
func (c *Copy) shut() error {
	c.closed = true
	return c.release()
}

func (c *Copy) release() (err error) {
	if c.db != nil {
		err = c.db.close()
	}
	if c.lock != nil {
		os.Remove(c.lock.Name())
		c.lock.Close()
	}
	return err
}

// withoutCopies leaves out the copies that lie beside what they were made of,
// which knows at least as much.
func withoutCopies(paths []string) []string {
	return slices.DeleteFunc(paths, func(path string) bool {
		original, is := strings.CutSuffix(path, copySuffix+suffix)
		return is && slices.Contains(paths, original+suffix)
	})
}
