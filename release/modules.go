package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A licensed part is a module, or a library of the page, that is linked into trace.
type licensed struct {
	name    string
	version string
	ids     []string // SPDX identifiers of its licences
	texts   []string // as its authors wrote them
}

// expression is the SPDX licence expression of all its licences together.
func (l licensed) expression() string {
	if len(l.ids) == 0 {
		return "NOASSERTION"
	}
	return strings.Join(l.ids, " AND ")
}

// standardLibrary is what Go itself is called among modules.
const standardLibrary = "stdlib"

// A linkedPackage is what go list says of a package.
type linkedPackage struct {
	Dir    string
	Module *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path, Version string }
	}
}

// licencesOf finds what is linked into trace on any of the systems that it is built
// for, and under which licences: by name.
func licencesOf(o options) (map[string]licensed, error) {
	parts := map[string]licensed{}
	where := map[string]map[string]bool{} // module → directories that may have licences
	roots := map[string]string{}
	for _, t := range []target{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}} {
		out, err := run(goCommand(o, t, "list", "-deps", "-json=Dir,Module", "./cmd/trace"))
		if err != nil {
			return nil, err
		}
		for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
			var p linkedPackage
			if err := dec.Decode(&p); err == io.EOF {
				break
			} else if err != nil {
				return nil, fmt.Errorf("go list: %w", err)
			}
			if m := p.Module; m != nil && !m.Main && (m.Replace == nil || m.Replace.Version != "") {
				parts[m.Path] = licensed{name: m.Path, version: m.Version}
				roots[m.Path] = m.Dir
				addAbove(where, m.Path, m.Dir, p.Dir)
			}
		}
	}
	goroot, err := run(goCommand(o, target{"linux", "amd64"}, "env", "GOROOT"))
	if err != nil {
		return nil, err
	}
	parts[standardLibrary] = licensed{name: standardLibrary}
	where[standardLibrary] = map[string]bool{strings.TrimSpace(string(goroot)): true}
	roots[standardLibrary] = strings.TrimSpace(string(goroot))
	for name, l := range parts {
		for _, dir := range slices.Sorted(maps.Keys(where[name])) {
			if err := l.read(dir, roots[name]); err != nil {
				return nil, fmt.Errorf("licence of %s: %w", name, err)
			}
		}
		if len(l.texts) == 0 {
			return nil, fmt.Errorf("licence of %s: none found in %s", name, roots[name])
		}
		parts[name] = l
	}
	return parts, addLibraries(parts, filepath.Join(o.root, "web", "ui", "vendor"))
}

// addAbove notes the directories from a linked package up to its module's: a part
// that was taken from elsewhere has its licence beside it.
func addAbove(where map[string]map[string]bool, module, root, dir string) {
	if where[module] == nil {
		where[module] = map[string]bool{}
	}
	for ; len(dir) >= len(root); dir = filepath.Dir(dir) {
		where[module][dir] = true
	}
}

// licenceFiles are the names by which licences, and what has to be passed on with
// them, are known.
func licenceFiles() *regexp.Regexp {
	return regexp.MustCompile(`(?i)^(.*[-.])?(licen[cs]e|copying|copyright|notice|patents)([-._].*)?$`)
}

// read adds the licences in dir, which is root or below.
func (l *licensed) read(dir, root string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !licenceFiles().MatchString(e.Name()) || filepath.Ext(e.Name()) == ".go" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		title := e.Name()
		if below, err := filepath.Rel(root, filepath.Join(dir, e.Name())); err == nil {
			title = filepath.ToSlash(below)
		}
		l.add(title, string(b))
	}
	return nil
}

// add takes one text, and what it is.
func (l *licensed) add(title, text string) {
	text = strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
	if text == "" || slices.Contains(l.texts, text) {
		return
	}
	l.texts = append(l.texts, text)
	for _, id := range identify(text) {
		if !slices.Contains(l.ids, id) {
			l.ids = append(l.ids, id)
		}
	}
	slices.Sort(l.ids)
}

// addLibraries adds what is bundled into the page.
func addLibraries(parts map[string]licensed, vendor string) error {
	return filepath.WalkDir(vendor, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.Name() != "package.json" {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var about struct{ Name, Version, License string }
		if err := json.Unmarshal(b, &about); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if about.Version == "" {
			return nil // a part of the package above it
		}
		l := licensed{name: "npm:" + about.Name, version: about.Version}
		if err := l.read(filepath.Dir(name), filepath.Dir(name)); err != nil {
			return err
		}
		if len(l.texts) == 0 {
			return errors.New(name + ": no licence beside it")
		}
		parts[l.name] = l
		return nil
	})
}
