package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"trace/flow"
	"trace/shelf"
)

// Budgets of an answer, in bytes of its structured content. The larger one is for
// those who say how much they want.
const (
	budget      = 5500
	largeBudget = 24 << 10
)

// A question is a tool: its name, and what it tells models about itself.
type question struct {
	name, title, text string
	writes            bool // something is sent, or changed
	time              time.Duration
}

// An answer is what a tool returns: JSON, and a text that says the same.
type answer interface{ text() string }

// add offers a tool.
func add[In any, Out answer](s *Server, q question, fn func(context.Context, *In) (Out, error)) {
	schemas := &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[ref](): {Type: "string"}, reflect.TypeFor[number](): {Type: "integer"}}}
	in, err := jsonschema.For[In](schemas)
	if err != nil {
		panic(err) // of a type of ours: every test would see it
	}
	out, err := jsonschema.For[Out](schemas)
	if err != nil {
		panic(err)
	}
	out.Type, out.Types = "object", nil // it is never null
	t := &sdk.Tool{Name: q.name, Title: q.title, Description: q.text, InputSchema: in, OutputSchema: out,
		Annotations: &sdk.ToolAnnotations{Title: q.title, ReadOnlyHint: !q.writes, DestructiveHint: new(q.writes), OpenWorldHint: new(q.writes)}}
	if q.time == 0 {
		q.time = answerTime
	}
	s.sdk.AddTool(t, func(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		a := new(In)
		if err := decode(req.Params.Arguments, a); err != nil {
			return failed(fmt.Errorf("%s: arguments: %w", q.name, err)), nil
		}
		ctx, cancel := context.WithTimeout(ctx, q.time)
		defer cancel()
		select {
		case s.turns <- struct{}{}:
			defer func() { <-s.turns }()
		case <-ctx.Done():
			return failed(fmt.Errorf("%s: %w", q.name, ctx.Err())), nil
		}
		out, err := fn(ctx, a)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			err = &Problem{fmt.Sprintf("%s: it would take longer than %v", q.name, q.time), "ask for less: fewer flows by a filter, a range of a body"}
		case err != nil:
			if s.Log != nil {
				s.Log("mcp: %s: %v", q.name, err)
			}
		}
		if err != nil {
			return failed(err), nil
		}
		text, err := flow.MarshalJSON(out)
		if err != nil {
			return failed(fmt.Errorf("%s: %w", q.name, err)), nil
		}
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: out.text()}}, StructuredContent: json.RawMessage(text)}, nil
	})
}

// failed is the answer of a tool that has none.
func failed(err error) *sdk.CallToolResult {
	return &sdk.CallToolResult{IsError: true, Content: []sdk.Content{&sdk.TextContent{Text: clip(err.Error(), 2000)}}}
}

// decode reads arguments. Names that the tool does not know are an error: they
// would be taken for heeded.
func decode(text json.RawMessage, to any) error {
	if len(bytes.TrimSpace(text)) == 0 || string(bytes.TrimSpace(text)) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return fmt.Errorf("%s: a JSON %s is none", strings.TrimPrefix(wrong.Field, "."), wrong.Value)
		}
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}

// A ref names a flow: 12, "12", "SESSION/12", "12#2" or "last".
type ref string

// UnmarshalJSON takes a number too, which is what models often write.
func (r *ref) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err == nil {
		*r = ref(strings.TrimSpace(s))
		return nil
	}
	if _, err := strconv.ParseInt(string(text), 10, 64); err != nil && string(text) != "null" {
		return fmt.Errorf("flow %s: want an id such as \"12\"", clip(string(text), 40))
	}
	*r = ref(strings.Trim(string(text), "nul"))
	return nil
}

// A number is not below zero; as with a ref, a string with digits is one.
type number int64

// UnmarshalJSON reads it.
func (n *number) UnmarshalJSON(text []byte) error {
	digits := strings.Trim(string(text), `"`)
	if digits == "null" || digits == "" {
		return nil
	}
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil || v < 0 || v != float64(int64(v)) || v > 1<<53 {
		return fmt.Errorf("%s: want a whole number, not below zero", clip(string(text), 40))
	}
	*n = number(v)
	return nil
}

