package wg

import (
	"crypto/ecdh"
	"encoding/binary"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.zx2c4.com/wireguard/device"
)

const (
	// tellAgain is how long the same refusal of the same sender is not told
	// again. It doubles each time, up to tellSeldom: a phone whose key was
	// revoked tries for ever.
	tellAgain  = 10 * time.Second
	tellSeldom = 10 * time.Minute

	// maxTold bounds the senders that are told apart. Beyond them a refusal
	// is counted only.
	maxTold = 256

	// maxSeen bounds the handshakes that are kept until WireGuard has judged
	// them, and readPerSecond those that are read again to learn whose they
	// are: each costs a multiplication on the curve, as WireGuard's own look.
	maxSeen       = 64
	readPerSecond = 50
)

// RefusalKind says why something was not let in.
type RefusalKind string

// The kinds of refusals.
const (
	UnknownPeer RefusalKind = "unknown_peer"       // with a key that nobody listed
	Replayed    RefusalKind = "replayed_handshake" // was there before, or is older than the last
	Foreign     RefusalKind = "foreign_handshake"  // for another server's key
	Invalid     RefusalKind = "invalid_handshake"  // broken, or not looked at closer

	// These are counted only.
	Noise   RefusalKind = "noise"   // no message of WireGuard
	Spoofed RefusalKind = "spoofed" // a peer's packet from an address that is not its own; systems look for routers with their link-local one
)

// Refusal is what was not let in.
type Refusal struct {
	Kind   RefusalKind
	Source netip.AddrPort // invalid where it is not known
	Key    Key            // of the peer, where it is known
	Count  int            // since it was told last
}

// doorman counts what WireGuard refuses. WireGuard only logs it, and seldom
// says whose it was, so the handshakes that come in are kept until it has
// judged them.
type doorman struct {
	private Key
	tell    func(Refusal)
	checker device.CookieChecker

	// mu guards what follows.
	mu       sync.Mutex
	peers    map[string]Key // who is known, by the name that WireGuard logs
	seen     [maxSeen]handshake
	next     int
	replays  map[Key]int // that WireGuard told of a peer, and that no handshake was matched with yet
	total    map[RefusalKind]uint64
	told     map[teller]*tally
	second   time.Time
	readings int // in that second
}

// handshake is an initiation that came in.
type handshake struct {
	from    netip.AddrPort
	message [device.MessageInitiationSize]byte
	ours    bool // made for our key, as far as its MAC tells
	open    bool // not judged yet
}

type teller struct {
	kind RefusalKind
	from netip.Addr
	key  Key
}

type tally struct {
	count int
	next  time.Time
	pause time.Duration
}

func (d *doorman) init(private Key, tell func(Refusal)) {
	d.private, d.tell = private, tell
	d.checker.Init(device.NoisePublicKey(private.Public()))
	d.peers, d.replays = map[string]Key{}, map[Key]int{}
	d.total, d.told = map[RefusalKind]uint64{}, map[teller]*tally{}
}

// know notes who is a peer.
func (d *doorman) know(k Key, is bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.replays, k)
	if is {
		d.peers[logged(k)] = k
	} else {
		delete(d.peers, logged(k))
	}
}

func (d *doorman) totals() map[RefusalKind]uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(map[RefusalKind]uint64, len(d.total))
	for k, n := range d.total {
		out[k] = n
	}
	return out
}

// see is shown every message before WireGuard gets it.
func (d *doorman) see(message []byte, from netip.AddrPort) {
	if len(message) != device.MessageInitiationSize || binary.LittleEndian.Uint32(message) != device.MessageInitiationType {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	h := &d.seen[d.next]
	d.next = (d.next + 1) % maxSeen
	h.from, h.ours, h.open = from, false, true
	copy(h.message[:], message)
}

// hear is told what WireGuard logs. Its texts are those of the version in
// go.mod; a test holds us to them.
func (d *doorman) hear(format string, args []any) {
	switch {
	case strings.HasPrefix(format, "Received packet with invalid mac1"):
		d.refuse(d.foreign())
	case strings.HasPrefix(format, "Received message with unknown type"):
		d.only(Noise)
	case strings.Contains(format, "handshake replay"):
		d.mu.Lock()
		d.replays[d.peer(args)]++
		d.mu.Unlock()
	case strings.HasPrefix(format, "Received invalid initiation") && len(args) > 0:
		if from, ok := args[0].(string); ok {
			d.refuse(d.judge(from))
		}
	case strings.Contains(format, "disallowed source address"):
		d.only(Spoofed)
	}
}

// only counts a refusal.
func (d *doorman) only(kind RefusalKind) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total[kind]++
}

