package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// answer is a response whose head is text and whose body is made by f.
func answer(head string, f func(w io.Writer)) func(io.Writer) {
	return func(w io.Writer) {
		io.WriteString(w, strings.ReplaceAll(head, "\n", "\r\n"))
		if f != nil {
			f(w)
		}
	}
}

func text(s string) func(io.Writer) {
	return func(w io.Writer) { io.WriteString(w, s) }
}

// repeat writes p until n bytes went.
func repeat(p string, n int) func(io.Writer) {
	return func(w io.Writer) {
		piece := strings.Repeat(p, 1+(1<<16)/len(p))
		for n := n; n > 0; n -= len(piece) {
			if _, err := io.WriteString(w, piece[:min(n, len(piece))]); err != nil {
				return
			}
		}
	}
}

// zeros compresses n zeros, once.
func zeros(n int64, coder func(io.Writer) io.WriteCloser) func() []byte {
	return sync.OnceValue(func() []byte {
		var b bytes.Buffer
		z := coder(&b)
		buf := make([]byte, 1<<20)
		for ; n > 0; n -= int64(len(buf)) {
			z.Write(buf)
		}
		z.Close()
		return b.Bytes()
	})
}

var (
	gzipZeros = zeros(16<<20, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	brZeros   = zeros(80<<20, func(w io.Writer) io.WriteCloser { return brotli.NewWriterLevel(w, 1) })
	zstdZeros = zeros(16<<20, func(w io.Writer) io.WriteCloser {
		z, _ := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		return z
	})
)

// times writes p n times: members of gzip and frames of zstd may follow each
// other.
func times(p func() []byte, n int) func(io.Writer) {
	return func(w io.Writer) {
		for range n {
			w.Write(p())
		}
	}
}

func hostileHTTP1() []hostile {
	const ok = "HTTP/1.1 200 OK\n"
	obs := "X-Obs: caf\xe9 \xff\xfe\nX-Nul: a\x00b\nX-Ctl: \x01\x1b[31m\n"
	return []hostile{
		{"gzip bomb", nil, answer(ok+"Content-Encoding: gzip\nConnection: close\n\n", times(gzipZeros, 256)), []string{"limit"}},
		{"br bomb", nil, answer(ok+"Content-Encoding: br\nConnection: close\n\n", times(brZeros, 1)), []string{"limit"}},
		{"zstd bomb", nil, answer(ok+"Content-Encoding: zstd\nConnection: close\n\n", times(zstdZeros, 256)), []string{"limit"}},
		{"gzip bomb as event stream", nil, answer(ok+"Content-Type: text/event-stream\nContent-Encoding: gzip\nConnection: close\n\n", times(gzipZeros, 256)), []string{"limit"}},
		{"four gibibyte chunk", nil, answer(ok+"Transfer-Encoding: chunked\n\nFFFFFFFF\n", repeat("x", 100000)), []string{"truncated"}},
		{"chunk size overflow", nil, answer(ok+"Transfer-Encoding: chunked\n\nFFFFFFFFFFFFFFFFFFFF\n", repeat("x", 1000)), []string{"malformed", "limit"}},
		{"endless chunk extension", nil, answer(ok+"Transfer-Encoding: chunked\n\n5;", repeat("a=b;", 20<<20)), []string{"limit", "malformed"}},
		{"CL and TE", nil, answer(ok+"Content-Length: 5\nTransfer-Encoding: chunked\n\n3\nabc\n0\n\n", nil), []string{"malformed"}},
		{"two lengths", nil, answer(ok+"Content-Length: 5\nContent-Length: 6\n\nabcdef", nil), []string{"malformed"}},
		{"odd length", nil, answer(ok+"Content-Length: +5\n\nabcdef", nil), []string{"malformed"}},
		{"smuggled request", text("POST /hostile HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5c\r\nGET /smuggled HTTP/1.1\r\nX: " + strings.Repeat("a", 66) + "\r\n0\r\n\r\n"),
			answer(ok+"Content-Length: 2\n\nok", nil), []string{"malformed"}},
		{"NULs and obs-text", text("GET /hostile HTTP/1.1\r\nHost: " + host + "\r\nX-Obs: \xe9\x00\x7f\r\n\r\n"), answer(ok+obs+"Content-Length: 2\n\nok", nil), nil},
		{"bare line feeds", nil, text("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"), nil},
		{"head of ten megabytes", nil, answer(ok, repeat("X-Filler: "+strings.Repeat("y", 1000)+"\r\n", 10<<20)), []string{"limit"}},
		{"endless header name", nil, answer(ok, repeat("x", 20<<20)), []string{"limit"}},
		{"endless head of 1xx", nil, repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 1<<20), []string{"truncated", "limit"}},
		{"endless event", nil, answer(ok+"Content-Type: text/event-stream\nConnection: close\n\ndata: ", repeat("river ", 40<<20)), []string{"limit"}},
		{"events without number", nil, answer(ok+"Content-Type: text/event-stream\nConnection: close\n\n", repeat("data:x\n\n", 1<<20)), nil},
		{"deep JSON", nil, answer(ok+"Content-Type: application/json\nConnection: close\n\n", repeat("[", 10<<20)), nil},
		{"endless multipart", nil, answer(ok+"Content-Type: multipart/mixed; boundary=x\nConnection: close\n\n--x\n", repeat("a", 30<<20)), nil},
		{"answer without question", nil, answer(ok+"Content-Length: 2\n\nok"+ok+"Content-Length: 2\n\nok", nil), nil},
		{"half a head", nil, text("HTTP/1.1 200 OK\r\nContent-Le"), []string{"truncated"}},
		{"pipelined without end", text(strings.Repeat("GET /hostile HTTP/1.1\r\nHost: "+host+"\r\n\r\n", 11000)), text("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), []string{"limit", "truncated"}},
	}
}

// frames returns what f writes with a framer.
func frames(f func(fr *http2.Framer)) func(io.Writer) {
	return func(w io.Writer) {
		fr := http2.NewFramer(w, nil)
		fr.AllowIllegalWrites = true
		f(fr)
	}
}

// opening is a client's preface and one request on stream 1.
func opening(more func(fr *http2.Framer)) func(io.Writer) {
	return func(w io.Writer) {
		io.WriteString(w, http2.ClientPreface)
		frames(func(fr *http2.Framer) {
			fr.WriteSettings()
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: block(":method", "GET", ":scheme", "http", ":path", "/hostile", ":authority", host)})
			if more != nil {
				more(fr)
			}
		})(w)
	}
}

