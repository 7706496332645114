package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxConfig bounds the configuration file.
const maxConfig = 1 << 20

// A node is a JSON value that knows on which line it begins. value is nil, a
// bool, a string, a json.Number, a []node or a []member.
type node struct {
	value any
	line  int
}

// A member is one of an object.
type member struct {
	key  string
	line int
	node node
}

// A configError names the file and the line of what is wrong with it.
type configError struct {
	file string
	line int
	why  string
}

// Error returns FILE:LINE: why.
func (e configError) Error() string {
	if e.line == 0 {
		return fmt.Sprintf("%s: %s", printable(e.file), e.why)
	}
	return fmt.Sprintf("%s:%d: %s", printable(e.file), e.line, e.why)
}

// configPath returns the configuration file: the one that TRACE_CONFIG names, or
// config.json in the directory of the XDG Base Directory Specification. "" means
// none; from says who named it, and must that it has to be there.
func configPath(getenv func(string) string, lookup func(string) (string, bool)) (file, from string, must bool) {
	if named, ok := lookup("TRACE_CONFIG"); ok {
		return named, "TRACE_CONFIG", named != ""
	}
	// The specification tells to ignore relative paths.
	if base := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "trace", "config.json"), "XDG_CONFIG_HOME", false
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".config", "trace", "config.json"), "HOME", false
	}
	return "", "HOME", false
}

// readConfigFile returns the members of the object in file; none if it is not
// there and need not be.
func readConfigFile(file string, must bool) ([]member, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) && !must {
		return nil, nil
	}
	if err != nil {
		return nil, configError{file: file, why: reasonOf(err)}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	switch {
	case err != nil:
		return nil, configError{file: file, why: reasonOf(err)}
	case len(text) > maxConfig:
		return nil, configError{file: file, why: fmt.Sprintf("longer than %d bytes", maxConfig)}
	}
	return parseConfig(file, text)
}

// reasonOf is an error of os without the name of the file.
func reasonOf(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// parseConfig reads the text of a configuration file.
func parseConfig(file string, text []byte) ([]member, error) {
	p := &nodeParser{d: json.NewDecoder(bytes.NewReader(text)), text: text}
	p.d.UseNumber()
	n, err := p.node()
	if err == nil {
		if _, e := p.d.Token(); e != io.EOF {
			err = configError{line: p.line(), why: "something follows the object"}
		}
	}
	var ce configError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &ce):
		ce.file = file
		return nil, ce
	case errors.As(err, &syntax):
		return nil, configError{file, p.lineAt(syntax.Offset), syntax.Error()}
	case err != nil:
		return nil, configError{file, p.lineAt(int64(len(text))), "it ends within a value"}
	}
	members, ok := n.value.([]member)
	if !ok {
		return nil, configError{file, n.line, "want a JSON object"}
	}
	return members, nil
}

// nodeParser reads nodes out of the tokens of a text.
type nodeParser struct {
	d    *json.Decoder
	text []byte
}

func (p *nodeParser) lineAt(offset int64) int {
	return 1 + bytes.Count(p.text[:min(max(offset, 0), int64(len(p.text)))], []byte("\n"))
}

// line is that of the token read last.
func (p *nodeParser) line() int { return p.lineAt(p.d.InputOffset()) }

func (p *nodeParser) node() (node, error) {
	t, err := p.d.Token()
	if err != nil {
		return node{}, err
	}
	n := node{value: t, line: p.line()}
	switch t {
	case json.Delim('['):
		list := []node{}
		for p.d.More() {
			e, err := p.node()
			if err != nil {
				return n, err
			}
			list = append(list, e)
		}
		n.value = list
	case json.Delim('{'):
		if n.value, err = p.members(); err != nil {
			return n, err
		}
	default:
		return n, nil
	}
	_, err = p.d.Token() // what closes it
	return n, err
}

func (p *nodeParser) members() ([]member, error) {
	list := []member{}
	seen := map[string]bool{}
	for p.d.More() {
		t, err := p.d.Token()
		if err != nil {
			return nil, err
		}
		m := member{line: p.line()}
		m.key, _ = t.(string)
		if seen[m.key] {
			return nil, configError{line: m.line, why: fmt.Sprintf("%q stands here again", printable(m.key))}
		}
		seen[m.key] = true
		if m.node, err = p.node(); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// strings returns n as the values of a flag of that type (of pflag), or what is
// wanted instead.
func (n node) strings(kind string) (values []string, want string) {
	switch v := n.value.(type) {
	case bool:
		if kind == "bool" {
			return []string{fmt.Sprint(v)}, ""
		}
	case json.Number:
		if s := v.String(); kind == "string" || strings.HasPrefix(kind, "int") && !strings.ContainsAny(s, ".eE") {
			return []string{s}, ""
		}
	case string:
		if kind == "string" || kind == "stringArray" || kind == "duration" {
			return []string{v}, ""
		}
	case []node:
		if kind != "stringArray" {
			break
		}
		for _, e := range v {
			s, ok := e.value.(string)
			if !ok {
				return nil, "an array of strings"
			}
			values = append(values, s)
		}
		return values, ""
	}
	switch kind {
	case "bool":
		return nil, "true or false"
	case "string", "duration":
		return nil, "a string"
	case "stringArray":
		return nil, "a string, or an array of strings"
	}
	return nil, "a whole number"
}
