// Package peers keeps the keys of a WireGuard endpoint, and of the peers that may
// join it.
//
//	book := &peers.Book{Dir: dir}
//	list, err := book.Open()            // makes the endpoint's key, once
//	peer, made, err := book.Add("phone")
//	peer, err = book.Remove("phone")
//
// # Theory of operation
//
// Everything is in one file, peers.json, so that it is whole at any moment: it
// is written beside itself and renamed. Who changes it holds a lock meanwhile,
// so that commands may run at the same time; who reads needs none. The directory
// is its owner's alone (0700) and so is the file (0600): it holds the private keys
// of the peers too, because a configuration is to be printed again when a phone
// is set up anew. What somebody else could have read or written is refused.
//
// Inside the tunnel everybody has an address of both versions of IP, out of two
// prefixes that are drawn once, at random (as RFC 4193 section 3.2.2 has it for
// IPv6), so that they hardly meet another network of the peer's. The first
// address of each is the endpoint's own. A peer that is removed frees its
// addresses.
package peers

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"trace/wg"
)

const (
	fileName = "peers.json"
	lockName = "lock"

	// maxFile bounds what is read: some thousand peers.
	maxFile = 16 << 20

	bits4, bits6 = 22, 64 // of the prefixes: room for 1021 peers
)

// ErrUnknown is wrapped by what Remove returns for a name that nobody has.
var ErrUnknown = errors.New("unknown peer")

// Book is the keys on disk.
type Book struct {
	// Dir is the directory that they are in. It is made when it is needed.
	Dir string

	// Avoid returns networks that a new endpoint's prefixes should not meet.
	// nil: none.
	Avoid func() []netip.Prefix
}

// List is the endpoint and its peers.
type List struct {
	Key   wg.Key       `json:"private_key"`
	Net4  netip.Prefix `json:"net4"`
	Net6  netip.Prefix `json:"net6"`
	Peers []Peer       `json:"peers"` // in the order in which they were made
}

// Peer is one that may join.
type Peer struct {
	Name       string     `json:"name"`
	PublicKey  wg.Key     `json:"public_key"`
	PrivateKey wg.Key     `json:"private_key"`
	Addr4      netip.Addr `json:"addr4"`
	Addr6      netip.Addr `json:"addr6"`
	Created    time.Time  `json:"created"`
}

// AllowedIPs returns the addresses that are this peer's.
func (p Peer) AllowedIPs() []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(p.Addr4, 32), netip.PrefixFrom(p.Addr6, 128)}
}

// Own returns the endpoint's addresses, IPv4 first.
func (l *List) Own() [2]netip.Addr {
	return [2]netip.Addr{l.Net4.Addr().Next(), l.Net6.Addr().Next()}
}

// Find returns the peer of a name.
func (l *List) Find(name string) (Peer, bool) {
	i := l.index(name)
	if i < 0 {
		return Peer{}, false
	}
	return l.Peers[i], true
}

func (l *List) index(name string) int {
	return slices.IndexFunc(l.Peers, func(p Peer) bool { return p.Name == name })
}

// maxName is the length of a label of the DNS.
const maxName = 63

// CheckName reports what is wrong with the name of a peer: it is to be what a
// file, a label and a shell take without quotes.
func CheckName(name string) error {
	good := name != "" && len(name) <= maxName && !strings.ContainsRune("._-@", rune(name[0]))
	for _, c := range []byte(name) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		digit := '0' <= c && c <= '9'
		good = good && (letter || digit || strings.ContainsRune("._-@", rune(c)))
	}
	if !good {
		return fmt.Errorf("peer %q: a name is 1 to %d letters, digits and . _ - @, and begins with a letter or digit", name, maxName)
	}
	return nil
}

// Read returns what is there. fs.ErrNotExist says that nothing was made yet.
func (b *Book) Read() (*List, error) {
	name := filepath.Join(b.Dir, fileName)
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("wireguard keys: %w", err)
	}
	defer f.Close()
	if err := guarded(f); err != nil {
		return nil, fmt.Errorf("wireguard keys %s: %w", name, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("wireguard keys: %w", err)
	}
	l := &List{}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(l); err != nil {
		return nil, fmt.Errorf("wireguard keys %s: %w", name, err)
	}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("wireguard keys %s: %w", name, err)
	}
	return l, nil
}

// guarded refuses keys that others may know or could have changed.
func guarded(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !fi.Mode().IsRegular():
		return errors.New("not a file")
	case ok && int(st.Uid) != os.Geteuid() && os.Geteuid() != 0:
		return fmt.Errorf("it belongs to uid %d", st.Uid)
	case fi.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("others may use it (mode %04o): make sure that nobody did, and chmod 600 it", fi.Mode().Perm())
	}
	return nil
}

