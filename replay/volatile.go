package replay

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"trace/flow"
)

// What changes from one run of a program to the next, and so says nothing about
// whether two requests are the same. docs/cli.md lists it.

// volatileFields are header fields of requests that a template marks.
var volatileFields = map[string]bool{
	"date": true, "content-length": true, "traceparent": true, "tracestate": true, "baggage": true, "sentry-trace": true,
	"x-request-id": true, "request-id": true, "x-client-request-id": true, "x-correlation-id": true, "x-amzn-trace-id": true, "x-amz-date": true,
	"idempotency-key": true, "x-stainless-retry-count": true, "x-stainless-timeout": true, "session_id": true, "x-session-id": true,
	"x-claude-code-session-id": true, "if-none-match": true, "if-modified-since": true, "cookie": true, "sec-websocket-key": true,
	"amz-sdk-invocation-id": true, "x-b3-traceid": true, "x-b3-spanid": true,
}

// volatileMembers are JSON members, at any depth, in lower case without - and _.
var volatileMembers = map[string]bool{
	"userid": true, "user": true, "safetyidentifier": true, "promptcachekey": true, "cachecontrol": true, "sessionid": true, "conversationid": true,
	"requestid": true, "clientrequestid": true, "messageid": true, "traceid": true, "spanid": true, "correlationid": true, "idempotencykey": true,
	"timestamp": true, "timestamps": true, "ts": true, "date": true, "time": true, "datetime": true, "created": true, "createdat": true, "updatedat": true,
	"sentat": true, "clienttimestamp": true, "eventtime": true, "nonce": true, "uuid": true, "eventid": true, "deviceid": true, "userpromptid": true,
}

// volatileParams are parameters of a query.
var volatileParams = map[string]bool{
	"_": true, "t": true, "ts": true, "timestamp": true, "time": true, "nonce": true, "cb": true, "cachebust": true, "cachebuster": true, "rand": true, "random": true,
	"key": true, "api_key": true, "access_token": true, "token": true, "sig": true, "signature": true, "session_id": true, "request_id": true,
	"x-amz-date": true, "x-amz-signature": true, "x-amz-credential": true, "x-amz-security-token": true, "x-goog-signature": true, "x-goog-date": true,
}

// maxVolatile is longer than the names of volatileMembers, however they are
// spelled.
const maxVolatile = 32

// isVolatileMember reports whether a JSON member says nothing.
func isVolatileMember(name string) bool {
	if len(name) > maxVolatile {
		return false
	}
	var plain [maxVolatile]byte
	n := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '-' || c == '_':
		case c >= 'A' && c <= 'Z':
			plain[n] = c + 'a' - 'A'
			n++
		default:
			plain[n] = c
			n++
		}
	}
	return volatileMembers[string(plain[:n])]
}

// VolatileFields returns the header fields of a request that change from run to
// run, by their names as they stand there.
func VolatileFields(h *flow.Head) []string {
	names := []string{}
	for _, f := range h.Fields {
		if (volatileFields[strings.ToLower(f.Name)] || isRedacted(f.Value) || hasID(f.Value)) && !slices.Contains(names, f.Name) {
			names = append(names, f.Name)
		}
	}
	return names
}

// maxMarked bounds the list of VolatileBody.
const maxMarked = 200

// VolatileBody returns the paths in a JSON body that change from run to run.
func VolatileBody(body []byte) []string {
	paths := []string{}
	var v any
	if json.Unmarshal(body, &v) != nil {
		return paths
	}
	markVolatile(v, "", &paths)
	return paths
}

func markVolatile(v any, path string, paths *[]string) {
	if len(*paths) >= maxMarked {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range sortedKeys(v) {
			at := JoinPath(path, name)
			if isVolatileMember(name) {
				*paths = append(*paths, at)
				continue
			}
			markVolatile(v[name], at, paths)
		}
	case []any:
		for i, e := range v {
			markVolatile(e, path+"["+strconv.Itoa(i)+"]", paths)
		}
	case string:
		if isRedacted(v) || steady(v) != v {
			*paths = append(*paths, path)
		}
	}
}

// JoinPath adds a member's name to a path, as SetJSON reads it.
func JoinPath(path, name string) string {
	if name == "" || strings.ContainsAny(name, ".[]\"= ") {
		return path + "[" + strconv.Quote(name) + "]"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}
