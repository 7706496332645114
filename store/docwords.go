package store

// docWords are strings of which documents are full. They are part of the file
// format: their order stays, more may be added at the end.
var docWords = []string{
	"", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "http", "https", "1.1", "1.0", "2", "/", "*", "*/*",
	"OK", "Not Found", "No Content", "Created", "Found", "Not Modified", "Bad Request", "Unauthorized", "Forbidden",
	"Too Many Requests", "Internal Server Error", "Bad Gateway", "Service Unavailable", "Switching Protocols", "Connection established",
	"sse", "ndjson", "json-array", "aws-eventstream", "multipart", "grpc", "websocket",
	"gzip", "deflate", "br", "zstd", "identity", "chunked", "trailers", "close", "keep-alive", "upgrade", "Upgrade", "no-cache", "no-store", "bytes",
	"gzip, deflate", "gzip, deflate, br", "gzip, deflate, br, zstd", "gzip;q=1.0,deflate;q=0.6,identity;q=0.3",
	"application/json", "application/json; charset=utf-8", "text/event-stream", "text/event-stream; charset=utf-8", "text/plain",
	"text/plain; charset=utf-8", "text/html", "text/html; charset=utf-8", "application/octet-stream", "application/x-www-form-urlencoded",
	"application/x-ndjson", "application/grpc", "image/png", "image/jpeg", "text/css", "application/javascript", "text/javascript",
	"[REDACTED:header]", "[REDACTED:cookie]", "[REDACTED:anthropic]", "[REDACTED:openai]", "cloudflare", "nginx", "DYNAMIC", "0", "1", "true", "false",
	"Host", "host", "User-Agent", "user-agent", "Accept", "accept", "Accept-Encoding", "accept-encoding", "Accept-Language", "accept-language",
	"Content-Type", "content-type", "Content-Length", "content-length", "Content-Encoding", "content-encoding", "Transfer-Encoding",
	"transfer-encoding", "Connection", "connection", "Date", "date", "Server", "server", "Cache-Control", "cache-control", "Vary", "vary",
	"Authorization", "authorization", "X-Api-Key", "x-api-key", "Cookie", "cookie", "Set-Cookie", "set-cookie", "ETag", "etag",
	"Last-Modified", "last-modified", "Location", "location", "Origin", "origin", "Referer", "referer", "Range", "range", "Accept-Ranges",
	"accept-ranges", "Age", "age", "Expires", "expires", "Via", "via", "Upgrade-Insecure-Requests", "upgrade-insecure-requests",
	"If-None-Match", "if-none-match", "If-Modified-Since", "if-modified-since", "Access-Control-Allow-Origin", "access-control-allow-origin",
	"Access-Control-Expose-Headers", "access-control-expose-headers", "Strict-Transport-Security", "strict-transport-security",
	"X-Content-Type-Options", "x-content-type-options", "nosniff", "X-Frame-Options", "x-frame-options", "Alt-Svc", "alt-svc",
	"anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access", "anthropic-organization-id", "2023-06-01", "request-id",
	"x-app", "cli", "x-stainless-arch", "x-stainless-lang", "x-stainless-os", "x-stainless-package-version", "x-stainless-retry-count",
	"x-stainless-runtime", "x-stainless-runtime-version", "x-stainless-timeout", "X-Stainless-Arch", "X-Stainless-Lang", "X-Stainless-OS",
	"X-Stainless-Package-Version", "X-Stainless-Retry-Count", "X-Stainless-Runtime", "X-Stainless-Runtime-Version", "X-Stainless-Timeout",
	"x64", "js", "python", "Linux", "node", "openai-organization", "openai-processing-ms", "openai-version", "openai-project", "x-request-id",
	"x-goog-api-key", "x-goog-api-client", "cf-cache-status", "cf-ray", "CF-RAY", "x-ratelimit-limit-requests", "x-ratelimit-limit-tokens",
	"x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens",
	"sec-fetch-mode", "sec-fetch-site", "sec-fetch-dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-Dest", "cors", "same-origin", "cross-site",
	"sec-ch-ua", "sec-ch-ua-mobile", "sec-ch-ua-platform", "?0", "empty", "te", "TE", "grpc-status", "grpc-message", "grpc-encoding",
	"grpc-accept-encoding", "Sec-WebSocket-Key", "Sec-WebSocket-Accept", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions",
	"Sec-WebSocket-Protocol", "sec-websocket-version", "sec-websocket-extensions", "13", "permessage-deflate",
}

// docIndex is where a word stands in docWords.
var docIndex = indexWords()

// longestWord is the length of the longest of docWords.
var longestWord = func() (n int) {
	for _, w := range docWords {
		n = max(n, len(w))
	}
	return n
}()

// wordIndex is where s stands in docWords.
func wordIndex(s string) (i uint64, ok bool) {
	if len(s) > longestWord {
		return 0, false
	}
	i, ok = docIndex[s]
	return i, ok
}

func indexWords() map[string]uint64 {
	m := make(map[string]uint64, len(docWords))
	for i, w := range docWords {
		if _, twice := m[w]; !twice {
			m[w] = uint64(i)
		}
	}
	return m
}
