package anchor

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// databases are patterns, below the home directory, of directories with an NSS
// database: of browsers and mail programs, as packages of the distribution, of
// Snap and of Flatpak.
var databases = []string{
	".pki/nssdb", ".local/share/pki/nssdb", // Chromium and its kin
	"snap/*/current/.pki/nssdb", "snap/*/current/.local/share/pki/nssdb",
	".var/app/*/.pki/nssdb", ".var/app/*/data/pki/nssdb",
	".mozilla/firefox/*", ".config/mozilla/firefox/*", "snap/firefox/common/.mozilla/firefox/*",
	".var/app/*/.mozilla/firefox/*", ".librewolf/*", ".waterfox/*", ".thunderbird/*", "snap/thunderbird/common/.thunderbird/*",
	"Library/Application Support/Firefox/Profiles/*", "Library/Application Support/Thunderbird/Profiles/*",
}

// chromiums are the names of browsers that read ~/.pki/nssdb.
var chromiums = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "brave-browser", "microsoft-edge", "vivaldi"}

// nssFile is what makes a directory a database.
const nssFile = "cert9.db"

// NSS returns the databases of the user's browsers. Where a Chromium is
// installed that has none yet, it is the one that Chromium would make.
func (h *Host) NSS() []Place {
	var found []Place
	var done []string
	for _, pattern := range databases {
		names, err := filepath.Glob(filepath.Join(escapeGlob(h.Root+h.Home), pattern, nssFile))
		if err != nil {
			continue
		}
		for _, name := range names {
			dir := filepath.Dir(name)
			real, err := filepath.EvalSymlinks(dir)
			if err != nil || slices.Contains(done, real) {
				continue
			}
			done = append(done, real)
			found = append(found, h.Database(strings.TrimPrefix(dir, h.Root))) // Snap's "current" stays, what it leads to does not
		}
	}
	if slices.ContainsFunc(chromiums, func(name string) bool { return h.Tool(name) != "" }) &&
		!slices.ContainsFunc(found, func(p Place) bool {
			return strings.HasSuffix(p.Path, "/pki/nssdb") || strings.HasSuffix(p.Path, "/.pki/nssdb")
		}) {
		found = append(found, h.Database(filepath.Join(h.Home, ".pki/nssdb")))
	}
	return found
}

// Database returns the place of the NSS database in dir, which need not exist.
func (h *Host) Database(dir string) Place {
	return Place{KindNSS, dir, "NSS database", &nss{h, dir}}
}

// nss is a database of Mozilla's Network Security Services.
type nss struct {
	host *Host
	dir  string
}

func (n *nss) add(cert *x509.Certificate, file string) []Command {
	var list []Command
	if !n.host.exists(filepath.Join(n.dir, nssFile)) {
		list = append(list,
			Command{[]string{"mkdir", "-p", "-m", "0700", n.dir}, false},
			Command{[]string{"certutil", "-N", "-d", "sql:" + n.dir, "--empty-password"}, false})
	}
	// Trusted to issue for servers, and nothing more.
	return append(list, Command{[]string{"certutil", "-A", "-d", "sql:" + n.dir, "-n", cert.Subject.CommonName, "-t", "C,,", "-i", file}, false})
}

func (n *nss) remove(certs []*x509.Certificate, _ func(*x509.Certificate) string) []Command {
	var list []Command
	for _, c := range certs {
		list = append(list, Command{[]string{"certutil", "-D", "-d", "sql:" + n.dir, "-n", c.Subject.CommonName}, false})
	}
	return list
}

func (n *nss) has(ctx context.Context, cert *x509.Certificate) (bool, error) {
	if !n.host.exists(filepath.Join(n.dir, nssFile)) {
		return false, nil // certutil would make one
	}
	tool := n.host.Tool("certutil")
	if tool == "" {
		return false, errors.New("certutil is not installed: apt install libnss3-tools (Debian, Ubuntu), dnf install nss-tools (Fedora), " +
			"apk add nss-tools (Alpine), pacman -S nss (Arch), zypper install mozilla-nss-tools (openSUSE), brew install nss (macOS)")
	}
	out, err := output(ctx, tool, "-L", "-d", "sql:"+n.dir, "-n", cert.Subject.CommonName, "-a")
	if refused(err) {
		// It says so of a name that it does not find, and of a database that it
		// cannot read: that then fails to list too.
		_, err = output(ctx, tool, "-L", "-d", "sql:"+n.dir)
		return false, err
	}
	return contains(out, cert), err
}

func (n *nss) left(cert *x509.Certificate) bool {
	ok, err := n.has(context.Background(), cert)
	return ok && err == nil
}

// unused tells whether a database holds nothing at all: no certificate and no
// key.
func (n *nss) unused(ctx context.Context) bool {
	tool := n.host.Tool("certutil")
	if tool == "" {
		return false
	}
	certs, err := output(ctx, tool, "-L", "-d", "sql:"+n.dir)
	if err != nil || len(certsOf(certs)) > 0 {
		return false
	}
	keys, err := output(ctx, tool, "-K", "-d", "sql:"+n.dir)
	return refused(err) || err == nil && strings.Contains(string(keys), "no keys")
}

// certsOf returns the lines of a listing that name a certificate: those after
// the headings.
func certsOf(list []byte) []string {
	var names []string
	for line := range strings.Lines(string(list)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "Certificate Nickname") || strings.HasPrefix(line, "SSL,S/MIME") {
			continue
		}
		names = append(names, line)
	}
	return names
}

// discard removes a database that was made for us, if it holds nothing any
// more.
func (n *nss) discard(ctx context.Context) error {
	if !n.unused(ctx) {
		return nil
	}
	for _, name := range []string{nssFile, "key4.db", "pkcs11.txt"} {
		if err := os.Remove(filepath.Join(n.host.Root+n.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	os.Remove(n.host.Root + n.dir) // unless somebody keeps something there
	return nil
}
