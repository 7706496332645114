package replay

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"trace/flow"
)

// maxDecoded bounds what the body of a played request may be decoded to.
const maxDecoded = 256 << 20

// A coder writes coded bytes; what was written before a Flush can be decoded.
type coder interface {
	io.WriteCloser
	Flush() error
}

// newCoder returns a coder of one content coding.
func newCoder(name string, w io.Writer) (coder, error) {
	switch strings.ToLower(name) {
	case "gzip", "x-gzip":
		return gzip.NewWriter(w), nil
	case "deflate":
		return zlib.NewWriter(w), nil
	case "br":
		return brotli.NewWriterLevel(w, 5), nil
	case "zstd":
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}
	return nil, fmt.Errorf("%q cannot be made here", name)
}

// codings splits what the record says was undone, in the order in which it was
// applied. What gRPC undid within its messages needs no redoing: they say of
// themselves that they are plain now.
func codings(s string) (names []string, text bool) {
	for name := range strings.SplitSeq(s, ",") {
		switch name = strings.ToLower(strings.TrimSpace(name)); {
		case name == "" || name == "identity" || strings.HasPrefix(name, "grpc:"):
		case name == "base64":
			text = true
		default:
			names = append(names, name)
		}
	}
	return names, text
}

// encodeBody applies the codings that a record took off.
func encodeBody(coding string, p []byte) ([]byte, error) {
	names, text := codings(coding)
	if text {
		p = []byte(base64.StdEncoding.EncodeToString(p))
	}
	for _, name := range names {
		var b bytes.Buffer
		c, err := newCoder(name, &b)
		if err != nil {
			return nil, err
		}
		if _, err := c.Write(p); err != nil {
			return nil, err
		}
		if err := c.Close(); err != nil {
			return nil, err
		}
		p = b.Bytes()
	}
	return p, nil
}

// DecodeBody undoes the Content-Encoding of a live request. What it cannot
// undo it returns as it is.
func DecodeBody(coding string, p []byte) []byte {
	names, _ := codings(coding)
	out := p
	for i := len(names) - 1; i >= 0; i-- {
		r, err := newDecoder(names[i], out)
		if err != nil {
			return p
		}
		plain, err := io.ReadAll(io.LimitReader(r, maxDecoded))
		if err != nil {
			return p
		}
		out = plain
	}
	return out
}

func newDecoder(name string, p []byte) (io.Reader, error) {
	r := bytes.NewReader(p)
	switch name {
	case "gzip", "x-gzip":
		return gzip.NewReader(r)
	case "deflate":
		if z, err := zlib.NewReader(r); err == nil {
			return z, nil
		}
		return flate.NewReader(bytes.NewReader(p)), nil
	case "br":
		return brotli.NewReader(r), nil
	case "zstd":
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxDecoded))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		out, err := d.DecodeAll(p, nil)
		return bytes.NewReader(out), err
	}
	return nil, fmt.Errorf("coding %q is not known", name)
}

// wireBody takes the body with its content coding out of the wire form of a
// message: off the chunks of HTTP/1, or out of the DATA frames of HTTP/2.
func wireBody(raw []byte, version string, h *flow.Head) ([]byte, bool) {
	if version == "2" {
		body, err := dataOf(raw)
		return body, err == nil
	}
	i := bytes.Index(raw, []byte("\r\n\r\n"))
	if i < 0 {
		return nil, false
	}
	body := raw[i+4:]
	transfer := strings.ToLower(strings.TrimSpace(h.Get("Transfer-Encoding")))
	switch transfer {
	case "":
		return body, true
	case "chunked":
		body, err := unchunk(body)
		return body, err == nil
	}
	return nil, false
}

var errFraming = errors.New("the wire form is not whole")

// dataOf joins the content of DATA frames (RFC 9113 section 6.1).
func dataOf(raw []byte) ([]byte, error) {
	const header, padded = 9, 0x8
	var out []byte
	for len(raw) >= header {
		n := int(raw[0])<<16 | int(raw[1])<<8 | int(raw[2])
		kind, flags := raw[3], raw[4]
		if len(raw) < header+n {
			return nil, errFraming
		}
		p := raw[header : header+n]
		raw = raw[header+n:]
		if kind != 0 {
			continue
		}
		if flags&padded != 0 {
			if len(p) == 0 || int(p[0]) >= len(p) {
				return nil, errFraming
			}
			p = p[1 : len(p)-int(p[0])]
		}
		out = append(out, p...)
	}
	if len(raw) > 0 {
		return nil, errFraming
	}
	return out, nil
}

// unchunk takes the chunked transfer coding off (RFC 9112 section 7.1).
func unchunk(p []byte) ([]byte, error) {
	var out []byte
	for {
		line, rest, ok := bytes.Cut(p, []byte("\n"))
		if !ok {
			return nil, errFraming
		}
		size, _, _ := strings.Cut(string(line), ";")
		var n uint64
		if _, err := fmt.Sscanf(strings.TrimSpace(size), "%x", &n); err != nil || n > uint64(len(rest)) {
			return nil, errFraming
		}
		if n == 0 {
			return out, nil
		}
		out = append(out, rest[:n]...)
		if _, p, ok = bytes.Cut(rest[n:], []byte("\n")); !ok {
			return nil, errFraming
		}
	}
}