// within returns n, or missing for 0, and at most most.
func (n number) within(missing, most int) int {
	if n == 0 {
		return missing
	}
	return int(min(int64(n), int64(most)))
}

// inSession is the argument that most tools have.
type inSession struct {
	Session string `json:"session,omitempty" jsonschema:"id (or its beginning) or name of a session; the newest if left out"`
}

// maxOpen bounds the sessions that stay open when nobody asks about them.
const maxOpen = 4

// An opened is a session that somebody asks about.
type opened struct {
	Record
	id   string
	item *shelf.Item[Record]
}

// session opens the session that ref means. It is given back with Release.
func (s *Server) session(ref string) (*opened, error) {
	id, err := s.Source.Find(ref)
	if err != nil {
		return nil, err
	}
	it, err := s.records.Take(id)
	if err != nil {
		return nil, err
	}
	return &opened{Record: it.Value, id: id, item: it}, nil
}

// Release gives the session back.
func (o *opened) Release() { o.item.Release() }

// A target is a flow that somebody asks about.
type target struct {
	*opened
	x    *flow.Exchange
	call string // as views name it: 12 or 12#2
}

// target finds a flow. It is given back with Release.
func (s *Server) target(session string, r ref) (*target, error) {
	arg := strings.TrimPrefix(string(r), "trace://")
	if i := strings.LastIndexByte(arg, '/'); i >= 0 {
		if session, arg = arg[:i], arg[i+1:]; session == "" {
			return nil, fmt.Errorf("flow %q: it names no session", clip(string(r), 80))
		}
	}
	if arg == "" {
		return nil, &Problem{"flow: which one?", "list_flows names them; \"last\" is the newest"}
	}
	o, err := s.session(session)
	if err != nil {
		return nil, err
	}
	t := &target{opened: o, call: arg}
	if err := t.find(); err != nil {
		o.Release()
		return nil, err
	}
	return t, nil
}

func (t *target) find() (err error) {
	digits, call, numbered := strings.Cut(t.call, "#")
	var id int64
	if digits == "last" || digits == "-1" {
		if id, err = t.Last(); err != nil {
			return err
		}
		if id == 0 {
			return fmt.Errorf("session %s: it has no flows (yet)", t.id)
		}
	} else if id, err = strconv.ParseInt(digits, 10, 64); err != nil || id < 1 {
		return &Problem{fmt.Sprintf("flow %q: no id", clip(t.call, 80)), "an id is a number, SESSION/NUMBER or \"last\": list_flows names them"}
	}
	if _, err := strconv.ParseUint(call, 10, 31); numbered && err != nil {
		return &Problem{fmt.Sprintf("flow %q: no number of a call", clip(t.call, 80)), "of several calls on a WebSocket 12#1 is the first"}
	}
	if t.call = strconv.FormatInt(id, 10); numbered {
		t.call += "#" + call
	}
	t.x, err = t.Flow(id)
	return err
}

// clip returns the beginning of s, of n bytes at most, and says that there is more.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:cut(s, n)] + fmt.Sprintf("… (+%s)", bytesText(int64(len(s)-cut(s, n))))
}

// cut returns where s is cut that no letter is.
func cut(s string, n int) int {
	if n >= len(s) {
		return len(s)
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return n
}

// bytesText is a size for reading.
func bytesText(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1e6:
		return fmt.Sprintf("%.3g kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.3g MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.3g GB", float64(n)/1e9)
}

// sizeOf is how much room v takes in an answer.
func sizeOf(v any) int {
	text, err := flow.MarshalJSON(v)
	if err != nil {
		return 0
	}
	return len(text)
}

// lines joins texts, a line each, without those that are empty.
func lines(list ...string) string {
	var b strings.Builder
	for _, s := range list {
		if s != "" {
			b.WriteString(strings.TrimRight(s, "\n"))
			b.WriteByte('\n')
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}
