package pcap

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
)

// maxHandshakes bounds what is remembered of handshakes that have not come to
// their end, and of secrets: twice as many of each.
const maxHandshakes = 16 << 10

// Records of TLS (RFC 8446 section 5.1) and where the random stands in one
// that holds a ClientHello.
const (
	recordHeader       = 5
	recordChangeCipher = 20
	recordHandshake    = 22
	clientHello        = 1
	randomAt           = recordHeader + 4 + 2
	randomSize         = 32
)

type (
	random [randomSize]byte
	route  [2*16 + 2*2]byte // source, destination, their ports
)

// handshakes knows for which packets it pays to wait for a secret. A client
// says with ChangeCipherSpec that it encrypts from here on; by then its
// ClientHello has told by which random the key log names the connection's
// secrets. Only what stands at the beginning of a segment is looked at: a
// ClientHello does, and who cuts it so oddly that it does not is not waited
// for.
type handshakes struct {
	hellos recent[route, random]
	known  recent[random, struct{}]
}

// learn notes whose secrets the key log has.
func (h *handshakes) learn(lines []byte) {
	for line := range bytes.Lines(lines) {
		fields := bytes.Fields(line)
		var r random
		if len(fields) == 3 && len(fields[1]) == hex.EncodedLen(randomSize) {
			if _, err := hex.Decode(r[:], fields[1]); err == nil {
				h.known.put(r, struct{}{})
			}
		}
	}
}

// lacks tells whether the IP packet p needs a secret that is not known yet.
func (h *handshakes) lacks(p []byte) bool {
	offset, proto, addrs := transport(p)
	if proto != protoTCP || len(p) < offset+tcpSize {
		return false
	}
	data := p[min(len(p), offset+int(p[offset+12]>>4)*4):]
	if len(data) <= recordHeader || data[0] != recordHandshake && data[0] != recordChangeCipher || data[1] != 3 {
		return false
	}
	var from route
	copy(from[:], addrs)
	copy(from[32:], p[offset:offset+4])
	if data[0] == recordHandshake && data[recordHeader] == clientHello && len(data) >= randomAt+randomSize {
		h.hellos.put(from, random(data[randomAt:]))
		return false
	}
	if !changesCipher(data) {
		return false
	}
	r, ok := h.hellos.get(from)
	if !ok {
		return false
	}
	if _, ok := h.known.get(r); !ok {
		return true
	}
	h.hellos.drop(from)
	return false
}

// changesCipher tells whether one of the records in data is ChangeCipherSpec.
func changesCipher(data []byte) bool {
	for len(data) > recordHeader {
		switch {
		case data[0] == recordChangeCipher && data[1] == 3:
			return true
		case data[0] != recordHandshake || data[1] != 3:
			return false
		}
		data = data[min(len(data), recordHeader+int(binary.BigEndian.Uint16(data[3:]))):]
	}
	return false
}

// recent is a map that forgets the older half of its entries when there are
// 2*maxHandshakes.
type recent[K comparable, V any] struct{ young, old map[K]V }

func (m *recent[K, V]) put(k K, v V) {
	if len(m.young) >= maxHandshakes {
		m.young, m.old = nil, m.young
	}
	if m.young == nil {
		m.young = make(map[K]V)
	}
	m.young[k] = v
}

func (m *recent[K, V]) get(k K) (V, bool) {
	if v, ok := m.young[k]; ok {
		return v, true
	}
	v, ok := m.old[k]
	return v, ok
}

func (m *recent[K, V]) drop(k K) {
	delete(m.young, k)
	delete(m.old, k)
}
