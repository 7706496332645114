package store

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"trace/flow"
)

// doc is what detail.doc holds of an exchange, as JSON, compressed once the
// exchange has ended.
type doc struct {
	Request      *docPart  `json:"request,omitempty"`
	Response     *docPart  `json:"response,omitempty"`
	RequestEnded int64     `json:"request_ended,omitempty"`
	Responded    int64     `json:"responded,omitempty"`
	FirstEvent   int64     `json:"first_event,omitempty"`
	DNS          *flow.DNS `json:"dns,omitempty"`
	Marks        []docNote `json:"marks,omitempty"`

	Tally []flow.Tally `json:"tally,omitempty"`
}

type docPart struct {
	Head          *docHead  `json:"head,omitempty"`
	Body          *docBody  `json:"body,omitempty"`
	Withheld      bool      `json:"withheld,omitempty"`
	Informational []docHead `json:"informational,omitempty"`
	ContentType   string    `json:"type,omitempty"`
}

type docHead struct {
	Method    string      `json:"method,omitempty"`
	Target    string      `json:"target,omitempty"`
	Scheme    string      `json:"scheme,omitempty"`
	Host      string      `json:"host,omitempty"`
	Port      int         `json:"port,omitempty"`
	Path      string      `json:"path,omitempty"`
	Status    int         `json:"status,omitempty"`
	Reason    string      `json:"reason,omitempty"`
	Version   string      `json:"version,omitempty"`
	Fields    [][2]string `json:"fields,omitempty"`
	Streaming bool        `json:"streaming,omitempty"`
	Authority string      `json:"authority,omitempty"`
	Framing   string      `json:"framing,omitempty"`
	Protocol  string      `json:"protocol,omitempty"`
	Stream    int64       `json:"stream,omitempty"`
}

type docBody struct {
	Size      int64       `json:"size"`
	Sum       []byte      `json:"sum,omitempty"`
	Encoding  string      `json:"encoding,omitempty"`
	Decoded   int64       `json:"decoded"`
	Kept      int64       `json:"kept"`
	Truncated bool        `json:"truncated,omitempty"`
	Cut       bool        `json:"cut,omitempty"`
	Events    int64       `json:"events,omitempty"`
	Trailers  [][2]string `json:"trailers,omitempty"`
}

type docNote struct {
	At    int64       `json:"at"`
	Error *flow.Error `json:"error"`
}

// armour makes any bytes fit for a JSON string: header fields need not be
// UTF-8, and what was on the wire must come back.
func armour(s string) string {
	if utf8.ValidString(s) && !strings.HasPrefix(s, "\x00") {
		return s
	}
	return "\x00" + base64.RawStdEncoding.EncodeToString([]byte(s))
}

func unarmour(s string) string {
	if !strings.HasPrefix(s, "\x00") {
		return s
	}
	p, err := base64.RawStdEncoding.DecodeString(s[1:])
	if err != nil {
		return s
	}
	return string(p)
}

func toFields(fs []flow.Field) [][2]string {
	var ps [][2]string
	for _, f := range fs {
		ps = append(ps, [2]string{armour(f.Name), armour(f.Value)})
	}
	return ps
}

func fromFields(ps [][2]string) []flow.Field {
	var fs []flow.Field
	for _, p := range ps {
		fs = append(fs, flow.Field{Name: unarmour(p[0]), Value: unarmour(p[1])})
	}
	return fs
}

func toHead(h *flow.Head) docHead {
	return docHead{armour(h.Method), armour(h.Target), armour(h.Scheme), armour(h.Host), h.Port, armour(h.Path),
		h.Status, armour(h.Reason), h.Version, toFields(h.Fields), h.Streaming,
		armour(h.Authority), h.Framing, armour(h.Protocol), h.Stream}
}

func (h *docHead) head() *flow.Head {
	return &flow.Head{Method: unarmour(h.Method), Target: unarmour(h.Target), Scheme: unarmour(h.Scheme), Host: unarmour(h.Host),
		Port: h.Port, Path: unarmour(h.Path), Status: h.Status, Reason: unarmour(h.Reason), Version: h.Version,
		Fields: fromFields(h.Fields), Streaming: h.Streaming,
		Authority: unarmour(h.Authority), Framing: h.Framing, Protocol: unarmour(h.Protocol), Stream: h.Stream}
}

