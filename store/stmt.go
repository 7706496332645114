package store

import (
	"time"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// stmt is a prepared statement. A run of it binds its parameters in order:
//
//	s.begin().int(1).text("a").null()
//	id, err := s.insert()
//
// begin … insert allocate nothing: texts and blobs are copied into memory of
// the statement's own, which SQLite reads in place.
type stmt struct {
	d     *db
	p     uintptr // the sqlite3_stmt
	cols  int
	next  int32   // the parameter bound last
	arena uintptr // memory outside of Go's, where SQLite may point to
	size  int     // of arena
	used  int
	old   []uintptr // smaller ones to which this run still points
	rc    int32     // the first error of binding
}

// What an arena has at first, and what it keeps at most from one run to the
// next.
const (
	arenaSize = 4 << 10
	arenaKeep = 256 << 10
)

// begin forgets what was bound.
func (s *stmt) begin() *stmt {
	s.next, s.used, s.rc = 0, 0, sqlite3.SQLITE_OK
	return s
}

func (s *stmt) check(rc int32) *stmt {
	if s.rc == sqlite3.SQLITE_OK {
		s.rc = rc
	}
	return s
}

func (s *stmt) int(v int64) *stmt {
	s.next++
	return s.check(sqlite3.Xsqlite3_bind_int64(s.d.tls, s.p, s.next, v))
}

func (s *stmt) bool(v bool) *stmt {
	if v {
		return s.int(1)
	}
	return s.int(0)
}

func (s *stmt) null() *stmt {
	s.next++
	return s.check(sqlite3.Xsqlite3_bind_null(s.d.tls, s.p, s.next))
}

func (s *stmt) text(v string) *stmt {
	s.next++
	p := s.copy(unsafe.Slice(unsafe.StringData(v), len(v)))
	return s.check(sqlite3.Xsqlite3_bind_text(s.d.tls, s.p, s.next, p, int32(len(v)), 0))
}

// textOrNull binds v, an empty one as NULL.
func (s *stmt) textOrNull(v string) *stmt {
	if v == "" {
		return s.null()
	}
	return s.text(v)
}

// time binds t, the zero time as NULL.
func (s *stmt) time(t time.Time) *stmt {
	if t.IsZero() {
		return s.null()
	}
	return s.int(t.UnixMicro())
}

// blob binds v, an empty one as a blob of no bytes.
func (s *stmt) blob(v []byte) *stmt {
	s.next++
	return s.check(sqlite3.Xsqlite3_bind_blob(s.d.tls, s.p, s.next, s.copy(v), int32(len(v)), 0))
}

// blobOrNull binds v, an empty one as NULL.
func (s *stmt) blobOrNull(v []byte) *stmt {
	if len(v) == 0 {
		return s.null()
	}
	return s.blob(v)
}

// any binds a value by its type.
func (s *stmt) any(v any) *stmt {
	switch v := v.(type) {
	case nil:
		return s.null()
	case int:
		return s.int(int64(v))
	case int64:
		return s.int(v)
	case bool:
		return s.bool(v)
	case string:
		return s.text(v)
	case []byte:
		if v == nil {
			return s.null()
		}
		return s.blob(v)
	}
	s.next++
	return s.check(sqlite3.SQLITE_MISUSE)
}

// copy puts p where SQLite can find it until the next run.
func (s *stmt) copy(p []byte) uintptr {
	n := max(len(p), 1) // a blob of no bytes needs an address all the same
	if s.size-s.used < n && !s.grow(n) {
		s.check(sqlite3.SQLITE_NOMEM)
		return 0
	}
	at := s.arena + uintptr(s.used)
	copy(outside(at, len(p)), p)
	s.used += n
	return at
}

// grow takes a larger arena. What is bound in this run already points into the
// one before.
func (s *stmt) grow(n int) bool {
	size := max(arenaSize, 2*s.size, n)
	p := libc.Xmalloc(s.d.tls, libc.Tsize_t(size))
	if p == 0 {
		return false
	}
	if s.arena != 0 {
		s.old = append(s.old, s.arena)
	}
	s.arena, s.size, s.used = p, size, 0
	return true
}

// outside returns n bytes of memory that is not Go's.
func outside(p uintptr, n int) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), n)
}

// insert executes the statement and returns the id of the row that was inserted
// last.
func (s *stmt) insert() (int64, error) {
	err := s.rows(nil)
	return sqlite3.Xsqlite3_last_insert_rowid(s.d.tls, s.d.conn), err
}

// rows executes the statement and calls fn, if it is not nil, for every row.
func (s *stmt) rows(fn func(row) error) error {
	err := s.d.error(s.rc)
	var r row
	for err == nil {
		rc := sqlite3.Xsqlite3_step(s.d.tls, s.p)
		if rc == sqlite3.SQLITE_DONE {
			break
		}
		if rc != sqlite3.SQLITE_ROW {
			err = s.d.error(rc)
			break
		}
		if fn != nil {
			if r == nil {
				r = make(row, s.cols)
			}
			s.read(r)
			err = fn(r)
		}
	}
	if rc := sqlite3.Xsqlite3_reset(s.d.tls, s.p); err == nil {
		err = s.d.error(rc)
	}
	s.settle()
	return err
}

// settle frees the memory that this run took beyond what is kept.
func (s *stmt) settle() {
	if s.size > arenaKeep {
		s.old = append(s.old, s.arena)
		s.arena, s.size = 0, 0
	}
	if len(s.old) == 0 {
		return
	}
	sqlite3.Xsqlite3_clear_bindings(s.d.tls, s.p)
	for _, p := range s.old {
		libc.Xfree(s.d.tls, p)
	}
	s.old = s.old[:0]
}

// read fills r with the row that the statement stands on.
func (s *stmt) read(r row) {
	for i := range r {
		tls, col := s.d.tls, int32(i)
		switch sqlite3.Xsqlite3_column_type(tls, s.p, col) {
		case sqlite3.SQLITE_INTEGER:
			r[i] = sqlite3.Xsqlite3_column_int64(tls, s.p, col)
		case sqlite3.SQLITE_FLOAT:
			r[i] = sqlite3.Xsqlite3_column_double(tls, s.p, col)
		case sqlite3.SQLITE_TEXT:
			p := sqlite3.Xsqlite3_column_text(tls, s.p, col)
			r[i] = string(outside(p, int(sqlite3.Xsqlite3_column_bytes(tls, s.p, col))))
		case sqlite3.SQLITE_BLOB:
			p := sqlite3.Xsqlite3_column_blob(tls, s.p, col)
			r[i] = append([]byte{}, outside(p, int(sqlite3.Xsqlite3_column_bytes(tls, s.p, col)))...)
		default:
			r[i] = nil
		}
	}
}

// pointerSize is the size of a pointer in SQLite's memory, and word one there.
const pointerSize = int(unsafe.Sizeof(uintptr(0)))

func word(p uintptr) *uintptr { return *(**uintptr)(unsafe.Pointer(&p)) }

func (s *stmt) close() {
	sqlite3.Xsqlite3_finalize(s.d.tls, s.p)
	libc.Xfree(s.d.tls, s.arena)
}
