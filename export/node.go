package export

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"trace/flow"
)

// A Node writes requests as a program for Node.js with fetch, which adds fields
// of its own where they are not given.
type Node struct {
	W io.Writer
	snippets
}

// Flow writes the statements for one request.
func (n *Node) Flow(x *flow.Exchange) error {
	s, err := snippetOf(x, n.source)
	if err != nil {
		return err
	}
	n.w = n.W
	bodiless := s.method == "GET" || s.method == "HEAD"
	switch {
	case s.upgrade:
		return ErrNoPlace
	case bodiless && len(s.body) > 0:
		s.notes = append(s.notes, "fetch sends no body with "+s.method+": it is left out")
	}
	body := ""
	switch {
	case !s.sent || bodiless:
	case s.text:
		body = joined(s.fragments(), scriptText, scriptVariable)
	default:
		body = `Buffer.from("` + base64.StdEncoding.EncodeToString(s.body) + `", "base64")`
	}
	var b strings.Builder
	if n.n == 0 {
		b.WriteString(";(async () => {\n")
	}
	var fields strings.Builder
	for _, f := range s.fields {
		if name := strings.ToLower(f.name); name == "host" || name == "expect" {
			s.notes = append(s.notes, "fetch sends no "+name+" but its own")
			continue
		}
		literal := func(t string) string { return scriptText(latin(t)) }
		fmt.Fprintf(&fields, "      [%s, %s],\n", scriptText(latin(f.name)), joined(f.value, literal, scriptVariable))
	}
	if s.version == "2" {
		s.notes = append(s.notes, "it went over HTTP/2; fetch of Node.js may use HTTP/1.1")
	}
	s.title(&b, "//", x)
	fmt.Fprintf(&b, "  {\n    const response = await fetch(%s, {\n      method: %s,\n      redirect: \"manual\",\n      headers: [\n", joined(s.url, scriptText, scriptVariable), scriptText(s.method))
	b.WriteString(strings.ReplaceAll(fields.String(), "      [", "        [") + "      ],\n")
	if body != "" {
		b.WriteString("      body: " + body + ",\n")
	}
	b.WriteString("    })\n    console.error(response.status, response.statusText)\n")
	b.WriteString("    if (response.body) for await (const chunk of response.body) process.stdout.write(chunk)\n  }\n")
	return n.write(b.String())
}

func scriptVariable(name string) string { return "process.env." + name }

// End closes the program.
func (n *Node) End() error {
	if n.n == 0 {
		return nil
	}
	_, err := io.WriteString(n.W, "})()\n")
	return err
}
