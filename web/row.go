package web

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"trace/flow"
)

// maxPath is how much of a path stands in a row, in bytes.
const maxPath = 300

// A row is a flow in a list: what the columns and the filter of the page want.
// There may be very many: what is empty is left out.
type row struct {
	ID          string      `json:"id"`
	Seq         int64       `json:"seq"`
	Kind        string      `json:"kind"`
	State       string      `json:"state"`
	Source      flow.Source `json:"source"`
	Replay      string      `json:"replay_of,omitempty"`
	Started     string      `json:"started"`
	Duration    *float64    `json:"duration_ms,omitempty"`
	Process     *process    `json:"process,omitempty"`
	Conn        string      `json:"conn"`
	Decrypted   bool        `json:"decrypted"`
	Scheme      string      `json:"scheme,omitempty"`
	Host        string      `json:"host"`
	Port        int         `json:"port,omitempty"`
	Method      string      `json:"method,omitempty"`
	Path        string      `json:"path,omitempty"`
	PathCut     bool        `json:"path_cut,omitempty"`
	Status      int         `json:"status,omitempty"`
	Rcode       string      `json:"rcode,omitempty"`
	ContentType string      `json:"content_type,omitempty"`
	ReqSize     int64       `json:"req_size,omitempty"`
	RespSize    int64       `json:"resp_size,omitempty"`
	Streaming   bool        `json:"streaming,omitempty"`
	Events      int64       `json:"events,omitempty"`
	Error       *fault      `json:"error,omitempty"`
	Marks       int         `json:"marks,omitempty"`
	Opaque      string      `json:"opaque,omitempty"`
	Call        bool        `json:"llm,omitempty"`
	Model       string      `json:"model,omitempty"`
	Tokens      *Tokens     `json:"tokens,omitempty"`
	Altered     bool        `json:"altered,omitempty"`
	Protocol    string      `json:"protocol,omitempty"`
	Timings     flow.Phases `json:"timings"`
}

type process struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

type fault struct {
	Where   flow.Where `json:"where"`
	Code    string     `json:"code"`
	Message string     `json:"message"`
	Hint    string     `json:"hint"`
}

// rowOf makes the row of a flow; call is what is known of it as a call to a
// language model, if it is one.
func rowOf(x *flow.Exchange, rev int64, call *Call) *row {
	r := &row{ID: strconv.FormatInt(x.ID, 10), Seq: rev, Kind: x.Kind, State: x.State, Source: x.Conn.Source, Replay: x.Conn.Replay,
		Started: flow.Stamp(x.Started), Conn: strconv.FormatInt(x.Conn.ID, 10), Decrypted: x.Conn.Decrypted, Opaque: x.Conn.Opaque, Marks: len(x.Marks),
		Timings: x.Timings().Phases()}
	if !x.Ended.IsZero() {
		r.Duration = flow.MS(x.Duration())
	}
	if p := x.Conn.Process; p != nil {
		r.Process = &process{p.PID, p.Name()}
	}
	if e := x.Error; e != nil {
		r.Error = &fault{e.Where, e.Code, e.Message, e.Hint}
	}
	if call != nil {
		r.Call, r.Model, r.Tokens = true, call.Model, call.Tokens
	}
	r.target(x)
	r.answer(x)
	return r
}

// target says what was asked, and of whom.
func (r *row) target(x *flow.Exchange) {
	switch {
	case x.Request != nil && x.Request.Head != nil:
		h := x.Request.Head
		r.Method, r.Scheme, r.Host, r.Port, r.Path = h.Method, h.Scheme, h.Host, h.Port, h.Path
		r.Protocol = h.Protocol
		if r.Protocol == "" && h.Version != "" {
			r.Protocol = "HTTP/" + h.Version
		}
		if b := x.Request.Body; b != nil {
			r.ReqSize = b.Size
		}
	case x.DNS != nil:
		r.Host, r.Method, r.Rcode, r.Path, r.Protocol = x.DNS.Name, x.DNS.Type, x.DNS.Rcode, strings.Join(x.DNS.Answers, ", "), "dns"
	default:
		r.Host, r.Port, r.Protocol = x.Conn.Host, int(x.Conn.Dst.Port()), x.Conn.Protocol
		if r.Host == "" && x.Conn.Dst.IsValid() {
			r.Host = x.Conn.Dst.Addr().String()
		}
		r.ReqSize, r.RespSize = x.Conn.Sent, x.Conn.Received
	}
	if len(r.Path) > maxPath {
		end := maxPath
		for end > 0 && !utf8.RuneStart(r.Path[end]) {
			end--
		}
		r.Path, r.PathCut = r.Path[:end], true
	}
}

// answer says what came back.
func (r *row) answer(x *flow.Exchange) {
	p := x.Response
	if p == nil {
		return
	}
	r.ContentType = p.ContentType
	if h := p.Head; h != nil {
		r.Status, r.Streaming = h.Status, h.Streaming
		if h.Protocol != "" {
			r.Protocol = h.Protocol
		}
	}
	if b := p.Body; b != nil {
		r.RespSize, r.Events = b.Size, b.Events
	}
	if x.IsWebSocket() {
		sent, received := x.Tally[flow.Client], x.Tally[flow.Server]
		r.ReqSize, r.RespSize, r.Events = sent.Bytes, received.Bytes, sent.Messages+received.Messages
	}
}
