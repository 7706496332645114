package store

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"time"

	"trace/flow"
)

// ops is what a burst left to be written.
type ops struct {
	conns     []*connState
	flows     []*live
	segments  []*segment
	tails     []tailRow
	drops     []drop
	notes     []note
	annotated []annotated
}

// tailRow is a row for tail. It is skipped if a later one of the same piece
// waits too, or the piece has moved on already.
type tailRow struct {
	l   *live
	p   *piece
	seq int64
}

// drop deletes the rows of tail of some pieces.
type drop struct {
	l           *live
	part        int
	first, last int64 // by ord
}

type note struct {
	at  time.Time
	gap bool
	err *flow.Error
}

func (o *ops) empty() bool {
	return len(o.conns)+len(o.flows)+len(o.segments)+len(o.tails)+len(o.drops)+len(o.notes)+len(o.annotated) == 0
}

// settle empties o after its commit.
func (o *ops) settle() {
	for _, l := range o.flows {
		l.dirty = false
	}
	for _, c := range o.conns {
		c.dirty = false
	}
	clear(o.conns)
	clear(o.flows)
	clear(o.segments)
	clear(o.tails)
	clear(o.drops)
	clear(o.annotated)
	*o = ops{o.conns[:0], o.flows[:0], o.segments[:0], o.tails[:0], o.drops[:0], o.notes[:0], o.annotated[:0]}
	if cap(o.tails) > 1<<14 {
		o.tails = nil
	}
}

// transact writes everything that waits in one transaction. If it fails,
// everything still waits.
func (w *writer) transact() error {
	if w.probe != nil {
		w.probe(w.db)
	}
	w.chunks.seal()
	if w.ops.empty() && len(w.chunks.sealed) == 0 && w.lost.events == 0 {
		return nil
	}
	if _, err := w.db.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	fresh, err := w.write()
	if err == nil {
		_, err = w.db.exec("COMMIT")
	}
	if err != nil {
		w.db.exec("ROLLBACK") // SQLite may have done so itself
		for _, l := range fresh {
			l.inserted, l.x.ID = false, 0
		}
		return err
	}
	for _, t := range w.ops.tails {
		t.l.tailed = true
	}
	w.base = w.chunks.next
	w.chunks.sealed = nil
	w.ops.settle()
	w.lost = lost{}
	return nil
}

// write does the work of transact; fresh are the flows that got their ids.
func (w *writer) write() (fresh []*live, err error) {
	if err = w.number(); err != nil {
		return nil, err
	}
	for _, p := range w.chunks.sealed {
		if _, err = w.db.exec("INSERT INTO pack VALUES(?,?,?,?,?)", p.first, p.count, p.raw, p.idx, p.data); err != nil {
			return nil, err
		}
	}
	for _, c := range w.ops.conns {
		if err = w.writeConn(c); err != nil {
			return nil, err
		}
	}
	for _, l := range w.ops.flows {
		if !l.inserted {
			fresh = append(fresh, l)
		}
		if err = w.writeFlow(l); err != nil {
			return fresh, err
		}
	}
	for _, s := range w.ops.segments {
		if _, err = w.db.exec("INSERT INTO body VALUES(?,?,?,?,?,?,?,?)", s.l.x.ID, s.part, s.seq, s.first, s.count,
			s.size, appendRecipe([]byte{}, s.spans), blobOrNull(s.times)); err != nil {
			return fresh, err
		}
	}
	if err = w.writeTail(); err != nil {
		return fresh, err
	}
	return fresh, w.writeAnnotations()
}

