package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// db is one connection to a session file. It stands on the driver's own
// interfaces and not on database/sql: one writer and a handful of readers
// need no pool, and a burst of thousands of inserts feels each layer. Not
// safe for concurrent use.
type db struct {
	conn  driver.Conn
	stmts map[string]driver.Stmt // prepared once, by their text
}

// busyTimeout is how long, in milliseconds, a connection waits for a lock
// that another process holds.
const busyTimeout = 5000

// dial opens the existing file at the absolute path with SQLite's own URI
// parameters (mode, immutable). The file is not read yet.
func dial(path string, params url.Values) (*db, error) {
	u := url.URL{Scheme: "file", Path: path}
	dsn := "file://" + u.EscapedPath() + "?" + params.Encode()
	c, err := new(sqlite.Driver).Open(dsn)
	if err != nil {
		return nil, err
	}
	d := &db{conn: c, stmts: map[string]driver.Stmt{}}
	// A session file may come from anyone: nothing in its schema is trusted.
	err = d.script(fmt.Sprintf("PRAGMA busy_timeout=%d; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON", busyTimeout))
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *db) close() error {
	var errs []error
	for _, s := range d.stmts {
		errs = append(errs, s.Close())
	}
	d.stmts = nil
	return errors.Join(append(errs, d.conn.Close())...)
}

// script runs statements that are not worth keeping prepared.
func (d *db) script(sql string) error {
	_, err := d.conn.(driver.ExecerContext).ExecContext(context.Background(), sql, nil)
	return err
}

func (d *db) prepare(sql string) (driver.Stmt, error) {
	if s, ok := d.stmts[sql]; ok {
		return s, nil
	}
	s, err := d.conn.Prepare(sql)
	if err != nil {
		return nil, err
	}
	d.stmts[sql] = s
	return s, nil
}

// exec runs one statement and returns the id of the row that it inserted last.
func (d *db) exec(sql string, args ...any) (int64, error) {
	s, err := d.prepare(sql)
	if err != nil {
		return 0, err
	}
	r, err := s.(driver.StmtExecContext).ExecContext(context.Background(), named(args))
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

// each calls fn for every row of a query. The row is valid during the call;
// the byte slices in it may be kept. The same statement must not be run again
// from within fn.
func (d *db) each(sql string, args []any, fn func(row) error) error {
	s, err := d.prepare(sql)
	if err != nil {
		return err
	}
	rows, err := s.(driver.StmtQueryContext).QueryContext(context.Background(), named(args))
	if err != nil {
		return err
	}
	defer rows.Close()
	r := make(row, len(rows.Columns()))
	for {
		if err := rows.Next(r); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := fn(r); err != nil {
			return err
		}
	}
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

func named(args []any) []driver.NamedValue {
	vs := make([]driver.NamedValue, len(args))
	for i, a := range args {
		switch x := a.(type) {
		case int:
			a = int64(x)
		case bool:
			a = int64(0)
			if x {
				a = int64(1)
			}
		}
		vs[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	return vs
}

// row is one result row. Its accessors take whatever type the file holds: a
// damaged or foreign file yields zero values, not a panic.
type row []driver.Value

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
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// isBusy reports whether err only says that somebody else holds a lock.
func isBusy(err error) bool {
	c := sqliteCode(err)
	return c == sqlite3.SQLITE_BUSY || c == sqlite3.SQLITE_LOCKED
}
