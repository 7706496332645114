package trust

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// bundles are the files with all of a system's roots. Where several are there
// the variables name the first.
var bundles = []string{
	"/etc/ssl/certs/ca-certificates.crt",                // Debian, Alpine, Arch, Gentoo, NixOS
	"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL
	"/etc/ssl/ca-bundle.pem",                            // openSUSE
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
	"/etc/ssl/cert.pem",                                 // Alpine, LibreSSL
	"/etc/pki/tls/cert.pem",                             // OpenSSL of Fedora, RHEL
	"/etc/ca-certificates/extracted/tls-ca-bundle.pem",  // Arch
	"/var/lib/ca-certificates/ca-bundle.pem",            // openSUSE
	"/etc/ssl/certs/ca-bundle.crt",                      // NixOS, Fedora
	"/etc/pki/tls/cacert.pem",                           // OpenELEC
	"/usr/lib/ssl/cert.pem",                             // OpenSSL of Debian
	"/usr/share/ssl/certs/ca-bundle.crt",                // old RHEL
	"/usr/local/etc/ssl/cert.pem",                       // built by hand
	"/home/linuxbrew/.linuxbrew/etc/openssl@3/cert.pem", // Homebrew
	"/home/linuxbrew/.linuxbrew/etc/ca-certificates/cert.pem",
}

// hashed are directories in which OpenSSL looks certificates up by hash.
var hashed = []string{
	"/etc/ssl/certs",
	"/etc/pki/tls/certs",
	"/etc/pki/ca-trust/extracted/pem/directory-hash",
	"/var/lib/ca-certificates/openssl",
	"/usr/lib/ssl/certs",
}

// anchors are directories whose files p11-kit's trust module takes as roots.
var anchors = []string{
	"/etc/pki/ca-trust/source/anchors",
	"/etc/ca-certificates/trust-source/anchors",
	"/etc/pki/trust/anchors",
}

// Limits of what is read.
const (
	maxFile    = 16 << 20
	maxEntries = 4096 // of a directory
	maxLinks   = 40   // as the kernel's
)

var errNoFile = errors.New("not a regular file")

// rooted is a directory that stands for the root: all paths are below it, and
// so is what absolute symbolic links lead to.
type rooted string

// resolve follows the symbolic links of name and returns where it leads to.
func (r rooted) resolve(name string) (string, error) {
	if r == "" { // most of what is looked for is not there, as one look tells
		if err := syscall.Access(name, 0); err != nil {
			return "", &fs.PathError{Op: "access", Path: name, Err: err}
		}
	}
	rest := strings.Split(name, "/")
	cur, links := "/", 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		if part == "" || part == "." {
			continue
		}
		next := path.Join(cur, part)
		link, err := os.Readlink(string(r) + next)
		switch {
		case errors.Is(err, syscall.EINVAL): // no link
			cur = next
			continue
		case err != nil:
			return "", err
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "readlink", Path: name, Err: syscall.ELOOP}
		}
		if path.IsAbs(link) {
			cur = "/"
		}
		rest = append(strings.Split(link, "/"), rest...)
	}
	return cur, nil
}

// read returns the contents of a regular file. Devices and pipes are not
// opened: they might never end.
func (r rooted) read(name string) ([]byte, error) {
	full := string(r) + name
	if !path.IsAbs(name) {
		full = name
	}
	fi, err := os.Stat(full)
	switch {
	case err != nil:
		return nil, err
	case !fi.Mode().IsRegular():
		return nil, &fs.PathError{Op: "read", Path: name, Err: errNoFile}
	case fi.Size() > maxFile:
		return nil, &fs.PathError{Op: "read", Path: name, Err: syscall.EFBIG}
	}
	return os.ReadFile(full)
}

