package anchor

import (
	"context"
	"crypto/x509"
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// storePassword is the one that every JDK's cacerts has, and that guards
// nothing.
const storePassword = "changeit"

// Java returns the keystores of JDKs that have to be told themselves. The
// others are made out of the system's certificates and follow those.
func (h *Host) Java() (own []Place, following []string) {
	place, _ := h.System()
	sys, _ := place.by.(*system)
	for _, store := range h.Keystores {
		if sys != nil && sys.keepsJava(store) {
			following = append(following, store)
			continue
		}
		own = append(own, h.Keystore(store))
	}
	return own, following
}

// Keystore returns the place of a JDK's keystore.
func (h *Host) Keystore(store string) Place {
	return Place{KindJava, store, "keystore of Java", &java{h, store}}
}

// java is a keystore of a JDK.
type java struct {
	host  *Host
	store string
}

// keytool returns the JDK's own program, which surely reads the JDK's store,
// or another one.
func (j *java) keytool() string {
	for _, up := range []string{"../../bin/keytool", "../../../bin/keytool"} {
		if tool := filepath.Join(filepath.Dir(j.store), up); j.host.exists(tool) {
			return tool
		}
	}
	return "keytool"
}

// root tells whether the store is another's than the user's.
func (j *java) root() bool { return unix.Access(j.host.Root+j.store, unix.W_OK) != nil }

func alias(cert *x509.Certificate) string { return "trace-ca-" + ID(cert) }

func (j *java) add(cert *x509.Certificate, file string) []Command {
	return []Command{{[]string{j.keytool(), "-importcert", "-noprompt", "-trustcacerts", "-alias", alias(cert), "-file", file,
		"-keystore", j.store, "-storepass", storePassword}, j.root()}}
}

func (j *java) remove(certs []*x509.Certificate, _ func(*x509.Certificate) string) []Command {
	var list []Command
	for _, c := range certs {
		list = append(list, Command{[]string{j.keytool(), "-delete", "-alias", alias(c), "-keystore", j.store, "-storepass", storePassword}, j.root()})
	}
	return list
}

func (j *java) has(ctx context.Context, cert *x509.Certificate) (bool, error) {
	if !j.host.exists(j.store) {
		return false, nil
	}
	tool := j.keytool()
	if tool == "keytool" {
		tool = j.host.Tool(tool)
	}
	if tool == "" {
		return false, errors.New("keytool is not installed: it comes with a JDK or JRE")
	}
	out, err := output(ctx, tool, "-J-Duser.language=en", "-list", "-rfc", "-keystore", j.store, "-storepass", storePassword)
	return contains(out, cert), err
}

func (j *java) left(cert *x509.Certificate) bool {
	ok, err := j.has(context.Background(), cert)
	return ok && err == nil
}