// logged returns how WireGuard names a peer in its log.
func logged(k Key) string {
	s := k.String()
	return "peer(" + s[:4] + "…" + s[39:43] + ")"
}

// peer returns the key of the peer that a line of WireGuard's log is about.
// d.mu is held.
func (d *doorman) peer(args []any) Key {
	if len(args) > 0 {
		if p, ok := args[0].(*device.Peer); ok {
			return d.peers[p.String()]
		}
	}
	return Key{}
}

// foreign finds a handshake that was made for another key than ours: its
// first MAC (section 5.4.4 of the WireGuard paper) tells.
func (d *doorman) foreign() Refusal {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := Refusal{Kind: Foreign}
	for i := range d.seen {
		h := &d.seen[i]
		if !h.open || h.ours {
			continue
		}
		if h.ours = d.checker.CheckMAC1(h.message[:]); !h.ours {
			h.open = false
			r.Source = h.from
			break
		}
	}
	return r
}

// judge finds out why WireGuard refused a handshake that was made for our key.
func (d *doorman) judge(from string) Refusal {
	r := Refusal{Kind: Invalid}
	r.Source, _ = netip.ParseAddrPort(from)
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.seen { // the newest first: those that were let in stay open
		h := &d.seen[(d.next-1-i+2*maxSeen)%maxSeen]
		if !h.open || h.from != r.Source {
			continue
		}
		h.open = false
		if !d.mayRead() {
			return r
		}
		k, ok := d.initiator(&h.message)
		switch {
		case !ok:
		case d.peers[logged(k)] != k:
			r.Kind, r.Key = UnknownPeer, k
		case d.replays[k] > 0:
			d.replays[k]--
			r.Kind, r.Key = Replayed, k
		default:
			r.Key = k
		}
		return r
	}
	return r
}

// mayRead bounds how many handshakes are read in a second. d.mu is held.
func (d *doorman) mayRead() bool {
	if now := time.Now(); now.Sub(d.second) >= time.Second {
		d.second, d.readings = now, 0
	}
	d.readings++
	return d.readings <= readPerSecond
}

// initiator decrypts whose handshake a message is (Noise_IKpsk2, message e,
// es, s). What it says is not proved yet: that is WireGuard's business.
func (d *doorman) initiator(m *[device.MessageInitiationSize]byte) (k Key, ok bool) {
	const ephemeralAt, staticAt, staticEnd = 8, 40, 88
	ephemeral := m[ephemeralAt:staticAt]
	mix := func(h [blake2s.Size]byte, p []byte) [blake2s.Size]byte {
		return blake2s.Sum256(append(h[:], p...))
	}
	public := d.private.Public()
	hash := mix(mix(device.InitialHash, public[:]), ephemeral)
	var chain, secret [blake2s.Size]byte
	device.KDF1(&chain, device.InitialChainKey[:], ephemeral)
	private, err := ecdh.X25519().NewPrivateKey(d.private[:])
	if err != nil {
		return k, false
	}
	theirs, err := ecdh.X25519().NewPublicKey(ephemeral)
	if err != nil {
		return k, false
	}
	shared, err := private.ECDH(theirs)
	if err != nil {
		return k, false
	}
	device.KDF2(&chain, &secret, chain[:], shared)
	aead, err := chacha20poly1305.New(secret[:])
	if err != nil {
		return k, false
	}
	static, err := aead.Open(nil, device.ZeroNonce[:], m[staticAt:staticEnd], hash[:])
	if err != nil {
		return k, false
	}
	return Key(static), true
}

// refuse counts a refusal and tells of it, if that was not just done.
func (d *doorman) refuse(r Refusal) {
	if r.Count = d.count(r); r.Count > 0 && d.tell != nil {
		d.tell(r)
	}
}

// count returns how many refusals are to be told; 0: not now.
func (d *doorman) count(r Refusal) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total[r.Kind]++
	now := time.Now()
	who := teller{r.Kind, r.Source.Addr(), r.Key}
	t := d.told[who]
	if t == nil {
		if len(d.told) >= maxTold {
			for w, t := range d.told {
				if now.After(t.next.Add(tellSeldom)) {
					delete(d.told, w)
				}
			}
		}
		if len(d.told) >= maxTold {
			return 0
		}
		t = &tally{}
		d.told[who] = t
	}
	t.count++
	if now.Before(t.next) {
		return 0
	}
	n := t.count
	t.pause = min(max(2*t.pause, tellAgain), tellSeldom)
	t.count, t.next = 0, now.Add(t.pause)
	return n
}