// list returns the names in a directory, without those of links within it:
// their targets are among the names.
func (r rooted) list(dir string) []string {
	full := string(r) + dir
	if !path.IsAbs(dir) {
		full = dir
	}
	entries, err := os.ReadDir(full)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries[:min(len(entries), maxEntries)] {
		if e.Type() == fs.ModeSymlink {
			if to, err := os.Readlink(path.Join(full, e.Name())); err == nil && !strings.Contains(to, "/") {
				continue
			}
		}
		if e.Type() == fs.ModeSymlink || e.Type() == 0 {
			names = append(names, e.Name())
		}
	}
	return names
}

// bundle is a system bundle that is there.
type bundle struct{ path, real string }

// system reads the bundles of the host.
func (b *builder) system() []bundle {
	var found []bundle
	for _, name := range bundles {
		real, err := b.root.resolve(name)
		if err != nil || slices.ContainsFunc(found, func(f bundle) bool { return f.real == real }) {
			continue
		}
		data, err := b.root.read(real)
		if err != nil {
			if !errors.Is(err, errNoFile) {
				b.note("%s: %v", name, err)
			}
			continue
		}
		found = append(found, bundle{name, real})
		b.read = append(b.read, real)
		b.add(name, data)
	}
	return found
}

// directories returns the hashed directories that are there, resolved.
func (b *builder) directories() []string { return b.existing(hashed) }

func (b *builder) existing(dirs []string) []string {
	var found []string
	for _, name := range dirs {
		real, err := b.root.resolve(name)
		if err != nil || slices.Contains(found, real) {
			continue
		}
		if fi, err := os.Stat(string(b.root) + real); err == nil && fi.IsDir() {
			found = append(found, real)
		}
	}
	return found
}

// place decides what is covered with the combined bundle, and which path the
// variables name.
func (b *builder) place(found []bundle) {
	p := b.plan
	data := b.combined()
	if b.Files {
		p.Bundle = path.Join(b.Dir, bundleName)
		p.Files = append(p.Files, File{Name: bundleName, Data: data, Required: true})
		return
	}
	trees := map[string]int{} // index in p.Trees by target
	for i, dir := range p.dirs {
		trees[dir] = i
		p.Trees = append(p.Trees, Tree{Target: dir, From: dir, Add: b.hashedFiles(dir)})
	}
	for _, dir := range b.existing(anchors) {
		if _, ok := trees[dir]; !ok {
			p.Trees = append(p.Trees, Tree{Target: dir, From: dir, Add: map[string][]byte{anchorName: b.caPEM}})
		}
	}
	for i, f := range found {
		if t, ok := trees[path.Dir(f.real)]; ok {
			p.Trees[t].Add[path.Base(f.real)] = data
			p.Trees[t].Required = p.Trees[t].Required || i == 0
			continue
		}
		p.Files = append(p.Files, File{Target: f.real, Data: data, Required: i == 0})
	}
	switch {
	case len(found) > 0:
		p.Bundle = found[0].path
	case len(p.dirs) > 0:
		p.Bundle = path.Join(p.dirs[0], bundleName)
		p.Trees[0].Add[bundleName] = data
		p.Trees[0].Required = true
	case b.Dir != "":
		p.Bundle = path.Join(b.Dir, bundleName)
		p.Files = append(p.Files, File{Name: bundleName, Data: data, Required: true})
	default:
		b.note("this host has no place for certificates: make the directory %s", hashed[0])
	}
}

// order puts a directory before those inside it, which its copy would hide.
func order(trees []Tree) {
	slices.SortStableFunc(trees, func(a, b Tree) int { return len(a.Target) - len(b.Target) })
}

// hashedFiles returns our certificate under the names by which it is found in
// dir.
func (b *builder) hashedFiles(dir string) map[string][]byte {
	add := map[string][]byte{anchorName: b.caPEM}
	hash, err := subjectHash(b.ca.RawSubject)
	if err != nil {
		b.note("%s: %v", dir, err)
		return add
	}
	for n := 0; ; n++ {
		name := hashName(hash, n)
		if _, err := os.Lstat(string(b.root) + path.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			add[name] = b.caPEM
			return add
		} else if err != nil {
			return add // not to be looked into: nobody else finds anything there
		}
	}
}
