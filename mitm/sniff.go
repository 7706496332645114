package mitm

import (
	"bytes"
	"strings"
	"time"
)

// outcome is what the first bytes of a connection tell.
type outcome uint8

const (
	needMore outcome = iota
	isNone           // none of the others, or the server speaks first
	isTLS
	isHTTP1
	isHTTP2
)

// name names what is decoded, "" of what is not.
func (o outcome) name() string {
	switch o {
	case isTLS:
		return "tls"
	case isHTTP1:
		return "http"
	case isHTTP2:
		return "http2"
	}
	return ""
}

// Limits of peeking.
const (
	maxLine   = 16 << 10 // bytes of a request line
	maxMethod = 32       // bytes of a method
	maxBlank  = 8        // bytes of empty lines before a request line (RFC 9112 section 2.2)

	// patience is how long a beginning that fits something but is not yet
	// enough is waited for, from its first byte: its sender may be waiting
	// for an answer.
	patience = 200 * time.Millisecond
	// assurance is the same for a beginning that can be nothing else, from
	// its latest byte. It is no law of any protocol; it only keeps a
	// connection from standing still for ever.
	assurance = time.Second
)

// preface opens an HTTP/2 connection (RFC 9113 section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// sniffed is what sniff found.
type sniffed struct {
	is    outcome
	sure  bool         // needMore: nothing else begins so
	hello *clientHello // isTLS; nil if it cannot be read
}

// sniff decides what a connection is from what both sides have said so far.
// It is a pure function, called again with more as long as it needs more.
func sniff(client, server []byte) sniffed {
	switch {
	case beginsSettings(server) && strings.HasPrefix(preface, string(client[:min(len(client), len(preface))])):
		// A server of HTTP/2 does not wait for the preface (RFC 9113 section 3.4).
		return sniffed{is: isHTTP2}
	case len(server) > 0:
		// Nothing of the client has been forwarded, so this is no answer.
		return sniffed{is: isNone}
	case len(client) == 0:
		return sniffed{is: needMore}
	}
	if client[0] == recordHandshake {
		msg, is, known := helloMessage(client)
		s := sniffed{is: is, sure: known}
		if is == isTLS {
			s.hello, _ = parseHello(msg)
		}
		return s
	}
	if n := min(len(client), len(preface)); string(client[:n]) == preface[:n] {
		if n == len(preface) {
			return sniffed{is: isHTTP2}
		}
		return sniffed{is: needMore, sure: n > len("PRI * ")}
	}
	return requestLine(client)
}

// beginsSettings tells whether p begins with a SETTINGS frame (RFC 9113 section
// 6.5), as what a server of HTTP/2 says does. Less than its header tells nothing:
// a server writes it at once.
func beginsSettings(p []byte) bool {
	if len(p) < 9 {
		return false
	}
	length := int(p[0])<<16 | int(p[1])<<8 | int(p[2])
	return length%6 == 0 && length <= 1<<14 && string(p[3:9]) == "\x04\x00\x00\x00\x00\x00"
}

// requestLine tells whether p begins with an HTTP/1 request line (RFC 9112
// section 3).
func requestLine(p []byte) sniffed {
	line := bytes.TrimLeft(p[:min(len(p), maxBlank)], "\r\n")
	line = p[min(len(p), maxBlank)-len(line):]
	end := bytes.IndexByte(line, '\n')
	whole := end >= 0
	if whole {
		line = line[:end]
	}
	method, rest, spaced := bytes.Cut(line, []byte(" "))
	switch {
	case len(method) > maxMethod || !isToken(method) || len(line) > maxLine, spaced && len(method) == 0,
		string(p) == handshakeJDWP, isZooKeeper(p, nil):
		return sniffed{is: isNone}
	}
	if !whole {
		for _, b := range rest {
			if b < ' ' && b != '\r' || b == 0x7f {
				return sniffed{is: isNone}
			}
		}
		return sniffed{is: needMore, sure: spaced && isMethod(string(method))}
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	at := bytes.LastIndex(line, []byte(" HTTP/1."))
	if len(method) == 0 || at <= len(method) || len(line) != at+len(" HTTP/1.x") {
		return sniffed{is: isNone}
	}
	return sniffed{is: isHTTP1}
}

// isToken tells whether p consists of token characters (RFC 9110 section
// 5.6.2) only.
func isToken(p []byte) bool {
	for _, b := range p {
		switch {
		case b >= '0' && b <= '9', b|0x20 >= 'a' && b|0x20 <= 'z':
		case bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), b) >= 0:
		default:
			return false
		}
	}
	return true
}

// isMethod tells the methods with which no other protocol's line begins.
func isMethod(m string) bool {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH":
		return true
	}
	return false
}