func block(pairs ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(pairs); i += 2 {
		e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return b.Bytes()
}

// bomb is a header block that names one field of 4000 bytes again and again.
func bomb(first []byte, n int) []byte {
	return append(append(first, block("x-bomb", strings.Repeat("b", 3900))...), bytes.Repeat([]byte{0x80 | 62}, n)...)
}

// spread writes a block as HEADERS and CONTINUATION.
func spread(fr *http2.Framer, id uint32, p []byte) {
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p[:min(len(p), 16000)], EndHeaders: len(p) <= 16000})
	for p = p[min(len(p), 16000):]; len(p) > 0; p = p[min(len(p), 16000):] {
		fr.WriteContinuation(id, len(p) <= 16000, p[:min(len(p), 16000)])
	}
}

func hostileHTTP2() []hostile {
	ok := block(":status", "200")
	get := func(id uint32, fr *http2.Framer) {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: block(":method", "GET", ":scheme", "http", ":path", "/hostile", ":authority", host)})
	}
	return []hostile{
		{"HPACK bomb", opening(nil), frames(func(fr *http2.Framer) {
			fr.WriteSettings()
			spread(fr, 1, bomb(ok, 1<<20))
		}), []string{"limit"}},
		{"HPACK bomb of the client", func(w io.Writer) {
			io.WriteString(w, http2.ClientPreface)
			frames(func(fr *http2.Framer) {
				fr.WriteSettings()
				spread(fr, 1, bomb(block(":method", "GET", ":scheme", "http", ":path", "/hostile"), 1<<20))
			})(w)
		}, frames(func(fr *http2.Framer) { fr.WriteSettings() }), []string{"limit"}},
		{"CONTINUATION flood", opening(nil), frames(func(fr *http2.Framer) {
			fr.WriteSettings()
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: ok})
			for range 4000 {
				fr.WriteContinuation(1, false, bytes.Repeat([]byte{0x88}, 8000))
			}
		}), []string{"limit"}},
		{"empty CONTINUATION flood", opening(nil), frames(func(fr *http2.Framer) {
			fr.WriteSettings()
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: ok})
			for range 200000 {
				fr.WriteContinuation(1, false, nil)
			}
		}), nil},
		{"rapid reset", opening(func(fr *http2.Framer) {
			for id := uint32(3); id < 8000; id += 2 {
				get(id, fr)
				fr.WriteRSTStream(id, http2.ErrCodeCancel)
			}
		}), frames(func(fr *http2.Framer) { fr.WriteSettings() }), []string{"reset"}},
		{"streams without end", opening(func(fr *http2.Framer) {
			for id := uint32(3); id < 22000; id += 2 {
				get(id, fr)
			}
		}), frames(func(fr *http2.Framer) { fr.WriteSettings() }), nil},
		{"SETTINGS and PING flood", opening(nil), frames(func(fr *http2.Framer) {
			for i := range 200000 {
				fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(i)})
				fr.WritePing(false, [8]byte{})
			}
		}), nil},
		{"frame larger than said", opening(nil), frames(func(fr *http2.Framer) {
			fr.WriteSettings()
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: ok})
			fr.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 8<<20))
		}), nil},
		{"half a frame", opening(nil), func(w io.Writer) {
			frames(func(fr *http2.Framer) {
				fr.WriteSettings()
				fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: ok})
			})(w)
			w.Write([]byte{0, 0x40, 0, 0, 0, 0, 0, 0, 1, 'h', 'a', 'l', 'f'})
		}, []string{"truncated"}},
		{"table index beyond", opening(nil), frames(func(fr *http2.Framer) {
			fr.WriteSettings()
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0x7f}})
		}), []string{"malformed"}},
		{"gzip bomb in HTTP/2", opening(nil), frames(func(fr *http2.Framer) {
			fr.WriteSettings()
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: block(":status", "200", "content-encoding", "gzip")})
			for range 256 {
				for p := gzipZeros(); len(p) > 0; p = p[min(len(p), 16000):] {
					fr.WriteData(1, false, p[:min(len(p), 16000)])
				}
			}
			fr.WriteData(1, true, nil)
		}), []string{"limit"}},
		{"gRPC message of four gibibytes", opening(nil), frames(func(fr *http2.Framer) {
			fr.WriteSettings()
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: block(":status", "200", "content-type", "application/grpc")})
			fr.WriteData(1, false, append([]byte{0, 0xff, 0xff, 0xff, 0xff}, make([]byte, 10000)...))
			for range 2000 {
				fr.WriteData(1, false, make([]byte, 16000))
			}
		}), []string{"truncated", "limit"}},
	}
}

