package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"trace/flow"
	"trace/llm"
)

// jsonCall is a call to a language model in `flows show --json`: whatever the
// provider, it has the same shape.
type jsonCall struct {
	Provider   string         `json:"provider"`
	API        string         `json:"api"`
	Model      string         `json:"model"`
	Served     string         `json:"served_model,omitempty"`
	ID         string         `json:"response_id,omitempty"`
	Stream     bool           `json:"stream"`
	Session    string         `json:"conversation,omitempty"`
	Previous   string         `json:"previous_response_id,omitempty"`
	Params     jsonParams     `json:"params"`
	System     []jsonBlock    `json:"system"`
	Tools      []jsonCallTool `json:"tools"`
	Messages   []jsonTurn     `json:"messages"`
	Answer     []jsonTurn     `json:"answer"`
	Stop       *string        `json:"stop_reason"`
	Usage      *callUsage     `json:"usage"`
	Error      *callError     `json:"error,omitempty"`
	Partial    bool           `json:"partial,omitempty"`
	FirstToken *float64       `json:"first_token_ms,omitempty"`
	Last       *float64       `json:"last_event_ms,omitempty"`
	Extra      jsonParams     `json:"extra,omitempty"`
}

type jsonTurn struct {
	Role   string      `json:"role"`
	Blocks []jsonBlock `json:"blocks"`
	Stop   string      `json:"stop_reason,omitempty"`
	Extra  jsonParams  `json:"extra,omitempty"`
}

type jsonBlock struct {
	Kind    string          `json:"kind"`
	Type    string          `json:"type,omitempty"`
	Text    string          `json:"text,omitempty"`
	ID      string          `json:"id,omitempty"`
	Name    string          `json:"name,omitempty"`
	Input   json.RawMessage `json:"input,omitempty"`
	Server  bool            `json:"server,omitempty"`
	Content []jsonBlock     `json:"content,omitempty"`
	IsError bool            `json:"is_error,omitempty"`
	Media   string          `json:"media_type,omitempty"`
	Size    int64           `json:"size,omitempty"`
	URL     string          `json:"url,omitempty"`
	Cache   json.RawMessage `json:"cache_control,omitempty"`
	Raw     json.RawMessage `json:"raw,omitempty"` // of kind other
}

type jsonCallTool struct {
	Name        string          `json:"name"`
	Type        string          `json:"type,omitempty"`
	Description string          `json:"description,omitempty"`
	Schema      json.RawMessage `json:"input_schema,omitempty"`
	Cache       json.RawMessage `json:"cache_control,omitempty"`
}

// jsonParams is an object whose members keep their order.
type jsonParams []llm.Param

// MarshalJSON writes the object. Of several members of one name all are
// written, as they were sent.
func (ps jsonParams) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, p := range ps {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := flow.MarshalJSON(p.Name)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(valid(p.Value))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// valid returns raw if it is one JSON value that others can read, else its text
// as a string.
func valid(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	if v, ok := flow.TextValue(string(raw)).(json.RawMessage); ok {
		return v
	}
	text, _ := flow.MarshalJSON(string(bytes.ToValidUTF8(raw, []byte("\ufffd"))))
	return text
}

func validOrNone(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return nil
	}
	return valid(raw)
}

func toJSONCall(x *flow.Exchange, c *llm.Call) *jsonCall {
	s := summarizeOne(x, c)
	j := &jsonCall{
		Provider: c.Provider, API: c.API, Model: c.Model, Served: c.Served, ID: c.ID, Stream: c.Stream, Session: c.Session, Previous: c.Previous,
		Params: append(jsonParams{}, c.Params...), System: toJSONBlocks(c.System), Tools: []jsonCallTool{}, Messages: toJSONTurns(c.Messages), Answer: toJSONTurns(c.Answer),
		Stop: s.Stop, Usage: s.Usage, Error: s.Error, Partial: c.Partial, FirstToken: s.FirstToken, Extra: jsonParams(c.Extra),
	}
	for _, t := range c.Tools {
		j.Tools = append(j.Tools, jsonCallTool{t.Name, t.Type, t.Description, validOrNone(t.Schema), validOrNone(t.Cache)})
	}
	if !c.Last.IsZero() {
		j.Last = flow.MS(max(0, c.Last.Sub(askedAt(x, c))))
	}
	return j
}

func toJSONTurns(ms []llm.Message) []jsonTurn {
	js := []jsonTurn{}
	for _, m := range ms {
		js = append(js, jsonTurn{m.Role, toJSONBlocks(m.Blocks), m.Stop, jsonParams(m.Extra)})
	}
	return js
}

func toJSONBlocks(bs []llm.Block) []jsonBlock {
	js := []jsonBlock{}
	for i := range bs {
		b := &bs[i]
		j := jsonBlock{
			Kind: b.Kind, Type: b.Type, Text: b.Text, ID: b.ID, Name: b.Name, Input: validOrNone(b.Input), Server: b.Server,
			IsError: b.IsError, Media: b.Media, Size: b.Size, URL: b.URL, Cache: validOrNone(b.Cache),
		}
		if len(b.Content) > 0 {
			j.Content = toJSONBlocks(b.Content)
		}
		if b.Kind == llm.Other {
			j.Raw = validOrNone(b.Raw)
		}
		js = append(js, j)
	}
	return js
}

// withMembers adds members to a JSON object that has some.
func withMembers(object []byte, members ...any) ([]byte, error) {
	b := bytes.NewBuffer(bytes.TrimSuffix(object, []byte("}")))
	for i := 0; i+1 < len(members); i += 2 {
		v, err := flow.MarshalJSON(members[i+1])
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(b, ",%q:%s", members[i], v)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
