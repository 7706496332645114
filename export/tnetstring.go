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
	size  int
	parts [][]byte
}

func tnetOf(kind byte, data ...[]byte) tnet {
	n := 0
	for _, p := range data {
		n += len(p)
	}
	prefix := strconv.AppendInt(nil, int64(n), 10)
	prefix = append(prefix, ':')
	t := tnet{size: len(prefix) + n + 1}
	t.parts = append(append(append(t.parts, prefix), data...), []byte{kind})
	return t
}

func (t tnet) write(w io.Writer) error {
	for _, p := range t.parts {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// The scalars.
func tBytes(p []byte) tnet { return tnetOf(',', p) }
func tOctets(s string) tnet {
	return tnetOf(',', []byte(s))
}
func tText(s string) tnet { return tnetOf(';', []byte(s)) }
func tInt(n int64) tnet   { return tnetOf('#', strconv.AppendInt(nil, n, 10)) }
func tNull() tnet         { return tnetOf('~') }
func tBool(b bool) tnet   { return tnetOf('!', strconv.AppendBool(nil, b)) }

// tTime writes seconds since 1970, null of the zero time.
func tTime(t time.Time) tnet {
	if t.IsZero() {
		return tNull()
	}
	return tnetOf('^', epoch(t))
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
	var parts [][]byte
	for _, i := range items {
		parts = append(parts, i.parts...)
	}
	return tnetOf(kind, parts...)
}
