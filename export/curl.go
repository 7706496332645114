package export

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"trace/flow"
)

// A Curl writes requests as commands of curl for a POSIX shell. Once the
// variables are set that stand for secrets, a command sends the bytes that were
// sent, but for what HTTP needs to frame them.
type Curl struct {
	W io.Writer
	// Terminal keeps characters out that a terminal might obey.
	Terminal bool
	snippets
}

// maxWord is how long an argument of a command may get: Linux takes 128 KiB.
const maxWord = 100 << 10

// Flow writes the command for one request.
func (c *Curl) Flow(x *flow.Exchange) error {
	s, err := snippetOf(x, c.source)
	if err != nil {
		return err
	}
	c.w = c.W
	piped := !s.text || c.Terminal && !printable(s.body)
	var feed string // what comes through a pipe
	var data string // or stands as an argument
	switch {
	case !s.sent:
	case piped:
		feed = "printf %s '" + base64.StdEncoding.EncodeToString(s.body) + "' | base64 -d | "
	case len(s.body) > maxWord:
		feed = "printf %s " + c.word("", s.fragments()) + " | "
	default:
		data = c.word("", s.fragments())
	}
	var b strings.Builder
	s.title(&b, "#", x)
	b.WriteString(feed + "curl")
	for _, a := range s.curlFlags() {
		b.WriteString(" " + a)
	}
	b.WriteString(" " + c.word("", s.url))
	if s.target != "" {
		b.WriteString(" \\\n  --request-target " + c.word("", s.secrets.split(inQuery, "", s.target)))
	}
	for _, a := range c.fields(s) {
		b.WriteString(" \\\n  -H " + a)
	}
	switch {
	case feed != "":
		b.WriteString(" \\\n  --data-binary @-")
	case s.sent:
		b.WriteString(" \\\n  --data-raw " + data)
	}
	return c.write(b.String() + "\n")
}

// curlFlags are those that stand before the URL.
func (s *snippet) curlFlags() []string {
	var fs []string
	switch {
	case s.version == "2" && s.secure:
		fs = append(fs, "--http2")
	case s.version == "2":
		fs = append(fs, "--http2-prior-knowledge")
	case s.version == "1.0":
		fs = append(fs, "--http1.0")
	case s.secure: // else curl would offer HTTP/2
		fs = append(fs, "--http1.1")
	}
	switch {
	case s.method == "HEAD" && !s.sent:
		fs = append(fs, "--head")
	case s.method == "GET" && !s.sent, s.method == "POST" && s.sent:
	default:
		fs = append(fs, "-X "+shellWord(s.method, false))
	}
	if s.coded {
		fs = append(fs, "--compressed")
	}
	if s.stream {
		fs = append(fs, "-N")
	}
	url := ""
	for _, f := range s.url {
		url += f.text
	}
	if strings.ContainsAny(url, "[]{}") {
		fs = append(fs, "-g")
	}
	if strings.Contains(url, "/.") {
		fs = append(fs, "--path-as-is")
	}
	return fs
}

// fields are the arguments of -H: the fields as they were, and those that curl
// would add of itself taken away.
func (c *Curl) fields(s *snippet) []string {
	var list []string
	has := map[string]bool{}
	for _, f := range s.fields {
		has[strings.ToLower(f.name)] = true
		if len(f.value) == 1 && f.value[0] == (fragment{}) {
			list = append(list, c.word(f.name+";", nil))
			continue
		}
		list = append(list, c.word(f.name+": ", f.value))
	}
	own := []string{"User-Agent", "Accept"}
	if s.sent {
		own = append(own, "Content-Type")
		if len(s.body) > 1024 {
			own = append(own, "Expect")
		}
	}
	for _, name := range own {
		if !has[strings.ToLower(name)] {
			list = append(list, "'"+name+":'")
		}
	}
	return list
}

// word writes fragments as one word of a shell.
func (c *Curl) word(before string, fs []fragment) string {
	var b strings.Builder
	text := before
	flush := func() {
		if text != "" {
			b.WriteString(shellWord(text, c.Terminal))
			text = ""
		}
	}
	for _, f := range fs {
		if text += f.text; f.variable != "" {
			flush()
			b.WriteString(`"$` + f.variable + `"`)
		}
	}
	if flush(); b.Len() == 0 {
		return "''"
	}
	return b.String()
}

// shellWord quotes s for a POSIX shell. Control characters and bytes that are
// no text are made by printf; strict: so is what cannot be seen.
func shellWord(s string, strict bool) string {
	var b strings.Builder
	quoted := false
	quote := func(on bool) {
		if quoted != on {
			b.WriteByte('\'')
			quoted = on
		}
	}
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		bad := r == utf8.RuneError && n == 1 || unicode.IsControl(r) && r != '\n' && r != '\t' || strict && !unicode.IsPrint(r) && r != '\n' && r != '\t'
		switch {
		case bad:
			quote(false)
			b.WriteString(`"$(printf '`)
			for _, c := range []byte(s[i : i+n]) {
				fmt.Fprintf(&b, `\%03o`, c)
			}
			b.WriteString(`')"`)
		case r == '\'':
			quote(false)
			b.WriteString(`\'`)
		default:
			quote(true)
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	quote(false)
	return b.String()
}

// printable reports whether a terminal may be shown p.
func printable(p []byte) bool {
	return !bytes.ContainsFunc(p, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' })
}

// End does nothing.
func (c *Curl) End() error { return nil }
