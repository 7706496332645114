package trust

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// A JKS keystore is a magic number, a version, a count, that many entries, and
// a hash that a password guards. All numbers are big-endian; names have two
// bytes of length.
const (
	jksHeader  = 4 + 4 + 4
	jksKey     = 1 // tag of an entry with a private key and its certificates
	jksTrusted = 2 // of one with a certificate
	jksType    = "X.509"
)

var (
	jksMagic  = []byte{0xfe, 0xed, 0xfe, 0xed}
	errJKS    = errors.New("read keystore: malformed")
	errJKSKey = errors.New("read keystore: its password is another one, or it is damaged")
)

// addToJKS returns the keystore with one more entry for ca. It leaves all
// others as they are.
func addToJKS(data, ca []byte, now time.Time) ([]byte, error) {
	if len(data) < jksHeader+sha1.Size {
		return nil, errJKS
	}
	old, sum := data[:len(data)-sha1.Size], data[len(data)-sha1.Size:]
	if got := jksSum(old); !bytes.Equal(got[:], sum) {
		return nil, errJKSKey
	}
	version := binary.BigEndian.Uint32(old[4:])
	count := binary.BigEndian.Uint32(old[8:])
	if version != 1 && version != 2 {
		return nil, fmt.Errorf("read keystore: version %d", version)
	}
	names, err := jksNames(old[jksHeader:], version, count)
	if err != nil {
		return nil, err
	}
	alias := "trace"
	for n := 2; slices.Contains(names, alias); n++ {
		alias = "trace-" + strconv.Itoa(n)
	}
	out := append(make([]byte, 0, len(data)+len(ca)+64), old...)
	binary.BigEndian.PutUint32(out[8:], count+1)
	out = binary.BigEndian.AppendUint32(out, jksTrusted)
	out = appendJKSName(out, alias)
	out = binary.BigEndian.AppendUint64(out, uint64(now.UnixMilli()))
	if version == 2 {
		out = appendJKSName(out, jksType)
	}
	out = append(binary.BigEndian.AppendUint32(out, uint32(len(ca))), ca...)
	got := jksSum(out)
	return append(out, got[:]...), nil
}

func appendJKSName(out []byte, name string) []byte {
	return append(binary.BigEndian.AppendUint16(out, uint16(len(name))), name...)
}

// jksNames lists the aliases of entries, which must be all that there is.
func jksNames(entries []byte, version, count uint32) (names []string, err error) {
	in := cryptobyte.String(entries)
	// skip passes over a certificate, or a key.
	skip := func(typed bool) bool {
		var kind cryptobyte.String
		var size uint32
		return (!typed || in.ReadUint16LengthPrefixed(&kind)) && in.ReadUint32(&size) && uint64(size) <= uint64(len(in)) && in.Skip(int(size))
	}
	for range count {
		var tag, chain uint32
		var name cryptobyte.String
		const date = 8
		ok := in.ReadUint32(&tag) && in.ReadUint16LengthPrefixed(&name) && in.Skip(date)
		switch {
		case ok && tag == jksTrusted:
			ok = skip(version == 2)
		case ok && tag == jksKey:
			ok = skip(false) && in.ReadUint32(&chain)
			for ; ok && chain > 0; chain-- {
				ok = skip(version == 2)
			}
		default:
			ok = false
		}
		if !ok {
			return nil, errJKS
		}
		names = append(names, string(name))
	}
	if !in.Empty() {
		return nil, errJKS
	}
	return names, nil
}

// jksSum hashes a keystore as the JDK does.
func jksSum(data []byte) (sum [sha1.Size]byte) {
	h := sha1.New()
	for _, c := range []byte(storePassword) {
		h.Write([]byte{0, c}) // UTF-16
	}
	h.Write([]byte("Mighty Aphrodite"))
	h.Write(data)
	return [sha1.Size]byte(h.Sum(nil))
}
