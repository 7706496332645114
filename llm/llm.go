// Package llm reads an HTTP exchange as a call to a language model.
//
// [Recognize] tells by the head of a request which API it speaks, [Read] makes
// a [Call] of everything that was recorded. Whatever the provider, a Call has
// the same shape: parameters, system prompt, messages made of blocks, tools,
// the answer put together from its stream, why it stopped, and what was used.
// Nothing is an error here: what is not understood stays beside what is, as the
// JSON that it was.
//
// The package is pure: no I/O, no clock, no network.
package llm

import (
	"encoding/json"
	"time"
)

// The APIs that are read.
const (
	Messages        = "messages"         // Anthropic's
	Converse        = "converse"         // Amazon Bedrock's own
	Chat            = "chat"             // OpenAI's Chat Completions
	Responses       = "responses"        // OpenAI's
	Realtime        = "realtime"         // OpenAI's, of speech
	Completions     = "completions"      // OpenAI's old one
	GenerateContent = "generate_content" // Google's
	Interactions    = "interactions"     // Google's newer one
	Live            = "live"             // Google's, of speech
	OllamaChat      = "ollama_chat"
	OllamaGenerate  = "ollama_generate"
	CountTokens     = "count_tokens" // of any provider: answers a number, which stands in Extra; it has no Usage
	Embeddings      = "embeddings"   // of any provider
)

// A Call is a request to a language model and its answer.
type Call struct {
	// Provider is who answers: "anthropic", "bedrock", "vertex", "foundry",
	// "openai", "azure", "chatgpt", "gemini", "codeassist", "ollama",
	// "openrouter", …, or "" if only the shape is known.
	Provider string
	API      string
	Model    string // as asked for
	Served   string // as the answer names it; "" before there is one
	ID       string // the provider's id of the answer
	Stream   bool

	// Session is the conversation that the body names (Claude's
	// metadata.user_id, Code Assist's session_id, conversation), Previous the
	// id of the answer that it continues. "" if it does not say.
	Session  string
	Previous string

	Params   []Param // what is none of the fields below, in the order of the body
	System   []Block
	Tools    []Tool
	Messages []Message // of the request, in its order

	Answer  []Message // usually one; more where several choices were asked for; nil before there is one
	Stop    string    // as the provider says it
	Usage   *Usage    // nil if it was not told
	Error   *Error    // an error status, or an error within the stream
	Partial bool      // the answer has no proper end

	// Asked is when the request was sent: with its exchange, but where it is
	// one of several in that, on a WebSocket.
	Asked time.Time

	// FirstToken is when the first piece of the answer's content came, Last
	// when the last event came. Zero if the answer was not streamed.
	FirstToken, Last time.Time

	// Extra are fields of the answer that have no place above.
	Extra []Param
}

// A Param is a field that is kept as it was.
type Param struct {
	Name  string
	Value json.RawMessage
}

// A Message is one turn of a conversation.
type Message struct {
	Role   string // "user", "assistant", "system", "developer", "tool", …, as sent ("model" of Google is "assistant")
	Blocks []Block
	Stop   string  // of one of several answers
	Extra  []Param // fields beside role and content
}

// The kinds of blocks.
const (
	Text       = "text"
	Thinking   = "thinking" // also redacted: without Text then
	Image      = "image"
	Audio      = "audio"
	Document   = "document"
	ToolCall   = "tool_call"
	ToolResult = "tool_result"
	Refusal    = "refusal"
	Other      = "other" // Type and Raw tell
)

// A Block is a part of a message.
type Block struct {
	Kind string
	Type string // the provider's word: "server_tool_use", "input_image", …
	Text string // of text, thinking, refusal

	// Of tool calls and their results. ID joins the two; "" if the provider
	// has none. Input is JSON as sent; what is not valid JSON stands in Text.
	ID      string
	Name    string
	Input   json.RawMessage
	Server  bool    // the provider runs this tool
	Content []Block // of a result, or of a document
	IsError bool

	// Of images, audio and documents: MIME type and size in bytes where the
	// data is inline, else where it lies. The data itself is in Raw.
	Media string
	Size  int64
	URL   string

	Cache json.RawMessage // cache_control or a like mark; nil if there is none
	// Raw is the block as it was, or, where it was put together from a stream,
	// as it stands without one if the provider has such a form. nil if it was a
	// bare string.
	Raw json.RawMessage
}

// A Tool is a tool that the model may call.
type Tool struct {
	Name        string // or its type, where it has no name
	Type        string
	Description string
	Schema      json.RawMessage // of its input; may be nil
	Cache       json.RawMessage
	Raw         json.RawMessage
}

// Usage is what a call consumed, in tokens. Whatever the provider's arithmetic
// is, Input is what was not read from or written to a cache, and Output
// includes Reasoning: Input + CacheRead + CacheWrite is the whole prompt.
type Usage struct {
	Input, CacheRead, CacheWrite, Output, Reasoning int64
	Raw                                             json.RawMessage // as told
}

// An Error is what the provider answered instead of, or in the middle of, an
// answer.
type Error struct {
	Type    string // the provider's
	Message string
	Status  int // of HTTP; 200 if it came within the stream
	Raw     json.RawMessage
}
