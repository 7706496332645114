package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"

	"trace/flow"
)

// A RequestJSON writes the body of each request to a file of its own, with
// when and where it was sent. Requests without a body have no place.
type RequestJSON struct {
	// Create makes the file for a request of that day, 2006-01-02, whose name
	// shall end in name, such as 150405_messages.json.
	Create func(day, name string) (io.WriteCloser, error)

	source Source
}

type requestFile struct {
	CapturedAt string `json:"captured_at"`
	Method     string `json:"method"`
	URL        string `json:"url"`
	Request    any    `json:"request"`
}

// From says of which session the next flows are.
func (r *RequestJSON) From(_ flow.Session, src Source) error {
	r.source = src
	return nil
}

// Flow writes a file.
func (r *RequestJSON) Flow(x *flow.Exchange) error {
	if x.Request == nil || x.Request.Head == nil {
		return ErrNoPlace
	}
	var body bytes.Buffer
	if _, err := r.source.WriteBody(&body, x.ID, flow.Client); err != nil {
		return &BodyError{x.ID, err}
	}
	if body.Len() == 0 {
		return ErrNoPlace
	}
	text, err := flow.MarshalJSON(requestFile{flow.Stamp(x.Started), text(x.Request.Head.Method), webAddress(x), flow.BodyValue(body.Bytes())})
	if err != nil {
		return fmt.Errorf("flow %d: %w", x.ID, err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return fmt.Errorf("flow %d: %w", x.ID, err)
	}
	out.WriteByte('\n')
	at := x.Started.UTC()
	f, err := r.Create(at.Format("2006-01-02"), at.Format("150405")+"_"+lastSegment(x.Request.Head.Path)+".json")
	if err != nil {
		return err
	}
	_, err = f.Write(out.Bytes())
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// maxSegment bounds the part of a file's name that a path gives.
const maxSegment = 60

// lastSegment names what was asked for, such that it can be part of the name
// of a file: of /v1/models/gemini:generateContent it is generateContent.
func lastSegment(target string) string {
	target, _, _ = strings.Cut(target, "?")
	_, name := cutLast(path.Base(strings.TrimRight(target, "/")), ":")
	name = strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return '-'
	}, name)
	if name = strings.Trim(name, "-"); name == "" {
		return "root"
	}
	return name[:min(len(name), maxSegment)]
}

// End does nothing.
func (r *RequestJSON) End() error { return nil }
