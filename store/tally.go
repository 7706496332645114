package store

import (
	"os"
	"time"

	"trace/flow"
)

// A Tally counts the flows of a session.
type Tally struct {
	Flows  int64
	Open   int64
	Recent int64 // begun since the time that was asked with
}

// Tally counts the flows, and those begun since a time.
func (r *Reader) Tally(since time.Time) (t Tally, err error) {
	err = r.with(func(d *db) error {
		row, err := d.one("SELECT count(*), coalesce(sum(state='open'),0) FROM flow")
		if err != nil || row == nil {
			return err
		}
		t.Flows, t.Open = row.int(0), row.int(1)
		t.Recent, err = d.number("SELECT count(*) FROM flow WHERE started>=?", micros(since))
		return err
	})
	return t, err
}

// ListRunning is List for the sessions that are being written. It does not open
// the others.
func ListRunning(dir string) ([]flow.Session, error) {
	paths, err := files(dir)
	if err != nil {
		return nil, err
	}
	var list []flow.Session
	for _, p := range paths {
		if _, err := os.Lstat(p + lockSuffix); err != nil {
			continue
		}
		s, err := inspect(p)
		if err == nil && s.State == stateRunning {
			list = append(list, s)
		}
	}
	return list, nil
}
