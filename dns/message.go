package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Fields of the header (RFC 1035 section 4.1.1).
const (
	headerLen = 12

	flagQR     = 1 << 15
	maskOpcode = 0xf << 11
	flagTC     = 1 << 9
	flagRD     = 1 << 8
	flagRA     = 1 << 7
	flagCD     = 1 << 4
	maskRcode  = 0xf

	rcodeFormErr  = 1
	rcodeServFail = 2
	rcodeNXDomain = 3
	rcodeRefused  = 5

	typeA     = 1
	typeAAAA  = 28
	typeOPT   = 41
	typeSVCB  = 64
	typeHTTPS = 65
	typeANY   = 255
	classIN   = 1
)

// What a message can be wrong in.
var (
	errNoQuery   = errors.New("not a query")
	errMalformed = errors.New("malformed question")
)

// question is the only question of a message.
type question struct {
	name  string // presentation form (RFC 4343 section 2.1), no final dot; "." is the root
	typ   uint16
	class uint16
	end   int // offset of what follows it in its message
}

// parseQuery reads the question of a query. errNoQuery: drop it; errMalformed:
// answer FORMERR. Queries that ask nothing in the common way (other opcodes,
// more questions) have a zero question and no error: they are for the server
// to judge.
func parseQuery(raw []byte) (question, error) {
	if len(raw) < headerLen || flags(raw)&flagQR != 0 {
		return question{}, errNoQuery
	}
	if flags(raw)&maskOpcode != 0 || binary.BigEndian.Uint16(raw[4:]) != 1 {
		return question{}, nil
	}
	q, ok := parseQuestion(raw)
	if !ok {
		return question{}, errMalformed
	}
	return q, nil
}

func flags(raw []byte) uint16 { return binary.BigEndian.Uint16(raw[2:]) }

// parseQuestion reads the first question. Nothing precedes it that a
// compression pointer could name, so there is none.
func parseQuestion(raw []byte) (q question, ok bool) {
	var name strings.Builder
	i := headerLen
	for {
		if i >= len(raw) || i-headerLen > 254 {
			return q, false
		}
		n := int(raw[i])
		i++
		if n == 0 {
			break
		}
		if n > 63 || i+n > len(raw) {
			return q, false
		}
		if name.Len() > 0 {
			name.WriteByte('.')
		}
		writeLabel(&name, raw[i:i+n])
		i += n
	}
	if i+4 > len(raw) {
		return q, false
	}
	q.name = name.String()
	if q.name == "" {
		q.name = "."
	}
	q.typ = binary.BigEndian.Uint16(raw[i:])
	q.class = binary.BigEndian.Uint16(raw[i+2:])
	q.end = i + 4
	return q, true
}

func writeLabel(w *strings.Builder, label []byte) {
	for _, c := range label {
		switch {
		case c == '.' || c == '\\':
			w.WriteByte('\\')
			w.WriteByte(c)
		case c < '!' || c > '~':
			fmt.Fprintf(w, `\%03d`, c)
		default:
			w.WriteByte(c)
		}
	}
}

// reply builds an answer of our own to raw: its question, addresses of ours,
// and the pseudo-record that RFC 6891 section 7 demands if raw had one.
func reply(raw []byte, q question, rcode uint16, addrs ...netip.Addr) []byte {
	out := make([]byte, headerLen, q.end+64)
	copy(out, raw[:2])
	f := flags(raw)
	binary.BigEndian.PutUint16(out[2:], flagQR|f&(maskOpcode|flagRD|flagCD)|flagRA|rcode)
	if q.end > headerLen {
		binary.BigEndian.PutUint16(out[4:], 1)
		out = append(out, raw[headerLen:q.end]...)
	}
	for _, addr := range addrs {
		b := addr.AsSlice()
		if len(b) == 0 { // no address
			continue
		}
		out[7]++
		typ := byte(typeA)
		if addr.Is6() {
			typ = typeAAAA
		}
		out = append(out, 0xc0, headerLen, 0, typ, 0, classIN)
		out = binary.BigEndian.AppendUint32(out, lentTTL)
		out = append(out, 0, byte(len(b)))
		out = append(out, b...)
	}
	if _, do, ok := edns(raw); ok {
		binary.BigEndian.PutUint16(out[10:], 1)
		out = append(out, 0, 0, typeOPT, 0x04, 0xd0, 0, 0, do, 0, 0, 0) // 1232 octets, version 0
	}
	return out
}

// edns returns the UDP payload size and the octet with the DO bit of the
// OPT record of a query.
func edns(raw []byte) (size uint16, do byte, ok bool) {
	var p dnsmessage.Parser
	if _, err := p.Start(raw); err != nil {
		return 0, 0, false
	}
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return 0, 0, false
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return 0, 0, false
		}
		if h.Type == typeOPT {
			return uint16(h.Class), byte(h.TTL>>8) & 0x80, true
		}
		if p.SkipAdditional() != nil {
			return 0, 0, false
		}
	}
}

