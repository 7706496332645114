package export

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"trace/flow"
)

// A Python writes requests as programs of Python with httpx, which sends no
// field but those given and what frames the body.
type Python struct {
	W io.Writer
	snippets
}

// Flow writes the program for one request.
func (p *Python) Flow(x *flow.Exchange) error {
	s, err := snippetOf(x, p.source)
	if err != nil {
		return err
	}
	p.w = p.W
	content := ""
	switch {
	case !s.sent:
	case s.text:
		if content = joined(s.fragments(), pythonText, pythonVariable); content != `""` {
			content = "(" + content + ").encode()"
		} else {
			content = `b""`
		}
	default:
		content = `base64.b64decode("` + base64.StdEncoding.EncodeToString(s.body) + `")`
	}
	var b strings.Builder
	if p.n == 0 {
		b.WriteString("import base64, os, sys\nimport httpx\n\n")
	}
	s.title(&b, "#", x)
	fmt.Fprintf(&b, "request = httpx.Request(\n    %s,\n    %s,\n    headers=[\n", pythonText(s.method), joined(s.url, pythonText, pythonVariable))
	for _, f := range s.fields {
		fmt.Fprintf(&b, "        (%s, %s),\n", pythonText(latin(f.name)), pythonValue(f.value))
	}
	b.WriteString("    ],\n")
	if s.sent {
		b.WriteString("    content=" + content + ",\n")
	}
	if s.target != "" {
		b.WriteString("    extensions={\"target\": " + pythonValue(s.secrets.split(inQuery, "", s.target)) + ".encode(\"latin-1\")},\n")
	}
	b.WriteString(")\nwith httpx.Client(")
	if s.version == "2" {
		b.WriteString("http2=True, ") // pip install 'httpx[http2]'
		if !s.secure {
			b.WriteString("http1=False, ")
		}
	}
	b.WriteString("timeout=None) as client:\n    response = client.send(request, stream=True)\n")
	b.WriteString("    print(response.http_version, response.status_code, response.reason_phrase, file=sys.stderr)\n")
	b.WriteString("    for chunk in response.iter_bytes():\n        sys.stdout.buffer.write(chunk)\n        sys.stdout.buffer.flush()\n")
	return p.write(b.String())
}

func pythonVariable(name string) string { return `os.environ["` + name + `"]` }

// pythonValue is the value of a field: text where it is ASCII, else bytes.
func pythonValue(fs []fragment) string {
	wide := false
	for _, f := range fs {
		for i := range len(f.text) {
			wide = wide || f.text[i] >= 0x80
		}
	}
	literal := func(s string) string { return pythonText(latin(s)) }
	if !wide {
		return joined(fs, literal, pythonVariable)
	}
	return "(" + joined(fs, literal, pythonVariable) + `).encode("latin-1")`
}

// End does nothing.
func (p *Python) End() error { return nil }
