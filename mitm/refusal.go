package mitm

import (
	"crypto/sha256"
	"sync"
	"time"
)

// Rules of passing connections through after the child refused our leaf.
const (
	passFor     = 60 * time.Second // undecrypted, then it is tried again
	maybeEnough = 2                // uncertain refusals in a row that count as one
	maxRefusals = 4096             // keys that are remembered
)

// refusalKey is what connections have in common that will be refused alike.
type refusalKey struct {
	name  string // server name, else the name or address that was dialled
	shape [sha256.Size]byte
	exe   string
}

// refusals remembers who refused our leaves. The zero value is ready.
type refusals struct {
	mu   sync.Mutex // guards keys
	keys map[refusalKey]*refusalState
}

type refusalState struct {
	until     time.Time // pass through till then
	maybe     int       // uncertain refusals in a row
	decrypted bool      // something was decrypted before
	used      time.Time
}

// state returns what is remembered of a key. The caller holds the lock.
func (r *refusals) state(k refusalKey, now time.Time) *refusalState {
	if r.keys == nil {
		r.keys = make(map[refusalKey]*refusalState)
	}
	s := r.keys[k]
	if s == nil {
		if len(r.keys) >= maxRefusals {
			r.forget(now)
		}
		s = new(refusalState)
		r.keys[k] = s
	}
	s.used = now
	return s
}

// forget drops the keys that were not used for a while, or all if there are none.
func (r *refusals) forget(now time.Time) {
	for k, s := range r.keys {
		if now.Sub(s.used) > passFor {
			delete(r.keys, k)
		}
	}
	if len(r.keys) >= maxRefusals {
		clear(r.keys)
	}
}

// passes tells whether connections of a key are to be left undecrypted now.
func (r *refusals) passes(k refusalKey, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.keys[k]
	return s != nil && now.Before(s.until)
}

// certain notes a refusal that leaves no doubt.
func (r *refusals) certain(k refusalKey, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state(k, now)
	s.until, s.maybe = now.Add(passFor), 0
}

// uncertain notes a connection that ended as a refused one does, and tells
// whether it is worth a word: not of a client whose connections have been decrypted.
func (r *refusals) uncertain(k refusalKey, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state(k, now)
	if s.decrypted {
		return false
	}
	if s.maybe++; s.maybe >= maybeEnough {
		s.until, s.maybe = now.Add(passFor), 0
	}
	return true
}

// accepted notes that a child sent something through our leaf.
func (r *refusals) accepted(k refusalKey, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state(k, now)
	s.decrypted, s.maybe = true, 0
}
