package importer

import (
	"bytes"
	"io"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// maxDecoded bounds what a compressed body may become; one that would be larger
// stays as it is.
const maxDecoded = 512 << 20

// decode undoes content codings, the last one applied first. It reports false,
// and the body stays as it is, where that does not work.
func decode(codings string, p []byte) ([]byte, bool) {
	list := strings.Split(codings, ",")
	for i := len(list) - 1; i >= 0; i-- {
		coding := strings.TrimSpace(list[i])
		if coding == "" || coding == "identity" {
			continue
		}
		var ok bool
		if p, ok = decodeOne(coding, p); !ok {
			return nil, false
		}
	}
	return p, true
}

func decodeOne(coding string, p []byte) ([]byte, bool) {
	var r io.Reader
	var err error
	switch coding {
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(bytes.NewReader(p))
	case "deflate":
		if r, err = zlib.NewReader(bytes.NewReader(p)); err != nil {
			r, err = flate.NewReader(bytes.NewReader(p)), nil // as some servers send it
		}
	case "br":
		r = brotli.NewReader(bytes.NewReader(p))
	case "zstd":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(bytes.NewReader(p), zstd.WithDecoderConcurrency(1)); err == nil {
			defer z.Close()
			r = z
		}
	default:
		return nil, false
	}
	if err != nil {
		return nil, false
	}
	out, err := io.ReadAll(io.LimitReader(r, maxDecoded+1))
	return out, err == nil && len(out) <= maxDecoded
}
