package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// The names under which the client reaches the origin; --connect-to leads
// them there.
const (
	webName     = "web.soak"     // 443 and 80
	rawName     = "raw.soak"     // 9
	junkName    = "junk.soak"    // 443: no TLS
	refusedName = "refused.soak" // 81: nobody listens
)

// workers is how many exchanges the client has under way.
const workers = 10

// stride lies between the ids of two workers.
const stride = 10_000_000

// What the server does with a request, besides answering it.
const (
	kindPlain    = "plain"
	kindSSE      = "sse"
	kindStall    = "stall"    // pauses in the body
	kindNever    = "never"    // does not go on; the client gives up
	kindReset    = "reset"    // breaks off with a RST, or RST_STREAM
	kindCut      = "cut"      // breaks off with a FIN
	kindGarbage  = "garbage"  // answers what is no HTTP
	kindBadChunk = "badchunk" // chunks that are none

	kindSocket  = "socket" // a WebSocket
	kindBadWS   = "badws"  // with a frame that may not be
	kindRaw     = "raw"    // echo of plain TCP, both sides half-closed
	kindRawRST  = "rawrst"
	kindJunk    = "junk" // a TLS port without TLS
	kindRefused = "refused"
	kindHoard   = "hoard" // a connection that is held; not planned
)

// patience is how long the client waits for an answer that never ends.
const patience = 300 * time.Millisecond

// A plan is one exchange.
type plan struct {
	ID       int64
	Kind     string
	H2       bool
	Clear    bool // without TLS
	Up, Down int  // bytes of bodies, or of a direction; for events and messages, how many
	Chunked  bool
	Pause    time.Duration // before the next
}

// planOf returns what worker w does as its n-th exchange.
func planOf(seed uint64, w, n int) plan {
	r := rand.New(rand.NewPCG(seed, uint64(w)<<32|uint64(n)))
	p := plan{ID: int64(w)*stride + int64(n), Pause: time.Duration(r.IntN(20)) * time.Millisecond}
	p.Up, p.Down = size(r), size(r)
	p.Chunked = r.IntN(2) == 0
	switch {
	case w < 4: // HTTP/2, on one connection
		p.H2 = true
		p.Kind = pick(r, kindPlain, 80, kindSSE, 8, kindStall, 5, kindNever, 2, kindReset, 5)
	case w < 7: // HTTP/1
		p.Clear = r.IntN(3) == 0
		p.Kind = pick(r, kindPlain, 75, kindSSE, 5, kindStall, 4, kindNever, 2, kindReset, 4, kindCut, 4, kindGarbage, 3, kindBadChunk, 3)
	case w == 7:
		p.Clear = r.IntN(2) == 0
		p.Kind = pick(r, kindSocket, 90, kindBadWS, 10)
		p.Up = 1 + r.IntN(30)
	default:
		p.Kind = pick(r, kindRaw, 75, kindRawRST, 10, kindJunk, 5, kindRefused, 10)
	}
	switch p.Kind {
	case kindPlain:
	case kindSSE:
		p.Down = 1 + r.IntN(40)
	default: // there is a middle
		p.Down += 2
	}
	return p
}

// size is mostly small, at times beyond every buffer, and rarely beyond what
// is kept of a body.
func size(r *rand.Rand) int {
	switch n := r.IntN(5000); {
	case n < 500:
		return 0
	case n < 4800:
		return r.IntN(16 << 10)
	case n < 4980:
		return r.IntN(256 << 10)
	case n < 4999:
		return r.IntN(2 << 20)
	}
	return 17<<20 + r.IntN(1<<20)
}

// pick returns one of some kinds, each followed by its weight.
func pick(r *rand.Rand, kinds ...any) string {
	sum := 0
	for i := 1; i < len(kinds); i += 2 {
		sum += kinds[i].(int)
	}
	n := r.IntN(sum)
	for i := 0; ; i += 2 {
		if n -= kinds[i+1].(int); n < 0 {
			return kinds[i].(string)
		}
	}
}

// filler is text that compresses as prose does.
var filler = func() []byte {
	words := []string{"request", "answer", "word", "prompt", "the", "of", "cache", "turn", "\n", "tool", "and", "result", "file", "line"}
	var b []byte
	for x := uint32(1); len(b) < 1<<20; {
		x = x*1664525 + 1013904223
		b = append(b, words[x>>16%uint32(len(words))]...)
		b = append(b, ' ')
	}
	return b[:1<<20]
}()

// body returns what exchange id sends in one direction: no two are alike, and
// both ends and the judge know it.
func body(id int64, dir string, n int) io.Reader {
	head := fmt.Sprintf("%s %d: ", dir, id)
	return io.LimitReader(&cycle{head: []byte(head), at: int(id*7919) % len(filler)}, int64(n))
}

// cycle reads head and then filler, again and again.
type cycle struct {
	head []byte
	at   int
}

// Read implements io.Reader.
func (c *cycle) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	n := copy(p, filler[c.at:])
	c.at = (c.at + n) % len(filler)
	return n, nil
}

// events returns the text of an event stream.
func event(id int64, i int) string {
	return fmt.Sprintf("event: delta\ndata: word %d of %d\n\n", i, id)
}

// A tally is how much passed in one direction, and its SHA-256.
type tally struct {
	Size int64
	SHA  string
	hash hash.Hash
}

// Write implements io.Writer.
func (t *tally) Write(p []byte) (int, error) {
	if t.hash == nil {
		t.hash = sha256.New()
	}
	t.hash.Write(p)
	t.Size += int64(len(p))
	return len(p), nil
}

// done fixes the hash.
func (t *tally) done() {
	if t.SHA != "" {
		return
	}
	if t.hash == nil {
		t.hash = sha256.New()
	}
	t.SHA = hex.EncodeToString(t.hash.Sum(nil))
}

// A sharedTally is one that somebody may still write to: a transport that is
// done with an exchange is not always done with its body.
type sharedTally struct {
	mu sync.Mutex
	t  tally
}

// Write implements io.Writer.
func (s *sharedTally) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.t.SHA != "" {
		return len(p), nil
	}
	return s.t.Write(p)
}

// end returns what was written so far.
func (s *sharedTally) end() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.done()
	return tally{Size: s.t.Size, SHA: s.t.SHA}
}

// tallyOf is the tally of what r yields.
func tallyOf(r io.Reader) *tally {
	t := &tally{}
	io.Copy(t, r)
	t.done()
	return t
}

// seen is what one end saw of an exchange.
type seen struct {
	ID             int64
	Kind           string
	Outcome        string `json:",omitempty"` // of the client
	Status         int    `json:",omitempty"`
	Src            string `json:",omitempty"` // the client's address, of plain TCP
	Sent, Received tally
	Messages       int       `json:",omitempty"`
	Whole          bool      `json:",omitempty"` // the server's: the request came to its end
	Start, End     time.Time // the client's
}