func toPart(p *flow.Part) *docPart {
	if p == nil {
		return nil
	}
	d := &docPart{Withheld: p.Withheld, ContentType: armour(p.ContentType)}
	if p.Head != nil {
		h := toHead(p.Head)
		d.Head = &h
	}
	for _, h := range p.Informational {
		d.Informational = append(d.Informational, toHead(h))
	}
	if b := p.Body; b != nil {
		d.Body = &docBody{b.Size, nil, b.Encoding, b.Decoded, b.Kept, b.Truncated, b.Cut, b.Events, toFields(b.Trailers)}
		if !p.Withheld { // the hash of a changed body would let its secret be guessed
			d.Body.Sum = b.SHA256[:]
		}
	}
	return d
}

func (d *docPart) part() *flow.Part {
	if d == nil {
		return nil
	}
	p := &flow.Part{Withheld: d.Withheld, ContentType: unarmour(d.ContentType)}
	if d.Head != nil {
		p.Head = d.Head.head()
	}
	for i := range d.Informational {
		p.Informational = append(p.Informational, d.Informational[i].head())
	}
	if b := d.Body; b != nil {
		p.Body = &flow.Ended{Size: b.Size, Encoding: b.Encoding, Decoded: b.Decoded, Kept: b.Kept,
			Truncated: b.Truncated, Cut: b.Cut, Events: b.Events, Trailers: fromFields(b.Trailers)}
		copy(p.Body.SHA256[:], b.Sum)
	}
	return p
}

func toNotes(ns []flow.Note) []docNote {
	var ds []docNote
	for _, n := range ns {
		ds = append(ds, docNote{micros(n.At), n.Error})
	}
	return ds
}

func fromNotes(ds []docNote) []flow.Note {
	var ns []flow.Note
	for _, d := range ds {
		if d.Error != nil {
			ns = append(ns, flow.Note{At: fromMicros(d.At), Error: d.Error})
		}
	}
	return ns
}

// encodeDoc writes the part of x that no column holds.
func encodeDoc(x *flow.Exchange) ([]byte, error) {
	var tally []flow.Tally
	if x.Tally != [2]flow.Tally{} {
		tally = x.Tally[:]
	}
	return json.Marshal(&doc{toPart(x.Request), toPart(x.Response), micros(x.RequestEnded), micros(x.Responded),
		micros(x.FirstEvent), x.DNS, toNotes(x.Marks), tally})
}

// decodeDoc fills x from its document.
func decodeDoc(p []byte, x *flow.Exchange) error {
	var d doc
	if err := json.Unmarshal(p, &d); err != nil {
		return err
	}
	x.Request, x.Response = d.Request.part(), d.Response.part()
	x.RequestEnded, x.Responded, x.FirstEvent = fromMicros(d.RequestEnded), fromMicros(d.Responded), fromMicros(d.FirstEvent)
	x.DNS, x.Marks = d.DNS, fromNotes(d.Marks)
	copy(x.Tally[:], d.Tally)
	return nil
}

// connDoc is what conn.facts holds.
type connDoc struct {
	flow.Conn
	Marks []docNote `json:",omitempty"`
}

func encodeConn(c *flow.Conn, marks []flow.Note) (string, error) {
	d := connDoc{*c, toNotes(marks)}
	d.Upstream.Chain = nil // kept as chunks: it is the same on every connection to a server
	if c.Process != nil {
		p := *c.Process
		p.Argv = nil
		for _, a := range c.Process.Argv {
			p.Argv = append(p.Argv, armour(a))
		}
		p.Exe = armour(p.Exe)
		d.Process = &p
	}
	p, err := json.Marshal(&d)
	return string(p), err
}

func decodeConn(p []byte) (flow.Conn, []flow.Note, error) {
	var d connDoc
	if err := json.Unmarshal(p, &d); err != nil {
		return flow.Conn{}, nil, err
	}
	if d.Process != nil {
		for i, a := range d.Process.Argv {
			d.Process.Argv[i] = unarmour(a)
		}
		d.Process.Exe = unarmour(d.Process.Exe)
	}
	return d.Conn, fromNotes(d.Marks), nil
}

// appendChain encodes certificates, each after its length.
func appendChain(b []byte, chain [][]byte) []byte {
	for _, der := range chain {
		b = append(binary.AppendUvarint(b, uint64(len(der))), der...)
	}
	return b
}

func parseChain(b []byte) ([][]byte, error) {
	var chain [][]byte
	for len(b) > 0 {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return nil, errors.New("damaged certificate chain")
		}
		chain = append(chain, b[w:w+int(n)])
		b = b[w+int(n):]
	}
	return chain, nil
}

// micros returns t as the file keeps it, 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// nullMicros is micros with NULL for the zero time.
func nullMicros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}
