package mitm

import (
	"sync"
	"sync/atomic"

	"trace/flow"
)

// maxBefore is how much a client may say before TLS begins within another
// protocol.
const maxBefore = 8 << 10

// A watch reads along on a connection that is carried as it is, and records
// what is said in the clear: the name of the protocol, where the first bytes
// of one side did not tell it, and the TLS handshake, also one that begins
// within another protocol (STARTTLS and the like). Of a decrypted connection
// it only names what TLS carries. It holds no byte up, and is over as soon as there
// is nothing more to learn.
type watch struct {
	c     *conn
	inner bool // decrypted
	over  atomic.Bool

	mu    sync.Mutex // guards what follows
	name  string     // of the protocol
	first [2][]byte  // while it has none
	size  [2]int     // bytes that passed before TLS began
	tls   *clearTLS  // once it has begun
}

// newWatch returns a watch for a connection as it is known now; nil if there
// is nothing to be learnt.
func (c *conn) newWatch() *watch {
	w := &watch{c: c, name: c.snapshot().Protocol}
	switch {
	case w.name == "tls":
		w.tls = &clearTLS{c: c, hello: c.hello}
	case w.name != "" && !upgrades(w.name):
		return nil
	}
	return w
}

// data takes what a side sent, before it is passed on.
func (w *watch) data(side flow.Side, p []byte) {
	if w == nil || w.over.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tls == nil && side == flow.Client && upgrades(w.name) {
		if at := beginsTLS(w.name, p); at >= 0 {
			w.tls, p = &clearTLS{c: w.c}, p[at:]
		}
	}
	var more bool
	switch {
	case w.tls != nil:
		more = w.tls.data(side, p)
	case w.name != "":
		w.size[side] += len(p)
		more = w.size[flow.Client] <= maxBefore
	default:
		w.size[side] += len(p)
		more = w.naming(side, p)
	}
	w.over.Store(!more)
}

// naming looks for a name, and tells whether there is more to learn.
func (w *watch) naming(side flow.Side, p []byte) (more bool) {
	w.first[side] = append(w.first[side], p[:min(len(p), maxFirst-len(w.first[side]))]...)
	w.name = label(w.first[flow.Client], w.first[flow.Server])
	if w.inner && w.name == "" {
		w.name = sniff(w.first[flow.Client], nil).is.name()
	}
	if w.name != "" {
		w.first = [2][]byte{}
		w.c.learn(func(f *flow.Conn) { f.Protocol = w.name })
		return upgrades(w.name) && !w.inner
	}
	return min(len(w.first[flow.Client]), len(w.first[flow.Server])) < maxFirst &&
		max(w.size[flow.Client], w.size[flow.Server]) <= maxBefore
}

// finish is called once both directions are over.
func (w *watch) finish() {
	if w != nil && w.tls != nil {
		w.tls.finish()
	}
}

// mysqlTLS is the size of the packet after which a MySQL client begins TLS
// without waiting for an answer.
const mysqlTLS = 4 + 32

// beginsTLS returns where in p, what a client sent at once, a ClientHello
// begins, -1 if none does: whoever asked for TLS waits for the answer.
func beginsTLS(protocol string, p []byte) int {
	at := 0
	if protocol == "mysql" && len(p) > mysqlTLS && p[0] == mysqlTLS-4 && p[1] == 0 && p[2] == 0 {
		at = mysqlTLS
	}
	if q := p[at:]; len(q) > recordHeader && q[0] == recordHandshake && q[1] == 3 && q[2] <= 4 && q[recordHeader] == messageClientHello {
		return at
	}
	return -1
}

// learn takes in what was found out while the connection is carried, and records it.
func (c *conn) learn(f func(*flow.Conn)) {
	c.change(f)
	c.record(flow.ConnUpdate)
}
