package anchor

import (
	"context"
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A flavour is how a family of systems keeps its authorities: files in a
// directory, out of which a program makes the bundles that others read.
type flavour struct {
	dir     string   // for files of the administrator
	tool    string   // which makes the bundles
	update  []string // the command after a file came
	clean   []string // and after one went
	bundles []string // of which the first that is there is looked at
	store   bool     // the tool itself copies the file: p11-kit's trust
}

// flavours in the order in which they are looked for. Several have a program
// update-ca-certificates, so the directory decides.
var flavours = []flavour{
	{ // Fedora, RHEL and its kin, Amazon Linux
		dir: "/etc/pki/ca-trust/source/anchors", tool: "update-ca-trust",
		update: []string{"update-ca-trust", "extract"}, clean: []string{"update-ca-trust", "extract"},
		bundles: []string{"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/pki/tls/certs/ca-bundle.crt"},
	},
	{ // openSUSE, SLES
		dir: "/etc/pki/trust/anchors", tool: "update-ca-certificates",
		update: []string{"update-ca-certificates"}, clean: []string{"update-ca-certificates"},
		bundles: []string{"/var/lib/ca-certificates/ca-bundle.pem", "/etc/ssl/ca-bundle.pem"},
	},
	{ // Arch and its kin
		dir: "/etc/ca-certificates/trust-source/anchors", tool: "trust", store: true,
		bundles: []string{"/etc/ca-certificates/extracted/tls-ca-bundle.pem", "/etc/ssl/certs/ca-certificates.crt"},
	},
	{ // Alpine: its program is another one of that name, which tidies up unasked
		dir: "/usr/local/share/ca-certificates", tool: "update-ca-certificates",
		update: []string{"update-ca-certificates"}, clean: []string{"update-ca-certificates"},
		bundles: []string{"/etc/ssl/certs/ca-certificates.crt"},
	},
	{ // Debian, Ubuntu and their kin, Gentoo, Void
		dir: "/usr/local/share/ca-certificates", tool: "update-ca-certificates",
		update: []string{"update-ca-certificates"}, clean: []string{"update-ca-certificates", "--fresh"},
		bundles: []string{"/etc/ssl/certs/ca-certificates.crt"},
	},
}

const (
	alpine       = 3 // index of its flavour
	alpineMark   = "/etc/alpine-release"
	debianJava   = "/etc/ca-certificates/update.d/jks-keystore"
	javaHook     = "/etc/ca-certificates/update.d/java-cacerts" // Alpine's
	debianHashed = "/etc/ssl/certs"
)

// distribution returns what os-release calls this system: its name, and the
// words by which it and its ancestors are known.
func (h *Host) distribution() (name string, ids []string) {
	data, err := os.ReadFile(h.Root + "/etc/os-release")
	if err != nil {
		data, _ = os.ReadFile(h.Root + "/usr/lib/os-release")
	}
	name = "Linux"
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "PRETTY_NAME":
			name = value
		case "ID", "ID_LIKE":
			ids = append(ids, strings.Fields(value)...)
		}
	}
	return name, ids
}

// System returns the trust store of the operating system. The error wraps
// ErrUnknownSystem, and says what could be done, where there is none that is
// known.
func (h *Host) System() (Place, error) {
	if h.os() == "darwin" {
		return Place{KindSystem, keychain, "macOS, the keychain of all users", &macOS{h}}, nil
	}
	name, ids := h.distribution()
	for i := range flavours {
		f := &flavours[i]
		if i == alpine && !h.exists(alpineMark) || h.Tool(f.tool) == "" {
			continue
		}
		// Debian's directory may be missing; the others are what tells them.
		if !h.exists(f.dir) && !(f.dir == "/usr/local/share/ca-certificates" && h.exists("/etc/ca-certificates.conf")) {
			continue
		}
		s := &system{h, f, f.bundles[0]}
		for _, b := range f.bundles {
			if h.exists(b) {
				s.bundle = b
				break
			}
		}
		return Place{KindSystem, s.bundle, name, s}, nil
	}
	return Place{}, fmt.Errorf("%w (%s): %s", ErrUnknownSystem, name, adviceFor(ids))
}

// adviceFor says what helps on a system whose tools are not there.
func adviceFor(ids []string) string {
	for _, id := range ids {
		switch id {
		case "nixos":
			return "name the file of 'trace ca show' in security.pki.certificateFiles of configuration.nix, then run nixos-rebuild switch"
		case "debian", "ubuntu":
			return "its package is missing: apt install ca-certificates"
		case "alpine":
			return "its package is missing: apk add ca-certificates"
		case "fedora", "rhel", "centos":
			return "its package is missing: dnf install ca-certificates"
		case "arch":
			return "its package is missing: pacman -S ca-certificates-utils p11-kit"
		case "suse", "opensuse":
			return "its package is missing: zypper install ca-certificates"
		}
	}
	return "programs that read a variable accept the file of 'trace ca show' (SSL_CERT_FILE, NODE_EXTRA_CA_CERTS, …)"
}

// system is the trust store of a Linux distribution.
type system struct {
	host   *Host
	how    *flavour
	bundle string
}

