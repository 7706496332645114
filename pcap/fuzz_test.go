package pcap

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzWriter: whatever is handed over stands in the file, in its order, and a
// file that fails at any place is whole up to there.
func FuzzWriter(f *testing.F) {
	f.Add([]byte("\x05hello\x00\x83key\x03abc"), 1000)
	f.Add(append(client{4, 1, 'a'}.hello(), 0x85, 'l', 'i', 'n', 'e', '\n'), 300)
	f.Fuzz(func(t *testing.T, ops []byte, space int) {
		out := tape{space: max(200, space%5000)}
		w := record(t, &out)
		var packets [][]byte
		secrets := ""
		for len(ops) > 0 { // a length, and a bit for a secret
			n := min(int(ops[0]&0x7f), len(ops)-1)
			if p := ops[1 : 1+n]; ops[0]&0x80 != 0 {
				secrets += string(p)
				w.KeyLog().Write(p)
			} else if n > 0 {
				packets = append(packets, bytes.Clone(p))
				w.Packet(n%2 == 0, p[:n/2], p[n/2:])
			}
			ops = ops[1+n:]
		}
		sum, err := w.Close()
		p := out.parsed(t)
		got := p.packets()
		if uint64(len(got)) != sum.Written || sum.Written+sum.Dropped != uint64(len(packets)) || p.ended != (err == nil) {
			t.Fatalf("%d packets of %d, %+v, %v", len(got), len(packets), sum, err)
		}
		for i, it := range got {
			if completePacket(packets[i]); !bytes.Equal(it.data, packets[i]) {
				t.Fatalf("packet %d is % x, was % x", i, it.data, packets[i])
			}
		}
		read := ""
		for _, it := range p.items {
			read += it.secrets
		}
		if !strings.HasPrefix(secrets, read) || err == nil && read != secrets {
			t.Fatalf("secrets %q, were %q; %v", read, secrets, err)
		}
	})
}
