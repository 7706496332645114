package replay

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"trace/flow"
)

// Options say how a recorded request is made ready.
type Options struct {
	Env     func(name string) (string, bool) // where the values of placeholders come from; nil: nowhere
	Names   bool                             // put in $NAME of the variable instead of its value
	Keep    bool                             // send the placeholders of a body that nothing fills as they stand
	Header  []flow.Field                     // replace the fields of these names; without a value they are removed
	Set     []string                         // PATH=VALUE: see SetJSON
	Fields  []flow.Field                     // all fields, in place of the recorded ones; nil: those. Header is applied to them
	Method  string                           // "": the recorded one
	Target  string                           // path and query; "": the recorded ones, or those of To
	Edit    func(body []byte) ([]byte, error)
	To      *url.URL // another server; its path, if it has one, replaces the recorded one
	Raw     []byte   // the request as it was on the wire; nil: not kept
	Clipped bool     // Raw is not all of it
}

// ErrSigned says why a request cannot be sent again.
var ErrSigned = errors.New("it is signed with AWS Signature Version 4: the signature holds for its time, host and body only, and the key that would make another is not in the record")

// Make makes a recorded request ready to be sent. The secrets that it fills in
// are returned as well, so that the caller can keep them out of the record.
func Make(d *flow.Detail, o Options) (r *Request, secrets []string, err error) {
	if err := sendable(d); err != nil {
		return nil, nil, err
	}
	r = &Request{Head: *d.Request.Head}
	h := &r.Head
	h.Fields = slices.Clone(h.Fields)
	if o.Fields != nil {
		h.Fields = slices.Clone(o.Fields)
	}
	moved := address(h, d)
	if o.Method != "" {
		h.Method = o.Method
	}
	body, changed, err := o.edited(d)
	if err != nil {
		return nil, nil, err
	}
	if o.To != nil {
		r.redirect(o.To)
	}
	if o.Target != "" {
		h.Path, h.Target = o.Target, o.Target
	}
	o.applyHeader(h)
	f := &filler{head: h, env: o.Env, names: o.Names, keep: o.Keep}
	if body, err = f.request(r, d, body); err != nil {
		return nil, nil, err
	}
	for _, name := range f.used {
		r.Notes = append(r.Notes, "the value of "+name+" stands in for what was redacted")
	}
	if f.kept > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d placeholders in the body are sent as they stand", f.kept))
	}
	upgrades := r.stay()
	if !changed && !moved && !upgrades && len(f.values) == 0 && o.plain() && len(o.Raw) > 0 && !o.Clipped && h.Version != "2" {
		r.Exact = o.Raw
		r.Notes = append(r.Notes, "the bytes are those that were on the wire")
	}
	if err := r.encode(d, o, body, changed || len(f.values) > 0); err != nil {
		return nil, nil, err
	}
	r.measure(d)
	return r, f.values, nil
}

// Sent returns the head of a recorded request as its server gets it, which is not
// as the child sent it where that went by a proxy or a base URL.
func Sent(d *flow.Detail) flow.Head {
	h := *d.Request.Head
	h.Fields = slices.Clone(h.Fields)
	address(&h, d)
	return h
}

// address makes the head of a request that went by a proxy or a base URL one for
// its server, and tells whether it was one.
func address(h *flow.Head, d *flow.Detail) bool {
	scheme, _, absolute := strings.Cut(h.Target, "://") // RFC 9112 section 3.2.2
	absolute = absolute && !strings.ContainsAny(scheme, "/?")
	if !absolute && d.Forwarded == nil {
		return false
	}
	h.Target = h.Path
	for _, name := range []string{"Proxy-Authorization", "Proxy-Connection"} {
		h.Fields = dropField(h.Fields, name)
	}
	authority := hostPort(h.Scheme, h.Host, h.Port)
	if d.Forwarded != nil && d.Forwarded.Head != nil {
		authority = cmp.Or(d.Forwarded.Head.Get("Host"), d.Forwarded.Head.Authority, authority)
	}
	if h.Authority != "" {
		h.Authority = authority
	}
	if host := h.Get("Host"); host != "" && host == d.Request.Head.Get("Host") {
		h.Fields = setField(h.Fields, "Host", authority)
	}
	return true
}

