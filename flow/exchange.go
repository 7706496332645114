package flow

import "time"

// The kinds and states of an Exchange, as in docs/cli.md.
const (
	KindHTTP      = "http"
	KindWebSocket = "websocket"
	KindTCP       = "tcp" // opaque bytes
	KindUDP       = "udp"
	KindDNS       = "dns"

	StateOpen     = "open"
	StateComplete = "complete"
	StateFailed   = "failed"
)

// An Exchange is one row of the record: a request with its answer, a DNS
// query, or a connection that was not decoded. Readers get it from store; it
// is a snapshot and theirs to keep.
type Exchange struct {
	ID      int64
	Session string // Session.ID
	Kind    string
	State   string
	Started time.Time
	Ended   time.Time // zero while open
	Conn    Conn
	Ordinal int64 // in its connection, from 1

	Request  *Part // nil for tcp, udp, dns
	Response *Part // nil until the final head came
	// Forwarded is the request as it left for the server, where that may differ from
	// what the child sent: through a reverse proxy. Else nil.
	Forwarded *Part
	// Original is the answer as the server sent it, where a rule made another of it for
	// the child. Else nil.
	Original *Part

	RequestEnded time.Time // last byte of the request; zero if not yet
	Responded    time.Time // head of the final answer
	FirstEvent   time.Time // first StreamEvent

	// Tally counts the messages of a websocket by side; while it is open, those
	// of a moment ago.
	Tally [2]Tally

	DNS *DNS
	// LLM is what a reader found out about a call to a language model; it is
	// llm in JSON. nil: it is none, or nobody has looked.
	LLM any

	Redacted int // places that were replaced
	Error    *Error
	Marks    []Note
}

// A Part is the request or the answer of an Exchange.
type Part struct {
	Head          *Head // without Fields when a reader asked for the outline only
	Body          *Ended
	Withheld      bool    // redaction changed the body, or this is an outline: its hash is not shown
	Informational []*Head // 1xx answers before the final one
	ContentType   string  // as in Head, kept apart for outlines
}

// A Tally counts messages, and their bytes before any limit.
type Tally struct{ Messages, Bytes int64 }

// A Note is a Mark that was made on a flow.
type Note struct {
	At    time.Time
	Error *Error
}

// A Piece is one StreamEvent or Message of a flow, in order.
type Piece struct {
	Index  int // from 0, within its flow
	At     time.Time
	Side   Side
	Opcode uint8 // of a websocket message
	// Compressed: a websocket message that came deflated.
	Compressed bool
	Data       []byte // redacted; the raw block of a StreamEvent
	Size       int64  // before limits
	SHA256     [32]byte
	HasSum     bool // false where redaction changed the message, or for events
	Partial    bool // the end is held back: it may be the beginning of a secret; a later Piece of the same Index completes it
}

// Truncated returns how many bytes of a message are there where that is less
// than passed, else nil. Redaction, which changes the length too, keeps no
// hash: nothing is said then.
func (p *Piece) Truncated() *int64 {
	if n := int64(len(p.Data)); p.HasSum && n < p.Size {
		return &n
	}
	return nil
}

// Detail is an Exchange with all that was kept of it.
type Detail struct {
	Exchange
	RequestBody  []byte
	ResponseBody []byte
	Events       []Piece // of event streams, of both sides in the order of their times
	Messages     []Piece // of a websocket or an opaque connection
}

// Framing returns how the events of side are to be read: by ParseEvent.
func (x *Exchange) Framing(side Side) string {
	part := x.Request
	if side == Server {
		part = x.Response
	}
	if part == nil || part.Head == nil || part.Head.Framing == "" {
		return FramingSSE
	}
	return part.Head.Framing
}

// Duration returns how long the exchange took, or 0 while it is open. It is
// not negative, even where the clock was set back meanwhile.
func (x *Exchange) Duration() time.Duration {
	if x.Ended.IsZero() {
		return 0
	}
	return max(0, x.Ended.Sub(x.Started))
}

// Timings are the phases of an exchange with the meaning that HAR 1.2 gives
// them. Negative: does not apply. SSL lies inside Connect.
type Timings struct {
	DNS, Connect, SSL, Send, Wait, Receive, FirstEvent time.Duration
}

// Timings works the phases out. Those of the connection belong to the first
// exchange on it only.
func (x *Exchange) Timings() Timings {
	t := Timings{DNS: -1, Connect: -1, SSL: -1, Send: -1, Wait: -1, Receive: -1, FirstEvent: -1}
	if x.Ordinal <= 1 {
		set := func(d *time.Duration, v time.Duration) {
			if v > 0 {
				*d = v
			}
		}
		set(&t.DNS, x.Conn.DNS)
		set(&t.Connect, x.Conn.Connect)
		set(&t.SSL, x.Conn.SSL)
	}
	sent := x.RequestEnded
	if !sent.IsZero() {
		t.Send = max(0, sent.Sub(x.Started))
	}
	if !x.Responded.IsZero() {
		if sent.IsZero() || sent.After(x.Responded) {
			sent = x.Responded // answered before the request had ended
		}
		t.Wait = x.Responded.Sub(sent)
		if !x.Ended.IsZero() {
			t.Receive = max(0, x.Ended.Sub(x.Responded))
		}
	}
	if !x.FirstEvent.IsZero() {
		t.FirstEvent = max(0, x.FirstEvent.Sub(x.Started))
	}
	return t
}
