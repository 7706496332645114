package ahead

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// A Message can be sent. Numbers are eight bytes, little endian; what has a length is preceded by it. Both ends are the same
// program, so nothing tells versions apart. encoding/json would take a process that has just started as long as all its messages
// together take now.
type Message interface {
	fields(c *coder)
}

// mark begins each message: a packet is never empty.
const mark = 't'

// coder writes the fields of a message or, the same way, reads them. What is read is a copy.
type coder struct {
	p       []byte
	reading bool
	bad     bool // it ended too soon
}

// Encode returns what Open understands.
func Encode(m Message) []byte {
	c := &coder{p: []byte{mark}}
	m.fields(c)
	return c.p
}

func decode(p []byte, m Message) error {
	c := &coder{p: p, reading: true}
	if first := c.take(1); c.bad || first[0] != mark {
		return fmt.Errorf("message not understood: %w", unix.EBADMSG)
	}
	m.fields(c)
	if c.bad || len(c.p) > 0 {
		return fmt.Errorf("message not understood: %w", unix.EBADMSG)
	}
	return nil
}

// take returns the next n bytes.
func (c *coder) take(n int) []byte {
	if n < 0 || n > len(c.p) {
		c.bad, c.p = true, nil
		return nil
	}
	p := c.p[:n:n]
	c.p = c.p[n:]
	return p
}

// number codes anything that is one.
func number[T ~int | ~int64 | ~uint | ~uint16 | ~uint32 | ~uint64 | ~uintptr](c *coder, v *T) {
	if !c.reading {
		c.p = binary.LittleEndian.AppendUint64(c.p, uint64(*v))
		return
	}
	if p := c.take(8); !c.bad {
		*v = T(binary.LittleEndian.Uint64(p))
	}
}

func (c *coder) flag(v *bool) {
	var n uint
	if *v {
		n = 1
	}
	number(c, &n)
	if c.reading {
		*v = n != 0
	}
}

// text codes strings and bytes. None and empty are the same.
func text[T ~string | ~[]byte](c *coder, v *T) {
	n := len(*v)
	number(c, &n)
	if !c.reading {
		c.p = append(c.p, *v...)
	} else if p := c.take(n); len(p) > 0 {
		*v = T(append([]byte(nil), p...))
	}
}

// list codes each element of a list. An element takes eight bytes at least.
func list[T any](c *coder, v *[]T, each func(*T)) {
	n := len(*v)
	number(c, &n)
	if c.reading {
		if n < 0 || n > len(c.p)/8 {
			c.bad, c.p = true, nil
			return
		}
		*v = make([]T, n)
	}
	for i := range *v {
		each(&(*v)[i])
	}
}

// optional codes what a pointer leads to, if it leads anywhere.
func optional[T any](c *coder, v **T, fields func(*T)) {
	is := *v != nil
	c.flag(&is)
	if !is {
		return
	}
	if c.reading {
		*v = new(T)
	}
	fields(*v)
}

func (s *Setup) fields(c *coder) {
	c.flag(&s.UserNS)
	text(c, &s.Device)
	number(c, &s.MTU)
	number(c, &s.Offload)
	number(c, &s.GSOMaxSize)
	s.Addr4.fields(c)
	s.Addr6.fields(c)
	list(c, &s.Routes, func(p *Prefix) { p.fields(c) })
	list(c, &s.Sysctls, func(p *[2]string) { text(c, &p[0]); text(c, &p[1]) })
	list(c, &s.ListenDNS, func(p *Prefix) { p.fields(c) })
}

func (p *Prefix) fields(c *coder) {
	text(c, &p.IP)
	number(c, &p.Bits)
	text(c, &p.Text)
}

func (m *Command) fields(c *coder) {
	text(c, &m.Path)
	list(c, &m.Args, func(p *[]byte) { text(c, p) })
	list(c, &m.Env, func(p *[]byte) { text(c, p) })
	text(c, &m.Dir)
	number(c, &m.Ignored)
}

func (e *Entry) fields(c *coder) {
	c.flag(&e.UserNS)
	text(c, &e.Dir)
	number(c, &e.Dev)
	number(c, &e.Ino)
}

func (r *Report) fields(c *coder) {
	text(c, &r.Step)
	number(c, &r.Took)
	optional(c, &r.Fault, func(f *Fault) { f.fields(c) })
	list(c, &r.Notes, func(n *Note) { text(c, &n.Step); text(c, &n.Object); n.Fault.fields(c) })
	number(c, &r.PID)
	optional(c, &r.Ready, func(y *Ready) { y.fields(c) })
}

func (r *Ready) fields(c *coder) {
	d := &r.Device
	text(c, &d.Kind)
	text(c, &d.Name)
	number(c, &d.MTU)
	number(c, &d.Offload)
	for _, mac := range []*[6]byte{&d.ChildMAC, &d.MAC} {
		p := mac[:]
		text(c, &p)
		copy(mac[:], p)
	}
	list(c, &r.DNS, func(i *int) { number(c, i) })
	number(c, &r.Diags)
	number(c, &r.UDPs)
	number(c, &r.NetNS)
	number(c, &r.UserNS)
}

func (r *Request) fields(c *coder) {
	number(c, &r.ID)
	text(c, &r.Op)
	c.flag(&r.UDP)
	text(c, &r.IP)
	number(c, &r.Port)
}

func (r *Reply) fields(c *coder) {
	number(c, &r.ID)
	optional(c, &r.Fault, func(f *Fault) { f.fields(c) })
}

func (f *Fault) fields(c *coder) {
	text(c, &f.Text)
	number(c, &f.Errno)
}

func (m *Covers) fields(c *coder) {
	text(c, &m.Dir)
	list(c, &m.Trees, func(t *Tree) { t.fields(c) })
	list(c, &m.Files, func(f *File) { f.fields(c) })
	list(c, &m.Binds, func(b *Bind) { text(c, &b.Source); text(c, &b.Target); c.flag(&b.Required) })
	list(c, &m.Masks, func(s *string) { text(c, s) })
}

func (t *Tree) fields(c *coder) {
	text(c, &t.Target)
	text(c, &t.From)
	list(c, &t.Added, func(f *File) { f.fields(c) })
	list(c, &t.Link, func(l *Link) { text(c, &l.Name); text(c, &l.To) })
	list(c, &t.Omit, func(s *string) { text(c, s) })
	c.flag(&t.Required)
}

func (f *File) fields(c *coder) {
	text(c, &f.Target)
	text(c, &f.Name)
	number(c, &f.Data.Off)
	number(c, &f.Data.Len)
	number(c, &f.Mode)
	c.flag(&f.Required)
}

// empty comes with the descriptor of a payload.
type empty struct{}

func (empty) fields(*coder) {}

// Passing is the message that a memory file comes with.
func Passing() []byte { return Encode(empty{}) }