// upgraded is the request of a WebSocket, and what follows it.
func upgraded(extensions string) func(io.Writer) {
	return text("GET /hostile HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + extensions + "\r\n")
}

func hostileWebSocket() []hostile {
	const deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
	const switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	frame := func(first byte, data []byte) []byte {
		return append(binary.BigEndian.AppendUint64([]byte{first, 127}, uint64(len(data))), data...)
	}
	bombed := zeros(64<<20, func(w io.Writer) io.WriteCloser {
		z, _ := flate.NewWriter(w, 1)
		return z
	})
	return []hostile{
		{"WebSocket of 2^63 bytes", upgraded(""), func(w io.Writer) {
			io.WriteString(w, switched+"\r\n\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff")
			repeat("z", 40<<20)(w)
		}, []string{"truncated", "limit"}},
		{"WebSocket bomb", upgraded(deflate), func(w io.Writer) {
			io.WriteString(w, switched+deflate+"\r\n")
			w.Write(frame(0xc2, bombed()))
			w.Write([]byte{0x88, 0})
		}, nil},
		{"fragments without end", upgraded(""), func(w io.Writer) {
			io.WriteString(w, switched+"\r\n\x01\x01a")
			repeat("\x00\x01a", 3<<20)(w)
		}, []string{"truncated", "limit"}},
		{"empty fragments without end", upgraded(""), func(w io.Writer) {
			io.WriteString(w, switched+"\r\n\x01\x00")
			repeat("\x00\x00", 2<<20)(w)
		}, []string{"truncated", "limit"}},
		{"pings without end", upgraded(""), func(w io.Writer) {
			io.WriteString(w, switched+"\r\n")
			repeat("\x89\x00", 1<<18)(w)
		}, nil},
		{"broken deflate", upgraded(deflate), func(w io.Writer) {
			io.WriteString(w, switched+deflate+"\r\n")
			w.Write(frame(0xc1, bytes.Repeat([]byte{0xff}, 1000)))
		}, []string{"malformed", "truncated"}},
		{"half a WebSocket frame", upgraded(""), text(switched + "\r\n\x81\x7e\x00"), []string{"truncated"}},
	}
}
