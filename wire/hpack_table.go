package wire

import "trace/flow"

// maxTable bounds the dynamic table that is kept. Of a larger one only the
// newest entries are, which is all that most encoders refer to.
const maxTable = 1 << 20

// entryOverhead is what an entry counts beyond its bytes (RFC 7541 section 4.1).
const entryOverhead = 32

// An hpackTable holds the fields that a header block may refer to by number:
// the static table, then the dynamic one (RFC 7541 section 2.3). Of the latter
// it always holds the newest entries that fit both limits, so that an entry
// that is missing does not change the number of another.
type hpackTable struct {
	entries []flow.Field // oldest first
	size    uint64       // as section 4.1 counts
	max     uint64       // as the encoder set it
}

// get returns entry i, counted from 1.
func (t *hpackTable) get(i uint64) (flow.Field, error) {
	const static = uint64(len(staticTable))
	switch n := uint64(len(t.entries)); {
	case i == 0:
		return flow.Field{}, errIndex
	case i <= static:
		return staticTable[i-1], nil
	case i-static <= n:
		return t.entries[n-(i-static)], nil
	case t.max > maxTable:
		return flow.Field{}, errTableShort
	}
	return flow.Field{}, errIndex
}

// add adds f as the newest entry. One larger than the table empties it
// (section 4.4). long says that f was too long to be kept.
func (t *hpackTable) add(f flow.Field, long bool) {
	size, room := entrySize(f), min(t.max, maxTable)
	if long || size > room {
		t.evict(0)
		return
	}
	t.evict(room - size)
	t.entries = append(t.entries, f)
	t.size += size
}

// resize sets how large the table may grow.
func (t *hpackTable) resize(size uint64) {
	t.max = size
	t.evict(min(size, maxTable))
}

// evict drops the oldest entries until the rest is no larger than size.
func (t *hpackTable) evict(size uint64) {
	i := 0
	for ; t.size > size; i++ {
		t.size -= entrySize(t.entries[i])
		t.entries[i] = flow.Field{}
	}
	if t.entries = t.entries[i:]; len(t.entries) == 0 {
		t.entries = nil
	}
}

func entrySize(f flow.Field) uint64 {
	return uint64(len(f.Name)) + uint64(len(f.Value)) + entryOverhead
}

// staticTable is that of RFC 7541 appendix A.
var staticTable = [...]flow.Field{
	{Name: ":authority"},
	{Name: ":method", Value: "GET"},
	{Name: ":method", Value: "POST"},
	{Name: ":path", Value: "/"},
	{Name: ":path", Value: "/index.html"},
	{Name: ":scheme", Value: "http"},
	{Name: ":scheme", Value: "https"},
	{Name: ":status", Value: "200"},
	{Name: ":status", Value: "204"},
	{Name: ":status", Value: "206"},
	{Name: ":status", Value: "304"},
	{Name: ":status", Value: "400"},
	{Name: ":status", Value: "404"},
	{Name: ":status", Value: "500"},
	{Name: "accept-charset"},
	{Name: "accept-encoding", Value: "gzip, deflate"},
	{Name: "accept-language"},
	{Name: "accept-ranges"},
	{Name: "accept"},
	{Name: "access-control-allow-origin"},
	{Name: "age"},
	{Name: "allow"},
	{Name: "authorization"},
	{Name: "cache-control"},
	{Name: "content-disposition"},
	{Name: "content-encoding"},
	{Name: "content-language"},
	{Name: "content-length"},
	{Name: "content-location"},
	{Name: "content-range"},
	{Name: "content-type"},
	{Name: "cookie"},
	{Name: "date"},
	{Name: "etag"},
	{Name: "expect"},
	{Name: "expires"},
	{Name: "from"},
	{Name: "host"},
	{Name: "if-match"},
	{Name: "if-modified-since"},
	{Name: "if-none-match"},
	{Name: "if-range"},
	{Name: "if-unmodified-since"},
	{Name: "last-modified"},
	{Name: "link"},
	{Name: "location"},
	{Name: "max-forwards"},
	{Name: "proxy-authenticate"},
	{Name: "proxy-authorization"},
	{Name: "range"},
	{Name: "referer"},
	{Name: "refresh"},
	{Name: "retry-after"},
	{Name: "server"},
	{Name: "set-cookie"},
	{Name: "strict-transport-security"},
	{Name: "transfer-encoding"},
	{Name: "user-agent"},
	{Name: "vary"},
	{Name: "via"},
	{Name: "www-authenticate"},
}
