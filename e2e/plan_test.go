package e2e

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// The kinds of what a plan exchanges.
const (
	kindPlain  = "plain"
	kindSSE    = "sse"
	kindNDJSON = "ndjson"
	kindArray  = "json-array"
	kindAWS    = "aws-eventstream"
	kindParts  = "multipart"
	kindGRPC   = "grpc"
	kindWS     = "websocket"
)

// A plan says what one exchange of the randomised test does. The client sends
// it along with the request, so that the server does its part of it.
type plan struct {
	ID     int
	Method string
	Status int
	Kind   string
	Req    bodyPlan
	Resp   bodyPlan
	// Expect makes the client wait for 100 Continue; Hints is how many 103
	// answers come before the final one.
	Expect bool `json:",omitempty"`
	Hints  int  `json:",omitempty"`
	// HalfClose makes the client of HTTP/1 end its side after the request.
	HalfClose bool `json:",omitempty"`
	// Abort says who breaks off ("client", "server") and At after how many
	// bytes of which message ("request", "response"; at -1: before any of
	// it), How: "fin", "rst" of a connection, an error code of a stream.
	Abort *abortPlan `json:",omitempty"`
	// GoAway says of the last two streams of a connection how they fare with
	// the GOAWAY (Abort.Code) that ends it: "served", "refused".
	GoAway string  `json:",omitempty"`
	WS     *wsPlan `json:",omitempty"`
	Prefix string  `json:"-"` // of the path that the client asks for
}

type abortPlan struct {
	By, In, How string
	At          int
	Code        uint32 // of RST_STREAM
}

// A bodyPlan describes a body; its bytes follow from it, the exchange's ID
// and the side.
type bodyPlan struct {
	Size    int    `json:",omitempty"` // decoded, of a plain body
	Noise   bool   `json:",omitempty"` // bytes instead of words
	Secret  bool   `json:",omitempty"` // holds something that is redacted
	Coding  string `json:",omitempty"`
	Framing string `json:",omitempty"` // HTTP/1: "", "length", "chunked", "close"
	Events  int    `json:",omitempty"`
	Trailer bool   `json:",omitempty"`
}

type wsPlan struct {
	Client, Server []int   // sizes of what each sends
	Secret         [2]bool // the last message of the client, the server holds what is redacted
	Deflate        bool
	NoTakeover     [2]bool // of the client's, the server's compressor
	Bits           [2]int  // of their windows; 0: not negotiated
	Closer         string  // "client", "server"
	Code           int     // of its close frame; 0: none, the connection just ends as How says
	How            string
}

// path is the request-target of p.
func (p *plan) path() string {
	if p.Kind == kindArray {
		return fmt.Sprintf("/x/%d:streamThings", p.ID)
	}
	return fmt.Sprintf("/x/%d", p.ID)
}

// What a body is once it is made.
type madeBody struct {
	wire    []byte
	decoded []byte
	events  []madeEvent
}

// A madeEvent is one event of a body as a reader must see it: its name and
// text; of gRPC the message with its prefix.
type madeEvent struct{ name, text string }

// secretText is what the redaction must find in a body that has it.
var secretText = `{"api_` + `key":"sk-ant-` + `api03-` + "Zx9Qk3" + "Jw7Tm2" + "Pv8Rn4" + "Ls6Yd1" + "Hb5Gf0" + "Zx9Qk3" + "Jw7Tm2" + "Pv8Rn4" + `AA"}`

var words = []string{"river", "stone", "amber", "walks", "under", "seven", "quiet", "hills", "where", "old", "maps", "end", "and", "new", "ones", "begin"}

// rng returns the numbers of one side of one exchange.
func rng(id int, side string) *rand.Rand {
	s := uint64(0)
	for _, c := range side {
		s = s*131 + uint64(c)
	}
	return rand.New(rand.NewPCG(uint64(id), s))
}

// prose returns n bytes of words.
func prose(r *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = append(append(b, words[r.IntN(len(words))]...), ' ')
	}
	return b[:n]
}

func noise(r *rand.Rand, n int) []byte {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], r.Uint64())
	b := make([]byte, n)
	rand.NewChaCha8(seed).Read(b)
	return b
}

// body makes the body of one side of p.
func (p *plan) body(side string) madeBody {
	b := p.Req
	if side == "server" {
		b = p.Resp
	}
	r := rng(p.ID, side)
	switch {
	case p.Kind == kindGRPC:
		return grpcBody(r, b)
	case b.Events > 0:
		return eventBody(r, b, framers[p.Kind])
	case b.Size == 0:
		return madeBody{}
	}
	c := madeBody{}
	if b.Noise {
		c.decoded = noise(r, b.Size)
	} else {
		c.decoded = prose(r, b.Size)
	}
	if b.Secret {
		c.decoded = append(append([]byte(nil), c.decoded...), "\n"+secretText...)
	}
	c.wire = c.decoded
	if b.Coding != "" {
		var out bytes.Buffer
		z := newCoder(b.Coding, &out)
		z.Write(c.decoded)
		z.Close()
		c.wire = out.Bytes()
	}
	return c
}

func sseEvent(r *rand.Rand, i int, text []byte) ([]byte, madeEvent) {
	nl := []string{"\n", "\r\n", "\n"}[r.IntN(3)]
	var b bytes.Buffer
	e := madeEvent{name: "message"}
	if r.IntN(6) == 0 {
		fmt.Fprintf(&b, ": a comment%s%s", nl, nl)
	}
	if r.IntN(2) == 0 {
		e.name = fmt.Sprintf("tick%d", i%3)
		fmt.Fprintf(&b, "event: %s%s", e.name, nl)
	}
	if r.IntN(4) == 0 {
		fmt.Fprintf(&b, "id: %d%s", i, nl)
	}
	e.text = fmt.Sprintf("{\"n\":%d,\"text\":%q}", i, text)
	fmt.Fprintf(&b, "data: %s%s", e.text, nl)
	if r.IntN(5) == 0 {
		e.text += "\nmore"
		fmt.Fprintf(&b, "data: more%s", nl)
	}
	b.WriteString(nl)
	return b.Bytes(), e
}

