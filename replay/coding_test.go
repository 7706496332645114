package replay

import (
	"compress/gzip"
	"io"
	"testing"

	"github.com/andybalholm/brotli"
)

func brotliReader(r io.Reader) io.Reader { return brotli.NewReader(r) }

// gzipReader reads the header when it is first read from.
func gzipReader(t *testing.T, r io.Reader) io.Reader {
	t.Helper()
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// TestCodings: what is coded anew says what it said, whatever was undone.
func TestCodings(t *testing.T) {
	for _, coding := range []string{"", "gzip", "deflate", "br", "zstd", "gzip, br", "grpc:gzip", "identity"} {
		coded, err := encodeBody(coding, []byte("text"))
		if err != nil || string(DecodeBody(coding, coded)) != "text" {
			t.Errorf("%s: %q %v", coding, coded, err)
		}
	}
	if p, err := encodeBody("grpc:gzip, base64", []byte("text")); err != nil || string(p) != "dGV4dA==" {
		t.Errorf("base64: %q %v", p, err)
	}
	if _, err := encodeBody("sauce", nil); err == nil {
		t.Error("an unknown coding was made")
	}
	for _, coding := range []string{"gzip", "deflate", "br", "zstd", "sauce"} {
		if got := DecodeBody(coding, []byte("not coded at all")); string(got) != "not coded at all" {
			t.Errorf("%s: %q", coding, got)
		}
	}
}
