package main

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"io"
	"sync"

	"trace/flow"
)

// callVersion is that of the summaries which stand in session files. Others
// are made again.
const callVersion = 2

// storedSummary is a summary as it stands in the session file: JSON, deflated
// (RFC 1951) with summaryWords as preset dictionary, since all are much alike and
// there is one for every call.
type storedSummary struct {
	Version int          `json:"v"`
	Call    *callSummary `json:"call"` // null: the body says that it is none
}

// summaryWords is what summaries have in common, the most frequent last. It is
// part of callVersion.
var summaryWords = []byte(`"error":{"type":"overloaded_error","message":"rate_limit_error","status":429},"partial":true,"calls":[{"previous_response_id":"resp_` +
	`"retry_of":"parent":"parent_tool":"toolu_","parent_tool_name":"Task"},"compacted":true,"edited":true"reasoning":"gemini","api":"generate_content","model":"gemini-2.5-` +
	`"openai","api":"responses","model":"gpt-5"chat"served_model":"claude-"stop_reason":"end_turn"stop","first_token_ms":"tokens_per_second":` +
	`{"v":2,"call":{"provider":"anthropic","api":"messages","model":"claude-sonnet-4-5","response_id":"msg_01","stream":true,"stop_reason":"tool_use","usage":{"input":1,"cache_read":0,"cache_write":0,"output":0,"reasoning":0},"conversation":"` +
	`","thread":{"first":"1","turn":1,"previous":"1","shared_messages":1},"messages":1,"tools":1,"tool_calls":1,"first_token_ms":1.0,"tokens_per_second":1.0,"context_bytes":{"system":0,"tools":0,"results":0,"history":0,"user":0,"media":0}}}`)

// maxSummary bounds what a summary may inflate to.
const maxSummary = 1 << 20

// encodeSummary returns the document for store.Annotate.
func encodeSummary(s *callSummary) ([]byte, error) {
	text, err := flow.MarshalJSON(storedSummary{callVersion, s})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	z, err := flate.NewWriterDict(&b, flate.DefaultCompression, summaryWords)
	if err == nil {
		if _, err = z.Write(text); err == nil {
			err = z.Close()
		}
	}
	return b.Bytes(), err
}

// inflaters are used again: to make one takes longer than to use it.
var inflaters = sync.Pool{New: func() any { return flate.NewReaderDict(bytes.NewReader(nil), summaryWords) }}

// decodeSummary reads what encodeSummary wrote. ok is false for what another
// version wrote.
func decodeSummary(doc []byte) (s *callSummary, ok bool) {
	if len(doc) == 0 {
		return nil, false
	}
	z := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(z)
	if z.(flate.Resetter).Reset(bytes.NewReader(doc), summaryWords) != nil {
		return nil, false
	}
	text, err := io.ReadAll(io.LimitReader(z, maxSummary))
	var d storedSummary
	if err != nil || json.Unmarshal(text, &d) != nil || d.Version != callVersion {
		return nil, false
	}
	return d.Call, true
}
