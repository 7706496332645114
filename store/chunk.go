package store

// Content-defined chunking after FastCDC (Xia et al., USENIX ATC 2016) with
// normalized cutting: a chunk ends where a rolling hash of the last 64 bytes
// hits a mask, so that an insertion moves only the cuts near it. Where the
// cuts fall is no part of the file format; it decides only what is found
// again.

// sizes bounds the chunks of one body.
type sizes struct {
	min, avg, max int
	hard, easy    uint64 // masks before and after avg
}

var (
	// smallChunks suit conversations that grow by a turn at a time.
	smallChunks = sizes{1 << 10, 4 << 10, 32 << 10, ones(14), ones(10)}
	// largeChunks keep the index of huge bodies small; such bodies are
	// rarely sent twice.
	largeChunks = sizes{16 << 10, 64 << 10, 128 << 10, ones(18), ones(14)}
)

// largeAfter is how much of a body is cut into small chunks.
const largeAfter = 16 << 20

// ones returns a mask of the n highest bits, those that depend on the most
// bytes.
func ones(n int) uint64 { return ^uint64(0) << (64 - n) }

// gear maps a byte to a random number, the same in every build.
var gear = func() (t [256]uint64) {
	x := uint64(0x7472616365) // splitmix64
	for i := range t {
		x += 0x9e3779b97f4a7c15
		z := x
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		t[i] = z ^ z>>31
	}
	return t
}()

// cut returns the length of the first chunk of p. The caller gives at least
// s.max bytes unless the body ends with p.
func cut(p []byte, s *sizes) int {
	n := min(len(p), s.max)
	if n <= s.min {
		return n
	}
	var h uint64
	i := s.min
	for mid := min(s.avg, n); i < mid; i++ {
		if h = h<<1 + gear[p[i]]; h&s.hard == 0 {
			return i + 1
		}
	}
	for ; i < n; i++ {
		if h = h<<1 + gear[p[i]]; h&s.easy == 0 {
			return i + 1
		}
	}
	return n
}
