package wire

import (
	"strings"

	"trace/flow"
)

// maxBoundary bounds the boundary of a multipart body. RFC 2046 allows 70.
const maxBoundary = 256

const mediaEventStream = "application/vnd.amazon.eventstream"

// mediaFramings are the media types whose bodies are sequences of events.
var mediaFramings = map[string]string{
	"text/event-stream": flow.FramingSSE,

	"application/x-ndjson":      flow.FramingNDJSON,
	"application/ndjson":        flow.FramingNDJSON,
	"text/x-ndjson":             flow.FramingNDJSON,
	"application/jsonl":         flow.FramingNDJSON,
	"application/x-jsonl":       flow.FramingNDJSON,
	"application/jsonlines":     flow.FramingNDJSON,
	"application/x-jsonlines":   flow.FramingNDJSON,
	"application/json-lines":    flow.FramingNDJSON,
	"application/stream+json":   flow.FramingNDJSON,
	"application/x-json-stream": flow.FramingNDJSON,
	"application/json-seq":      flow.FramingNDJSON, // RFC 7464

	mediaEventStream: flow.FramingEventStream,
}

// setFraming says in the head of a message that has a body how that body is
// cut into events, if it is: in req if resp is nil. Both protocols that carry
// HTTP call it before they hand the head over.
func setFraming(req, resp *flow.Head) {
	h := resp
	if resp == nil {
		h = req
	}
	if h.Framing = eventFraming(req, resp); h.Framing != "" {
		h.Streaming = true
	}
}

// eventFraming chooses a framing by the heads alone. Requests are cut only in
// the framings that both sides send: those of gRPC and of AWS. A part of a body (206) need not
// begin where an event does, and what is coded in a way that we cannot undo
// shows none.
func eventFraming(req, resp *flow.Head) string {
	h := resp
	if resp == nil {
		h = req
	}
	contentType := h.Get("Content-Type")
	if contentType == "" || h.Status == 206 || unreadable(h, nil) {
		return ""
	}
	media := mediaType(contentType)
	switch {
	case isGRPC(media):
		return flow.FramingGRPC
	case resp == nil && media != mediaEventStream:
		return ""
	case media == "application/json":
		if h.Status/100 != 2 {
			return "" // it tells why there is no stream
		}
		return jsonFraming(req, contentType)
	case strings.HasPrefix(media, "multipart/"):
		if b := parameter(contentType, "boundary"); b == "" || len(b) > maxBoundary {
			return ""
		}
		return flow.FramingMultipart
	}
	return mediaFramings[media]
}

// jsonFraming tells the application/json that is a stream from the others, by
// what was asked for: a watch of Kubernetes sends a line an event, the streaming
// methods of Google's APIs an array that grows (google.aip.dev/136 names them
// behind a colon).
func jsonFraming(req *flow.Head, contentType string) string {
	path, query, _ := strings.Cut(req.Path, "?")
	if parameter(contentType, "stream") == "watch" {
		return flow.FramingNDJSON
	}
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "watch=true" || pair == "watch=1" {
			return flow.FramingNDJSON
		}
	}
	last := path[strings.LastIndexByte(path, '/')+1:]
	last = strings.ReplaceAll(strings.ToLower(last), "%3a", ":")
	if i := strings.LastIndexByte(last, ':'); i >= 0 && strings.Contains(last[i:], "stream") {
		return flow.FramingJSONArray
	}
	return ""
}

// isGRPC reports whether bodies of a media type are length-prefixed messages:
// those of gRPC, of gRPC-Web and of the streams of Connect.
func isGRPC(media string) bool {
	media, _, _ = strings.Cut(media, "+")
	switch media {
	case "application/grpc", "application/grpc-web", "application/grpc-web-text", "application/connect":
		return true
	}
	return false
}

// mediaType returns the type and subtype of a Content-Type, lower-case.
func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.Trim(media, " \t\r\n"))
}

// parameter returns a parameter of a Content-Type (RFC 9110 section 5.6.6), or
// "".
func parameter(contentType, name string) string {
	_, rest, more := strings.Cut(contentType, ";")
	for more {
		var key, value string
		rest = strings.TrimLeft(rest, " \t\r\n")
		i := strings.IndexAny(rest, "=;")
		if i < 0 {
			return ""
		}
		if key, rest = rest[:i], rest[i:]; rest[0] == '=' {
			value, rest = parameterValue(rest[1:])
		}
		if fold(strings.TrimRight(key, " \t\r\n"), name) {
			return value
		}
		_, rest, more = strings.Cut(rest, ";")
	}
	return ""
}

// parameterValue cuts a token or a quoted string off s.
func parameterValue(s string) (value, rest string) {
	if s == "" || s[0] != '"' {
		i := strings.IndexByte(s, ';')
		if i < 0 {
			i = len(s)
		}
		return strings.Trim(s[:i], " \t\r\n"), s[i:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:]
		case '\\':
			if i++; i == len(s) {
				return b.String(), ""
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}
