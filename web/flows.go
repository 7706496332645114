package web

import (
	"strconv"
	"time"

	"trace/flow"
)

// How many rows an answer has.
const (
	defaultRows = 5000
	maxRows     = 20000
)

// scanTime is how long one request looks for rows that a filter lets through.
const scanTime = 2 * time.Second

// page is a part of the list of flows.
type page struct {
	Flows []*row `json:"flows"`
	Next  int64  `json:"next"`
	Total int64  `json:"total"`
	More  bool   `json:"more"`
}

// flows answers with rows that are new or have changed.
func (q *request) flows() error {
	after, err := q.number("after", 0)
	if err != nil {
		return err
	}
	limit, err := q.number("limit", defaultRows)
	if err != nil {
		return err
	}
	limit = min(max(limit, 1), maxRows)
	f, err := parseFilter(q.query("q"), &q.s.Views)
	if err != nil {
		return err
	}
	s, err := q.rec.Session()
	if err != nil {
		return err
	}
	p := page{Flows: []*row{}, Next: after, Total: s.Flows, More: true}
	for until := time.Now().Add(scanTime); p.More && int64(len(p.Flows)) < limit && time.Now().Before(until); {
		list, last, more, err := q.rec.Changed(p.Next, int(limit))
		if err != nil {
			return err
		}
		rows := rowsOf(q.rec, list, false)
		if rows, err = f.keep(q.Context(), q.rec, list, rows); err != nil {
			return err
		}
		p.Flows, p.Next, p.More = append(p.Flows, rows...), last, more
	}
	return q.json(p, nil)
}

// rowsOf makes rows of flows; with now calls are read where nothing is kept of
// them.
func rowsOf(rec Record, list []Revised, now bool) []*row {
	xs := make([]*flow.Exchange, len(list))
	for i := range list {
		xs[i] = list[i].Exchange
	}
	calls := rec.Calls(xs, now)
	rows := make([]*row, len(list))
	for i := range list {
		var call *Call
		if c, ok := calls[list[i].ID]; ok {
			call = &c
		}
		rows[i] = rowOf(list[i].Exchange, list[i].Rev, call)
	}
	return rows
}

// flow answers with one flow.
func (q *request) flow() error {
	id, err := q.id()
	if err != nil {
		return err
	}
	if q.s.Views.Flow == nil {
		return notOffered
	}
	v, err := q.s.Views.Flow(q.Context(), q.rec, id)
	return q.json(v, err)
}

// notOffered is the answer where a view is missing.
var notOffered = &Problem{Status: 501, Message: "API: this is not offered here"}

// name is how a flow is called in file names.
func (q *request) name(id int64) string { return "flow-" + strconv.FormatInt(id, 10) }
