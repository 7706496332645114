package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"trace/flow"
	"trace/replay"
	"trace/store"
	"trace/web"
)

// viewReplay sends a request again, edited, and records it beside the original.
func viewReplay(ctx context.Context, rec web.Record, id int64, e web.Edits, begun func(any)) (any, error) {
	r := rec.(*webRecord)
	s, err := r.Session()
	if err != nil {
		return nil, err
	}
	if s.File == "" {
		return nil, &web.Problem{Status: http.StatusConflict, Message: "replay: this run keeps nothing (--no-save), so the answer could not be recorded"}
	}
	if _, err := rec.Flow(id); err != nil {
		return nil, err
	}
	g := &original{name: fmt.Sprintf("flow %d", id), reader: r.Reader}
	if g.detail, err = r.Detail(id); err != nil {
		return nil, problem(err)
	}
	g.old, g.ref = g.detail, fmt.Sprintf("%s/%d", g.detail.Session, id)
	if err := g.readRaw(id); err != nil {
		return nil, problem(err)
	}
	opt := replay.Options{Env: os.LookupEnv, Raw: g.raw, Clipped: g.clip}
	if err := edited(&opt, g.detail, e); err != nil {
		return nil, err
	}
	req, secrets, err := replay.Make(g.detail, opt)
	if err != nil {
		return nil, &web.Problem{Status: http.StatusConflict, Message: fmt.Sprintf("%s cannot be sent again: %v", g.name, err)}
	}
	o := r.source.resend
	o.here = true
	over := make(chan struct{})
	told := make(chan struct{})
	close(told)
	o.begun = func(rec *recordOf) {
		told = make(chan struct{})
		go tellBegun(r.Reader, rec, g, req.Notes, begun, over, told)
	}
	res, err := o.send(ctx, g, req, secrets)
	close(over)
	<-told
	var unknown x509.UnknownAuthorityError
	switch {
	case res != nil: // what went wrong stands in its flow
		j := res.json()
		j.Flow = nil
		return j, nil
	case errors.As(err, &unknown):
		return nil, &web.Problem{Status: http.StatusBadGateway, Message: fmt.Sprintf("replay of %s: %v", g.name, err), Hint: "--upstream-ca FILE trusts its issuer"}
	case err != nil:
		return nil, &web.Problem{Status: http.StatusBadGateway, Message: fmt.Sprintf("replay of %s: %v", g.name, err)}
	}
	return nil, errors.New("replay: nothing came of it")
}

// tellBegun tells of the flow as soon as it stands in the record.
func tellBegun(r *store.Reader, rec *recordOf, g *original, notes []string, begun func(any), over, told chan struct{}) {
	defer close(told)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		xs, err := r.Flows(store.Query{After: rec.before})
		if err != nil {
			return
		}
		for _, x := range xs {
			if x.Conn.ID == rec.conn {
				begun(replayedJSON{ID: fmt.Sprint(x.ID), Session: x.Session, ReplayOf: g.ref, State: x.State,
					Notes: append([]string{}, notes...), Changes: []replay.Change{}})
				return
			}
		}
	}
}

// edited makes options of what the page wants changed. What it gives as it was
// recorded is not changed.
func edited(o *replay.Options, d *flow.Detail, e web.Edits) error {
	if d.Request == nil || d.Request.Head == nil {
		return nil // replay.Make says why it cannot be sent
	}
	h := d.Request.Head
	if e.Method != "" && e.Method != h.Method {
		if strings.ContainsFunc(e.Method, func(r rune) bool { return !isToken(r) }) {
			return badEdit("method %q: no name of a method", e.Method)
		}
		o.Method = e.Method
	}
	if e.Headers != nil && !slices.Equal(e.Headers, flow.Pairs(h.Fields)) {
		o.Fields = []flow.Field{}
		for _, f := range e.Headers {
			if f[0] == "" || strings.ContainsFunc(f[0], func(r rune) bool { return !isToken(r) }) {
				return badEdit("header %q: no name of a field", f[0])
			}
			if strings.ContainsAny(f[1], "\r\n\x00") {
				return badEdit("header %s: a value has no line breaks", f[0])
			}
			if h.Version == "2" {
				f[0] = strings.ToLower(f[0])
			}
			o.Fields = append(o.Fields, flow.Field{Name: f[0], Value: f[1]})
		}
	}
	if e.Body != nil && *e.Body != string(d.RequestBody) {
		o.Edit = func([]byte) ([]byte, error) { return []byte(*e.Body), nil }
	}
	return editedURL(o, h, e.URL)
}

// editedURL takes in where the request goes.
func editedURL(o *replay.Options, h *flow.Head, text string) error {
	if text == "" || text == h.Scheme+"://"+hostPort(h)+h.Path {
		return nil
	}
	text, _, _ = strings.Cut(text, "#")
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return badEdit("url %q: want one such as https://api.example.com/v1/models", text)
	}
	_, rest, _ := strings.Cut(text, "://")
	target := ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		target = rest[i:]
	}
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	if target != h.Path {
		o.Target = target
	}
	if to := (&url.URL{Scheme: u.Scheme, Host: u.Host}); to.String() != h.Scheme+"://"+hostPort(h) {
		o.To = to
	}
	return nil
}

// isToken reports whether a name may have r (RFC 9110 section 5.6.2).
func isToken(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

func badEdit(format string, args ...any) error {
	return &web.Problem{Status: http.StatusBadRequest, Message: "replay: " + fmt.Sprintf(format, args...)}
}
