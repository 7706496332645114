package store

import (
	"encoding/json"

	"trace/flow"
)

// doc is what detail.doc holds of an exchange in files of version 1: JSON.
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

func fromFields(ps [][2]string) []flow.Field {
	var fs []flow.Field
	for _, p := range ps {
		fs = append(fs, flow.Field{Name: unarmour(p[0]), Value: unarmour(p[1])})
	}
	return fs
}

func (h *docHead) head() *flow.Head {
	return &flow.Head{Method: unarmour(h.Method), Target: unarmour(h.Target), Scheme: unarmour(h.Scheme), Host: unarmour(h.Host),
		Port: h.Port, Path: unarmour(h.Path), Status: h.Status, Reason: unarmour(h.Reason), Version: h.Version,
		Fields: fromFields(h.Fields), Streaming: h.Streaming,
		Authority: unarmour(h.Authority), Framing: h.Framing, Protocol: unarmour(h.Protocol), Stream: h.Stream}
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

// decodeOldDoc fills x from its document.
func decodeOldDoc(p []byte, x *flow.Exchange) error {
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
