package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"trace/trust"
)

func newCACommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ca", Short: "Keep an authority that clients trust for good, or make a browser accept that of this run",
		Args: checked(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newCAShowCommand(), newCAExportCommand(), newCAInstallCommand(), newCAUninstallCommand(), newCARotateCommand(), newCAPassphraseCommand(), &cobra.Command{
		Use:   "nss DIR",
		Short: "Add this run's authority to the NSS database in DIR (Chromium, Firefox)",
		Long: `Add this run's authority to the NSS database in DIR, and touch nothing else.
Chromium reads the one in ~/.pki/nssdb, Firefox the one of its profile. To be
called inside of a run, before the browser starts:

  trace run --inspect -- sh -c 'trace ca nss "$HOME/.pki/nssdb" && chromium'

The authority is of no use after the run: its key is gone. certutil's -D, with
the name that is printed, removes it.`,
		Args: checked(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := strings.TrimPrefix(args[0], "sql:")
			if dir == "" {
				return usageError{errors.New("the name of a directory is wanted")}
			}
			name, err := addToNSS(dir)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "added %q\n", name)
			return err
		},
	})
	return cmd
}

// addToNSS puts the run's CA into the database in dir, which is made if there
// is none, and returns the name it has there.
func addToNSS(dir string) (name string, err error) {
	ca, err := trust.Find("", os.Environ())
	if errors.Is(err, trust.ErrNoRun) {
		return "", fmt.Errorf("%w: an authority lives as long as its run, so call this in one: trace run --inspect -- sh -c 'trace ca nss DIR && …'", err)
	}
	if err != nil {
		return "", err
	}
	tool, err := exec.LookPath("certutil")
	if err != nil {
		return "", errors.New("certutil is not installed: apt install libnss3-tools (Debian, Ubuntu), dnf install nss-tools (Fedora), pacman -S nss (Arch)")
	}
	db := "sql:" + dir
	if _, err := os.Stat(filepath.Join(dir, "cert9.db")); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", err
		}
		if err := certutil(tool, nil, "-N", "-d", db, "--empty-password"); err != nil {
			return "", fmt.Errorf("make NSS database %s: %w", dir, err)
		}
	}
	// The name is the CA's own, which is unique to its key: what other runs
	// left stays as it is. Trusted to issue for servers, and nothing more.
	if err := certutil(tool, trust.PEM(ca), "-A", "-d", db, "-n", ca.Subject.CommonName, "-t", "C,,", "-a"); err != nil {
		return "", fmt.Errorf("add to NSS database %s: %w", dir, err)
	}
	return ca.Subject.CommonName, nil
}

// certutil runs NSS's tool, which asks for a database's password on the
// terminal.
func certutil(tool string, stdin []byte, args ...string) error {
	c := exec.Command(tool, args...)
	c.Stdin = bytes.NewReader(stdin)
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("certutil: %w: %s", err, strings.Join(strings.Fields(string(out)), " "))
	}
	return nil
}