// file is where a certificate is put; of nil, a pattern of all such. The tools
// want .crt.
func (s *system) file(cert *x509.Certificate) string {
	id := "*"
	if cert != nil {
		id = ID(cert)
	}
	return path.Join(s.how.dir, "trace-ca-"+id+".crt")
}

func (s *system) add(cert *x509.Certificate, file string) []Command {
	if s.how.store {
		return []Command{{[]string{s.how.tool, "anchor", "--store", file}, true}}
	}
	var list []Command
	if !s.host.exists(s.how.dir) {
		list = append(list, Command{[]string{"mkdir", "-p", s.how.dir}, true})
	}
	return append(list,
		Command{[]string{"install", "-m", "0644", file, s.file(cert)}, true},
		Command{s.how.update, true})
}

func (s *system) remove(certs []*x509.Certificate, file func(*x509.Certificate) string) []Command {
	var list []Command
	if s.how.store {
		for _, c := range certs {
			list = append(list, Command{[]string{s.how.tool, "anchor", "--remove", file(c)}, true})
		}
		return list
	}
	rm := []string{"rm", "-f"}
	for _, c := range certs {
		rm = append(rm, s.file(c))
	}
	list = append(list, Command{rm, true}, Command{s.how.clean, true})
	if s.hook() == debianJava {
		// Debian tells its hooks what came, and what was switched off by its
		// configuration, but nothing of a local file that went.
		gone := ""
		for _, c := range certs {
			gone += " -" + debianHashed + "/trace-ca-" + ID(c) + ".pem"
		}
		list = append(list, Command{[]string{"sh", "-c", `printf "%s\n"` + gone + " | " + debianJava}, true})
	}
	return list
}

// Strays returns the files of authorities in the system's trust store that are
// trace's by name, and of which keep knows nothing: another user's, or those of
// a directory that was deleted before they were uninstalled. commands are what
// would remove them.
func (h *Host) Strays(keep []*x509.Certificate) (files []string, commands []Command) {
	place, _ := h.System()
	s, ok := place.by.(*system)
	if !ok || s.how.store {
		return nil, nil
	}
	names, err := filepath.Glob(escapeGlob(h.Root) + s.file(nil))
	if err != nil {
		return nil, nil
	}
	for _, name := range names {
		name = strings.TrimPrefix(name, h.Root)
		if !slices.ContainsFunc(keep, func(c *x509.Certificate) bool { return s.file(c) == name }) {
			files = append(files, name)
		}
	}
	if len(files) == 0 {
		return nil, nil
	}
	return files, []Command{{append([]string{"rm"}, files...), true}, {s.how.clean, true}}
}

// hook returns the program that keeps a keystore of all JDKs up to date when
// the system's certificates change.
func (s *system) hook() string {
	for _, name := range []string{debianJava, javaHook} {
		if s.how.dir == "/usr/local/share/ca-certificates" && s.host.exists(name) {
			return name
		}
	}
	return ""
}

// keepsJava tells whether a keystore is made out of the system's certificates.
func (s *system) keepsJava(store string) bool {
	if !strings.HasPrefix(store, "/etc/") && !strings.HasPrefix(store, "/var/lib/ca-certificates/") {
		return false // a JDK's own
	}
	return s.how.dir != "/usr/local/share/ca-certificates" || s.hook() != ""
}

func (s *system) has(_ context.Context, cert *x509.Certificate) (bool, error) {
	data, err := os.ReadFile(s.host.Root + s.bundle)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return contains(data, cert), nil
}

func (s *system) left(cert *x509.Certificate) bool {
	if s.how.store {
		ok, err := s.has(context.Background(), cert)
		return ok && err == nil
	}
	return s.host.exists(s.file(cert))
}

// keychain is the one of all users.
const keychain = "/Library/Keychains/System.keychain"

// macOS is its system keychain.
type macOS struct{ host *Host }

func (m *macOS) add(_ *x509.Certificate, file string) []Command {
	return []Command{{[]string{"security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k", keychain, file}, true}}
}

func (m *macOS) remove(certs []*x509.Certificate, file func(*x509.Certificate) string) []Command {
	var list []Command
	for _, c := range certs {
		sum := sha1.Sum(c.Raw) // by which the tool names certificates
		list = append(list,
			Command{[]string{"security", "remove-trusted-cert", "-d", file(c)}, true},
			Command{[]string{"security", "delete-certificate", "-Z", strings.ToUpper(hex.EncodeToString(sum[:])), keychain}, true})
	}
	return list
}

func (m *macOS) has(ctx context.Context, cert *x509.Certificate) (bool, error) {
	tool := m.host.Tool("security")
	if tool == "" {
		return false, errors.New("there is no program security")
	}
	out, err := output(ctx, tool, "find-certificate", "-a", "-p", "-c", cert.Subject.CommonName, keychain)
	if refused(err) {
		return false, nil // it says so of what it does not find
	}
	return contains(out, cert), err
}

func (m *macOS) left(cert *x509.Certificate) bool {
	ok, err := m.has(context.Background(), cert)
	return ok && err == nil
}
