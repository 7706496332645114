package importer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// A tnetstring is length, ":", data, a byte for the type. Values are nil, bool,
// int64, float64, []byte, string, []any and map[string]any.

// maxNested bounds how deeply values may be nested: files may come from anyone.
const maxNested = 64

// nextTnet reads one value from a file. io.EOF: there is none. The value, if
// its bytes make none, can be skipped: fault says why.
func nextTnet(r *bufio.Reader) (v any, fault, err error) {
	size := 0
	for digits := 0; ; digits++ {
		c, err := r.ReadByte()
		if err != nil {
			if digits > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, nil, err
		}
		if c == ':' && digits > 0 {
			break
		}
		if c < '0' || c > '9' || digits == 12 {
			return nil, nil, errors.New("no length stands where one should")
		}
		size = size*10 + int(c-'0')
	}
	var b bytes.Buffer // grows with what is there, not with what is claimed
	if _, err := io.CopyN(&b, r, int64(size)+1); err != nil {
		return nil, nil, io.ErrUnexpectedEOF
	}
	p := b.Bytes()
	v, fault = parseTnet(p[size], p[:size], 0)
	return v, fault, nil
}

func parseTnet(kind byte, p []byte, depth int) (any, error) {
	if depth > maxNested {
		return nil, errors.New("it is nested too deeply")
	}
	switch kind {
	case ',':
		return p, nil
	case ';':
		return string(p), nil
	case '#':
		return strconv.ParseInt(string(p), 10, 64)
	case '^':
		return strconv.ParseFloat(string(p), 64)
	case '!':
		return string(p) == "true", nil
	case '~':
		return nil, nil
	case ']':
		list := []any{}
		for len(p) > 0 {
			v, rest, err := popTnet(p, depth)
			if err != nil {
				return nil, err
			}
			list, p = append(list, v), rest
		}
		return list, nil
	case '}':
		m := map[string]any{}
		for len(p) > 0 {
			key, rest, err := popTnet(p, depth)
			if err != nil {
				return nil, err
			}
			v, rest, err := popTnet(rest, depth)
			if err != nil {
				return nil, err
			}
			m[textOf(key)], p = v, rest
		}
		return m, nil
	}
	return nil, fmt.Errorf("it has a value of unknown type %q", kind)
}

func popTnet(p []byte, depth int) (v any, rest []byte, err error) {
	i := bytes.IndexByte(p[:min(len(p), 13)], ':')
	if i < 0 {
		return nil, nil, errors.New("no length stands where one should")
	}
	n, err := strconv.Atoi(string(p[:i]))
	if p = p[i+1:]; err != nil || n < 0 || n >= len(p) {
		return nil, nil, errors.New("it has a value of impossible length")
	}
	v, err = parseTnet(p[n], p[:n], depth+1)
	return v, p[n+1:], err
}

// textOf is a value as text, "" of what is none.
func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}
