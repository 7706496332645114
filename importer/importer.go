// Package importer reads files of other tools as flow events.
//
//	n, err := importer.Read(file, "", store.Append, func(b importer.Bad) { … })
//
// It knows HTTP Archives (HAR 1.2, as browsers, proxies and trace itself write
// them), flow files of mitmproxy 9 to 13 (versions 18 to 21), and the event log
// that trace writes as JSON lines. What comes out are the events that the road
// would have made of the same exchanges, in the order of the file, so that
// whoever takes them redacts and keeps them as ever.
//
// # Theory of operation
//
// A file is read one entry at a time, each of which becomes a record: what is
// known of an exchange, its bodies and its pieces (record.go). A record that
// cannot be made is told and skipped; only a file whose own structure breaks
// ends the reading, and what stood before is kept. Bodies are cut into events by
// the decoder that cuts those of the road (cut.go): each gets the time that the
// file has for it, else the answer's.
//
// Times are those of the file. What a format does not have stays unknown: the
// hash of a body on the wire, where the file has the body decoded and does not
// tell; the connection, if it says nothing of it.
package importer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"trace/flow"
)

// The formats.
const (
	FormatHAR       = "har"
	FormatMitmproxy = "mitmproxy"
	FormatJSONL     = "jsonl"
)

// ErrFormat is returned for a file of none of the formats. Nothing was read
// of it.
var ErrFormat = errors.New("is no HAR, no flow file of mitmproxy and no event log of trace")

// Bad is an entry that could not be read.
type Bad struct {
	Where string // "entry 3", "line 17"
	Err   error
}

// Read reads a file in one of the formats, in that which it seems to have for
// "", and hands its flows to emit. It returns how many there were, also with an
// error, which tells that the rest of the file could not be read.
func Read(r io.Reader, format string, emit func(flow.Event), bad func(Bad)) (int, error) {
	b := bufio.NewReaderSize(r, 1<<20)
	mark, err := b.Peek(3)
	if err != nil && err != io.EOF {
		return 0, err
	}
	if bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		b.Discard(3)
	}
	if format == "" {
		if format, err = detect(b); err != nil {
			return 0, err
		}
	}
	s := &sink{emit: emit, bad: bad, conns: map[string]*conn{}, taken: map[int64]bool{}}
	switch format {
	case FormatHAR:
		err = readHAR(b, s)
	case FormatMitmproxy:
		err = readMitmproxy(b, s)
	case FormatJSONL:
		err = readJSONL(b, s)
	default:
		return 0, fmt.Errorf("format %q: %w", format, errors.ErrUnsupported)
	}
	s.close()
	return s.flows, err
}

// detect looks at the beginning of a file.
func detect(b *bufio.Reader) (string, error) {
	head, err := b.Peek(1 << 20)
	if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
		return "", err
	}
	head = bytes.TrimLeft(head, " \t\r\n")
	switch {
	case len(head) == 0:
		return "", errors.New("is empty")
	case head[0] >= '0' && head[0] <= '9':
		if n := bytes.IndexByte(head, ':'); n > 0 && n < 13 {
			return FormatMitmproxy, nil
		}
	case head[0] == '{':
		line, _, _ := bytes.Cut(head, []byte("\n"))
		var first struct {
			Type *string
			TS   *string
		}
		if json.Unmarshal(line, &first) == nil && first.Type != nil && first.TS != nil {
			return FormatJSONL, nil
		}
		if bytes.Contains(head, []byte(`"log"`)) {
			return FormatHAR, nil
		}
	}
	return "", ErrFormat
}
