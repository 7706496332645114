package export

import (
	"fmt"
	"io"
	"slices"
	"time"

	"trace/flow"
)

// A JSONL writes the live event log: JSON lines that a jq filter or a script
// can read while the run goes on (docs/jsonl.md is the vocabulary).
//
// Call [JSONL.Meta] first, then the method that fits each thing that happens
// to a flow, in any order between flows. The order of the lines of one flow is
// kept here: a request stands before its answer, events stand before the one
// line that ends the flow, and a step that was left out is made up for. W gets
// each line in one Write, so that nothing but a crash in the middle of a write
// leaves half a line.
//
// Not safe for concurrent use. The first error of W or Body ends the log:
// methods return it from then on.
type JSONL struct {
	W io.Writer
	// Body returns a decoded body as far as it is there. The log keeps nothing
	// of it beyond the call.
	Body func(id int64, side flow.Side) ([]byte, error)
	// Certificates returns the chain of the server that a flow went to. nil:
	// what the flow itself knows is all.
	Certificates func(id int64) ([][]byte, error)
	// Detail returns all of a flow. It is asked for calls to language models, of
	// which the log tells then what they say. nil: it does not.
	Detail func(id int64) (*flow.Detail, error)

	session flow.Session
	seq     int64
	err     error
	flows   map[int64]*progress
	conns   map[int64]*connProgress
	tlsSaid map[connError]bool
}

// connError is an error of a connection, which each of its flows tells.
type connError struct {
	conn int64
	key  string
}

// progress is what has been written of one flow.
type progress struct {
	requested bool
	responded bool
	done      bool
	held      []flow.Piece // the first waits, the rest behind it
	size      int          // bytes held, about
	next      int          // no piece has come with this index or a higher one
	index     int          // events, messages, or pieces of a connection, written
	close     *flow.Piece  // the first close frame of a websocket
	bytes     [2]int64     // of an opaque connection, per side
	said      map[string]bool
}

// maxHeld bounds the bytes of events of a request that wait for the answer's
// head. Beyond it they are written without.
const maxHeld = 8 << 20

// finished stands for every flow that is over: a late step must not write
// after the end, and nothing else need be remembered of it.
var finished = &progress{done: true}

// Meta writes the first line: what this file is.
func (l *JSONL) Meta(s flow.Session) error {
	l.session = s
	return l.write(&metaLine{V: 1, Tool: "trace", Version: s.Version, Started: flow.Stamp(s.Started), HostOS: hostOS}, "meta", s.Started)
}

// Opened says that x has begun. A request is not written yet: its body may
// still be on the way.
func (l *JSONL) Opened(x *flow.Exchange) error {
	l.introduce(x)
	return l.Noted(x)
}

// Requested says that the request of x is complete.
func (l *JSONL) Requested(x *flow.Exchange) error {
	p := l.progress(x)
	if p.requested || p.done || x.Request == nil || x.Request.Head == nil {
		return l.err
	}
	p.requested = true
	l.introduce(x)
	body, err := l.body(x, flow.Client)
	if err != nil {
		return err
	}
	line := requestOf(x, body)
	line.LLM = l.asked(x, body)
	return l.write(line, "request", x.Started, x.ID, x.Conn.ID)
}

// Responded says that the head of the final answer has come. A request whose
// body has not ended is written now, with what there is of it.
func (l *JSONL) Responded(x *flow.Exchange) error {
	p := l.progress(x)
	if p.responded || p.done || x.Response == nil || x.Response.Head == nil {
		return l.err
	}
	l.Requested(x)
	p.responded = true
	l.write(responseHeadOf(x), "response_headers", x.Responded, x.ID, x.Conn.ID)
	if x.IsWebSocket() {
		l.write(wsOpenOf(x), "ws_open", x.Responded, x.ID, x.Conn.ID)
	}
	l.release(x, p, false)
	return l.err
}

// Streamed says that piece of x has passed: an event of a stream, a message of
// a websocket, or bytes of an opaque connection. A partial piece is held back
// until its end is known, and the pieces after it wait for it: a line cannot be
// taken back. Events of the request wait for the head of the answer.
func (l *JSONL) Streamed(x *flow.Exchange, piece flow.Piece) error {
	p := l.progress(x)
	if p.done {
		return l.err
	}
	l.introduce(x)
	l.Responded(x)
	p.hold(piece)
	l.release(x, p, false)
	return l.err
}