// answers reports whether msg is the answer to the query asked, whose ID on
// the wire was id. A server that refuses may leave the question out.
func answers(msg, asked []byte, q question, id uint16) bool {
	if len(msg) < headerLen || binary.BigEndian.Uint16(msg) != id || flags(msg)&flagQR == 0 ||
		flags(msg)&maskOpcode != flags(asked)&maskOpcode {
		return false
	}
	if q.end == 0 {
		return true
	}
	if binary.BigEndian.Uint16(msg[4:]) == 0 {
		return flags(msg)&maskRcode != 0
	}
	a, ok := parseQuestion(msg)
	return ok && a.typ == q.typ && a.class == q.class && canonical(a.name) == canonical(q.name)
}

// result is what an answer says.
type result struct {
	rcode   string
	answers []string
	addrs   []netip.Addr
}

// parseAnswer reads an answer as far as it makes sense.
func parseAnswer(msg []byte) result {
	var r result
	if len(msg) < headerLen {
		return r
	}
	r.rcode = rcodeName(int(flags(msg) & maskRcode))
	var p dnsmessage.Parser
	if _, err := p.Start(msg); err != nil || p.SkipAllQuestions() != nil {
		return r
	}
	for {
		h, err := p.AnswerHeader()
		if err != nil {
			return r
		}
		if !r.add(&p, h) {
			return r
		}
	}
}

// add reads one resource record and reports whether it could.
func (r *result) add(p *dnsmessage.Parser, h dnsmessage.ResourceHeader) bool {
	var text string
	var err error
	switch h.Type {
	case dnsmessage.TypeA:
		var b dnsmessage.AResource
		if b, err = p.AResource(); err == nil {
			text = r.address(netip.AddrFrom4(b.A))
		}
	case dnsmessage.TypeAAAA:
		var b dnsmessage.AAAAResource
		if b, err = p.AAAAResource(); err == nil {
			text = r.address(netip.AddrFrom16(b.AAAA))
		}
	case dnsmessage.TypeCNAME:
		var b dnsmessage.CNAMEResource
		b, err = p.CNAMEResource()
		text = target(b.CNAME)
	case dnsmessage.TypePTR:
		var b dnsmessage.PTRResource
		b, err = p.PTRResource()
		text = target(b.PTR)
	case dnsmessage.TypeNS:
		var b dnsmessage.NSResource
		b, err = p.NSResource()
		text = target(b.NS)
	case dnsmessage.TypeMX:
		var b dnsmessage.MXResource
		b, err = p.MXResource()
		text = fmt.Sprintf("%d %s", b.Pref, target(b.MX))
	case dnsmessage.TypeSRV:
		var b dnsmessage.SRVResource
		b, err = p.SRVResource()
		text = fmt.Sprintf("%d %d %d %s", b.Priority, b.Weight, b.Port, target(b.Target))
	case dnsmessage.TypeTXT:
		var b dnsmessage.TXTResource
		b, err = p.TXTResource()
		text = quoted(b.TXT)
	default:
		var b dnsmessage.UnknownResource
		b, err = p.UnknownResource()
		text = fmt.Sprintf("%s \\# %d %X", typeName(uint16(h.Type)), len(b.Data), b.Data) // RFC 3597 section 5
	}
	if err != nil {
		return false
	}
	r.answers = append(r.answers, text)
	return true
}

func (r *result) address(a netip.Addr) string {
	r.addrs = append(r.addrs, a.Unmap())
	return a.String()
}

func target(n dnsmessage.Name) string {
	if s := strings.TrimSuffix(n.String(), "."); s != "" {
		return s
	}
	return "."
}

func quoted(parts []string) string {
	q := make([]string, len(parts))
	for i, p := range parts {
		q[i] = strconv.Quote(p)
	}
	return strings.Join(q, " ")
}

var typeNames = map[uint16]string{
	typeA: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", typeAAAA: "AAAA",
	29: "LOC", 33: "SRV", 35: "NAPTR", 39: "DNAME", typeOPT: "OPT", 43: "DS", 44: "SSHFP", 46: "RRSIG", 47: "NSEC",
	48: "DNSKEY", 50: "NSEC3", 52: "TLSA", 61: "OPENPGPKEY", typeSVCB: "SVCB", typeHTTPS: "HTTPS", 99: "SPF",
	249: "TKEY", 250: "TSIG", 251: "IXFR", 252: "AXFR", typeANY: "ANY", 256: "URI", 257: "CAA",
}

// typeName returns the mnemonic of a type, or TYPE and its number (RFC 3597
// section 5).
func typeName(t uint16) string {
	if n := typeNames[t]; n != "" {
		return n
	}
	return "TYPE" + strconv.Itoa(int(t))
}

var rcodeNames = []string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
	"YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE"}

func rcodeName(n int) string {
	if n < len(rcodeNames) {
		return rcodeNames[n]
	}
	return "RCODE" + strconv.Itoa(n)
}
