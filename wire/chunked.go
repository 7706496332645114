package wire

import (
	"bytes"
	"time"

	"trace/flow"
)

// The chunked transfer coding (RFC 9112 section 7.1).

// chunkSize waits for the line before a chunk.
func (in *direction) chunkSize(at time.Time, p []byte) int {
	line, n := p, bytes.IndexByte(p, '\n')+1
	if n > 0 && len(in.rest) == 0 {
		line = p[:n]
	} else {
		if len(in.rest) == 0 {
			in.since = at
		}
		if n == 0 {
			n = len(p)
		}
		n = min(n, maxChunkLine+1-len(in.rest))
		in.rest = append(in.rest, p[:n]...)
		line = in.rest
	}
	if len(line) > maxChunkLine {
		in.hold(at, line)
		in.fail(at, flow.CodeLimit, "the line before a chunk is too long")
		return n
	}
	if line[len(line)-1] != '\n' {
		return n
	}
	in.rawBody(at, line)
	size, ok := parseChunkSize(string(line))
	if !ok {
		in.hold(at, line)
		in.fail(at, flow.CodeMalformed, "the size of a chunk is not a number, or too large")
		return n
	}
	in.rest, in.left = in.rest[:0], size
	in.state = (*direction).chunkContent
	if size == 0 {
		in.state = (*direction).trailerSection
	}
	return n
}

func (in *direction) chunkContent(at time.Time, p []byte) int {
	n := in.passContent(at, p)
	if in.left == 0 {
		in.state = (*direction).chunkEnd
	}
	return n
}

// chunkEnd waits for the line end after a chunk.
func (in *direction) chunkEnd(at time.Time, p []byte) int {
	switch {
	case p[0] == '\n':
		in.rawBody(at, in.rest)
		in.rawBody(at, p[:1])
		in.rest = in.rest[:0]
		in.state = (*direction).chunkSize
	case p[0] == '\r' && len(in.rest) == 0:
		in.hold(at, p[:1])
	default:
		in.fail(at, flow.CodeMalformed, "a chunk is longer than its size says")
		return 0
	}
	return 1
}

// trailerSection waits for the trailers and the line that ends the message.
func (in *direction) trailerSection(at time.Time, p []byte) int {
	block, n, o := in.collect(at, p, true)
	switch o {
	case full:
		in.fail(at, flow.CodeLimit, "the trailers are too long")
	case done:
		trailers, odd := parseFields(string(block))
		x := in.msg
		in.d.raw(x, in.side, at, block)
		odd.each(func(code, text string) { x.mark(in.side, at, where(in.side), code, text) })
		if len(trailers) == 0 {
			trailers = nil
		}
		in.endMessage(at, trailers)
	}
	return n
}
