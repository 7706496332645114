package mcp

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"trace/flow"
)

type flowIn struct {
	inSession
	Flow   ref    `json:"flow" jsonschema:"id of the flow: 12, SESSION/12, or last"`
	Body   string `json:"body,omitempty" jsonschema:"request or response: show of this body what path, or offset and length, choose, and not the overview"`
	Path   string `json:"path,omitempty" jsonschema:"a place in a JSON body: messages[0].content, tools[*].name, messages[-1]; $ is all of it"`
	Offset number `json:"offset,omitempty" jsonschema:"where to begin in the body or value, in bytes"`
	Length number `json:"length,omitempty" jsonschema:"how much of it, in bytes: 4000 if left out, at most 65536"`
}

// A head is a request or an answer in an overview.
type head struct {
	Line     string      `json:"line"`
	Headers  [][2]string `json:"headers"`
	Trailers [][2]string `json:"trailers,omitempty"`
	Size     *int64      `json:"body_bytes,omitempty"`
	Encoding string      `json:"content_encoding,omitempty"`
	Decoded  *int64      `json:"decoded_bytes,omitempty"`
	SHA256   string      `json:"body_sha256,omitempty"`
	Cut      string      `json:"incomplete,omitempty"`
	Shape    []member    `json:"json_members,omitempty"` // of a JSON body
	Members  int         `json:"json_member_count,omitempty"`
	Begin    string      `json:"body_begin,omitempty"`
	URI      string      `json:"body_uri,omitempty"`
}

type flowOut struct {
	Session string `json:"session"`
	row
	URL       string       `json:"url,omitempty"`
	Protocol  string       `json:"protocol,omitempty"`
	From      string       `json:"client,omitempty"`
	To        string       `json:"server,omitempty"`
	TLS       string       `json:"tls,omitempty"`
	Timings   *flow.Phases `json:"timings_ms,omitempty"`
	Request   *head        `json:"request,omitempty"`
	Response  *head        `json:"response,omitempty"`
	Fault     *fault       `json:"fault,omitempty"`
	Why       string       `json:"why_not_decrypted,omitempty"`
	Mend      string       `json:"what_would_decrypt_it,omitempty"`
	Marks     []string     `json:"notes,omitempty"`
	Redacted  int          `json:"redacted_places,omitempty"`
	ReplayOf  string       `json:"replay_of,omitempty"`
	Forwarded string       `json:"forwarded_as,omitempty"`
	Body      *bodyOut     `json:"body,omitempty"`
	page
}

