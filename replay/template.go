package replay

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"
	"unicode/utf8"

	"trace/flow"
)

// A Template is a request that was kept under a name.
type Template struct {
	Name     string          `json:"name"`
	Saved    string          `json:"saved"` // in flow.TimeFormat
	Flow     string          `json:"flow"`  // what it was made of, as SESSION/ID
	Request  TemplateRequest `json:"request"`
	Volatile TemplateMarks   `json:"volatile"`
}

// A TemplateRequest is the request of a Template.
type TemplateRequest struct {
	Method    string      `json:"method"`
	Scheme    string      `json:"scheme"`
	Host      string      `json:"host"`
	Port      int         `json:"port"`
	Path      string      `json:"path"`
	Target    string      `json:"target,omitempty"` // where it is not Path
	Authority string      `json:"authority,omitempty"`
	Version   string      `json:"http_version"`
	Headers   [][2]string `json:"headers"`            // in their order
	Encoding  string      `json:"encoding,omitempty"` // content coding that the body had
	Trailers  [][2]string `json:"trailers,omitempty"`
	Body      *string     `json:"body"` // its text; null where it is no text
	Base64    string      `json:"body_base64,omitempty"`
}

// TemplateMarks name what of a Template changes from run to run.
type TemplateMarks struct {
	Headers []string `json:"headers"`
	Body    []string `json:"body"` // JSON paths, as SetJSON takes them
}

var templateName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,99}$`)
})

// CheckName reports why a name cannot be that of a template.
func CheckName(name string) error {
	if !templateName().MatchString(name) || name == "last" {
		return fmt.Errorf("template %q: a name begins with a letter and goes on with letters, digits, dots, - and _ (last names the newest flow)", name)
	}
	return nil
}

// NewTemplate keeps the request of d, whose secrets are redacted already.
func NewTemplate(name, id string, d *flow.Detail, saved time.Time) (*Template, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := sendable(d); err != nil {
		return nil, err
	}
	head := Sent(d)
	h := &head
	t := &Template{Name: name, Saved: flow.Stamp(saved), Flow: id, Request: TemplateRequest{
		Method: h.Method, Scheme: h.Scheme, Host: h.Host, Port: h.Port, Path: h.Path, Authority: h.Authority, Version: h.Version,
		Headers: pairs(h.Fields), Encoding: d.Request.Body.Encoding, Trailers: pairs(d.Request.Body.Trailers),
	}}
	r := &t.Request
	if r.Headers == nil {
		r.Headers = [][2]string{}
	}
	if h.Target != h.Path {
		r.Target = h.Target
	}
	if utf8.Valid(d.RequestBody) {
		r.Body = new(string(d.RequestBody))
	} else {
		r.Base64 = base64.StdEncoding.EncodeToString(d.RequestBody)
	}
	t.Volatile = TemplateMarks{Headers: VolatileFields(h), Body: VolatileBody(d.RequestBody)}
	return t, nil
}

func pairs(fs []flow.Field) [][2]string {
	var ps [][2]string
	for _, f := range fs {
		ps = append(ps, [2]string{f.Name, f.Value})
	}
	return ps
}

func unpairs(ps [][2]string) []flow.Field {
	var fs []flow.Field
	for _, p := range ps {
		fs = append(fs, flow.Field{Name: p[0], Value: p[1]})
	}
	return fs
}

// ParseTemplate reads what json.Marshal wrote of a Template.
func ParseTemplate(text []byte) (*Template, error) {
	t := new(Template)
	if err := json.Unmarshal(text, t); err != nil {
		return nil, err
	}
	r := &t.Request
	if r.Method == "" || r.Host == "" || r.Scheme != "http" && r.Scheme != "https" {
		return nil, errors.New("it has no request: method, scheme (http or https) and host are wanted")
	}
	if _, err := base64.StdEncoding.DecodeString(r.Base64); err != nil {
		return nil, fmt.Errorf("body_base64: %w", err)
	}
	return t, nil
}

// Detail returns the request as a recorded one without an answer.
func (t *Template) Detail() *flow.Detail {
	r := &t.Request
	target := r.Target
	if target == "" {
		target = r.Path
	}
	port := r.Port
	if port == 0 {
		port = map[string]int{"https": 443, "http": 80}[r.Scheme]
	}
	h := &flow.Head{Method: r.Method, Target: target, Authority: r.Authority, Scheme: r.Scheme, Host: r.Host, Port: port, Path: r.Path,
		Version: r.Version, Fields: unpairs(r.Headers)}
	d := &flow.Detail{}
	if r.Body != nil {
		d.RequestBody = []byte(*r.Body)
	} else {
		d.RequestBody, _ = base64.StdEncoding.DecodeString(r.Base64) // ParseTemplate has looked
	}
	n := int64(len(d.RequestBody))
	d.Kind, d.State = flow.KindHTTP, flow.StateComplete
	d.Started, _ = time.Parse(flow.TimeFormat, t.Saved)
	d.Request = &flow.Part{Head: h, ContentType: h.Get("Content-Type"), Withheld: true,
		Body: &flow.Ended{Size: n, Decoded: n, Kept: n, Encoding: r.Encoding, Trailers: unpairs(r.Trailers)}}
	return d
}
