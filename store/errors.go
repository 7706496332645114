package store

import (
	"errors"
	"fmt"
	"io/fs"

	sqlite3 "modernc.org/sqlite/lib"
)

// ErrNoFlow is returned for an id that the session does not have.
var ErrNoFlow = errors.New("no such flow")

// ErrRunning is returned by Remove for a session that is being written.
var ErrRunning = errors.New("session is running")

// FileError says in one line what is wrong with a session file.
type FileError struct {
	Path    string
	Problem string
	Err     error // the cause, if it says more; for errors.Is
}

// Error returns the line.
func (e *FileError) Error() string { return fmt.Sprintf("session %s: %s", e.Path, e.Problem) }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// The problems that users can meet.
const (
	problemMissing   = "no such file"
	problemForeign   = "is no session of trace: not a database, or what is left of one"
	problemOther     = "is a database, but no session of trace"
	problemNewer     = "was written by a newer trace (format %d, this one reads up to %d): update trace to read it"
	problemTruncated = "is truncated or damaged: what it held cannot be read"
	problemEmpty     = "is empty: its recording never began"
	problemDirectory = "is a directory, no session file"
	problemUnopened  = "cannot be opened"
	problemCrashed   = "was not closed (its run crashed) and lies where nothing can be written: copy it with the files beside it to another directory"
)

// fileError says what err means for the file at path.
func fileError(path string, err error) error {
	if err == nil {
		return nil
	}
	var fe *FileError
	if errors.As(err, &fe) {
		return err
	}
	e := &FileError{Path: path, Err: err}
	switch sqliteCode(err) {
	case sqlite3.SQLITE_NOTADB:
		e.Problem = problemForeign
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT:
		e.Problem = problemTruncated
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
		e.Problem = problemUnopened
	default:
		e.Problem = err.Error()
	}
	if errors.Is(err, fs.ErrNotExist) {
		e.Problem = problemMissing
	}
	return e
}
