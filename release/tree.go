package main

import (
	"bytes"
	"compress/gzip"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A file is one that is installed or archived.
type file struct {
	name string // without a leading slash
	mode int64
	body []byte
	kind fileKind
}

// A fileKind is how a package manager treats a file.
type fileKind int

const (
	plain fileKind = iota
	document
	licence
)

// A tree holds what is the same for all systems.
type tree struct {
	texts       map[string][]byte // README.md, LICENSE, docs/cli.md and so on
	pages       map[string][]byte // manual pages
	completions map[string][]byte // by shell
	profile     []byte            // AppArmor's, for /usr/bin/trace
	licences    map[string]licensed
	built       map[target][]byte // what was linked already
}

// textsOf are the documents in the root that go into archives and packages.
var textsOf = []string{"README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"}

const noticesFile = "THIRD_PARTY_NOTICES"

// gather collects what is the same for all systems.
func gather(o options, src source) (*tree, error) {
	t := &tree{texts: map[string][]byte{}, pages: map[string][]byte{}, completions: map[string][]byte{}, built: map[target][]byte{}}
	for _, name := range textsOf {
		body, err := os.ReadFile(filepath.Join(src.root, name))
		if err != nil {
			return nil, err
		}
		t.texts[name] = body
	}
	docs, err := os.ReadDir(filepath.Join(src.root, "docs"))
	if err != nil {
		return nil, err
	}
	for _, d := range docs {
		if d.IsDir() {
			continue
		}
		if t.texts["docs/"+d.Name()], err = os.ReadFile(filepath.Join(src.root, "docs", d.Name())); err != nil {
			return nil, err
		}
	}
	if t.licences, err = licencesOf(o); err != nil {
		return nil, err
	}
	t.texts[noticesFile] = notices(t.licences)
	return t, t.ask(o, src)
}

// ask has trace itself write what it knows of itself.
func (t *tree) ask(o options, src source) error {
	dir, err := os.MkdirTemp("", "trace-speaks-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := newSpeaker(o, src, dir, t.built)
	if err != nil {
		return err
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if t.completions[shell], err = s.say("completion", shell); err != nil {
			return err
		}
	}
	if t.profile, err = s.say("namespace", "apparmor-profile", "--binary", "/usr/bin/trace"); err != nil {
		return err
	}
	man := filepath.Join(dir, "man")
	if _, err := s.say("man", man); err != nil {
		return err
	}
	pages, err := os.ReadDir(man)
	if err != nil {
		return err
	}
	for _, p := range pages {
		if t.pages[p.Name()], err = os.ReadFile(filepath.Join(man, p.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Where a package puts things.
const (
	docDir     = "usr/share/doc/trace/"
	profileDir = "usr/share/trace/apparmor/"
)

// installed lists the files of a package, by name. zshDir is where the distributions
// of its kind have completions of zsh.
func (t *tree) installed(binary, bill []byte, zshDir string) []file {
	files := []file{
		{"usr/bin/trace", 0o755, binary, plain},
		{profileDir + "trace", 0o644, append([]byte(profileMark), t.profile...), plain},
		{docDir + "trace.spdx.json", 0o644, bill, document},
		{docDir + "copyright", 0o644, copyright(), licence},
		{docDir + noticesFile, 0o644, t.texts[noticesFile], licence},
		{docDir + "CHANGELOG.md.gz", 0o644, gzipped(t.texts["CHANGELOG.md"]), document},
		{"usr/share/bash-completion/completions/trace", 0o644, t.completions["bash"], plain},
		{zshDir + "_trace", 0o644, t.completions["zsh"], plain},
		{"usr/share/fish/vendor_completions.d/trace.fish", 0o644, t.completions["fish"], plain},
	}
	for name, body := range t.texts {
		kind := document
		switch name {
		case "CHANGELOG.md", noticesFile:
			continue
		case "LICENSE":
			kind = licence
		}
		files = append(files, file{docDir + name, 0o644, body, kind})
	}
	for name, body := range t.pages {
		files = append(files, file{"usr/share/man/man1/" + name + ".gz", 0o644, gzipped(body), document})
	}
	return sorted(files)
}

// profileMark heads the profile that packages install, by which they know it again:
// one that a person wrote is never touched.
const profileMark = "# Installed by the package trace. What you change belongs into /etc/apparmor.d/local/trace.\n"

func sorted(files []file) []file {
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files
}

// directories lists the directories above files, those above first.
func directories(files []file) []string {
	all := map[string]bool{}
	for _, f := range files {
		for d := path.Dir(f.name); d != "."; d = path.Dir(d) {
			all[d] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// gzipped compresses without a name or a time, as Debian wants it for small files;
// for large ones the last half percent is not worth three times the time.
func gzipped(body []byte) []byte {
	level := gzip.BestCompression
	if len(body) > 1<<20 {
		level = gzip.DefaultCompression
	}
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, level) // the level is one
	w.Write(body)
	w.Close()
	return b.Bytes()
}

// copyright is Debian's machine-readable form (DEP-5).
func copyright() []byte {
	return []byte(`Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: trace
Comment: The licences of what is linked into the binary are in ` + noticesFile + `,
 beside this file.

Files: *
Copyright: 2026 The trace authors
License: Apache-2.0
 The text of the licence is in LICENSE, beside this file; Debian systems also have
 it as /usr/share/common-licenses/Apache-2.0.
`)
}