// hold puts a piece behind those that wait, or in the place of one whose end it
// completes.
func (p *progress) hold(piece flow.Piece) {
	p.size += weight(&piece)
	if piece.Index < p.next {
		i := slices.IndexFunc(p.held, func(q flow.Piece) bool { return q.Index == piece.Index && q.Side == piece.Side })
		if i >= 0 {
			p.size -= weight(&p.held[i])
			p.held[i] = piece
			return
		}
	}
	p.next = max(p.next, piece.Index+1)
	p.held = append(p.held, piece)
}

// weight is what a piece takes while it is held.
func weight(p *flow.Piece) int { return len(p.Data) + 128 }

// Noted says that x has a mark more.
func (l *JSONL) Noted(x *flow.Exchange) error {
	p := l.progress(x)
	if p.done {
		return l.err
	}
	for _, n := range x.Marks {
		l.trouble(x, p, n.Error, n.At, false)
	}
	return l.err
}

// Done says that x is over, and writes what is missing of it: for an HTTP flow
// that ends with exactly one response or stream_end.
func (l *JSONL) Done(x *flow.Exchange) error {
	p := l.progress(x)
	if p.done {
		return l.err
	}
	l.introduce(x)
	l.Requested(x)
	l.Responded(x)
	l.release(x, p, true)
	l.Noted(x)
	at := x.Ended
	if at.IsZero() {
		at = lastSeen(x)
	}
	l.trouble(x, p, x.Error, at, x.State == flow.StateFailed)
	switch {
	case x.Request != nil:
		l.terminal(x, p, at)
	case x.DNS != nil:
		l.write(dnsOf(x), "dns", at, x.ID, x.Conn.ID)
	default:
		l.rest(x, p, at)
	}
	l.flows[x.ID] = finished
	if !x.Conn.Ended.IsZero() && x.DNS == nil {
		l.ConnClosed(&x.Conn)
	}
	return l.err
}

// SessionNoted says that there is a mark on the run itself: that something was
// lost, or another.
func (l *JSONL) SessionNoted(n *flow.Note) error {
	switch {
	case n.Error == nil:
		return l.err
	case n.Error.Code == flow.CodeGap:
		return l.write(&dropLine{Reason: n.Error.Message}, "drop", n.At)
	case n.Error.Code == flow.CodeMark:
		return l.write(&markLine{Mark: n.Error.Detail, Text: n.Error.Message}, "mark", n.At)
	}
	return l.write(&errorLine{Error: n.Error}, "error", n.At)
}

// release writes the held pieces that need not wait, or all of them.
func (l *JSONL) release(x *flow.Exchange, p *progress, all bool) {
	if x.Request != nil && !p.responded && !all {
		if p.size <= maxHeld {
			return
		}
		l.Requested(x)
	}
	n := 0
	for n < len(p.held) && (all || !p.held[n].Partial) {
		p.size -= weight(&p.held[n])
		l.piece(x, p, &p.held[n])
		n++
	}
	p.held = slices.Delete(p.held, 0, n)
}

// piece writes one piece.
func (l *JSONL) piece(x *flow.Exchange, p *progress, piece *flow.Piece) {
	if x.Request == nil {
		p.bytes[piece.Side] += piece.Size
		if x.Kind == flow.KindUDP {
			l.write(&udpLine{Dir: direction(piece.Side), Size: piece.Size}, "udp", piece.At, x.ID, x.Conn.ID)
			return
		}
		l.write(tcpOf(x, piece), "tcp", piece.At, x.ID, x.Conn.ID)
		return
	}
	if x.IsWebSocket() {
		if piece.Opcode == flow.OpClose && p.close == nil {
			p.close = new(*piece)
		}
		line := wsMessageOf(x, piece)
		line.Index = p.index
		p.index++
		l.write(line, "ws_message", piece.At, x.ID, x.Conn.ID)
		return
	}
	line := sseOf(x, piece)
	if line == nil {
		return // a comment that keeps the connection alive
	}
	line.Index = p.index
	p.index++
	l.write(line, "sse", piece.At, x.ID, x.Conn.ID)
}

