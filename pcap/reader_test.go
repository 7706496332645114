package pcap

import (
	"encoding/binary"
	"fmt"
	"time"
)

// A parsed file, read independently of the code that writes it: by the letter
// of draft-ietf-opsawg-pcapng.
type parsed struct {
	section  map[uint16]string // options
	name     string
	link     uint16
	items    []item // packets and secrets, in their order
	received uint64
	dropped  uint64
	ended    bool // statistics were there
}

type item struct {
	secrets string // key log lines, or
	data    []byte // a packet
	at      time.Time
	flags   uint32
	drops   uint64
}

// parse reads a whole file; rest is an incomplete block at its end.
func parse(file []byte) (p parsed, rest []byte, err error) {
	le := binary.LittleEndian
	for first := true; len(file) > 0; first = false {
		if len(file) < 12 {
			return p, file, nil
		}
		typ, size := le.Uint32(file), int(le.Uint32(file[4:]))
		if size < 12 || size%4 != 0 {
			return p, nil, fmt.Errorf("block %#x of %d bytes", typ, size)
		}
		if size > len(file) {
			return p, file, nil
		}
		if again := int(le.Uint32(file[size-4:])); again != size {
			return p, nil, fmt.Errorf("block %#x: lengths %d and %d", typ, size, again)
		}
		if first != (typ == 0x0A0D0D0A) {
			return p, nil, fmt.Errorf("block %#x: first %v", typ, first)
		}
		if p.ended {
			return p, nil, fmt.Errorf("block %#x behind the statistics", typ)
		}
		if err := p.block(typ, file[8:size-4]); err != nil {
			return p, nil, fmt.Errorf("block %#x: %w", typ, err)
		}
		file = file[size:]
	}
	return p, nil, nil
}

func (p *parsed) block(typ uint32, b []byte) error {
	le := binary.LittleEndian
	stamp := func(b []byte) time.Time {
		return time.Unix(0, int64(uint64(le.Uint32(b))<<32+uint64(le.Uint32(b[4:]))))
	}
	switch typ {
	case 0x0A0D0D0A:
		if le.Uint32(b) != 0x1A2B3C4D || le.Uint16(b[4:]) != 1 || le.Uint16(b[6:]) != 0 || le.Uint64(b[8:]) != 1<<64-1 {
			return fmt.Errorf("section header % x", b)
		}
		var err error
		p.section, err = options(b[16:])
		return err
	case 1:
		opts, err := options(b[8:])
		if err != nil {
			return err
		}
		if opts[9] != "\x09" || le.Uint32(b[4:]) != 0 {
			return fmt.Errorf("resolution %q, snaplen %d", opts[9], le.Uint32(b[4:]))
		}
		p.link, p.name = le.Uint16(b), opts[2]
	case 6:
		n := int(le.Uint32(b[12:]))
		if le.Uint32(b) != 0 || le.Uint32(b[16:]) != uint32(n) || n > len(b)-20 {
			return fmt.Errorf("packet header % x", b[:20])
		}
		opts, err := options(b[20+(n+3)/4*4:])
		if err != nil || len(opts[2]) != 4 {
			return fmt.Errorf("options %v: %w", opts, err)
		}
		it := item{data: b[20 : 20+n], at: stamp(b[4:]), flags: le.Uint32([]byte(opts[2]))}
		if d := opts[4]; d != "" {
			it.drops = le.Uint64([]byte(d))
		}
		p.items = append(p.items, it)
	case 10:
		n := int(le.Uint32(b[4:]))
		if string(b[:4]) != "KSLT" || (n+3)/4*4 != len(b)-8 {
			return fmt.Errorf("secrets header % x of %d bytes", b[:8], len(b))
		}
		p.items = append(p.items, item{secrets: string(b[8 : 8+n])})
	case 5:
		opts, err := options(b[12:])
		if err != nil || len(opts[4]) != 8 || len(opts[5]) != 8 || len(opts[8]) != 8 {
			return fmt.Errorf("options %v: %w", opts, err)
		}
		p.received, p.dropped, p.ended = le.Uint64([]byte(opts[4])), le.Uint64([]byte(opts[5])), true
		if start, end := stamp([]byte(opts[2])), stamp([]byte(opts[3])); end.Before(start) || !stamp(b[4:]).Equal(end) {
			return fmt.Errorf("from %v to %v", start, end)
		}
	default:
		return fmt.Errorf("unknown")
	}
	return nil
}

func options(b []byte) (map[uint16]string, error) {
	le := binary.LittleEndian
	opts := map[uint16]string{}
	for {
		if len(b) < 4 {
			return nil, fmt.Errorf("no end of options: % x", b)
		}
		code, n := le.Uint16(b), int(le.Uint16(b[2:]))
		padded := 4 + (n+3)/4*4
		if code == 0 && n == 0 && len(b) == 4 {
			return opts, nil
		}
		if code == 0 || padded > len(b) || opts[code] != "" {
			return nil, fmt.Errorf("option %d of %d bytes in % x", code, n, b)
		}
		opts[code] = string(b[4 : 4+n])
		b = b[padded:]
	}
}

// packets returns the packets of a file.
func (p parsed) packets() (all []item) {
	for _, it := range p.items {
		if it.data != nil {
			all = append(all, it)
		}
	}
	return all
}
