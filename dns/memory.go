package dns

import (
	"container/list"
	"net/netip"
)

// maxMemory is how many addresses a Server remembers the names of.
const maxMemory = 16384

// memory maps addresses to the names that led to them. What was neither
// learned nor asked for longest is forgotten first. Not safe for concurrent
// use.
type memory struct {
	at  map[netip.Addr]*list.Element
	use list.List // of remembered, latest first
}

type remembered struct {
	addr netip.Addr
	name string
}

func (m *memory) put(a netip.Addr, name string) {
	if m.at == nil {
		m.at = map[netip.Addr]*list.Element{}
	}
	if e := m.at[a]; e != nil {
		e.Value = remembered{a, name}
		m.use.MoveToFront(e)
		return
	}
	if len(m.at) >= maxMemory {
		old := m.use.Back()
		delete(m.at, old.Value.(remembered).addr)
		m.use.Remove(old)
	}
	m.at[a] = m.use.PushFront(remembered{a, name})
}

func (m *memory) get(a netip.Addr) string {
	e := m.at[a]
	if e == nil {
		return ""
	}
	m.use.MoveToFront(e)
	return e.Value.(remembered).name
}

func (m *memory) has(a netip.Addr) bool { return m.at[a] != nil }
