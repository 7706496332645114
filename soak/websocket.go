package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
)

// Opcodes of RFC 6455 section 5.2.
const (
	opBinary = 2
	opClose  = 8
)

// acceptOf is Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2).
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// frame is a final frame with less than 64 KiB of payload.
func frame(op byte, p []byte, masked bool) []byte {
	f := []byte{0x80 | op, byte(len(p))}
	if len(p) > 125 {
		f[1] = 126
		f = binary.BigEndian.AppendUint16(f, uint16(len(p)))
	}
	if !masked {
		return append(f, p...)
	}
	f[1] |= 0x80
	key := [4]byte{1, 2, 3, byte(len(p))}
	f = append(f, key[:]...)
	for i, c := range p {
		f = append(f, c^key[i%4])
	}
	return f
}

var errFrame = errors.New("malformed frame")

// readFrame reads what frame makes.
func readFrame(r *bufio.Reader) (op byte, p []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0]&0xf0 != 0x80 || head[1]&0x7f == 127 {
		return 0, nil, errFrame
	}
	n := int(head[1] & 0x7f)
	if n == 126 {
		var long [2]byte
		if _, err := io.ReadFull(r, long[:]); err != nil {
			return 0, nil, err
		}
		n = int(binary.BigEndian.Uint16(long[:]))
	}
	var key [4]byte
	if head[1]&0x80 != 0 {
		if _, err := io.ReadFull(r, key[:]); err != nil {
			return 0, nil, err
		}
	}
	p = make([]byte, n)
	_, err = io.ReadFull(r, p)
	for i := range p {
		p[i] ^= key[i%4]
	}
	return head[0] & 0x0f, p, err
}
