package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// storePassword is the one that every JDK's cacerts has, and that guards
// nothing.
const storePassword = "changeit"

// stores are the keystores that distributions make for all JDKs.
var stores = []string{
	"/etc/ssl/certs/java/cacerts",                     // Debian, Arch
	"/etc/pki/java/cacerts",                           // Fedora, RHEL
	"/etc/pki/ca-trust/extracted/java/cacerts",        // Fedora, RHEL
	"/etc/ca-certificates/extracted/java-cacerts.jks", // Arch
	"/var/lib/ca-certificates/java-cacerts",           // openSUSE
	"/etc/ssl/java/cacerts",                           // Alpine
}

// homes are patterns of directories that hold a JDK.
var homes = []string{
	"/usr/lib/jvm/*", "/usr/lib64/jvm/*", "/usr/java/*", "/usr/local/openjdk-*", "/opt/java/*", "/opt/jdk*", "/opt/openjdk*",
	"/opt/*jdk*",
}

// userHomes are such patterns below the user's home directory.
var userHomes = []string{".sdkman/candidates/java/*", ".jdks/*", ".asdf/installs/java/*", ".local/share/mise/installs/java/*"}

// inHome are the paths of keystores in a JDK. A jssecacerts is used instead of
// a cacerts beside it.
var inHome = []string{
	"lib/security/cacerts", "lib/security/jssecacerts", "jre/lib/security/cacerts", "jre/lib/security/jssecacerts",
}

// keystores are the covers of Java's stores.
type keystores struct {
	files []File
	notes []string
}

// java adds our CA to each keystore that is there. It runs beside the rest of
// Build and touches nothing of the plan.
func (b *builder) java() keystores {
	var k keystores
	var done []string
	for _, name := range b.javaPaths() {
		real, err := b.root.resolve(name)
		if err != nil || slices.Contains(done, real) {
			continue
		}
		done = append(done, real)
		data, err := b.root.read(real)
		if err == nil {
			data, err = b.addToStore(data)
		}
		switch {
		case err == nil:
			k.files = append(k.files, File{Target: real, Data: data})
		case !errors.Is(err, fs.ErrNotExist):
			k.notes = append(k.notes, fmt.Sprintf("%s: %v: Java will not accept trace's certificates", real, err))
		}
	}
	return k
}

// javaPaths lists where keystores may be.
func (b *builder) javaPaths() []string {
	paths := slices.Clone(stores)
	var jdks []string
	for _, name := range []string{"JAVA_HOME", "JDK_HOME", "JRE_HOME"} {
		if v, _ := b.lookup(name); path.IsAbs(v) {
			jdks = append(jdks, v)
		}
	}
	if list, _ := b.lookup("PATH"); list != "" {
		for _, dir := range filepath.SplitList(list) {
			if real, err := b.root.resolve(path.Join(dir, "java")); err == nil && path.IsAbs(dir) {
				jdks = append(jdks, path.Dir(path.Dir(real)))
			}
		}
	}
	for _, pattern := range homes {
		jdks = append(jdks, b.root.glob(pattern)...)
	}
	if home, _ := b.lookup("HOME"); path.IsAbs(home) {
		for _, pattern := range userHomes {
			jdks = append(jdks, b.root.glob(path.Join(home, pattern))...)
		}
	}
	for _, jdk := range jdks {
		for _, name := range inHome {
			paths = append(paths, path.Join(jdk, name))
		}
	}
	return paths
}

// glob lists what matches a pattern whose last element alone has wildcards.
func (r rooted) glob(pattern string) []string {
	dir, last := path.Split(pattern)
	entries, err := os.ReadDir(string(r) + dir)
	if err != nil {
		return nil
	}
	var found []string
	for _, e := range entries[:min(len(entries), maxEntries)] {
		if ok, _ := path.Match(last, e.Name()); ok && (e.IsDir() || e.Type() == fs.ModeSymlink) {
			found = append(found, path.Join(dir, e.Name()))
		}
	}
	return found
}

// addToStore returns a keystore with our CA among its certificates.
func (b *builder) addToStore(data []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(data, jksMagic):
		return addToJKS(data, b.ca.Raw, time.Now())
	case bytes.HasPrefix(data, []byte{0x30}):
		return b.addToPKCS12(data)
	}
	return nil, errors.New("a keystore of unknown type")
}

// addToPKCS12 serves stores without a password. Others are of no use as a
// cacerts: the JDK opens that without one.
func (b *builder) addToPKCS12(data []byte) ([]byte, error) {
	certs, err := pkcs12.DecodeTrustStore(data, "")
	if err != nil {
		return nil, fmt.Errorf("read keystore: %w", err)
	}
	used := map[string]bool{}
	entries := make([]pkcs12.TrustStoreEntry, 0, len(certs)+1)
	for _, c := range append(certs, b.ca) {
		name := strings.ToLower(c.Subject.String())
		alias := name
		for n := 2; used[alias]; n++ { // of two entries with one alias Java keeps one
			alias = name + " " + strconv.Itoa(n)
		}
		used[alias] = true
		entries = append(entries, pkcs12.TrustStoreEntry{Cert: c, FriendlyName: alias})
	}
	out, err := pkcs12.Passwordless.EncodeTrustStoreEntries(entries, "")
	if err != nil {
		return nil, fmt.Errorf("write keystore: %w", err)
	}
	return out, nil
}

// Keystores returns the keystores of Java that are on this machine, symbolic
// links resolved: those of the distribution and those of single JDKs. env is
// where a JDK and the home directory may be named.
func Keystores(env []string) []string {
	b := &builder{Options: Options{Env: env}}
	var found []string
	for _, name := range b.javaPaths() {
		real, err := b.root.resolve(name)
		if err != nil || slices.Contains(found, real) {
			continue
		}
		if fi, err := os.Stat(real); err == nil && fi.Mode().IsRegular() {
			found = append(found, real)
		}
	}
	return found
}
