package store

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"trace/flow"
)

// A Query selects flows. The zero value selects all.
type Query struct {
	// Heads asks for whole heads, hashes, timings and marks. Without it an
	// exchange is an outline: its heads have no fields, its bodies sizes only,
	// their hashes withheld.
	Heads  bool
	Kind   string    // as flow.KindHTTP
	Host   string    // glob: * ? [a-z]; compared without case
	Method string    // compared without case
	Status string    // "404", "4xx"
	From   time.Time // started not before
	To     time.Time // started before
	Limit  int       // the newest so many; 0: all
	After  int64     // ids above
	Before int64     // ids below; 0: all
}

// flowColumns are what exchange reads. The document is NULL in outlines.
const flowColumns = `f.id,f.conn,f.ordinal,f.kind,f.state,f.started,f.ended,f.method,f.scheme,f.host,f.port,f.path,
	f.status,f.type,f.streaming,f.sent,f.received,f.events,f.redacted,f.error,c.facts,f.opaque`

const (
	selectOutline = "SELECT " + flowColumns + ",NULL FROM flow f LEFT JOIN conn c ON c.id=f.conn"
	selectFull    = "SELECT " + flowColumns + ",d.doc FROM flow f LEFT JOIN conn c ON c.id=f.conn LEFT JOIN detail d ON d.flow=f.id"
)

// where turns q into SQL.
func (q *Query) where() (string, []any, error) {
	var conds []string
	var args []any
	add := func(cond string, vs ...any) {
		conds = append(conds, cond)
		args = append(args, vs...)
	}
	if q.After > 0 {
		add("f.id>?", q.After)
	}
	if q.Before > 0 {
		add("f.id<?", q.Before)
	}
	if q.Kind != "" {
		add("f.kind=?", q.Kind)
	}
	if q.Host != "" {
		add("lower(coalesce(nullif(f.host,''),nullif(c.host,''),c.dst)) GLOB ?", strings.ToLower(q.Host))
	}
	if q.Method != "" {
		add("upper(f.method)=?", strings.ToUpper(q.Method))
	}
	if q.Status != "" {
		lo, hi, err := statusRange(q.Status)
		if err != nil {
			return "", nil, err
		}
		add("f.status BETWEEN ? AND ?", lo, hi)
	}
	if !q.From.IsZero() {
		add("f.started>=?", q.From.UnixMicro())
	}
	if !q.To.IsZero() {
		add("f.started<?", q.To.UnixMicro())
	}
	if len(conds) == 0 {
		return "", nil, nil
	}
	return " WHERE " + strings.Join(conds, " AND "), args, nil
}

