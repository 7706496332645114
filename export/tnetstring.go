package export

import (
	"io"
	"strconv"
	"time"
)

// A tnet is a value as a tnetstring: length, ":", data, a byte for the type.
// It is kept in parts, since each container repeats the length of what it
// holds and bodies are large.
type tnet struct {
	size  int64
	parts []tnetPart
}

// A tnetPart is bytes, or what writes so many.
type tnetPart struct {
	bytes []byte
	write func(w io.Writer) error
	size  int64
}

func partOf(p []byte) tnetPart { return tnetPart{bytes: p, size: int64(len(p))} }

func tnetOf(kind byte, data ...tnetPart) tnet {
	n := int64(0)
	for _, p := range data {
		n += p.size
	}
	prefix := append(strconv.AppendInt(nil, n, 10), ':')
	t := tnet{size: int64(len(prefix)) + n + 1}
	t.parts = append(append(append(t.parts, partOf(prefix)), data...), partOf([]byte{kind}))
	return t
}

func (t tnet) write(w io.Writer) error {
	for _, p := range t.parts {
		var err error
		if p.write != nil {
			err = p.write(w)
		} else {
			_, err = w.Write(p.bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// The scalars.
func tBytes(p []byte) tnet  { return tnetOf(',', partOf(p)) }
func tOctets(s string) tnet { return tBytes([]byte(s)) }
func tBody(c *content) tnet { return tnetOf(',', tnetPart{write: c.bytes, size: c.size}) }
func tText(s string) tnet   { return tnetOf(';', partOf([]byte(s))) }
func tInt(n int64) tnet     { return tnetOf('#', partOf(strconv.AppendInt(nil, n, 10))) }
func tNull() tnet           { return tnetOf('~') }
func tBool(b bool) tnet     { return tnetOf('!', partOf(strconv.AppendBool(nil, b))) }

// tTime writes seconds since 1970, null of the zero time.
func tTime(t time.Time) tnet {
	if t.IsZero() {
		return tNull()
	}
	return tnetOf('^', partOf(epoch(t)))
}

// tTextOrNull writes text, null of none.
func tTextOrNull(s string) tnet {
	if s == "" {
		return tNull()
	}
	return tText(s)
}

func tList(items ...tnet) tnet { return tContainer(']', items) }

// A member is one of a dictionary, in the order in which they are written.
type member struct {
	key   string
	value tnet
}

func tDict(ms ...member) tnet {
	var items []tnet
	for _, m := range ms {
		items = append(items, tText(m.key), m.value)
	}
	return tContainer('}', items)
}

func tContainer(kind byte, items []tnet) tnet {
	var parts []tnetPart
	for _, i := range items {
		parts = append(parts, i.parts...)
	}
	return tnetOf(kind, parts...)
}
