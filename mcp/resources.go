package mcp

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"trace/flow"
)

// resources offers what can be read by a URI.
func (s *Server) resources() {
	s.sdk.AddResource(&sdk.Resource{URI: "trace://sessions", Name: "sessions", Title: "Recorded sessions", MIMEType: "application/json",
		Description: "what was recorded, newest first, as list_sessions answers"}, s.readSessions)
	for _, side := range []string{"request", "response"} {
		s.sdk.AddResourceTemplate(&sdk.ResourceTemplate{URITemplate: "trace://{session}/{flow}/" + side + "-body{?offset,length}", Name: side + "-body",
			Title: "Body of a " + side, Description: fmt.Sprintf("decoded body of the %s of a flow: 65536 bytes, or those from offset on, length of them", side)}, s.readBody)
	}
	s.sdk.AddResourceTemplate(&sdk.ResourceTemplate{URITemplate: "trace://{session}/{flow}/events{?after,limit}", Name: "events", MIMEType: "application/json",
		Title: "Events of a flow", Description: "events or messages of a flow, as flow_events answers"}, s.readEvents)
	s.sdk.AddResourceTemplate(&sdk.ResourceTemplate{URITemplate: "trace://{session}/{flow}", Name: "flow", MIMEType: "application/json",
		Title: "A flow", Description: "a flow as show_flow answers"}, s.readFlow)
}

// badURI is the error of a URI that makes no sense.
func badURI(uri, why string) error {
	return &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: fmt.Sprintf("resource %s: %s", clip(uri, 200), why)}
}

// A locator is a URI of ours, taken apart.
type locator struct {
	session string
	flow    ref
	what    string
	query   url.Values
}

func parseURI(uri string) (*locator, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "trace" {
		return nil, badURI(uri, "want trace://SESSION/FLOW/request-body")
	}
	id, what, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	l := &locator{session: u.Host, flow: ref(id), what: what}
	if u.Fragment != "" {
		l.flow += ref("#" + u.Fragment)
	}
	if l.query, err = url.ParseQuery(u.RawQuery); err != nil {
		return nil, badURI(uri, "its query cannot be read")
	}
	if l.session == "newest" || l.session == "last" {
		l.session = ""
	}
	return l, nil
}

// number reads a parameter.
func (l *locator) number(name string) (n number, err error) {
	if v := l.query.Get(name); v != "" {
		if err = n.UnmarshalJSON([]byte(v)); err != nil {
			err = fmt.Errorf("%s %w", name, err)
		}
	}
	return n, err
}

// turn waits for a turn to answer, for a time; done ends it.
func (s *Server) turn(ctx context.Context) (_ context.Context, done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	select {
	case s.turns <- struct{}{}:
		return ctx, func() { <-s.turns; cancel() }, nil
	case <-ctx.Done():
		cancel()
		return nil, nil, ctx.Err()
	}
}

// readOf answers with a flow.
func (s *Server) readOf(ctx context.Context, uri string, fn func(context.Context, *locator, *target) (*sdk.ReadResourceResult, error)) (*sdk.ReadResourceResult, error) {
	ctx, done, err := s.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	t, err := s.target(l.session, l.flow)
	if err != nil {
		return nil, badURI(uri, err.Error())
	}
	defer t.Release()
	res, err := fn(ctx, l, t)
	if err != nil {
		return nil, badURI(uri, err.Error())
	}
	return res, nil
}

func jsonResource(uri string, v any) (*sdk.ReadResourceResult, error) {
	text, err := flow.MarshalJSON(v)
	if err != nil {
		return nil, err
	}
	return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{URI: uri, MIMEType: "application/json", Text: string(text)}}}, nil
}

func (s *Server) readSessions(ctx context.Context, req *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
	out, err := s.listSessions(ctx, &sessionsIn{Limit: maxRows})
	if err != nil {
		return nil, err
	}
	return jsonResource(req.Params.URI, out)
}

func (s *Server) readFlow(ctx context.Context, req *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
	return s.readOf(ctx, req.Params.URI, func(ctx context.Context, _ *locator, t *target) (*sdk.ReadResourceResult, error) {
		r := rowOf(t.x, nil)
		out := &flowOut{Session: t.id, row: r}
		s.overview(ctx, t, out)
		return jsonResource(req.Params.URI, out)
	})
}

func (s *Server) readEvents(ctx context.Context, req *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
	return s.readOf(ctx, req.Params.URI, func(ctx context.Context, l *locator, t *target) (*sdk.ReadResourceResult, error) {
		after, err := l.number("after")
		if err != nil {
			return nil, err
		}
		limit, err := l.number("limit")
		if err != nil {
			return nil, err
		}
		out, err := t.events(ctx, int(min(after, 1<<31-1)), limit, 1000)
		if err != nil {
			return nil, err
		}
		return jsonResource(req.Params.URI, out)
	})
}

// readBody answers with a range of a body; a second content says where it goes on.
func (s *Server) readBody(ctx context.Context, req *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
	uri := req.Params.URI
	return s.readOf(ctx, uri, func(ctx context.Context, l *locator, t *target) (*sdk.ReadResourceResult, error) {
		offset, err := l.number("offset")
		if err != nil {
			return nil, err
		}
		length, err := l.number("length")
		if err != nil {
			return nil, err
		}
		side, err := sideOf(l.what)
		if err != nil {
			return nil, err
		}
		part, err := t.partOf(side)
		if err != nil {
			return nil, err
		}
		b, err := t.readRange(ctx, side, int64(offset), int64(length.within(maxRange, maxRange)))
		if err != nil {
			return nil, err
		}
		kind := part.ContentType
		if kind == "" {
			kind = "application/octet-stream"
		}
		c := &sdk.ResourceContents{URI: uri, MIMEType: clip(kind, 100), Text: b.Text, Meta: sdk.Meta{"trace/offset": b.Offset, "trace/length": b.Length, "trace/total": b.Total}}
		if b.Base64 {
			if c.Blob, err = base64.StdEncoding.DecodeString(b.Text); err != nil {
				return nil, err
			}
			c.Text = ""
		}
		res := &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{c}}
		if b.Next != nil {
			next := t.uri(side) + "?offset=" + strconv.FormatInt(*b.Next, 10)
			c.Meta["trace/next"] = next
			res.Contents = append(res.Contents, &sdk.ResourceContents{URI: next, MIMEType: "text/plain",
				Text: fmt.Sprintf("This is not all: the body goes on at byte %d. Read %s", *b.Next, next)})
		}
		return res, nil
	})
}
