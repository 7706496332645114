package store

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"trace/flow"
)

// oldestAppended is the version of the oldest files that Reopen adds to: those
// before it keep bodies in another way.
const oldestAppended = 2

// foreignConns is the number of the first connection that a second process
// records in a session that still runs: the run counts its own from 1.
const foreignConns = 1 << 40

// Reopen records more flows in a session that is there, also in one that has
// crashed or is still being written by another process: every burst takes its
// numbers within its transaction, so two writers do not disturb each other. Of
// a session that holds secrets o.Redact is not used. conn is the number of a
// connection that nobody else records. Finish ends the recording and leaves the
// session's own end as it was. Meanwhile the session counts as being written,
// so that nobody clears what this counts on.
func Reopen(path string, o Options) (s *Store, conn int64, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, 0, err
	}
	session, version, err := identify(path)
	if err != nil {
		return nil, 0, err
	}
	if version < oldestAppended {
		return nil, 0, &FileError{Path: path, Problem: fmt.Sprintf("was written by an older trace (format %d): nothing can be added to it", version)}
	}
	if session.Secrets {
		o.Redact = nil
	}
	lock, err := lockRunning(path)
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, 0, fileError(path, err)
	}
	defer func() {
		if err != nil && lock != nil {
			os.Remove(lock.Name())
			lock.Close()
		}
	}()
	w, err := joinWriter(path, session, o)
	if err != nil {
		return nil, 0, fileError(path, err)
	}
	if conn, err = w.reserve(session.State); err != nil {
		w.close()
		return nil, 0, fileError(path, err)
	}
	limit := o.Queue
	if limit <= 0 {
		limit = defaultQueue
	}
	s = &Store{path: path, session: session, writer: w, queue: newQueue(limit), done: make(chan struct{}), joined: true, lock: lock}
	go s.run()
	return s, conn, nil
}

// identify reads whose session the file is, and its format.
func identify(path string) (s flow.Session, version int64, err error) {
	r, err := Open(path)
	if err != nil {
		return s, 0, err
	}
	defer r.Close()
	err = r.with(func(d *db) error {
		if err := refuseCopy(d, path); err != nil {
			return err
		}
		version, err = d.number("PRAGMA user_version")
		return err
	})
	if err == nil {
		s, err = r.Session()
	}
	return s, version, err
}

// joinWriter opens the file for one more writer.
func joinWriter(path string, s flow.Session, o Options) (*writer, error) {
	d, err := dial(path, url.Values{"mode": {"rw"}})
	if err != nil {
		return nil, err
	}
	w := &writer{db: d, gate: gate{r: o.Redact}, log: o.Log, conns: map[int64]*connState{}, slow: map[*live]bool{}, base: 1, session: s}
	if w.log == nil {
		w.log = func(string, ...any) {}
	}
	if w.chunks, err = newChunks(); err == nil {
		err = d.script("PRAGMA synchronous=NORMAL")
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return w, nil
}

// reserve takes a number for a connection, by writing its row.
func (w *writer) reserve(state string) (conn int64, err error) {
	if _, err := w.db.exec("BEGIN IMMEDIATE"); err != nil {
		return 0, err
	}
	first := int64(1)
	if state == stateRunning {
		first = foreignConns
	}
	conn, err = w.db.number("SELECT max(id) FROM conn WHERE id>=?", first)
	if err == nil {
		conn = max(conn+1, first)
		if err = w.number(); err == nil {
			err = w.writeConn(&connState{id: conn, facts: &flow.Conn{ID: conn, Source: flow.SourceReplay}})
		}
	}
	if err == nil {
		_, err = w.db.exec("COMMIT")
	}
	if err != nil {
		w.db.exec("ROLLBACK")
	}
	return conn, err
}

// leave ends the recording of a writer that joined: what is open is closed, and
// the session's row stays as it is.
func (w *writer) leave() error {
	w.commit(true)
	return w.failing
}
