package wire

import "errors"

var errHuffman = errors.New("a string is not valid in the Huffman code")

// huffmanTree decodes up to eight bits at a time. A node has an entry for each
// value of the next eight bits: huffmanLeaf with the length of what is left of
// the code and the octet it stands for, the number of the next node if the
// code is longer, or 0 if there is none (EOS).
var huffmanTree = growHuffman()

const huffmanLeaf = 1 << 15

func growHuffman() [][256]uint16 {
	tree := make([][256]uint16, 1)
	code := uint32(0)
	for size := 5; size <= 30; size++ {
		for octet, n := range huffmanLengths {
			if int(n) != size {
				continue
			}
			node, left := 0, size
			for ; left > 8; left -= 8 {
				i := byte(code >> (left - 8))
				if tree[node][i] == 0 {
					tree = append(tree, [256]uint16{})
					tree[node][i] = uint16(len(tree) - 1)
				}
				node = int(tree[node][i])
			}
			first := int(byte(code << (8 - left)))
			for i := range 1 << (8 - left) {
				tree[node][first+i] = huffmanLeaf | uint16(left)<<8 | uint16(octet)
			}
			code++
		}
		code <<= 1
	}
	return tree
}

// A huffman decodes one string, in any split.
type huffman struct {
	bits uint32 // seen and not used, the lowest count of them
	n    int    // how many
	node uint16
	rest int // bits since the last octet
}

// decode appends what p stands for to dst until that is longer than limit. It
// returns how many bytes of p were used.
func (h *huffman) decode(dst, p []byte, limit int) ([]byte, int, error) {
	for k, c := range p {
		h.bits = h.bits<<8 | uint32(c)
		h.n += 8
		h.rest += 8
		for h.n >= 8 {
			e := huffmanTree[h.node][byte(h.bits>>(h.n-8))]
			switch {
			case e&huffmanLeaf != 0:
				dst = append(dst, byte(e))
				h.n -= int(e>>8) & 0x7f
				h.node, h.rest = 0, h.n
			case e == 0:
				return dst, k, errHuffman
			default:
				h.n -= 8
				h.node = e
			}
		}
		if len(dst) > limit {
			return dst, k + 1, nil
		}
	}
	return dst, len(p), nil
}

// end decodes the last bits. What is left over must be the beginning of EOS,
// shorter than an octet (RFC 7541 section 5.2).
func (h *huffman) end(dst []byte) ([]byte, error) {
	for h.n > 0 {
		e := huffmanTree[h.node][byte(h.bits<<(8-h.n))]
		if e == 0 {
			return dst, errHuffman
		}
		size := int(e>>8) & 0x7f
		if e&huffmanLeaf == 0 || size > h.n {
			break
		}
		dst = append(dst, byte(e))
		h.n -= size
		h.node, h.rest = 0, h.n
	}
	if ones := uint32(1)<<h.n - 1; h.rest > 7 || h.bits&ones != ones {
		return dst, errHuffman
	}
	return dst, nil
}

// huffmanLengths are the lengths of the codes of RFC 7541 appendix B by octet.
// The code is canonical: lengths and order tell the codes.
var huffmanLengths = [256]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
	28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
	5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
	6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
	24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
	21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
	19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
	26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
}
