package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A row is a recorded flow, as far as it matters here.
type row struct {
	ID, Kind, State string
	Conn            struct{ Src, Host, Dst string }
	Request         *part
	Response        *part
	Bytes           *struct{ Sent, Received int64 }
	Error           *fault
	Marks           []fault
}

type fault struct{ Where, Code, Message string }

type part struct {
	Host, Path string
	Status     int
	Size       int64  `json:"body_size"`
	SHA        string `json:"body_sha256"`
}

// trace runs another command of trace on what the act left.
func (p *play) trace(args ...string) ([]byte, error) {
	cmd := exec.Command(p.o.trace, args...)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(p.dir, "state"))
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("trace %s: %w: %s", strings.Join(args, " "), err, msg.String())
	}
	return out.Bytes(), err
}

// read reads the logs and the record.
func (p *play) read() (err error) {
	if p.client, err = readLog(filepath.Join(p.dir, "client.jsonl")); err != nil {
		return err
	}
	text, err := p.trace("flows", "list", "--json", "--session", p.file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &p.rows); err != nil {
		return fmt.Errorf("flows list --json: %w", err)
	}
	cmd := exec.Command(p.o.trace, "flows", "tail", "--json", "--session", p.file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.kinds, p.drops, err = eventLog(out)
	if e := cmd.Wait(); err == nil && e != nil {
		err = fmt.Errorf("flows tail: %w", e)
	}
	return err
}

// eventLog counts the lines of an event log by their type, and returns what
// it says of gaps.
func eventLog(r io.Reader) (kinds map[string]int, drops []string, err error) {
	kinds = map[string]int{}
	for in := bufio.NewReaderSize(r, 1<<20); ; {
		line, err := in.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return kinds, drops, nil
		}
		if err != nil {
			return kinds, drops, fmt.Errorf("event log: %w at %.100q", err, line)
		}
		_, rest, _ := bytes.Cut(line[:min(len(line), 200)], []byte(`"type":"`))
		kind, _, _ := strings.Cut(string(rest), `"`)
		kinds[kind]++
		if kind == "drop" {
			var d struct{ Reason string }
			if err := json.Unmarshal(line, &d); err != nil {
				return kinds, drops, err
			}
			drops = append(drops, d.Reason)
		}
	}
}

// slack is how long what has passed may take to be committed, on a busy
// machine.
const slack = time.Second

// in reports whether s overlaps a window that is has.
func (p *play) in(s *seen, has func(w window) bool) bool {
	return slices.ContainsFunc(p.windows, func(w window) bool {
		return has(w) && s.End.After(w.from.Add(-slack)) && s.Start.Before(w.to.Add(slack))
	})
}

func loses(w window) bool   { return w.loses }
func reaches(w window) bool { return w.reaches }

// isHTTP reports whether exchanges of a kind have a path that names them.
func isHTTP(kind string) bool {
	return !slices.Contains([]string{kindRaw, kindRawRST, kindJunk, kindRefused, kindHoard}, kind)
}

// check holds the record against the logs.
func (p *play) check() {
	byID, bySrc, refused := map[int64][]*row{}, map[string][]*row{}, 0
	for i := range p.rows {
		r := &p.rows[i]
		switch {
		case r.Kind == "dns":
		case r.Request != nil && r.Request.Path != "":
			path, _, _ := strings.Cut(r.Request.Path, "?")
			id, err := strconv.ParseInt(strings.TrimPrefix(path, "/"), 10, 64)
			if err != nil {
				p.wrong("flow %s: nobody asked for %s", r.ID, r.Request.Path)
			}
			byID[id] = append(byID[id], r)
		case r.Conn.Host == refusedName:
			refused++
		default:
			bySrc[r.Conn.Src] = append(bySrc[r.Conn.Src], r)
		}
	}
	for _, s := range p.client {
		p.outcomes[s.Outcome]++
		var has bool
		switch {
		case s.Kind == kindRefused:
			refused--
			continue
		case isHTTP(s.Kind):
			has = p.exchange(s, byID[s.ID])
			delete(byID, s.ID)
		case s.Src == "": // there was no connection
			has = p.in(s, reaches)
		default:
			has = p.connection(s, bySrc[s.Src])
		}
		if !has && p.in(s, loses) {
			p.excused++
		} else if !has {
			p.wrong("exchange %d (%s, %s) of %s is not in the record", s.ID, s.Kind, s.Outcome, s.Start.Format(time.TimeOnly))
		}
	}
	if refused != 0 && !slices.ContainsFunc(p.windows, func(w window) bool { return w.loses || w.reaches }) {
		p.wrong("%+d rows of refused connections too many", refused)
	}
	for id, rows := range byID { // what the client had no time to log
		if !p.dead {
			p.wrong("exchange %d: in the record and not in the client's log", id)
		}
		p.exchange(nil, append(rows, nil)[:len(rows)])
	}
	if !p.dead && !p.end.near(p.base) {
		p.wrong("did not go back: %v, was %v", p.end, p.base)
	}
	if p.judge != nil {
		p.judge(p)
	}
}

// exchange judges the rows of an exchange of HTTP, of which the client has
// logged s if it had time. It reports whether the record has it.
func (p *play) exchange(s *seen, rows []*row) bool {
	if len(rows) == 0 && s != nil && s.Kind == kindNever && len(p.origin.log[s.ID]) == 0 {
		return true // the client gave up before it had a connection: the disk was slow
	}
	if len(rows) == 0 {
		return s != nil && s.Outcome == "refused" && p.in(s, reaches)
	}
	id := rows[0].Request.Path
	if s != nil && len(rows) > max(1, len(p.origin.log[s.ID])) {
		p.wrong("exchange %s has %d rows", id, len(rows))
	}
	for _, r := range rows {
		switch {
		case r.State == "complete":
			p.complete(s, r)
		case s != nil && s.Outcome == "ok" && len(rows) == 1 && !p.in(s, loses):
			p.wrong("exchange %s: flow %s is %s (%+v), and the client had it whole", id, r.ID, r.State, r.Error)
		default:
			p.begun(s, r)
		}
	}
	return true
}

