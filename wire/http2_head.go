package wire

import (
	"strconv"
	"strings"
	"time"

	"trace/flow"
)

// blockKind says what a header block is.
type blockKind uint8

const (
	blockIgnored  blockKind = iota // of no stream that is followed; decoded for the table's sake
	blockRequest                   // opens a stream
	blockResponse                  // of an answer, informational or final
	blockTrailers
)

// A headerBlock is a head or a trailer section while it is received. Its
// fields are bounded like those of HTTP/1: by maxHead, each counted as in the
// tables of HPACK, and by maxFields.
type headerBlock struct {
	kind   blockKind
	at     time.Time // when the first byte of its first frame passed
	stream uint32    // whose frames carry it
	opens  uint32    // the stream that it is about: another one if it is promised
	pushed bool      // in a PUSH_PROMISE
	end    bool      // the message has no content
	size   int       // as recorded
	raw    []byte    // its frames, up to maxHead

	h       flow.Head
	status  string
	seen    pseudo
	regular bool // a field that is no pseudo-header field came
	odd     oddities
}

// pseudo is a set of pseudo-header fields (RFC 9113 section 8.3).
type pseudo uint8

const (
	pseudoMethod pseudo = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
	pseudoStatus
)

// field takes the next field. What is not as it should be is kept and told.
func (b *headerBlock) field(f flow.Field, long bool) {
	size := len(f.Name) + len(f.Value) + entryOverhead
	switch {
	case b.kind == blockIgnored:
		return
	case long || b.size+size > maxHead || len(b.h.Fields) == maxFields:
		b.odd |= oddLong
		return
	}
	b.size += size
	b.odd |= oddValue(f.Value)
	if f.Name != "" && f.Name[0] == ':' {
		if b.pseudo(f) {
			return
		}
		b.odd |= oddPseudo
	} else {
		b.regular = true
		b.odd |= oddField(f)
	}
	if b.h.Fields == nil {
		b.h.Fields = make([]flow.Field, 0, 16)
	}
	b.h.Fields = append(b.h.Fields, f)
}

// pseudo takes a pseudo-header field that may stand where it does.
func (b *headerBlock) pseudo(f flow.Field) bool {
	kind, bit, to := blockRequest, pseudo(0), (*string)(nil)
	switch f.Name {
	case ":method":
		bit, to = pseudoMethod, &b.h.Method
	case ":scheme":
		bit, to = pseudoScheme, &b.h.Scheme
	case ":authority":
		bit, to = pseudoAuthority, &b.h.Authority
	case ":path":
		bit, to = pseudoPath, &b.h.Target
	case ":protocol":
		bit, to = pseudoProtocol, &b.h.Protocol
	case ":status":
		kind, bit, to = blockResponse, pseudoStatus, &b.status
	}
	if to == nil || kind != b.kind || b.regular || b.seen&bit != 0 {
		return false
	}
	b.seen |= bit
	*to = f.Value
	return true
}

// oddValue looks at the value of a field.
func oddValue(v string) oddities {
	for i := range len(v) {
		switch v[i] {
		case 0:
			return oddNUL
		case '\r', '\n':
			return oddLine
		}
	}
	return 0
}

// oddField looks at a field that is no pseudo-header field (section 8.2).
func oddField(f flow.Field) oddities {
	for i := range len(f.Name) {
		switch c := f.Name[i]; {
		case 'A' <= c && c <= 'Z':
			return oddUpper
		case !isToken(c):
			return oddName
		}
	}
	switch f.Name {
	case "":
		return oddName
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return oddConnection
	case "te":
		if f.Value != "trailers" {
			return oddConnection
		}
	}
	return 0
}

// head returns what is handed over and may be kept: without the block.
func (b *headerBlock) head() *flow.Head {
	h := b.h
	h.Version, h.Stream = "2", int64(b.opens)
	return &h
}

// request returns the head of a request. It fails if too little of it came to
// say what is asked for.
func (b *headerBlock) request() (h *flow.Head, ok bool) {
	need := pseudoMethod | pseudoScheme | pseudoPath
	if b.h.Method == "CONNECT" && b.seen&pseudoProtocol == 0 {
		need = pseudoMethod | pseudoAuthority
		if b.seen&^need != 0 {
			b.odd |= oddPseudo
		}
	}
	if b.seen&need != need {
		b.odd |= oddMissing
	}
	if count(&b.h, "host") > 1 {
		b.odd |= oddHost
	}
	h = b.head()
	h.Path = h.Target
	if h.Target == "" {
		h.Target = h.Authority // the authority-form of CONNECT
	}
	return h, b.seen&pseudoMethod != 0
}

// response returns the head of an answer. It fails if it has no status.
func (b *headerBlock) response() (h *flow.Head, ok bool) {
	h = b.head()
	n, err := strconv.ParseUint(b.status, 10, 16)
	h.Status = int(n)
	return h, err == nil && len(b.status) == 3 && h.Status >= 100
}

// lengthOf returns the length that h says its content has, -1 if none.
func lengthOf(h *flow.Head) (int64, oddities) {
	length, lengths, valid := contentLength(h)
	switch {
	case lengths == 0:
		return -1, 0
	case !valid:
		return -1, oddLengthValue
	case lengths > 1:
		return length, oddLength
	}
	return length, 0
}

// authority fills in what a request of HTTP/2 addresses (RFC 9113 section
// 8.3.1): Scheme, Host and Port.
func (d *Decoder) authority(h *flow.Head) {
	if h.Scheme = strings.ToLower(h.Scheme); h.Scheme == "" {
		h.Scheme = d.scheme()
	}
	authority := h.Authority
	if authority == "" {
		authority = strings.Trim(h.Get("host"), " \t\r\n")
	}
	d.locate(h, authority[strings.LastIndexByte(authority, '@')+1:])
}