// check finds what a list must not be, whoever wrote it.
func (l *List) check() error {
	if l.Key == (wg.Key{}) || !l.Net4.IsValid() || !l.Net4.Addr().Is4() || !l.Net6.IsValid() || !l.Net6.Addr().Is6() {
		return errors.New("the endpoint's key or addresses are missing")
	}
	seen := map[any]bool{}
	own := l.Own()
	for _, p := range l.Peers {
		if err := CheckName(p.Name); err != nil {
			return err
		}
		if p.PrivateKey.Public() != p.PublicKey {
			return fmt.Errorf("peer %q: its keys do not belong together", p.Name)
		}
		if !l.Net4.Contains(p.Addr4) || !l.Net6.Contains(p.Addr6) || p.Addr4 == own[0] || p.Addr6 == own[1] {
			return fmt.Errorf("peer %q: its addresses are not of this endpoint", p.Name)
		}
		for _, one := range []any{p.Name, p.PublicKey, p.Addr4, p.Addr6} {
			if seen[one] {
				return fmt.Errorf("peer %q: %v is another's too", p.Name, one)
			}
			seen[one] = true
		}
	}
	return nil
}

// Open returns what is there, and makes the endpoint's key if nothing is.
func (b *Book) Open() (*List, error) {
	l, err := b.Read()
	if !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	err = b.change(func(now *List) error {
		l = now
		return nil
	})
	return l, err
}

// Add returns the peer of a name, and whether it was made just now.
func (b *Book) Add(name string) (p Peer, made bool, err error) {
	if err := CheckName(name); err != nil {
		return Peer{}, false, err
	}
	err = b.change(func(l *List) error {
		if known, ok := l.Find(name); ok {
			p = known
			return nil
		}
		p, err = l.newPeer(name)
		made = err == nil
		return err
	})
	return p, made && err == nil, err
}

// Remove takes a peer out of the list and returns what it was.
func (b *Book) Remove(name string) (p Peer, err error) {
	if _, err := b.Read(); errors.Is(err, fs.ErrNotExist) {
		return Peer{}, fmt.Errorf("peer %q: %w", name, ErrUnknown)
	}
	err = b.change(func(l *List) error {
		i := l.index(name)
		if i < 0 {
			return fmt.Errorf("peer %q: %w", name, ErrUnknown)
		}
		p = l.Peers[i]
		l.Peers = slices.Delete(l.Peers, i, i+1)
		return nil
	})
	return p, err
}

// newPeer makes a peer with the first addresses that are free.
func (l *List) newPeer(name string) (Peer, error) {
	key, err := wg.NewKey()
	if err != nil {
		return Peer{}, fmt.Errorf("peer %q: %w", name, err)
	}
	own := l.Own()
	p := Peer{Name: name, PrivateKey: key, PublicKey: key.Public(), Created: time.Now().UTC().Truncate(time.Second), Addr4: own[0].Next(), Addr6: own[1].Next()}
	taken := func(q Peer) bool { return q.Addr4 == p.Addr4 || q.Addr6 == p.Addr6 }
	for slices.ContainsFunc(l.Peers, taken) {
		p.Addr4, p.Addr6 = p.Addr4.Next(), p.Addr6.Next()
	}
	if !l.Net4.Contains(p.Addr4.Next()) { // the last is the broadcast address
		return Peer{}, fmt.Errorf("peer %q: all %d addresses are taken: remove a peer first", name, len(l.Peers))
	}
	l.Peers = append(l.Peers, p)
	return p, nil
}

// newList makes the endpoint's key and draws its prefixes.
func (b *Book) newList() (*List, error) {
	key, err := wg.NewKey()
	if err != nil {
		return nil, fmt.Errorf("wireguard keys: %w", err)
	}
	var avoid []netip.Prefix
	if b.Avoid != nil {
		avoid = b.Avoid()
	}
	l := &List{Key: key, Peers: []Peer{}}
	for range 1000 { // a host whose routes cover all of 10/8 gets the last draw
		var r [8]byte
		rand.Read(r[:]) // never fails
		l.Net4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, r[0], r[1], 0}), bits4).Masked()
		l.Net6 = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, r[2], r[3], r[4], r[5], r[6]}), bits6)
		meets := func(p netip.Prefix) bool { return p.Bits() > 0 && (p.Overlaps(l.Net4) || p.Overlaps(l.Net6)) }
		if !slices.ContainsFunc(avoid, meets) {
			break
		}
	}
	return l, nil
}
