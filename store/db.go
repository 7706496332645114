package store

import (
	"errors"
	"fmt"
	"net/url"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// db is one connection to a session file. It stands on the functions of SQLite
// itself and neither on database/sql nor on the driver: one writer and a
// handful of readers need no pool, and a burst of thousands of inserts feels
// each layer. Not safe for concurrent use, which is why SQLite need not lock
// it.
type db struct {
	tls   *libc.TLS
	conn  uintptr          // the sqlite3
	stmts map[string]*stmt // prepared once, by their text
}

// A sqliteError is what SQLite says of a call that failed.
type sqliteError struct {
	code int // the extended one
	text string
}

func (e *sqliteError) Error() string { return e.text }

// Code returns SQLite's extended result code, by which doctor knows a full disk.
func (e *sqliteError) Code() int { return e.code }

// busyTimeout is how long, in milliseconds, a connection waits for a lock
// that another process holds.
const busyTimeout = 5000

// dial opens the existing file at the absolute path with SQLite's own URI
// parameters (mode, immutable). The file is not read yet.
func dial(path string, params url.Values) (*db, error) {
	sqlite3.PatchIssue199() // the page size of arm64, as the driver of this build does it
	u := url.URL{Scheme: "file", Path: path}
	name, err := libc.CString("file://" + u.EscapedPath() + "?" + params.Encode())
	if err != nil {
		return nil, err
	}
	d := &db{tls: libc.NewTLS(), stmts: map[string]*stmt{}}
	defer libc.Xfree(d.tls, name)
	out := d.tls.Alloc(pointerSize)
	*word(out) = 0
	rc := sqlite3.Xsqlite3_open_v2(d.tls, name, out, sqlite3.SQLITE_OPEN_READWRITE|sqlite3.SQLITE_OPEN_CREATE|
		sqlite3.SQLITE_OPEN_NOMUTEX|sqlite3.SQLITE_OPEN_URI, 0)
	d.conn = *word(out)
	d.tls.Free(pointerSize)
	if err = d.error(rc); err == nil {
		sqlite3.Xsqlite3_extended_result_codes(d.tls, d.conn, 1)
		// A session file may come from anyone: nothing in its schema is trusted.
		err = d.script(fmt.Sprintf("PRAGMA busy_timeout=%d; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON", busyTimeout))
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *db) close() error {
	for _, s := range d.stmts {
		s.close()
	}
	d.stmts = nil
	err := d.error(sqlite3.Xsqlite3_close_v2(d.tls, d.conn))
	d.tls.Close()
	return err
}

// error returns what SQLite says about the call that returned rc, nil if it
// went well.
func (d *db) error(rc int32) error {
	if rc == sqlite3.SQLITE_OK {
		return nil
	}
	text := libc.GoString(sqlite3.Xsqlite3_errstr(d.tls, rc))
	if d.conn != 0 {
		if more := libc.GoString(sqlite3.Xsqlite3_errmsg(d.tls, d.conn)); more != text && more != "not an error" {
			text += ": " + more
		}
	}
	return &sqliteError{int(rc), fmt.Sprintf("%s (%d)", text, rc)}
}

// script runs statements that are not worth keeping prepared.
func (d *db) script(sql string) error {
	text, err := libc.CString(sql)
	if err != nil {
		return err
	}
	defer libc.Xfree(d.tls, text)
	return d.error(sqlite3.Xsqlite3_exec(d.tls, d.conn, text, 0, 0, 0))
}

func (d *db) prepare(sql string) (*stmt, error) {
	if s, ok := d.stmts[sql]; ok {
		return s, nil
	}
	text, err := libc.CString(sql)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(d.tls, text)
	out := d.tls.Alloc(pointerSize)
	defer d.tls.Free(pointerSize)
	rc := sqlite3.Xsqlite3_prepare_v3(d.tls, d.conn, text, -1, sqlite3.SQLITE_PREPARE_PERSISTENT, out, 0)
	if err := d.error(rc); err != nil {
		return nil, err
	}
	s := &stmt{d: d, p: *word(out)}
	s.cols = int(sqlite3.Xsqlite3_column_count(d.tls, s.p))
	d.stmts[sql] = s
	return s, nil
}

// bind prepares a statement, if it is not yet, for another run.
func (d *db) bind(sql string) (*stmt, error) {
	s, err := d.prepare(sql)
	if err != nil {
		return nil, err
	}
	return s.begin(), nil
}

// exec runs one statement and returns the id of the row that it inserted last.
func (d *db) exec(sql string, args ...any) (int64, error) {
	s, err := d.bind(sql)
	if err != nil {
		return 0, err
	}
	for _, a := range args {
		s.any(a)
	}
	return s.insert()
}

// each calls fn for every row of a query. The row is valid during the call;
// the byte slices in it may be kept. The same statement must not be run again
// from within fn.
func (d *db) each(sql string, args []any, fn func(row) error) error {
	s, err := d.bind(sql)
	if err != nil {
		return err
	}
	for _, a := range args {
		s.any(a)
	}
	return s.rows(fn)
}

// one returns the first row of a query, nil if there is none.
func (d *db) one(sql string, args ...any) (row, error) {
	var found row
	err := d.each(sql, args, func(r row) error {
		if found == nil {
			found = append(row{}, r...)
		}
		return nil
	})
	return found, err
}

// number returns the integer that a query yields, 0 for NULL or no row.
func (d *db) number(sql string, args ...any) (int64, error) {
	r, err := d.one(sql, args...)
	if err != nil || r == nil {
		return 0, err
	}
	return r.int(0), nil
}

// snapshot runs fn within one read transaction.
func (d *db) snapshot(fn func() error) error {
	if _, err := d.exec("BEGIN"); err != nil {
		return err
	}
	err := fn()
	if _, e := d.exec("COMMIT"); err == nil {
		err = e
	}
	return err
}

// row is one result row. Its accessors take whatever type the file holds: a
// damaged or foreign file yields zero values, not a panic.
type row []any

func (r row) int(i int) int64 {
	v, _ := r[i].(int64)
	return v
}

func (r row) null(i int) bool { return r[i] == nil }

func (r row) text(i int) string {
	switch v := r[i].(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

func (r row) blob(i int) []byte {
	switch v := r[i].(type) {
	case []byte:
		return v
	case string:
		return []byte(v)
	}
	return nil
}

// sqliteCode returns the primary SQLite result code of err, 0 if it has none.
func sqliteCode(err error) int {
	var e *sqliteError
	if errors.As(err, &e) {
		return e.code & 0xff
	}
	return 0
}

// isBusy reports whether err only says that somebody else holds a lock.
func isBusy(err error) bool {
	c := sqliteCode(err)
	return c == sqlite3.SQLITE_BUSY || c == sqlite3.SQLITE_LOCKED
}