func (w *writer) writeTail() error {
	for _, d := range w.ops.drops {
		mask, flags := int(isMessage|fromServer), 0
		switch d.part {
		case partResponse:
			flags = fromServer
		case partMessages:
			mask, flags = isMessage, isMessage
		}
		if _, err := w.db.exec("DELETE FROM tail WHERE flow=? AND ord BETWEEN ? AND ? AND flags&?=?", d.l.x.ID, d.first, d.last, mask, flags); err != nil {
			return err
		}
	}
	for _, t := range w.ops.tails {
		p := t.p
		if p.gone || p.seq != t.seq {
			continue
		}
		if _, err := w.db.exec("INSERT INTO tail VALUES(?,?,?,?,?,?,?,?,?,?)", t.l.x.ID, t.seq, p.ord, p.idx, p.at,
			int(p.flags), int(p.opcode), p.size, blobOrNull(p.sum), append([]byte{}, p.data...)); err != nil {
			return err
		}
		if t.l.revved != w.rev {
			t.l.revved = w.rev
			if _, err := w.db.exec("UPDATE flow SET rev=? WHERE id=?", w.rev, t.l.x.ID); err != nil {
				return err
			}
		}
	}
	notes := w.ops.notes
	if w.lost.events > 0 {
		notes = append(notes[:len(notes):len(notes)], w.lost.note())
	}
	for _, n := range notes {
		text, err := json.Marshal(n.err)
		if err != nil {
			return err
		}
		if _, err := w.db.exec("INSERT INTO note(rev,at,gap,error) VALUES(?,?,?,?)", w.rev, micros(n.at), n.gap, string(text)); err != nil {
			return err
		}
	}
	return nil
}

// number takes the numbers of this burst inside its transaction: others may
// have written since the last.
func (w *writer) number() error {
	for _, table := range []string{"flow", "conn"} {
		last, err := w.db.number("SELECT max(rev) FROM " + table)
		if err != nil {
			return err
		}
		w.rev = max(w.rev, last)
	}
	w.rev++
	if len(w.chunks.sealed) == 0 {
		return nil
	}
	next, err := w.db.number("SELECT first+count FROM pack ORDER BY first DESC LIMIT 1")
	if err != nil {
		return err
	}
	d := max(next, 1) - w.base
	if d == 0 {
		return nil
	}
	w.chunks.shift(w.base, d)
	for _, s := range w.ops.segments {
		s.spans = shiftSpans(s.spans, w.base, d)
	}
	for _, c := range w.ops.conns {
		c.chain = shiftSpans(c.chain, w.base, d)
	}
	for _, c := range w.conns {
		for _, l := range c.open {
			for i := range l.bodies {
				l.bodies[i].spans = shiftSpans(l.bodies[i].spans, w.base, d)
			}
		}
	}
	w.base += d
	return nil
}

func (w *writer) writeConn(c *connState) error {
	f := c.facts
	facts, err := encodeConn(f, c.marks)
	if err != nil {
		return err
	}
	_, err = w.db.exec(`INSERT INTO conn VALUES(?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT(id) DO UPDATE SET
		rev=excluded.rev, ended=excluded.ended, host=excluded.host, dst=excluded.dst, protocol=excluded.protocol,
		decrypted=excluded.decrypted, opaque=excluded.opaque, facts=excluded.facts, chain=excluded.chain`,
		c.id, w.rev, nullMicros(f.Started), nullMicros(f.Ended), f.Host, f.Dst.Addr().String(), f.Protocol, f.Decrypted, f.Opaque,
		facts, blobOrNull(appendRecipe(nil, c.chain)))
	return err
}

// writeFlow writes the row and the document of a flow. Its first write gives
// it its id.
func (w *writer) writeFlow(l *live) error {
	x := &l.x
	l.revved = w.rev
	args := append([]any{w.rev, w.rev, l.conn.id, x.Ordinal, x.Kind, x.State, micros(x.Started), nullMicros(x.Ended)}, columns(l)...)
	if l.inserted {
		_, err := w.db.exec(`UPDATE flow SET rev=?,changed=?,conn=?,ordinal=?,kind=?,state=?,started=?,ended=?,method=?,scheme=?,host=?,port=?,
			path=?,status=?,type=?,streaming=?,sent=?,received=?,events=?,opaque=?,redacted=?,error=? WHERE id=?`, append(args, x.ID)...)
		if err != nil {
			return err
		}
	} else {
		id, err := w.db.exec(`INSERT INTO flow(rev,changed,conn,ordinal,kind,state,started,ended,method,scheme,host,port,
			path,status,type,streaming,sent,received,events,opaque,redacted,error) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`, args...)
		if err != nil {
			return err
		}
		l.inserted, x.ID = true, id
	}
	p := encodeDoc(append(w.doc[:0], plainBlob), x)
	w.doc = p
	if len(p) > squeezeFrom && x.State != flow.StateOpen { // an open one will be written again
		p = squeeze(w.chunks.enc, p[1:])
	}
	_, err := w.db.exec("INSERT OR REPLACE INTO detail VALUES(?,?)", x.ID, p)
	return err
}

