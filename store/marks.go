package store

import (
	"fmt"
	"time"

	"trace/flow"
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

// Marks returns the marks of the session in the order in which they were made.
func (r *Reader) Marks() (marks []Mark, err error) {
	err = r.with(func(d *db) error {
		return d.each("SELECT at,error,id FROM note WHERE gap=0 ORDER BY id", nil, func(row row) error {
			if n := toNote(row.int(0), row.blob(1)); n.Error.Code == flow.CodeMark {
				marks = append(marks, Mark{row.int(2), n.At, n.Error.Message})
			}
			return nil
		})
	})
	return marks, err
}