// complete judges a row that is complete: both ends must have seen the same.
func (p *play) complete(s *seen, r *row) {
	id, _ := strconv.ParseInt(strings.TrimLeft(strings.Split(r.Request.Path, "?")[0], "/"), 10, 64)
	if r.Response == nil {
		p.wrong("exchange %d: flow %s is complete without an answer", id, r.ID)
		return
	}
	if r.Kind == "websocket" {
		if s != nil && s.Kind == kindSocket && s.Outcome != "ok" && !p.in(s, reaches) {
			p.wrong("websocket %d: flow %s is complete, the client saw %s", id, r.ID, s.Outcome)
		}
		return
	}
	same := func(end *seen, up, down *tally) bool {
		return up.Size == r.Request.Size && up.SHA == r.Request.SHA && down.Size == r.Response.Size && down.SHA == r.Response.SHA && end.Status == r.Response.Status
	}
	if !slices.ContainsFunc(p.origin.log[id], func(o *seen) bool { return same(o, &o.Received, &o.Sent) }) {
		p.wrong("exchange %d: flow %s says %+v %+v, the server %+v", id, r.ID, r.Request, r.Response, p.origin.log[id])
	}
	if s != nil && s.Outcome == "ok" && !same(s, &s.Sent, &s.Received) {
		p.wrong("exchange %d: flow %s says %+v %+v, the client %+v", id, r.ID, r.Request, r.Response, s)
	}
	if s != nil && s.Outcome != "ok" && !p.in(s, reaches) {
		p.wrong("exchange %d: flow %s is complete, the client saw %s", id, r.ID, s.Outcome)
	}
}

// begun judges a row that is not complete: what it has is the beginning of
// what was sent.
func (p *play) begun(s *seen, r *row) {
	if s == nil || s.Kind == kindSSE || r.Kind == "websocket" || s.Kind == kindBadChunk || s.Kind == kindGarbage {
		return
	}
	if q := r.Request; q.SHA != "" && q.SHA != tallyOf(body(s.ID, "up", int(q.Size))).SHA {
		p.wrong("exchange %d: flow %s, %s: the request's %d bytes are not what was sent", s.ID, r.ID, r.State, q.Size)
	}
	if q := r.Response; q != nil && q.Status == http.StatusOK && q.SHA != "" && q.SHA != tallyOf(body(s.ID, "down", int(q.Size))).SHA {
		p.wrong("exchange %d: flow %s, %s: the answer's %d bytes are not what was sent", s.ID, r.ID, r.State, q.Size)
	}
}

// connection judges the rows of a client's address, and reports whether one is
// of s.
func (p *play) connection(s *seen, rows []*row) bool {
	if s.Kind != kindRaw || s.Outcome != "ok" {
		return len(rows) > 0
	}
	if len(rows) > 0 && p.in(s, loses) {
		return true
	}
	return slices.ContainsFunc(rows, func(r *row) bool {
		return r.Bytes != nil && r.Bytes.Sent == s.Sent.Size && r.Bytes.Received == s.Received.Size
	})
}

// compare holds what the client saw against what it saw without trace.
func (p *play) compare(control map[int64]*seen) {
	for _, s := range p.client {
		c := control[s.ID]
		if s.Kind == kindHoard || c == nil || p.in(s, reaches) {
			continue
		}
		if s.Outcome != c.Outcome || s.Outcome == "ok" && (s.Status != c.Status || s.Received.SHA != c.Received.SHA || s.Sent.SHA != c.Sent.SHA) {
			p.wrong("exchange %d (%s) at %s: %s, %d bytes after %v; without trace: %s, %d bytes", s.ID, s.Kind, s.Start.Format(time.TimeOnly),
				s.Outcome, s.Received.Size, s.End.Sub(s.Start).Round(time.Millisecond), c.Outcome, c.Received.Size)
		}
	}
}

// report prints what came of the act.
func (p *play) report(w io.Writer) {
	verdict := "ok"
	if p.violations > 0 {
		verdict = fmt.Sprintf("%d VIOLATIONS, files in %s", p.violations, p.dir)
	}
	complete := 0
	for i := range p.rows {
		if p.rows[i].State == "complete" {
			complete++
		}
	}
	fmt.Fprintf(w, "  %-8s %-9s %6d exchanges, %6d rows (%d complete), %d gaps that cover %d exchanges, %.0f s: %s\n",
		p.name, p.link, len(p.client), len(p.rows), complete, len(p.drops), p.excused, p.took.Seconds(), verdict)
	fmt.Fprintf(w, "    client: %v\n", p.outcomes)
	fmt.Fprintf(w, "    after a quarter: %v\n    at most:         %v\n", p.base, p.top)
	if !p.dead {
		fmt.Fprintf(w, "    at the end:      %v\n", p.end)
	}
	if p.many != "" {
		fmt.Fprintf(w, "    descriptors:     %s\n", p.many)
	}
	for _, line := range p.notes {
		fmt.Fprintf(w, "    %s\n", line)
	}
	for _, why := range p.drops {
		fmt.Fprintf(w, "    the record says: %s\n", why)
	}
	for line := range strings.Lines(p.stderr.String()) {
		fmt.Fprintf(w, "    the line after the run: %s\n", strings.TrimSpace(line))
	}
	for _, line := range p.first {
		fmt.Fprintf(w, "    WRONG: %s\n", line)
	}
}