// columns returns the columns of flow from method on.
func columns(l *live) []any {
	x := &l.x
	c := make([]any, 14)
	if p := x.Request; p != nil {
		if h := p.Head; h != nil {
			c[0], c[1], c[2], c[3], c[4] = h.Method, h.Scheme, h.Host, h.Port, h.Path
		}
		if p.Body != nil {
			c[8] = p.Body.Size
		}
	}
	if x.DNS != nil {
		c[2] = x.DNS.Name
	}
	if p := x.Response; p != nil {
		c[6] = p.ContentType
		if p.Head != nil {
			c[5], c[7] = p.Head.Status, p.Head.Streaming
		}
		if p.Body != nil {
			c[9], c[10] = p.Body.Size, p.Body.Events
		}
	}
	if l.reason != "" {
		c[11] = l.reason
	}
	c[12] = x.Redacted
	if x.Error != nil {
		p, _ := json.Marshal(x.Error) // four strings
		c[13] = string(p)
	}
	return c
}

func blobOrNull(p []byte) any {
	if len(p) == 0 {
		return nil
	}
	return p
}

func insertSession(d *db, s *flow.Session) error {
	argv := make([]string, 0, len(s.Argv))
	for _, a := range s.Argv {
		argv = append(argv, armour(a))
	}
	args, err := json.Marshal(argv)
	if err != nil {
		return err
	}
	_, err = d.exec("INSERT INTO session VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)", s.ID, s.Name, string(s.Source), string(args), s.Dir,
		s.PID, startTime(s.PID), s.Version, s.Link, s.Device, micros(s.Started), nil, nil, s.Secrets)
	return err
}

// finish writes what is left and the end of the session.
func (w *writer) finish(exit int, at time.Time) error {
	w.abandonAll(at)
	w.commit(true)
	if w.failing != nil {
		return w.failing
	}
	if w.rev == 0 {
		// The log is new, so that nothing stale can stand behind what follows.
		// oneFile syncs it before it is needed.
		w.db.script("PRAGMA synchronous=OFF")
	}
	_, err := w.db.exec("UPDATE session SET ended=?, exit=?", micros(at), exit)
	if err != nil {
		return fmt.Errorf("mark as ended: %w", err)
	}
	w.session.Ended, w.session.Exit, w.session.State = at, exit, stateEnded
	return nil
}

// finalTries and finalPause bound how long oneFile waits for readers in other
// processes: followers see the end at their next poll.
const (
	finalTries = 10
	finalPause = 10 * time.Millisecond
)

// oneFile folds the write-ahead log into the file and, unless readers of this
// process are attached, leaves WAL mode, so that the session is one file that
// can be read from a read-only place. A reader in another process that does
// not let go in time only prevents the latter; the last to close the file then
// removes the log.
//
// A checkpoint that was not hindered makes everything safe against power loss.
// What follows only takes two marks off the first page, without which the file
// is read as well: no fsync is worth that.
func (w *writer) oneFile(attached bool) {
	w.db.script("PRAGMA busy_timeout=100; PRAGMA synchronous=NORMAL")
	if r, err := w.db.one("PRAGMA wal_checkpoint(TRUNCATE)"); err == nil && r != nil && r.int(0) == 0 {
		w.db.script("PRAGMA synchronous=OFF")
	}
	for n := 0; !attached && n < finalTries; n++ {
		if err := w.db.script("PRAGMA journal_mode=DELETE"); !isBusy(err) {
			return
		}
		time.Sleep(finalPause)
	}
}

// unwrap leaves WAL mode in place of the writer, which could not while readers
// were attached. It does nothing if others still are.
func unwrap(path string) {
	d, err := dial(path, url.Values{"mode": {"rw"}})
	if err != nil {
		return
	}
	d.script("PRAGMA busy_timeout=0; PRAGMA journal_mode=DELETE")
	d.close()
}

// summary returns the session with its counts, as far as they are committed.
func (w *writer) summary() flow.Session {
	s := w.session
	if s.State != stateEnded {
		s.State = stateCrashed
	}
	countSession(w.db, &s)
	return s
}

// removeAll removes a session file and what may lie beside it.
func removeAll(path string) error {
	err := os.Remove(path)
	for _, s := range sidecars {
		os.Remove(path + s)
	}
	return err
}

// sidecars are the names that SQLite and lockRunning put beside a session file
// while it is in use.
var sidecars = []string{"-wal", "-shm", "-journal", lockSuffix}
