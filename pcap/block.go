package pcap

import (
	"bytes"
	"encoding/binary"
	"time"
)

// The numbers of draft-ietf-opsawg-pcapng. All blocks are little-endian.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6
	blockSecrets    = 10

	byteOrderMagic = 0x1a2b3c4d
	linkTypeRaw    = 101        // IPv4 and IPv6 packets without a link header
	secretsTLS     = 0x544c534b // "TLSK": key log lines

	optEnd          = 0
	optComment      = 1
	optHardware     = 2 // of a section
	optSystem       = 3
	optApplication  = 4
	optName         = 2 // of an interface
	optResolution   = 9
	optFlags        = 2 // of a packet
	optDropCount    = 4
	optStart        = 2 // of statistics
	optEndTime      = 3
	optReceived     = 4
	optDropped      = 5
	optDelivered    = 8
	nanoseconds     = 9 // if_tsresol: 10^-9 s
	flagInbound     = 1
	flagOutbound    = 2
	secretsBlock    = 64 << 10  // bytes of key log lines in one block, at most
	packetFixed     = 28        // bytes before the data
	packetTrailer   = 8 + 4 + 4 // bytes behind it: the flags, the end of the options, the length
	dropCountOption = 4 + 8
)

// A block is one that is being appended to a buffer.
type block struct {
	buf   []byte
	start int
}

func begin(buf []byte, typ uint32) block {
	b := block{buf, len(buf)}
	b.u32(typ)
	b.u32(0) // end fills it in
	return b
}

func (b *block) u16(v uint16) { b.buf = binary.LittleEndian.AppendUint16(b.buf, v) }
func (b *block) u32(v uint32) { b.buf = binary.LittleEndian.AppendUint32(b.buf, v) }
func (b *block) u64(v uint64) { b.buf = binary.LittleEndian.AppendUint64(b.buf, v) }

// time appends a time as two halves, the high one first.
func (b *block) time(t time.Time) {
	n := uint64(t.UnixNano())
	b.u32(uint32(n >> 32))
	b.u32(uint32(n))
}

func (b *block) pad() {
	for (len(b.buf)-b.start)%4 != 0 {
		b.buf = append(b.buf, 0)
	}
}

func (b *block) option(code uint16, length int) {
	b.u16(code)
	b.u16(uint16(length))
}

// text appends an option, unless s is empty.
func (b *block) text(code uint16, s string) {
	if s == "" {
		return
	}
	s = s[:min(len(s), 0xffff)]
	b.option(code, len(s))
	b.buf = append(b.buf, s...)
	b.pad()
}

func (b *block) count(code uint16, n uint64) {
	b.option(code, 8)
	b.u64(n)
}

// end completes the block: its length stands at both ends.
func (b *block) end() []byte {
	n := uint32(len(b.buf) - b.start + 4)
	b.u32(n)
	binary.LittleEndian.PutUint32(b.buf[b.start+4:], n)
	return b.buf
}

// appendHeader appends what stands before all packets: the section's header
// and the description of its one interface.
func appendHeader(buf []byte, opt Options) []byte {
	b := begin(buf, blockSection)
	b.u32(byteOrderMagic)
	b.u16(1)
	b.u16(0)
	b.u64(^uint64(0)) // the section's length is not known
	b.text(optComment, opt.Comment)
	b.text(optHardware, opt.Hardware)
	b.text(optSystem, opt.System)
	b.text(optApplication, opt.Application)
	b.option(optEnd, 0)

	b = begin(b.end(), blockInterface)
	b.u16(linkTypeRaw)
	b.u16(0)
	b.u32(0) // no packet is cut
	b.text(optName, opt.Interface)
	b.option(optResolution, 1)
	b.buf = append(b.buf, nanoseconds)
	b.pad()
	b.option(optEnd, 0)
	return b.end()
}

// packetSize returns the size of a packet's block in bytes.
func packetSize(n int, drops uint64) int {
	size := packetFixed + (n+3)&^3 + packetTrailer
	if drops > 0 {
		size += dropCountOption
	}
	return size
}

// appendPacket appends a packet of n bytes. drops is how many before it are
// missing.
func appendPacket(buf []byte, at time.Time, toChild bool, drops uint64, n int, parts [][]byte) []byte {
	b := begin(buf, blockPacket)
	b.u32(0) // the interface
	b.time(at)
	b.u32(uint32(n))
	b.u32(uint32(n))
	for _, p := range parts {
		b.buf = append(b.buf, p...)
	}
	b.pad()
	b.option(optFlags, 4)
	if toChild {
		b.u32(flagInbound)
	} else {
		b.u32(flagOutbound)
	}
	if drops > 0 {
		b.count(optDropCount, drops)
	}
	b.option(optEnd, 0)
	return b.end()
}

// appendSecrets appends key log lines.
func appendSecrets(buf, lines []byte) []byte {
	b := begin(buf, blockSecrets)
	b.u32(secretsTLS)
	b.u32(uint32(len(lines)))
	b.buf = append(b.buf, lines...)
	b.pad()
	return b.end()
}

// appendStatistics appends what became of the packets.
func appendStatistics(buf []byte, started, ended time.Time, received, written uint64) []byte {
	b := begin(buf, blockStatistics)
	b.u32(0) // the interface
	b.time(ended)
	b.option(optStart, 8)
	b.time(started)
	b.option(optEndTime, 8)
	b.time(ended)
	b.count(optReceived, received)
	b.count(optDropped, received-written)
	b.count(optDelivered, written)
	b.option(optEnd, 0)
	return b.end()
}

// cutLines returns how many bytes of lines go into one block of at most most
// bytes: whole lines, unless one alone is longer.
func cutLines(lines []byte, most int) int {
	if len(lines) <= most {
		return len(lines)
	}
	if n := bytes.LastIndexByte(lines[:most], '\n'); n >= 0 {
		return n + 1
	}
	if n := bytes.IndexByte(lines, '\n'); n >= 0 {
		return n + 1
	}
	return len(lines)
}