// plain reports whether nothing is to be changed by hand.
func (o *Options) plain() bool {
	return len(o.Header) == 0 && len(o.Set) == 0 && o.To == nil && o.Fields == nil && o.Method == "" && o.Target == ""
}

// sendable reports why a flow cannot be sent again.
func sendable(d *flow.Detail) error {
	switch {
	case d.Request == nil || d.Request.Head == nil:
		return fmt.Errorf("it is no HTTP request (%s)", d.Kind)
	case d.Request.Head.Method == "CONNECT" && d.Request.Head.Protocol == "":
		return errors.New("it asked a proxy for a tunnel (CONNECT)")
	case d.IsWebSocket() || d.Request.Head.Protocol != "":
		return errors.New("it opened a WebSocket: what was said on it cannot be sent again by itself")
	}
	h := d.Request.Head
	if strings.HasPrefix(strings.ToLower(strings.TrimSpace(h.Get("Authorization"))), "aws4-") || isSignedURL(h.Target) {
		return ErrSigned
	}
	switch b := d.Request.Body; {
	case b == nil:
		return errors.New("the record ends before the request did")
	case b.Cut:
		return errors.New("the request was cut off: its framing promised more than came")
	case b.Truncated:
		return fmt.Errorf("the record has %d of the %d bytes of its body (see --max-body)", len(d.RequestBody), max(b.Decoded, b.Size))
	}
	return nil
}

// isSignedURL tells a URL that SigV4 has signed by its query.
func isSignedURL(target string) bool {
	_, query, _ := strings.Cut(target, "?")
	for p := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(p, "="); strings.EqualFold(name, "X-Amz-Signature") {
			return true
		}
	}
	return false
}

// edited returns the decoded body as the user wants it.
func (o *Options) edited(d *flow.Detail) (body []byte, changed bool, err error) {
	body = d.RequestBody
	for _, edit := range o.Set {
		if body, err = SetJSON(body, edit); err != nil {
			return nil, false, err
		}
	}
	if o.Edit != nil {
		if body, err = o.Edit(body); err != nil {
			return nil, false, err
		}
	}
	return body, !bytes.Equal(body, d.RequestBody), nil
}

// redirect points the request at another server.
func (r *Request) redirect(to *url.URL) {
	h := &r.Head
	was := h.Scheme
	h.Scheme, h.Host = to.Scheme, strings.ToLower(to.Hostname())
	if h.Port, _ = strconv.Atoi(to.Port()); h.Port == 0 {
		h.Port = map[string]int{"https": 443, "http": 80}[h.Scheme]
	}
	if to.Path != "" && to.Path != "/" {
		_, query, ok := strings.Cut(h.Path, "?")
		h.Path = to.EscapedPath()
		if ok && to.RawQuery == "" {
			h.Path += "?" + query
		}
	}
	if to.RawQuery != "" {
		path, _, _ := strings.Cut(h.Path, "?")
		h.Path = path + "?" + to.RawQuery
	}
	h.Target = h.Path
	authority := hostPort(h.Scheme, h.Host, h.Port)
	if h.Version == "2" {
		if h.Authority != "" || h.Get("Host") == "" {
			h.Authority = authority
		}
		if h.Get("Host") != "" {
			h.Fields = setField(h.Fields, "Host", authority)
		}
	} else {
		h.Fields = setField(h.Fields, "Host", authority)
	}
	r.Notes = append(r.Notes, "sent to "+h.Scheme+"://"+authority)
	if was == "https" && h.Scheme == "http" {
		r.Notes = append(r.Notes, "in the clear: the recorded request was protected by TLS")
		if h.Version == "2" {
			r.toHTTP1("without TLS HTTP/2 cannot be agreed on")
		}
	}
}

