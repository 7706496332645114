package redact

// A class is a set of bytes, as a union of the groups below.
type class uint32

// The groups of ASCII bytes that the patterns distinguish.
const (
	hexLetter class = 1 << iota // a-f
	lowLetter                   // g-z
	upLetter                    // A-Z
	digit01                     // 0 1: not in base32
	digit27
	digit89
	underscore
	dash
	dot
	plus
	slash
	equals
	tilde
	percent
	space // space, tab, CR, LF, FF, VT
	colon
	comma
	backslash
	quote   // " '
	angle   // < >
	amp     // &
	hash    // #
	semi    // ;
	control // other bytes below 0x20, DEL
	high    // bytes from 0x80
	other   // what is left of ASCII
)

const (
	digit    = digit01 | digit27 | digit89
	alnum    = hexLetter | lowLetter | upLetter | digit
	word     = alnum | underscore // \w
	wordDash = word | dash
	hexLower = hexLetter | digit
	anyByte  = class(1<<32 - 1)

	pemBody    = alnum | plus | slash | equals | space | colon | comma | dash | backslash
	bearerBody = alnum | dot | underscore | tilde | plus | slash | dash | equals
	base64Body = alnum | plus | slash
	jwtBody    = wordDash | dot | equals

	fieldValue   = anyByte &^ (amp | space | quote | angle)                    // of a form
	queryValue   = anyByte &^ (amp | hash | space | quote | angle | backslash) // of a URL
	credential   = anyByte &^ (comma | space | quote | amp)                    // of SigV4
	protoValue   = anyByte &^ (comma | semi | space | quote | angle | backslash)
	envValue     = anyByte &^ (amp | semi | comma | space | quote | angle | backslash | control)
	userinfoUser = anyByte &^ (slash | space | colon | quote | angle)
	userinfoPass = anyByte &^ (slash | space | quote | angle)
)

var classOf = func() (t [256]class) {
	for i := range t {
		c := byte(i)
		switch {
		case c >= 'a' && c <= 'f':
			t[i] = hexLetter
		case c > 'f' && c <= 'z':
			t[i] = lowLetter
		case c >= 'A' && c <= 'Z':
			t[i] = upLetter
		case c == '0' || c == '1':
			t[i] = digit01
		case c >= '2' && c <= '7':
			t[i] = digit27
		case c == '8' || c == '9':
			t[i] = digit89
		case c == ' ' || c >= '\t' && c <= '\r':
			t[i] = space
		case c < ' ' || c == 0x7f:
			t[i] = control
		case c >= 0x80:
			t[i] = high
		default:
			t[i] = other
		}
	}
	for c, g := range map[byte]class{
		'_': underscore, '-': dash, '.': dot, '+': plus, '/': slash, '=': equals, '~': tilde, '%': percent,
		':': colon, ',': comma, '\\': backslash, '"': quote, '\'': quote, '<': angle, '>': angle, '&': amp, '#': hash, ';': semi,
	} {
		t[c] = g
	}
	return t
}()

func (c class) has(b byte) bool { return classOf[b]&c != 0 }

// all reports whether every byte of p is in c.
func (c class) all(p []byte) bool {
	for _, b := range p {
		if classOf[b]&c == 0 {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || lower(c) >= 'a' && lower(c) <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return lower(c) - 'a' + 10
}
