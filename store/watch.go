package store

import (
	"context"
	"time"
)

// watcher tells a follower when to look again.
type watcher struct {
	r       *Reader
	own     *db // nil: the writer is in this process and counts its commits
	version int64
}

func (r *Reader) watch() (*watcher, error) {
	w := &watcher{r: r}
	if r.live != nil {
		return w, nil
	}
	var err error
	w.own, err = openReader(r.path)
	return w, err
}

func (w *watcher) close() {
	if w.own != nil {
		w.own.close()
	}
}

// with lends a connection for a pass.
func (w *watcher) with(fn func(d *db) error) error {
	if w.own != nil {
		return w.r.wrap(fn(w.own))
	}
	return w.r.with(fn)
}

// look returns a number that changes with every commit of somebody else.
func (w *watcher) look() (int64, error) {
	if w.own == nil {
		return w.r.live.commits.Load(), nil
	}
	return w.own.number("PRAGMA data_version")
}

// state remembers what there is, before it is read, and returns the state of
// the run.
func (w *watcher) state() (state string, err error) {
	if w.version, err = w.look(); err != nil {
		return "", w.r.wrap(err)
	}
	err = w.with(func(d *db) error {
		state, err = w.r.stateNow(d)
		return err
	})
	return state, err
}

// wait returns when there may be news since state was asked for, or it is time
// to ask whether the run still lives.
func (w *watcher) wait(ctx context.Context) error {
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for until := time.Now().Add(aliveEvery); ; {
		now, err := w.look()
		if err != nil || now != w.version {
			return w.r.wrap(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case at := <-t.C:
			if at.After(until) {
				return nil
			}
		}
	}
}

// Commits returns a number that changes with every commit, where the session is
// written by this process; -1 where it is not, or is no longer.
func (r *Reader) Commits() int64 {
	if r.live == nil || r.live.ended.Load() {
		return -1
	}
	return r.live.commits.Load()
}