// rest tells the bytes of an opaque connection that were counted and not
// kept, so that the sizes of its lines add up to what passed.
func (l *JSONL) rest(x *flow.Exchange, p *progress, at time.Time) {
	if x.Ordinal > 1 {
		return // the connection's counters hold other flows too
	}
	for side, total := range [2]int64{x.Conn.Sent, x.Conn.Received} {
		if n := total - p.bytes[side]; n > 0 {
			l.piece(x, p, &flow.Piece{At: at, Side: flow.Side(side), Size: n})
		}
	}
}

// terminal writes the line that ends an HTTP flow.
func (l *JSONL) terminal(x *flow.Exchange, p *progress, at time.Time) {
	end := endOf(x)
	end.LLM = l.answered(x)
	if line := wsCloseOf(x, p.close); line != nil && p.responded && x.IsWebSocket() {
		l.write(line, "ws_close", at, x.ID, x.Conn.ID)
	}
	if x.Response != nil && x.Response.Head != nil && x.Response.Head.Streaming {
		line := streamEndOf(x, end, p.index)
		if b := x.Response.Body; b != nil && b.Events == 0 && b.Kept > 0 && !x.IsWebSocket() {
			body, err := l.body(x, flow.Server)
			if err != nil {
				return
			}
			part := bodyOf(x.Response, body)
			line.Body, line.BodyEncoding = part.Body, part.BodyEncoding
		}
		l.write(line, "stream_end", at, x.ID, x.Conn.ID)
		return
	}
	body, err := l.body(x, flow.Server)
	if err != nil {
		return
	}
	l.write(responseOf(x, end, body), "response", at, x.ID, x.Conn.ID)
}

// trouble writes an error once for each flow: as tls_error where it is one.
func (l *JSONL) trouble(x *flow.Exchange, p *progress, e *flow.Error, at time.Time, fatal bool) {
	if e == nil {
		return
	}
	key := e.Code + "\x00" + e.Detail + "\x00" + e.Message
	if p.said[key] {
		return
	}
	if p.said == nil {
		p.said = make(map[string]bool)
	}
	if l.tlsSaid == nil {
		l.tlsSaid = make(map[connError]bool)
	}
	p.said[key] = true
	if line := tlsErrorOf(x, e); line != nil {
		if of := (connError{x.Conn.ID, key}); !l.tlsSaid[of] {
			l.tlsSaid[of] = true
			l.write(line, "tls_error", at, 0, x.Conn.ID)
		}
		return
	}
	l.write(&errorLine{Error: e, Fatal: fatal}, "error", at, x.ID, x.Conn.ID)
}

func (l *JSONL) progress(x *flow.Exchange) *progress {
	p := l.flows[x.ID]
	if p == nil {
		if l.flows == nil {
			l.flows = make(map[int64]*progress)
		}
		p = new(progress)
		l.flows[x.ID] = p
	}
	return p
}

func (l *JSONL) body(x *flow.Exchange, side flow.Side) ([]byte, error) {
	if l.err != nil || l.Body == nil {
		return nil, l.err
	}
	b, err := l.Body(x.ID, side)
	if err != nil {
		l.err = fmt.Errorf("read the %s's body of flow %d: %w", side, x.ID, err)
	}
	return b, l.err
}

// write completes a line with what every line carries and writes it. ids are
// the flow and the connection; none or 0: of no flow, of no connection.
func (l *JSONL) write(line line, kind string, at time.Time, ids ...int64) error {
	if l.err != nil {
		return l.err
	}
	b := line.common()
	b.Type, b.TS, b.T, b.Session = kind, flow.Stamp(at), epoch(at), l.session.ID
	if kind != "meta" {
		l.seq++
		b.Seq = l.seq
	}
	if len(ids) > 0 && ids[0] != 0 {
		b.FlowID = fmt.Sprintf("%s/%d", l.session.ID, ids[0])
	}
	if len(ids) > 1 && ids[1] != 0 {
		b.ConnID = fmt.Sprint(ids[1])
	}
	text, err := flow.MarshalJSON(line)
	if err == nil {
		_, err = l.W.Write(append(text, '\n'))
	}
	if err != nil {
		l.err = fmt.Errorf("write the event log: %w", err)
	}
	return l.err
}

// lastSeen returns the latest time that is known of a flow without an end.
func lastSeen(x *flow.Exchange) time.Time {
	at := x.Started
	for _, t := range []time.Time{x.RequestEnded, x.Responded, x.FirstEvent} {
		if t.After(at) {
			at = t
		}
	}
	return at
}
