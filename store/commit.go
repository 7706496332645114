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

// settle empties o after its commit and returns the flows that it had, valid
// until the next is added.
func (o *ops) settle() []*live {
	flows := o.flows
	for _, l := range o.flows {
		l.dirty = false
	}
	for _, c := range o.conns {
		c.dirty = false
	}
	clear(o.conns)
	clear(o.segments)
	clear(o.tails)
	clear(o.drops)
	clear(o.annotated)
	*o = ops{o.conns[:0], o.flows[:0], o.segments[:0], o.tails[:0], o.drops[:0], o.notes[:0], o.annotated[:0]}
	if cap(o.tails) > 1<<14 {
		o.tails = nil
	}
	return flows
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
	w.retire(w.ops.settle())
	w.lost = lost{}
	return nil
}

// write does the work of transact; fresh are the flows that got their ids.
func (w *writer) write() (fresh []*live, err error) {
	if err = w.number(); err != nil {
		return nil, err
	}
	for _, p := range w.chunks.sealed {
		if err = w.writePack(p); err != nil {
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
		if err = w.writeSegment(s); err != nil {
			return fresh, err
		}
	}
	if err = w.writeTail(); err != nil {
		return fresh, err
	}
	return fresh, w.writeAnnotations()
}

func (w *writer) writePack(p *pack) error {
	s, err := w.db.bind("INSERT INTO pack VALUES(?,?,?,?,?)")
	if err == nil {
		_, err = s.int(p.first).int(int64(p.count)).int(int64(p.raw)).blob(p.idx).blob(p.data).insert()
	}
	return err
}

func (w *writer) writeSegment(g *segment) error {
	s, err := w.db.bind("INSERT INTO body VALUES(?,?,?,?,?,?,?,?)")
	if err != nil {
		return err
	}
	w.doc = appendRecipe(w.doc[:0], g.spans)
	s.int(g.l.x.ID).int(int64(g.part)).int(g.seq).int(g.first).int(g.count).int(g.size)
	_, err = s.blob(w.doc).blobOrNull(g.times).insert()
	return err
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
		s, err := w.db.bind("INSERT INTO tail VALUES(?,?,?,?,?,?,?,?,?,?)")
		if err != nil {
			return err
		}
		s.int(t.l.x.ID).int(t.seq).int(p.ord).int(p.idx).int(p.at).int(int64(p.flags)).int(int64(p.opcode)).int(p.size)
		if _, err := s.blobOrNull(p.sum).blob(p.data).insert(); err != nil {
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

const (
	insertFlow = `INSERT INTO flow(rev,changed,conn,ordinal,kind,state,started,ended,method,scheme,host,port,
		path,status,type,streaming,sent,received,events,opaque,redacted,error) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`
	updateFlow = `UPDATE flow SET rev=?,changed=?,conn=?,ordinal=?,kind=?,state=?,started=?,ended=?,method=?,scheme=?,host=?,port=?,
		path=?,status=?,type=?,streaming=?,sent=?,received=?,events=?,opaque=?,redacted=?,error=? WHERE id=?`
)

// writeFlow writes the row and the document of a flow. Its first write gives
// it its id.
func (w *writer) writeFlow(l *live) error {
	x := &l.x
	l.revved = w.rev
	sql := insertFlow
	if l.inserted {
		sql = updateFlow
	}
	s, err := w.db.bind(sql)
	if err != nil {
		return err
	}
	s.int(w.rev).int(w.rev).int(l.conn.id).int(x.Ordinal).text(x.Kind).text(x.State).int(micros(x.Started)).time(x.Ended)
	l.bind(s)
	if l.inserted {
		s.int(x.ID)
	}
	id, err := s.insert()
	if err != nil {
		return err
	}
	if !l.inserted {
		l.inserted, x.ID = true, id
	}
	p := w.coder.encode(append(w.doc[:0], plainBlob), x)
	w.doc = p
	if len(p) > squeezeFrom && x.State != flow.StateOpen { // an open one will be written again
		p = squeeze(w.chunks.enc, p[1:])
	}
	if s, err = w.db.bind("INSERT OR REPLACE INTO detail VALUES(?,?)"); err == nil {
		_, err = s.int(x.ID).blob(p).insert()
	}
	return err
}

// bind binds the columns of flow from method on.
func (l *live) bind(s *stmt) {
	x := &l.x
	var head *flow.Head
	if x.Request != nil {
		head = x.Request.Head
	}
	switch {
	case head != nil:
		s.text(head.Method).text(head.Scheme).text(head.Host).int(int64(head.Port)).text(head.Path)
	case x.DNS != nil:
		s.null().null().text(x.DNS.Name).null().null()
	default:
		s.null().null().null().null().null()
	}
	var sent, received *flow.Ended
	if x.Request != nil {
		sent = x.Request.Body
	}
	switch p := x.Response; {
	case p == nil:
		s.null().null().null()
	case p.Head == nil:
		s.null().text(p.ContentType).null()
		received = p.Body
	default:
		s.int(int64(p.Head.Status)).text(p.ContentType).bool(p.Head.Streaming)
		received = p.Body
	}
	if sent == nil {
		s.null()
	} else {
		s.int(sent.Size)
	}
	if received == nil {
		s.null().null()
	} else {
		s.int(received.Size).int(received.Events)
	}
	s.textOrNull(l.reason).int(int64(x.Redacted))
	if x.Error == nil {
		s.null()
	} else {
		p, _ := json.Marshal(x.Error) // four strings
		s.text(string(p))
	}
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
	if w.blank = w.isBlank(); w.blank {
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
	w.db.script("PRAGMA busy_timeout=100")
	if w.blank = w.blank && !attached; !w.blank {
		w.db.script("PRAGMA synchronous=NORMAL")
	}
	r, err := w.db.one("PRAGMA wal_checkpoint(TRUNCATE)")
	if done := err == nil && r != nil && r.int(0) == 0; done {
		w.db.script("PRAGMA synchronous=OFF")
	} else if w.blank {
		w.blank = false
		w.db.script("PRAGMA synchronous=NORMAL")
	}
	for n := 0; !attached && n < finalTries; n++ {
		if err := w.db.script("PRAGMA journal_mode=DELETE"); !isBusy(err) {
			return
		}
		time.Sleep(finalPause)
	}
}

// isBlank tells whether nothing was recorded, by whomever. What power loss may
// cost such a session until it has ended is as little as during its creation:
// it is synced once, when the file is closed (syncFile).
func (w *writer) isBlank() bool {
	if w.rev != 0 {
		return false
	}
	n, err := w.db.number("SELECT EXISTS(SELECT 1 FROM conn) OR EXISTS(SELECT 1 FROM flow) OR EXISTS(SELECT 1 FROM note)")
	return err == nil && n == 0
}

// syncFile makes a file safe against power loss. It must not be called while
// SQLite has the file open in this process: closing it would drop its locks.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
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
