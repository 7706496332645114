package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"software.sslmate.com/src/go-pkcs12"

	"trace/anchor"
	"trace/trust"
)

// caHost is this machine, whose programs are to trust an authority.
func caHost() *anchor.Host {
	home, _ := os.UserHomeDir()
	return &anchor.Host{Home: home, UID: os.Geteuid(), Keystores: trust.Keystores(os.Environ())}
}

// theCA returns the lasting authority's directory and what is known of it.
func theCA() (anchor.Dir, *anchor.Info, error) {
	dir, err := caDir()
	if err != nil {
		return "", nil, err
	}
	info, err := dir.Info()
	if errors.Is(err, anchor.ErrNone) {
		err = fmt.Errorf("%w: 'trace ca install', 'trace ca rotate' and 'trace serve' make one", err)
	}
	return dir, info, err
}

// A caView is what `ca show --json` prints of an authority.
type caView struct {
	Subject     string     `json:"subject"`
	SHA256      string     `json:"sha256"`
	Fingerprint string     `json:"fingerprint"`
	NotBefore   time.Time  `json:"not_before"`
	NotAfter    time.Time  `json:"not_after"`
	File        string     `json:"file"`
	KeyFile     string     `json:"key_file,omitempty"`
	Encrypted   *bool      `json:"encrypted,omitempty"`
	Problem     string     `json:"problem,omitempty"`
	Installed   []caPlace  `json:"installed"`
	Old         *[]*caView `json:"old,omitempty"`
}

// A caPlace is where an authority is installed.
type caPlace struct {
	Kind    string `json:"kind"`
	Path    string `json:"path"`
	Problem string `json:"problem,omitempty"`
}

func viewCA(ctx context.Context, dir anchor.Dir, host *anchor.Host, cert *x509.Certificate) (*caView, error) {
	sum := sha256.Sum256(cert.Raw)
	v := &caView{Subject: cert.Subject.String(), SHA256: hex.EncodeToString(sum[:]), Fingerprint: anchor.Fingerprint(cert),
		NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(), File: dir.File(cert), Installed: []caPlace{}}
	entries, err := dir.Installed()
	if err != nil {
		return nil, err
	}
	system, err := host.System()
	if err == nil { // it may be there without a note
		entries = append([]anchor.Entry{{Kind: anchor.KindSystem, Path: system.Path, Certificate: string(anchor.PEM(cert))}}, entries...)
	}
	seen := map[caPlace]bool{}
	for _, e := range entries {
		at := caPlace{Kind: e.Kind, Path: e.Path}
		if c := e.Cert(); c == nil || !c.Equal(cert) || seen[at] {
			continue
		}
		seen[at] = true
		place, err := host.Place(e)
		if err != nil {
			continue
		}
		there, err := place.Has(ctx, cert)
		if err != nil {
			at.Problem = err.Error()
		}
		if there || err != nil && e.Kind != anchor.KindSystem {
			v.Installed = append(v.Installed, at)
		}
	}
	return v, nil
}

func newCAShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show [--json]", Short: "Show the lasting authority: its fingerprint, its files, and where it is installed",
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, info, err := theCA()
			if err != nil {
				return err
			}
			host := caHost()
			v, err := viewCA(cmd.Context(), dir, host, info.Certificate)
			if err != nil {
				return err
			}
			v.KeyFile, v.Encrypted = dir.KeyFile(), &info.Encrypted
			if info.Problem != nil {
				v.Problem, v.Encrypted = info.Problem.Error(), nil
			}
			old, err := dir.Old()
			if err != nil {
				return err
			}
			v.Old = &[]*caView{}
			for _, c := range old {
				o, err := viewCA(cmd.Context(), dir, host, c)
				if err != nil {
					return err
				}
				*v.Old = append(*v.Old, o)
			}
			if !asJSON {
				return printCA(newTerminal(cmd.OutOrStdout(), os.Getenv), v)
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetEscapeHTML(false)
			return enc.Encode(v)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

// printCA prints an authority for reading.
func printCA(w *terminal, v *caView) error {
	var out bytes.Buffer
	line := func(name, text string) {
		fmt.Fprintf(&out, "%s %s\n", w.paint(bold, pad(name, 11, false)), printable(text))
	}
	line("authority", v.Subject)
	line("SHA-256", v.Fingerprint)
	line("valid", v.NotBefore.Format(time.DateOnly)+" to "+v.NotAfter.Format(time.DateOnly)+endedText(v.NotAfter))
	line("certificate", v.File)
	switch {
	case v.Encrypted == nil:
		line("key", v.KeyFile)
	case *v.Encrypted:
		line("key", v.KeyFile+", under a passphrase")
	default:
		line("key", v.KeyFile+", readable for this user (trace ca passphrase puts it under one)")
	}
	if v.Problem != "" {
		line("problem", v.Problem)
	}
	title := "installed"
	for _, p := range v.Installed {
		line(title, p.text())
		title = ""
	}
	if len(v.Installed) == 0 {
		line(title, "nowhere that is known (trace ca install)")
	}
	for _, o := range *v.Old {
		line("old", o.Subject+", valid to "+o.NotAfter.Format(time.DateOnly))
		for _, p := range o.Installed {
			line("", "still in "+p.text()+" (trace ca uninstall --old)")
		}
	}
	_, err := w.Write(out.Bytes())
	return err
}

func endedText(end time.Time) string {
	if time.Now().After(end) {
		return ": it has ended (trace ca rotate)"
	}
	return ""
}

func (p *caPlace) text() string {
	if p.Problem != "" {
		return p.Path + " when it was last seen (" + p.Problem + ")"
	}
	return p.Path
}

// caFormats are what `ca export` writes. None holds the key.
var caFormats = map[string]struct {
	binary bool
	encode func(*x509.Certificate) ([]byte, error)
}{
	"pem": {false, func(c *x509.Certificate) ([]byte, error) { return anchor.PEM(c), nil }},
	"der": {true, func(c *x509.Certificate) ([]byte, error) { return c.Raw, nil }},
	"p12": {true, func(c *x509.Certificate) ([]byte, error) {
		return pkcs12.Passwordless.EncodeTrustStore([]*x509.Certificate{c}, "")
	}},
	"mobileconfig": {false, func(c *x509.Certificate) ([]byte, error) { return anchor.Profile(c), nil }},
}

func newCAExportCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "export [--format pem|der|p12|mobileconfig]", Short: "Write the lasting authority's certificate to standard output, never its key",
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, ok := caFormats[format]
			if !ok {
				return usageError{fmt.Errorf("--format %q: want pem, der, p12 or mobileconfig", format)}
			}
			_, info, err := theCA()
			if err != nil {
				return err
			}
			if f.binary && isOutputTerminal(cmd.OutOrStdout()) {
				return usageError{fmt.Errorf("--format %s is binary, and this is a terminal: write it to a file, 'trace ca export --format %s >trace-ca.%s'", format, format, format)}
			}
			data, err := f.encode(info.Certificate)
			if err != nil {
				return fmt.Errorf("export certificate: %w", err)
			}
			_, err = cmd.OutOrStdout().Write(data)
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", "pem", "pem, der, p12 (a trust store without a password) or mobileconfig (a profile for iOS and macOS)")
	return cmd
}

func isOutputTerminal(w io.Writer) bool { return newTerminal(w, os.Getenv).tty }