// A framer makes the bodies of one framing: its events, and what ends them.
type framer struct {
	event func(r *rand.Rand, i int, text []byte) ([]byte, madeEvent)
	end   string
}

var framers = map[string]framer{
	kindSSE:    {sseEvent, ""},
	kindNDJSON: {jsonLine, ""},
	kindArray:  {arrayElement, "]\n"},
	kindAWS:    {awsMessage, ""},
	kindParts:  {bodyPart, "\r\n--" + boundary + "--\r\n"},
}

const boundary = "b0und'ary"

func arrayElement(r *rand.Rand, i int, text []byte) ([]byte, madeEvent) {
	e := madeEvent{"message", fmt.Sprintf(`{"n":%d,"nested":[1,{"text":%q,"odd":"] }, "}]}`, i, text)}
	if i == 0 {
		return []byte("[" + e.text), e
	}
	return []byte([]string{",", ",\n", "\r\n, "}[r.IntN(3)] + e.text), e
}

// awsMessage makes a message of an AWS event stream, now and then with the
// wrapper of Bedrock.
func awsMessage(r *rand.Rand, i int, text []byte) ([]byte, madeEvent) {
	e := madeEvent{"tick", fmt.Sprintf(`{"n":%d,"text":%q}`, i, text)}
	kind, payload := "tick", e.text
	if r.IntN(2) == 0 {
		e.text = `{"type":"delta",` + e.text[1:]
		e.name, kind = "delta", "chunk"
		payload = fmt.Sprintf(`{"bytes":%q,"p":"abc"}`, base64.StdEncoding.EncodeToString([]byte(e.text)))
	}
	var head []byte
	for _, f := range [][2]string{{":event-type", kind}, {":content-type", "application/json"}, {":message-type", "event"}} {
		head = append(append(append(head, byte(len(f[0]))), f[0]...), 7)
		head = append(binary.BigEndian.AppendUint16(head, uint16(len(f[1]))), f[1]...)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(16+len(head)+len(payload)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(head)))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	b = append(append(b, head...), payload...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)), e
}

func bodyPart(r *rand.Rand, i int, text []byte) ([]byte, madeEvent) {
	e := madeEvent{"message", "part " + string(text) + "\r\n--" + boundary[:r.IntN(len(boundary))]}
	head := "\r\n--" + boundary + "\r\nContent-Type: text/plain\r\n"
	if i == 0 {
		head = head[2:]
	}
	if r.IntN(2) == 0 {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(e.text))
	}
	return []byte(head + "\r\n" + e.text), e
}

func jsonLine(r *rand.Rand, i int, text []byte) ([]byte, madeEvent) {
	e := madeEvent{"message", fmt.Sprintf("{\"n\":%d,\"text\":%q}", i, text)}
	return []byte(e.text + "\n"), e
}

// eventBody makes a body of events, each flushed by itself where it is coded.
func eventBody(r *rand.Rand, b bodyPlan, f framer) madeBody {
	var c madeBody
	var out bytes.Buffer
	var z coder
	if b.Coding != "" {
		z = newCoder(b.Coding, &out)
	}
	for i := range b.Events {
		text := prose(r, r.IntN(250))
		if b.Secret && i == b.Events/2 {
			text = []byte(secretText)
		}
		e, m := f.event(r, i, text)
		if i == b.Events-1 {
			e = append(e, f.end...)
		}
		c.events = append(c.events, m)
		c.decoded = append(c.decoded, e...)
		if z != nil {
			z.Write(e)
			z.Flush()
		}
	}
	if c.wire = c.decoded; z != nil {
		z.Close()
		c.wire = out.Bytes()
	}
	return c
}

// grpcBody makes length-prefixed messages, some of them compressed if the
// coding (grpc-encoding) is gzip.
func grpcBody(r *rand.Rand, b bodyPlan) madeBody {
	var c madeBody
	for i := range b.Events {
		// Field 1, a string.
		text := prose(r, r.IntN(2000))
		if b.Secret && i == b.Events/2 {
			text = []byte(secretText)
		}
		m := append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(text))), text...)
		framed := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
		c.decoded, c.events = append(c.decoded, framed...), append(c.events, madeEvent{text: string(framed)})
		flag := byte(0)
		if b.Coding == "gzip" && r.IntN(3) > 0 {
			flag = 1
			var z bytes.Buffer
			w := gzip.NewWriter(&z)
			w.Write(m)
			w.Close()
			m = z.Bytes()
		}
		c.wire = append(binary.BigEndian.AppendUint32(append(c.wire, flag), uint32(len(m))), m...)
	}
	return c
}

// A coder applies a content coding.
type coder interface {
	io.WriteCloser
	Flush() error
}

func newCoder(name string, w io.Writer) coder {
	switch name {
	case "gzip":
		return gzip.NewWriter(w)
	case "deflate":
		return zlib.NewWriter(w)
	case "rawdeflate":
		z, _ := flate.NewWriter(w, 5)
		return z
	case "br":
		return brotli.NewWriterLevel(w, 3)
	case "zstd":
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			panic(err)
		}
		return z
	}
	panic("no coding " + name)
}

// codingName is what the head says of a coding.
func codingName(c string) string {
	if c == "rawdeflate" {
		return "deflate"
	}
	return c
}
