// Package trust builds the files and variables that make a child's programs
// accept the run's CA.
//
//	plan, err := trust.Build(trust.Options{CA: der, Env: os.Environ(), Dir: private})
//	// cover plan.Trees, then plan.Files; start the child with plan.Env
//	pool := plan.Roots() // to verify servers with, without the run's CA
//
// It reads the host's files and writes none: the plan is data, for whoever
// makes the child's mount namespace.
//
// # Theory of operation
//
// Programs find the roots that they trust in one of four ways, and a run has
// to meet all of them, because there is none that all programs use:
//
//   - a bundle, one PEM file at a path that depends on the distribution
//     (wget, git, aria2; curl, Go, Python and OpenSSL without variables);
//   - a directory of PEM files named by the hash of their subject, as OpenSSL
//     looks them up, or one whose files are anchors for p11-kit, which GnuTLS
//     and NSS use on some distributions;
//   - a Java keystore, which no variable names without a line on stderr;
//   - a variable, for programs that carry their own roots (Node, requests).
//
// Each known path is followed through its symbolic links, and what is really
// there is covered by the *combined* bundle: the system's roots, the user's
// own and ours. Directories are covered by a copy of themselves with ours
// added under its hash. The variables all name the system bundle that was
// covered, and no private file: sandboxes inside the run carry /etc along and
// nothing else. On a host without any bundle, one is put into a directory
// where one is expected, or at last into the child's private one; its roots
// are then those of the package golang.org/x/crypto/x509roots/fallback.
//
// What the user's own variables name (a corporate root in SSL_CERT_FILE, say)
// is folded in before they are replaced: kept as they are they would win over
// the covered files and know nothing of our CA. One bad block makes OpenSSL
// reject a whole file, so blocks that are no plain, well-formed certificate
// are left out of the combined bundle.
//
// Proxies of the host are not reachable from the namespace as they are from
// the host, and would hide the connections from the record: their variables
// are removed.
//
// A child without a mount namespace (Options.Files) has only the variables; they
// name a file of ours then. What reads system files alone (wget, Java) does not
// find our CA there, and directories of the user's own stay as they are.
//
// NODE_OPTIONS is never touched: --use-system-ca there keeps Node 20 from
// starting. Built-in roots and pinned certificates are not fought.
package trust

import (
	"crypto/x509"
	"fmt"
	"sync"
)

// Names of the files that are added.
const (
	bundleName = "ca-certificates.crt"
	anchorName = "trace.pem"
)

// Options is what a Plan is made from.
type Options struct {
	CA  []byte   // the run's CA certificate, DER
	Env []string // the environment that the child would have had

	// Dir is a directory that only the child has, writable for nobody. Files
	// without a Target go there. Empty: there is none.
	Dir string

	// Files says that the child has no mount namespace: nothing is covered, the
	// combined bundle is a File of Dir, and the variables name that.
	Files bool

	// Root is prefixed to every path that is read; the paths of the plan lack
	// it. Empty: the root of this machine.
	Root string
}

// A File is put in the place of another.
type File struct {
	Target   string // the file to cover, no symbolic link; it may lie in a Tree. "": there is none, the file goes into Options.Dir
	Name     string // in Options.Dir, where Target is empty
	Data     []byte // shared with other Files: not to be changed
	Required bool   // Plan.Bundle is this file: the run must not start without it
}

// A Tree is a directory to be covered with a copy of itself, symbolic links
// copied as links, to which files are added.
type Tree struct {
	Target   string            // the directory, no symbolic link
	From     string            // what is copied: Target
	Add      map[string][]byte // files added or replaced, directly in it
	Required bool              // as of a File
}

// A Plan is what the child has to see. Trees are covered before Files.
type Plan struct {
	Trees  []Tree
	Files  []File
	Env    []string // the child's environment, complete
	Bundle string   // the path that the variables name; "" if there is no place for a bundle

	// Fallback says that the host has no roots, and that those of the Mozilla
	// project as compiled in are used.
	Fallback bool

	Removed []string // variables that the child does not get, without values
	Notes   []string // what was left out, and why, for people

	certs set // of the host and the user: ours is not among them
	dirs  []string
	root  rooted
	pool  func() *x509.CertPool
}

// builder carries what Build works with.
type builder struct {
	Options
	root  rooted
	ca    *x509.Certificate
	caPEM []byte
	read  []string // system bundles, resolved
	plan  *Plan
}

// Build reads the host's trust stores and plans the child's. It fails only if
// the CA is no certificate; what else goes wrong is a Note, and left as it is.
func Build(o Options) (*Plan, error) {
	ca, err := x509.ParseCertificate(o.CA)
	if err != nil {
		return nil, fmt.Errorf("parse CA: %w", err)
	}
	b := &builder{
		Options: o,
		root:    rooted(o.Root),
		ca:      ca,
		caPEM:   PEM(ca),
		plan:    &Plan{root: rooted(o.Root)},
	}
	p := b.plan
	p.pool = sync.OnceValue(p.makePool)
	java := make(chan keystores, 1)
	if !b.Files {
		go func() { java <- b.java() }()
	}
	bundles := b.system()
	b.plan.dirs = b.directories()
	b.complete()
	b.fold()
	b.place(bundles)
	b.environment()
	order(p.Trees)
	p.certs.has = nil // no more are added
	if b.Files {
		return p, nil
	}
	k := <-java
	p.Files = append(p.Files, k.files...)
	p.Notes = append(p.Notes, k.notes...)
	return p, nil
}

// Roots returns the roots to verify servers with: the host's and the user's.
// The first call parses them, which takes some milliseconds: it may be made
// ahead, from another goroutine. Each caller gets a pool of its own.
func (p *Plan) Roots() *x509.CertPool { return p.pool().Clone() }

func (b *builder) note(format string, args ...any) {
	b.plan.Notes = append(b.plan.Notes, fmt.Sprintf(format, args...))
}
