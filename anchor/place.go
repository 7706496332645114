package anchor

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
)

// Kinds of places.
const (
	KindSystem = "system" // the trust store of the operating system
	KindNSS    = "nss"    // a database of Firefox, Chromium and others
	KindJava   = "java"   // the keystore of a JDK
)

// ErrUnknownSystem says that nothing is known of how this system is told to
// trust an authority.
var ErrUnknownSystem = errors.New("no way is known to make this system trust a certificate")

// A Host is the machine whose programs are to trust a certificate.
type Host struct {
	Home string // of the user whose databases count
	UID  int

	// Keystores are files of JDKs, symbolic links resolved.
	Keystores []string

	// Root is prefixed to the paths of the system that are looked at; commands
	// lack it. Empty: the root of this machine.
	Root string
	OS   string                          // a GOOS; empty: this one
	Look func(tool string) (path string) // where a program is, "" if there is none; nil: on the PATH and where system tools are
}

func (h *Host) os() string {
	if h.OS != "" {
		return h.OS
	}
	return runtime.GOOS
}

// Tool returns the path of a program, "" if there is none. Those for root are
// found without being on the user's PATH.
func (h *Host) Tool(name string) string {
	if h.Look != nil {
		return h.Look(name)
	}
	if p, err := exec.LookPath(name); err == nil && filepath.IsAbs(p) {
		return p
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin"} {
		if p, err := exec.LookPath(dir + "/" + name); err == nil {
			return p
		}
	}
	return ""
}

func (h *Host) exists(path string) bool {
	_, err := os.Stat(h.Root + path)
	return err == nil
}

// A Command is one thing to do.
type Command struct {
	Args []string
	Root bool // only root may
}

// String returns the command as it is typed into a shell.
func (c Command) String() string {
	words := make([]string, len(c.Args))
	for i, a := range c.Args {
		words[i] = quote(a)
	}
	return strings.Join(words, " ")
}

// plain matches words that no shell changes.
var plain = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`) })

// quote writes a word for a shell.
func quote(s string) string {
	if plain().MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// A Place is where programs look for authorities.
type Place struct {
	Kind  string
	Path  string // the bundle, database or keystore that programs read
	Title string // for people
	by    method
}

// A method is how certificates are put into a place and taken out of it.
type method interface {
	// add returns what makes a certificate, which lies in file, known.
	add(cert *x509.Certificate, file string) []Command

	// remove returns what undoes add. file tells where each certificate lies.
	remove(certs []*x509.Certificate, file func(*x509.Certificate) string) []Command

	// has tells whether programs find the certificate.
	has(ctx context.Context, cert *x509.Certificate) (bool, error)

	// left tells whether anything of add is there, even if has says no.
	left(cert *x509.Certificate) bool
}

// Has tells whether programs that look into the place find the certificate.
func (p Place) Has(ctx context.Context, cert *x509.Certificate) (bool, error) {
	ok, err := p.by.has(ctx, cert)
	if err != nil {
		return false, fmt.Errorf("look into %s: %w", p.Path, err)
	}
	return ok, nil
}

// Add returns the commands that put the certificate, which file has in PEM,
// into the place.
func (p Place) Add(cert *x509.Certificate, file string) []Command { return p.by.add(cert, file) }

// Remove returns the commands that take out what those of Add put in.
func (p Place) Remove(certs []*x509.Certificate, file func(*x509.Certificate) string) []Command {
	return p.by.remove(certs, file)
}

// Left tells whether something of the commands of Add is there still, even if
// they did not come to their end.
func (p Place) Left(cert *x509.Certificate) bool { return p.by.left(cert) }

// output runs a tool that answers a question and returns what it prints.
func output(ctx context.Context, path string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, path, args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		said := strings.Join(strings.Fields(out.String()+" "+errs.String()), " ")
		return nil, &toolError{filepath.Base(path), err, said}
	}
	return out.Bytes(), nil
}

// A toolError is what a program said when it failed.
type toolError struct {
	tool string
	err  error
	said string
}

// Error returns the cause and what the tool said about it.
func (e *toolError) Error() string { return fmt.Sprintf("%s: %v: %s", e.tool, e.err, e.said) }

// Unwrap returns the cause.
func (e *toolError) Unwrap() error { return e.err }

// refused tells an answer of a tool that could run and said no.
func refused(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.Exited()
}
