package flow

import "time"

// Kind says what an Event tells.
type Kind uint8

// The kinds of events. Order on one flow: Request (or Opaque), then Body,
// BodyEnd, Informational, Response, StreamEvent, Message in the order in which
// the bytes passed (an answer may begin before its request has ended), then
// one End. Mark may stand anywhere after the opening.
const (
	None Kind = iota

	// Of a connection (Flow == 0). Facts is set.
	ConnOpen   // a connection arrived
	ConnUpdate // more is known: dialled, TLS done, process found
	ConnEnd    // it is over; no further event of this connection follows

	// Of an exchange.
	Request       // head of a request; opens the flow. Head is set
	Response      // head of the final answer. Head is set
	Informational // head of a 1xx answer. Head is set
	Body          // a piece of a decoded body. Side and Data are set
	StreamEvent   // one event of an event stream, part of the body like a Body. Side and Data (its raw decoded bytes, with what delimits them) are set; Head.Framing of that side says how to read it
	BodyEnd       // the body of Side is over. Ended is set
	Opaque        // opens a flow of kind tcp or udp: bytes that are not decoded. Reason is set
	Message       // a piece (tcp, udp) or a whole message (websocket). Side, Data, Size are set; Data may be shorter than Size
	Query         // a DNS query and its answer, a flow by itself. DNS is set
	Raw           // a piece of the exchange as it was on the wire: heads, chunks, frames. Side and Data are set. Only where the record may hold secrets
	End           // the flow is over. Error is set if it failed
	Mark          // something to say about the flow or connection. Error is set

	// Of the run (Conn == 0).
	Gap // events were lost; Error says how many and why

	// Of an exchange again: what left of a request for the server, where that is
	// not what the child sent. Head, Ended or both are set. Of side Server: what
	// came of an answer from the server, where that is not what the child got.
	Forwarded
)

// An Event is one thing that happened on the road. It is a plain value so
// that it stores and reads back simply; which fields are set follows from
// Kind. Data is valid only during the call that hands the event over: whoever
// keeps the event copies it. Everything behind a pointer is never changed
// after the event was handed over and may be kept.
type Event struct {
	Kind Kind
	At   time.Time
	Conn int64 // Conn.ID
	Flow int64 // ordinal of the exchange in its connection, from 1; 0: the connection
	Side Side

	Facts  *Conn
	Head   *Head
	Ended  *Ended
	DNS    *DNS
	Error  *Error
	Data   []byte
	Size   int64    // Message: size in full, before any limit
	SHA256 [32]byte // Message: of all Size bytes, when HasSum
	HasSum bool
	Opcode uint8 // Message of a websocket: RFC 6455 section 5.2
	// Compressed says of a Message of a websocket that it came deflated (RFC
	// 7692); Data, Size and SHA256 are of the inflated message.
	Compressed bool
	Reason     string // Opaque: why; Message: ""
}

// Field is one header field, name and value as they were on the wire: case,
// order and bytes kept; obs-fold (RFC 9112 section 5.2) kept in Value.
type Field struct{ Name, Value string }

// Head is the head of a request or an answer.
type Head struct {
	// Request line: as sent.
	Method string
	Target string // request-target (RFC 9112 section 3.2) as sent, or :path
	// Authority is :authority as sent (RFC 9113 section 8.3.1); "" in HTTP/1.
	Authority string
	// What it addresses (RFC 9110 section 7.1): worked out from Target, Host
	// and the connection.
	Scheme string
	Host   string // no port, lower case
	Port   int
	Path   string // with query

	// Status line: as sent.
	Status int
	Reason string

	Version   string  // "1.0", "1.1", "2"
	Fields    []Field // without the pseudo-header fields of HTTP/2, which stand above
	Streaming bool    // StreamEvents or Messages follow, not one whole body
	Framing   string  // of the StreamEvents that follow: one of the Framing constants; "" if none do

	// Protocol is what the stream or connection speaks after this exchange
	// of heads: :protocol of an extended CONNECT (RFC 8441), in an answer
	// that switched what it switched to: "websocket". Else "".
	Protocol string
	Stream   int64 // HTTP/2 stream identifier; 0 in HTTP/1
}

// The framings of streams of events.
const (
	FramingSSE         = "sse"             // HTML standard, section 9.2
	FramingNDJSON      = "ndjson"          // a JSON value a line; also RFC 7464
	FramingJSONArray   = "json-array"      // the elements of one array
	FramingEventStream = "aws-eventstream" // application/vnd.amazon.eventstream
	FramingMultipart   = "multipart"       // RFC 2046 section 5.1
	FramingGRPC        = "grpc"            // length-prefixed messages of gRPC, gRPC-Web and Connect
)

// Get returns the value of the first field of that name, compared without
// case, or "".
func (h *Head) Get(name string) string {
	if h == nil {
		return ""
	}
	for _, f := range h.Fields {
		if equalFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// Values returns the values of all fields of that name in order.
func (h *Head) Values(name string) []string {
	var vs []string
	if h == nil {
		return nil
	}
	for _, f := range h.Fields {
		if equalFold(f.Name, name) {
			vs = append(vs, f.Value)
		}
	}
	return vs
}

// equalFold compares ASCII names without case (RFC 9110 section 5.1).
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}

// Ended is what is known of a body once its last byte passed.
type Ended struct {
	Size      int64    // bytes as they passed: de-chunked, content coding kept
	SHA256    [32]byte // of those bytes
	Unsummed  bool     // SHA256 is not known: those bytes were not seen (imported)
	Encoding  string   // the Content-Encoding that was undone, "" if none
	Decoded   int64    // bytes after decoding, as far as they were decoded
	Kept      int64    // decoded bytes handed over in Body and StreamEvent
	Truncated bool     // Kept is less than there was: a limit, or a content coding that broke
	Cut       bool     // the framing promised more than came
	Events    int64    // StreamEvents among it
	Trailers  []Field
}

// DNS is a query of the child and the answer that it got.
type DNS struct {
	Name    string
	Type    string // "A", "AAAA", "HTTPS", …
	Rcode   string // "NOERROR", …
	Answers []string
	Took    time.Duration
}