// statusRange reads "404" or "4xx".
func statusRange(s string) (lo, hi int, err error) {
	if len(s) == 3 && strings.EqualFold(s[1:], "xx") && s[0] >= '1' && s[0] <= '9' {
		lo = int(s[0]-'0') * 100
		return lo, lo + 99, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 999 {
		return 0, 0, fmt.Errorf("status %q: want a number such as 404 or a class such as 4xx", s)
	}
	return n, n, nil
}

// Flows returns the flows that q selects, oldest first by their start.
func (r *Reader) Flows(q Query) (xs []*flow.Exchange, err error) {
	where, args, err := q.where()
	if err != nil {
		return nil, err
	}
	sel := selectOutline
	if q.Heads {
		sel = selectFull
	}
	sel += where
	if err := r.learn(); err != nil {
		return nil, err
	}
	if q.Limit > 0 {
		sel += " ORDER BY f.started DESC,f.id DESC LIMIT " + strconv.Itoa(q.Limit)
	} else {
		sel += " ORDER BY f.started,f.id"
	}
	err = r.with(func(d *db) error {
		return d.snapshot(func() error {
			state, err := r.stateNow(d)
			if err != nil {
				return err
			}
			f := r.folder(d, state)
			return d.each(sel, args, func(row row) error {
				x, err := f.exchange(row)
				if err != nil { // one damaged row hides no other
					x.Error = damaged(err)
				}
				xs = append(xs, x)
				return nil
			})
		})
	})
	if q.Limit > 0 {
		slices.Reverse(xs)
	}
	return xs, err
}

// Flow returns one flow with its heads and the server's certificates, or
// ErrNoFlow.
func (r *Reader) Flow(id int64) (x *flow.Exchange, err error) {
	if err := r.learn(); err != nil {
		return nil, err
	}
	err = r.with(func(d *db) error {
		return d.snapshot(func() error {
			x, err = r.flow(d, id)
			return err
		})
	})
	return x, err
}

// flow is Flow within a read transaction.
func (r *Reader) flow(d *db, id int64) (*flow.Exchange, error) {
	state, err := r.stateNow(d)
	if err != nil {
		return nil, err
	}
	row, err := d.one(selectFull+" WHERE f.id=?", id)
	if err != nil {
		return nil, err
	}
	if row == nil {
		return nil, ErrNoFlow
	}
	x, err := r.folder(d, state).exchange(row)
	if err != nil {
		return nil, err
	}
	return x, r.chain(d, row.int(1), x)
}

// chain fills in the certificates of the upstream leg.
func (r *Reader) chain(d *db, conn int64, x *flow.Exchange) error {
	row, err := d.one("SELECT chain FROM conn WHERE id=?", conn)
	if err != nil || row == nil || row.null(0) {
		return err
	}
	spans, err := parseRecipe(row.blob(0))
	if err != nil {
		return err
	}
	p, err := r.read(d, nil, spans)
	if err != nil {
		return err
	}
	x.Conn.Upstream.Chain, err = parseChain(p)
	return err
}

// Last returns the highest id, 0 if there are no flows.
func (r *Reader) Last() (id int64, err error) {
	err = r.with(func(d *db) error {
		id, err = d.number("SELECT max(id) FROM flow")
		return err
	})
	return id, err
}

// folder makes exchanges of rows.
type folder struct {
	r       *Reader
	session string
	crashed bool
	conns   map[int64]*foldedConn // read lately
	marks   []flow.Note           // of the connection of the last row
}

// foldedConn is a connection as flows get it.
type foldedConn struct {
	facts flow.Conn
	marks []flow.Note
}

// maxFolded bounds the connections that a folder remembers.
const maxFolded = 1 << 10

func (r *Reader) folder(d *db, state string) *folder {
	row, err := d.one("SELECT id FROM session")
	f := &folder{r: r, crashed: state == stateCrashed}
	if err == nil && row != nil {
		f.session = row.text(0)
	}
	return f
}

// errCrashed is the error of flows that were open when the run crashed.
var errCrashed = &flow.Error{Where: flow.AtCapture, Code: flow.CodeTruncated,
	Message: "the record ends before this flow did: the run was killed, or could not write any more"}

// damaged is the error of a flow of which only the outline can be read.
func damaged(err error) *flow.Error {
	return &flow.Error{Where: flow.AtCapture, Code: flow.CodeTruncated, Message: err.Error()}
}

// exchange makes one of a row of flowColumns and the document.
func (f *folder) exchange(r row) (*flow.Exchange, error) {
	x, err := f.recorded(r)
	f.r.gate.exchange(x)
	return x, err
}

// recorded is exchange as it stands in the file.
func (f *folder) recorded(r row) (*flow.Exchange, error) {
	x := &flow.Exchange{ID: r.int(0), Session: f.session, Ordinal: r.int(2), Kind: r.text(3), State: r.text(4),
		Started: fromMicros(r.int(5)), Ended: fromMicros(r.int(6)), Redacted: int(r.int(18))}
	if err := f.connect(x, r.int(1), r.blob(20)); err != nil {
		x.Conn.ID, f.marks = max(r.int(1), 0), nil
		outline(x, r)
		return x, err
	}
	if reason := r.text(21); reason != "" {
		x.Conn.Opaque = reason // of this row: the connection may have carried others
	}
	if !r.null(22) {
		p, err := unsqueeze(f.r.dec, r.blob(22))
		if err == nil {
			err = decodeDoc(p, x)
		}
		if err != nil {
			outline(x, r)
			return x, fmt.Errorf("flow %d is damaged in the file: %w", x.ID, err)
		}
		x.Marks = append(x.Marks, f.marks...)
		slices.SortStableFunc(x.Marks, func(a, b flow.Note) int { return a.At.Compare(b.At) })
	} else {
		outline(x, r)
	}
	if !r.null(19) {
		x.Error = toNote(0, r.blob(19)).Error
	}
	if why := x.Conn.Error; why != nil && (x.Kind == flow.KindTCP || x.Kind == flow.KindUDP) {
		// The row stands for the connection: why it was not decrypted says
		// more than how it ended then.
		if own := x.Error; own != nil && own.Code != why.Code {
			x.Marks = append(x.Marks, flow.Note{At: x.Ended, Error: own})
		}
		x.Error = why
	}
	if f.crashed && x.State == flow.StateOpen {
		x.State, x.Error = flow.StateFailed, errCrashed
	}
	return x, nil
}

// connect fills in the connection. Flows near each other often share it.
func (f *folder) connect(x *flow.Exchange, id int64, facts []byte) error {
	if len(facts) == 0 {
		x.Conn.ID, f.marks = id, nil
		return nil
	}
	known := f.conns[id]
	if known == nil || id == 0 {
		c, marks, err := decodeConn(facts)
		if err != nil {
			return fmt.Errorf("connection %d is damaged in the file: %w", id, err)
		}
		if known = (&foldedConn{c, marks}); len(f.conns) >= maxFolded || f.conns == nil {
			f.conns = map[int64]*foldedConn{}
		}
		f.conns[id] = known
	}
	x.Conn, f.marks = known.facts, known.marks
	x.Conn.ID = max(id, 0)
	return nil
}

// outline fills x from columns alone.
func outline(x *flow.Exchange, r row) {
	switch x.Kind {
	case flow.KindHTTP, flow.KindWebSocket:
		x.Request = &flow.Part{Head: &flow.Head{Method: r.text(7), Scheme: r.text(8), Host: r.text(9), Port: int(r.int(10)), Path: r.text(11)}}
		if !r.null(15) {
			x.Request.Body, x.Request.Withheld = &flow.Ended{Size: r.int(15)}, true
		}
	case flow.KindDNS:
		x.DNS = &flow.DNS{Name: r.text(9)}
	}
	if !r.null(12) {
		x.Response = &flow.Part{ContentType: r.text(13), Head: &flow.Head{Status: int(r.int(12)), Streaming: r.int(14) != 0}}
		if !r.null(16) {
			x.Response.Body, x.Response.Withheld = &flow.Ended{Size: r.int(16), Events: r.int(17)}, true
		}
	}
}

// Detail returns a flow with all that was kept of it.
func (r *Reader) Detail(id int64) (*flow.Detail, error) {
	x, err := r.Flow(id)
	if err != nil {
		return nil, err
	}
	det := &flow.Detail{Exchange: *x}
	if x.Request != nil {
		if det.RequestBody, err = r.Body(id, flow.Client); err != nil {
			return nil, err
		}
		if det.ResponseBody, err = r.Body(id, flow.Server); err != nil {
			return nil, err
		}
	}
	if det.Events, err = r.Events(id); err != nil {
		return nil, err
	}
	det.Messages, err = r.Messages(id)
	return det, err
}