type fault struct {
	Where   string `json:"where"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func (o *flowOut) text() string {
	if b := o.Body; b != nil {
		return lines(b.title(o.Session, o.ID), b.Text, membersText(b.Members, b.Count), o.page.text())
	}
	var took []string
	if t := o.Timings; t != nil {
		for _, p := range []struct {
			name string
			ms   *float64
		}{{"dns", t.DNS}, {"connect", t.Connect}, {"tls", t.SSL}, {"send", t.Send}, {"wait", t.Wait}, {"receive", t.Receive}, {"first event", t.FirstEvent}} {
			if p.ms != nil {
				took = append(took, fmt.Sprintf("%s %.4gms", p.name, *p.ms))
			}
		}
	}
	list := []string{"flow " + o.Session + "/" + o.row.line(), o.URL, named("connection", strings.Trim(strings.Join([]string{o.From, o.To, o.Protocol, o.TLS}, "  "), " ")),
		named("timings", strings.Join(took, ", ")), named("replay of", o.ReplayOf), named("left as", o.Forwarded)}
	if f := o.Fault; f != nil {
		list = append(list, fmt.Sprintf("error: %s (%s, %s)", f.Message, f.Where, f.Code), named("hint", f.Hint))
	}
	list = append(list, named("not decrypted", o.Why), named("to decrypt it", o.Mend))
	for _, m := range o.Marks {
		list = append(list, named("note", m))
	}
	for _, h := range []*head{o.Request, o.Response} {
		list = append(list, h.text())
	}
	if o.Redacted > 0 {
		list = append(list, fmt.Sprintf("%d places are redacted", o.Redacted))
	}
	return lines(append(list, o.page.text())...)
}

func named(name, value string) string {
	if value == "" {
		return ""
	}
	return name + ": " + value
}

// title says what range of a body follows.
func (b *bodyOut) title(session, id string) string {
	total := "more"
	if b.Total >= 0 {
		total = fmt.Sprint(b.Total)
	}
	title := fmt.Sprintf("flow %s/%s, %s body", session, id, b.Of)
	if b.Path != "" {
		title += ", " + b.Path
		if b.Kind != "" {
			title += " (" + b.Kind + ")"
		}
	}
	title += fmt.Sprintf(": bytes %d to %d of %s", b.Offset, b.Offset+b.Length, total)
	if b.Matches > 0 {
		title += fmt.Sprintf(", %d values", b.Matches)
	}
	if b.Base64 {
		title += ", in base64"
	}
	return title
}

func membersText(list []member, count int) string {
	var b strings.Builder
	for _, m := range list {
		fmt.Fprintf(&b, "  %s  %s, %s  %s\n", m.Name, m.Kind, bytesText(m.Size), m.Begin)
	}
	if n := count - len(list); n > 0 && len(list) > 0 {
		fmt.Fprintf(&b, "  … %d more\n", n)
	}
	return b.String()
}

func (h *head) text() string {
	if h == nil {
		return ""
	}
	list := []string{"", "", h.Line}
	for _, f := range append(h.Headers, h.Trailers...) {
		list = append(list, "  "+f[0]+": "+f[1])
	}
	if h.Size != nil {
		facts := "  body: " + bytesText(*h.Size)
		if h.Decoded != nil {
			facts += fmt.Sprintf(", %s of %s", h.Encoding, bytesText(*h.Decoded))
		}
		list = append(list, facts+strings.TrimSuffix(", "+h.Cut, ", "))
	}
	return lines(append(list, membersText(h.Shape, h.Members), h.Begin)...)
}

// The limits of an overview.
const (
	maxHeaders   = 40
	maxValue     = 160      // bytes of a header's value
	beginBody    = 800      // bytes of a body that are shown
	maxShape     = 16       // members of a JSON body
	maxShapeBody = 64 << 20 // bytes of a body of which the shape is told
	maxMarks     = 8
)

// showFlow shows a flow as an overview, or a part of a body.
func (s *Server) showFlow(ctx context.Context, in *flowIn) (*flowOut, error) {
	t, err := s.target(in.Session, in.Flow)
	if err != nil {
		return nil, err
	}
	defer t.Release()
	if in.Body == "" && (in.Path != "" || in.Offset != 0 || in.Length != 0) {
		return nil, &Problem{"show_flow: path, offset and length are of a body", "add body=\"request\" or body=\"response\""}
	}
	out := &flowOut{Session: t.id}
	r := rowOf(t.x, nil)
	if in.Body != "" {
		out.row = r
		return out, t.showBody(ctx, in, out)
	}
	if c, ok := s.Views.Calls(t.Record, []*flow.Exchange{t.x})[t.x.ID]; ok {
		r = rowOf(t.x, &c)
	}
	out.row = r
	s.overview(ctx, t, out)
	return out, ctx.Err()
}

// showBody shows a part of a body.
func (t *target) showBody(ctx context.Context, in *flowIn, out *flowOut) error {
	side, err := sideOf(in.Body)
	if err != nil {
		return err
	}
	length := int64(in.Length.within(defaultRange, maxRange))
	if in.Path != "" {
		out.Body, err = t.readPath(ctx, side, in.Path, int64(in.Offset), length)
	} else {
		out.Body, err = t.readRange(ctx, side, int64(in.Offset), length)
	}
	if err != nil {
		return err
	}
	b := out.Body
	if b.Next != nil {
		out.Notes = append(out.Notes, fmt.Sprintf("more: the same question with offset=%d goes on; length is at most %d", *b.Next, maxRange))
		if len(b.Members) > 0 {
			out.Notes = append(out.Notes, "a path goes to one of the members")
		}
	} else {
		b.Members = nil // all of it is there
	}
	if b.Length == 0 && b.Offset > 0 && b.Total >= 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("there are %d bytes", b.Total))
	}
	if part, _ := t.partOf(side); part.Body != nil && part.Body.Truncated {
		out.Notes = append(out.Notes, fmt.Sprintf("of this body of %s only the first %s were recorded (--max-body)", bytesText(part.Body.Size), bytesText(part.Body.Kept)))
	}
	return nil
}

// overview fills in what there is to say of a flow.
func (s *Server) overview(ctx context.Context, t *target, out *flowOut) {
	x := t.x
	c := &x.Conn
	out.Protocol, out.ReplayOf, out.Redacted = c.Protocol, c.Replay, x.Redacted
	if c.Src.IsValid() {
		out.From = c.Src.String()
	}
	if c.Dst.IsValid() {
		out.To = strings.TrimSpace(c.Dst.String() + " " + clip(c.Host, 100))
	}
	if v := c.Child.Version; v != "" {
		out.TLS = strings.TrimSpace("TLS " + v + " " + c.Child.ALPN)
	}
	phases := x.Timings().Phases()
	out.Timings = &phases
	if e := x.Error; e != nil {
		out.row.Error = ""
		out.Fault = &fault{string(e.Where), e.Code, clip(e.Message, 400), clip(e.Hint, 300)}
	}
	if s.Views.Explain != nil {
		out.Why, out.Mend = s.Views.Explain(x)
	}
	for i, m := range x.Marks {
		if i == maxMarks {
			out.Notes = append(out.Notes, fmt.Sprintf("%d more notes", len(x.Marks)-i))
			break
		}
		if m.Error != nil {
			out.Marks = append(out.Marks, clip(m.Error.Message, 200))
		}
	}
	if x.Request == nil {
		out.Notes = append(out.Notes, "what was carried: flow_events")
		return
	}
	if h := x.Request.Head; h != nil {
		out.URL = clip(h.Scheme+"://"+out.row.Host+h.Path, 600)
	}
	if f := x.Forwarded; f != nil && f.Head != nil {
		out.Forwarded = clip(fmt.Sprintf("%s %s://%s%s", f.Head.Method, f.Head.Scheme, f.Head.Host, f.Head.Path), 400)
	}
	out.Request, out.Response = t.head(out, flow.Client), t.head(out, flow.Server)
	out.shorten(budget - 1200)
	t.bodies(ctx, out)
	if out.row.Model != "" {
		out.Notes = append(out.Notes, fmt.Sprintf("this is a call to a language model: conversation with flow=%q reads it", t.call))
	}
}

// shorten leaves out header fields, of the side that has more of them, until the
// rest takes so much room.
func (o *flowOut) shorten(room int) {
	gone := 0
	for sizeOf(o) > room {
		longest := o.Request
		if o.Response != nil && sizeOf(o.Response.Headers) > sizeOf(longest.Headers) {
			longest = o.Response
		}
		n := len(longest.Headers)
		if n < 2 {
			break
		}
		longest.Headers = longest.Headers[:n-(n+3)/4]
		gone += n - len(longest.Headers)
	}
	if gone > 0 {
		o.Notes = append(o.Notes, fmt.Sprintf("%d header fields more: trace flows show %s/%s --http", gone, o.Session, o.ID))
	}
}

// head says what there is to say of one side.
func (t *target) head(out *flowOut, side flow.Side) *head {
	part := t.x.Request
	if side == flow.Server {
		part = t.x.Response
	}
	if part == nil {
		return nil
	}
	h := &head{Headers: [][2]string{}}
	if f := part.Head; f != nil {
		if h.Line = strings.TrimSpace(fmt.Sprintf("%s %s HTTP/%s", f.Method, clip(cmp.Or(f.Target, f.Path), 400), f.Version)); side == flow.Server {
			h.Line = strings.TrimSpace(fmt.Sprintf("HTTP/%s %d %s", f.Version, f.Status, clip(f.Reason, 100)))
		}
		for i, field := range f.Fields {
			if i == maxHeaders {
				out.Notes = append(out.Notes, fmt.Sprintf("%d more header fields of the %s", len(f.Fields)-i, [2]string{"request", "response"}[side]))
				break
			}
			h.Headers = append(h.Headers, [2]string{clip(field.Name, 80), clip(field.Value, maxValue)})
		}
	}
	b := part.Body
	if b == nil {
		return h
	}
	for i, field := range b.Trailers {
		if i < maxHeaders {
			h.Trailers = append(h.Trailers, [2]string{clip(field.Name, 80), clip(field.Value, maxValue)})
		}
	}
	if h.Size = &b.Size; b.Encoding != "" {
		h.Encoding, h.Decoded = b.Encoding, &b.Decoded
	}
	if !part.Withheld && b.Size > 0 {
		h.SHA256 = hex.EncodeToString(b.SHA256[:])
	}
	switch {
	case b.Truncated:
		h.Cut = fmt.Sprintf("the first %s were recorded", bytesText(b.Kept))
	case b.Cut:
		h.Cut = "it was cut short"
	}
	if b.Size > 0 {
		h.URI = t.uri(side)
	}
	return h
}

// bodies adds the shape and the beginning of the bodies, as far as there is room.
func (t *target) bodies(ctx context.Context, out *flowOut) {
	for side, h := range []*head{out.Request, out.Response} {
		if h == nil || h.Size != nil && *h.Size == 0 {
			continue
		}
		part, name := t.x.Request, "request"
		if side == int(flow.Server) {
			part, name = t.x.Response, "response"
		}
		if part.Body != nil && part.Body.Events > 0 || strings.HasPrefix(part.ContentType, "text/event-stream") {
			out.Notes = append(out.Notes, fmt.Sprintf("the %s is a stream of events: flow_events lists them", name))
			continue
		}
		room := budget - sizeOf(out) - 600
		if room < 200 {
			out.Notes = append(out.Notes, fmt.Sprintf("body of the %s: show_flow with body=%q", name, name))
			continue
		}
		t.begin(ctx, flow.Side(side), part, h, room)
		if size := keptSize(part); size > int64(len(h.Begin)) || size < 0 && h.Begin != "" {
			how := fmt.Sprintf("more of the body of the %s: show_flow with body=%q and offset", name, name)
			if len(h.Shape) > 0 {
				how += ", or path such as " + h.Shape[0].Name
			}
			out.Notes = append(out.Notes, how)
		}
	}
}

// begin adds the shape of a body if it is JSON, and its beginning else.
func (t *target) begin(ctx context.Context, side flow.Side, part *flow.Part, h *head, room int) {
	if size := keptSize(part); size > 300 && size <= maxShapeBody {
		s := newScanner(nil)
		err := t.scan(ctx, side, s, func() bool { return false })
		if err == nil && s.children > 0 {
			h.Shape, h.Members = s.members[:min(len(s.members), maxShape)], s.children
			for len(h.Shape) > 0 && sizeOf(h.Shape) > room {
				h.Shape = h.Shape[:len(h.Shape)/2]
			}
			return
		}
	}
	b, err := t.readRange(ctx, side, 0, int64(min(room/2, beginBody)))
	switch {
	case errors.Is(err, context.DeadlineExceeded), err != nil:
	case b.Base64:
		h.Begin = ""
	default:
		h.Begin = b.Text
	}
}
