package mcp

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"trace/flow"
)

// aSession is one session of which all is made up, and some of it is huge.
type aSession struct {
	flows  map[int64]*flow.Exchange
	bodies map[int64][2]func(w io.Writer) error
	pieces map[int64][]flow.Piece
}

const sessionID = "01KDYHXM0Z0000000000000000"

func (s *aSession) Sessions() ([]flow.Session, error) {
	list := []flow.Session{}
	for i := range 50 {
		list = append(list, flow.Session{ID: fmt.Sprintf("01KDYHXM0Z00000000000000%02d", 99-i), Name: "run", Argv: []string{"curl", strings.Repeat("x", 300)}, Started: epoch, State: "running"})
	}
	return list, nil
}

func (s *aSession) Find(ref string) (string, error) {
	if ref == "" || ref == "run" || strings.HasPrefix(sessionID, ref) {
		return sessionID, nil
	}
	return "", &Problem{"session " + ref + ": there is none", "list_sessions names them"}
}

func (s *aSession) Open(string) (Record, error) { return s, nil }

func (s *aSession) Session() (flow.Session, error) {
	return flow.Session{ID: sessionID, State: "running"}, nil
}

func (s *aSession) Flow(id int64) (*flow.Exchange, error) {
	if x := s.flows[id]; x != nil {
		return x, nil
	}
	return nil, &Problem{fmt.Sprintf("flow %d: there is none in this session", id), ""}
}

func (s *aSession) Last() (int64, error) { return int64(len(s.flows)), nil }

// counter counts what is written through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func (s *aSession) WriteBody(w io.Writer, id int64, side flow.Side) (int64, error) {
	c := &counter{w: w}
	if write := s.bodies[id][side]; write != nil {
		return c.n, write(c)
	}
	return 0, nil
}

func (s *aSession) PiecesFrom(id int64, index int, fn func(flow.Piece) error) error {
	for _, p := range s.pieces[id][min(index, len(s.pieces[id])):] {
		if err := fn(p); err != nil {
			return err
		}
	}
	return nil
}

func (s *aSession) Close() error { return nil }

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// exchange is one with bodies of these sizes.
func exchange(id, sent, received int64) *flow.Exchange {
	fields := []flow.Field{{Name: "Content-Type", Value: "application/json"}}
	return &flow.Exchange{ID: id, Session: sessionID, Kind: flow.KindHTTP, State: flow.StateComplete, Started: epoch, Ended: epoch.Add(time.Second),
		Conn:     flow.Conn{ID: 1, Process: &flow.Process{PID: 7, Exe: "/usr/bin/curl"}},
		Request:  &flow.Part{ContentType: "application/json", Head: &flow.Head{Method: "POST", Scheme: "https", Host: "api.example.com", Port: 443, Path: "/v1/x", Target: "/v1/x", Version: "1.1", Fields: fields}, Body: &flow.Ended{Size: sent}},
		Response: &flow.Part{ContentType: "application/json", Head: &flow.Head{Status: 200, Reason: "OK", Version: "1.1", Fields: fields}, Body: &flow.Ended{Size: received}}}
}

// text writes a body in pieces.
func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		for i := 0; i < len(s); i += 1000 {
			if _, err := io.WriteString(w, s[i:min(len(s), i+1000)]); err != nil {
				return err
			}
		}
		return nil
	}
}

// views are those that need no record.
func (s *aSession) views() Views {
	return Views{
		List: func(_ context.Context, _ Record, f Filter) (list []*flow.Exchange, next int64, err error) {
			for id := int64(len(s.flows)); id > 0; id-- {
				if f.From0 > 0 && id >= f.From0 {
					continue
				}
				if len(list) == f.Limit {
					return list, list[len(list)-1].ID, nil
				}
				list = append(list, s.flows[id])
			}
			return list, 0, nil
		},
		Calls: func(Record, []*flow.Exchange) map[int64]Call { return nil },
		Overview: func(context.Context, Record, Filter) (*Overview, error) {
			return &Overview{Flows: len(s.flows), Hosts: map[string]int{"api.example.com": len(s.flows)}, Kinds: map[string]int{"http": len(s.flows)}}, nil
		},
		Call: func(ctx context.Context, _ Record, ref string, _ bool) (json.RawMessage, error) {
			<-ctx.Done() // as long as it may
			return nil, ctx.Err()
		},
	}
}

// connect returns a client of a server, both in this process.
func connect(t *testing.T, s *Server) *sdk.ClientSession {
	t.Helper()
	near, far := sdk.NewInMemoryTransports()
	s.begin()
	served, err := s.sdk.Connect(t.Context(), far, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), near, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); served.Close(); s.Close() })
	return c
}

// ask calls a tool, and returns its text and its structured content.
func ask[T any](t *testing.T, c *sdk.ClientSession, tool string, args any) (string, T) {
	t.Helper()
	var out T
	res, err := c.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		t.Fatalf("%s %v: %v", tool, args, err)
	}
	text := res.Content[0].(*sdk.TextContent).Text
	if res.IsError {
		t.Fatalf("%s %v: %s", tool, args, text)
	}
	structured, err := json.Marshal(res.StructuredContent)
	if err == nil {
		err = json.Unmarshal(structured, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text, out
}

// refused calls a tool that has to say why it does not answer.
func refused(t *testing.T, c *sdk.ClientSession, tool string, args any, why string) {
	t.Helper()
	res, err := c.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		t.Fatalf("%s %v: %v", tool, args, err)
	}
	text := res.Content[0].(*sdk.TextContent).Text
	if !res.IsError || !strings.Contains(text, why) {
		t.Errorf("%s %v: error %v, %q; want %q", tool, args, res.IsError, text, why)
	}
}
