package web

import (
	"context"
	"io"

	"trace/flow"
)

// Views are what the command line makes of a record, handed in as funcs: the
// page shows what the commands print. Each gets a Record that Source has opened.
// What they return becomes JSON; a nil func is not offered.
type Views struct {
	// Flow is a flow as `flows show --json` prints it, with long bodies left out.
	Flow func(ctx context.Context, rec Record, id int64) (any, error)
	// Call is a call to a language model, named by its flow or FLOW#2. answer
	// leaves out what the request says.
	Call func(ctx context.Context, rec Record, ref string, answer bool) (any, error)
	// Conversations, Stats and Tools are of all of a session.
	Conversations func(ctx context.Context, rec Record) (any, error)
	Stats         func(ctx context.Context, rec Record) (any, error)
	Tools         func(ctx context.Context, rec Record) (any, error)
	// Diff compares two requests, named as for Call, Compare two sessions.
	Diff    func(ctx context.Context, ra Record, a string, rb Record, b string) (any, error)
	Compare func(ctx context.Context, a, b Record) (any, error)
	// Curl is the command that sends a request again.
	Curl func(ctx context.Context, w io.Writer, rec Record, id int64) error
	// Export writes a file of one of the formats.
	Export func(ctx context.Context, w io.Writer, rec Record, e Export) error
	// Replay sends a request again. It calls begun with what is known when the
	// flow stands in the record, and returns when it is over.
	Replay func(ctx context.Context, rec Record, id int64, e Edits, begun func(any)) (any, error)
	// Match makes a condition of a jq program.
	Match func(expr string) (func(ctx context.Context, x *flow.Exchange) (bool, error), error)
	// Search returns those of the flows in whose bodies, events or messages text
	// stands.
	Search func(ctx context.Context, rec Record, text string, ids []int64) (map[int64]bool, error)
}

// An Export says what is to be written.
type Export struct {
	Format string  // "har", "jsonl", "html", …
	Flows  []int64 // nil: all
	Thread int64   // the flow of a conversation's first call; 0: none is chosen
}

// Edits say how a request is changed before it is sent again.
type Edits struct {
	Method  string      `json:"method"`
	URL     string      `json:"url"`
	Headers [][2]string `json:"headers"` // all fields; nil: as recorded
	Body    *string     `json:"body"`
}