// applyHeader puts in the fields that the user gives.
func (o *Options) applyHeader(h *flow.Head) {
	for _, f := range o.Header {
		switch {
		case f.Value == "":
			h.Fields = dropField(h.Fields, f.Name)
		case h.Version == "2":
			h.Fields = setField(h.Fields, strings.ToLower(f.Name), f.Value)
		default:
			h.Fields = setField(h.Fields, f.Name, f.Value)
		}
	}
}

// stay takes an offer to switch protocols out of the request, and reports
// whether there was one.
func (r *Request) stay() bool {
	h := &r.Head
	if h.Version == "2" || h.Get("Upgrade") == "" && h.Get("HTTP2-Settings") == "" {
		return false
	}
	h.Fields = dropField(dropField(h.Fields, "Upgrade"), "HTTP2-Settings")
	var kept []string
	for _, token := range strings.Split(strings.Join(h.Values("Connection"), ","), ",") {
		if token = strings.TrimSpace(token); token != "" && !strings.EqualFold(token, "Upgrade") && !strings.EqualFold(token, "HTTP2-Settings") {
			kept = append(kept, token)
		}
	}
	if len(kept) > 0 {
		h.Fields = setField(h.Fields, "Connection", strings.Join(kept, ", "))
	} else {
		h.Fields = dropField(h.Fields, "Connection")
	}
	r.Notes = append(r.Notes, "without Upgrade: no other protocol is spoken here")
	return true
}

// request fills all places of a request.
func (f *filler) request(r *Request, d *flow.Detail, body []byte) ([]byte, error) {
	h := &r.Head
	var err error
	if h.Target, err = f.target(h.Target); err != nil {
		return nil, err
	}
	if h.Path, err = f.target(h.Path); err != nil {
		return nil, err
	}
	for _, s := range []*string{&h.Authority, &h.Host} {
		if isRedacted(*s) {
			return nil, &MissingError{Place: Place{In: "authority"}, Text: placeholder().FindString(*s), Variables: []string{"TRACE_AUTHORITY"}}
		}
	}
	if err := f.fields(h.Fields, "header"); err != nil {
		return nil, err
	}
	r.Trailers = slices.Clone(d.Request.Body.Trailers)
	if err := f.fields(r.Trailers, "trailer"); err != nil {
		return nil, err
	}
	return f.body(h.Get("Content-Type"), body)
}

// encode makes the body what it was on the wire.
func (r *Request) encode(d *flow.Detail, o Options, body []byte, changed bool) error {
	r.Body, r.Plain = body, body
	coding := d.Request.Body.Encoding
	if coding == "" {
		return nil
	}
	if !changed && len(o.Raw) > 0 && !o.Clipped {
		if wire, ok := wireBody(o.Raw, d.Request.Head.Version, d.Request.Head); ok {
			r.Body = wire
			return nil
		}
	}
	coded, err := encodeBody(coding, body)
	if err != nil {
		r.Head.Fields = dropField(r.Head.Fields, "Content-Encoding")
		r.Notes = append(r.Notes, fmt.Sprintf("the body is sent plain, without its %s coding: %v", coding, err))
		return nil
	}
	r.Body = coded
	r.Notes = append(r.Notes, fmt.Sprintf("the body is %s-coded anew: the bytes differ from those that were sent, what they say does not", coding))
	return nil
}

// measure makes Content-Length fit the body.
func (r *Request) measure(d *flow.Detail) {
	h := &r.Head
	if r.Exact != nil {
		return
	}
	size := strconv.Itoa(len(r.Body))
	was := h.Get("Content-Length")
	chunked := h.Version != "2" && h.Get("Transfer-Encoding") != ""
	switch {
	case was != "" && was != size:
		h.Fields = setField(h.Fields, "Content-Length", size)
	case was == "" && !chunked && len(r.Body) > 0 && h.Version != "2":
		h.Fields = setField(h.Fields, "Content-Length", size)
	}
	if chunked {
		h.Fields = setField(h.Fields, "Transfer-Encoding", "chunked") // another transfer coding was undone
	}
}
