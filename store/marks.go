package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"trace/flow"
	"trace/redact"
)

// A Mark is a point in a session that a person named.
type Mark struct {
	ID   int64 // a number among the notes of the session; they grow with time
	At   time.Time
	Text string
}

// Name returns the name that a mark has besides its text, which need not be
// unique: m7.
func (m Mark) Name() string { return fmt.Sprint("m", m.ID) }

// ErrEnded is returned by AddMark for a session that is not being written any
// more.
var ErrEnded = errors.New("session has ended")

// AddMark puts a mark into the running session at path, whichever process
// writes it. The text passes the redactor r unless the session keeps secrets.
// Followers learn of it as of any mark on the run.
func AddMark(path, text string, at time.Time, r *redact.Redactor) (Mark, error) {
	m := Mark{At: fromMicros(micros(at)), Text: text}
	s, err := inspect(path)
	if err != nil {
		return m, err
	}
	if s.State != stateRunning {
		return m, fmt.Errorf("session %s: %w", path, ErrEnded)
	}
	if !s.Secrets {
		g := gate{r: r}
		m.Text = g.text(text)
	}
	d, err := openWriting(path)
	if err != nil {
		return m, err
	}
	defer d.close()
	if err := refuseCopy(d, path); err != nil {
		return m, err
	}
	err = d.immediate(func() error {
		ended, err := d.number("SELECT ended IS NOT NULL FROM session")
		if err == nil && ended != 0 {
			err = ErrEnded
		}
		if err != nil {
			return err
		}
		if m.ID, err = d.number("SELECT max(id) FROM note"); err != nil {
			return err
		}
		m.ID++
		// The number of the last burst and not the next: that one is taken by
		// the process that records, which does not look at notes. Followers
		// count notes by their ids.
		rev, err := lastRev(d)
		if err != nil {
			return err
		}
		p, err := json.Marshal(&flow.Error{Where: flow.AtCapture, Code: flow.CodeMark, Message: m.Text, Detail: m.Name()})
		if err != nil {
			return err
		}
		_, err = d.exec("INSERT INTO note VALUES(?,?,?,?,?)", m.ID, rev, micros(m.At), false, string(p))
		return err
	})
	if err != nil {
		return m, fmt.Errorf("session %s: mark: %w", path, err)
	}
	return m, nil
}

// openWriting opens a session that this package can read, to change it.
func openWriting(path string) (*db, error) {
	d, err := openChecked(path, url.Values{"mode": {"rw"}})
	if err != nil {
		return nil, err
	}
	if err := d.script("PRAGMA query_only=OFF; PRAGMA synchronous=NORMAL"); err != nil {
		d.close()
		return nil, fileError(path, err)
	}
	return d, nil
}

// immediate runs fn within one write transaction.
func (d *db) immediate(fn func() error) error {
	if _, err := d.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := fn()
	if err == nil {
		_, err = d.exec("COMMIT")
	}
	if err != nil {
		d.exec("ROLLBACK") // SQLite may have done so itself
	}
	return err
}

// Marks returns the marks of the session in the order in which they were made.
func (r *Reader) Marks() (marks []Mark, err error) {
	err = r.with(func(d *db) error {
		return d.each("SELECT at,error FROM note WHERE gap=0 ORDER BY id", nil, func(row row) error {
			if m, ok := MarkOf(r.gate.note(toNote(row.int(0), row.blob(1)))); ok {
				marks = append(marks, m)
			}
			return nil
		})
	})
	return marks, err
}

// MarkOf returns the mark that a note of the run is, if it is one.
func MarkOf(n flow.Note) (Mark, bool) {
	if n.Error == nil || n.Error.Code != flow.CodeMark {
		return Mark{}, false
	}
	m := Mark{At: n.At, Text: n.Error.Message}
	_, err := fmt.Sscan(strings.TrimPrefix(n.Error.Detail, "m"), &m.ID)
	return m, err == nil
}

// Run returns what Session does, but for what must be counted.
func (r *Reader) Run() (s flow.Session, err error) {
	err = r.with(func(d *db) error {
		s, err = r.session(d)
		return err
	})
	return s, err
}
