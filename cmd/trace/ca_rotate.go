package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"trace/anchor"
)

func newCARotateCommand() *cobra.Command {
	var key caKey
	var encrypt, plainKey bool
	cmd := &cobra.Command{
		Use:   "rotate [--encrypt|--no-passphrase]",
		Short: "Make a new lasting authority in place of the one before",
		Long: `Make a new lasting authority, with a key and a name of its own, in place of the
one before, whose key is deleted. The old certificate is kept aside so that
'trace ca uninstall --old' finds it. Clients have to be told of the new one; a
'trace serve' that runs keeps the old one until it is started again.

The key of the new one is put under a passphrase if the old one's was, if a
passphrase is given, or with --encrypt.`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if encrypt && plainKey {
				return usageError{errors.New("--encrypt and --no-passphrase exclude each other")}
			}
			dir, err := caDir()
			if err != nil {
				return err
			}
			info, err := dir.Info()
			if err != nil && !errors.Is(err, anchor.ErrNone) {
				return err
			}
			word := ""
			if !plainKey {
				if word, err = key.fresh(encrypt || info != nil && info.Encrypted); err != nil {
					return err
				}
			}
			old, err := dir.Rotate(word, time.Now())
			if err != nil {
				return fmt.Errorf("make authority: %w", err)
			}
			if info, err = dir.Info(); err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "made %q, SHA-256 %s\n", info.Certificate.Subject.CommonName, anchor.Fingerprint(info.Certificate))
			if old != nil {
				fmt.Fprintf(w, "it takes the place of %q; 'trace ca uninstall --old' takes that one out of where it was installed\n", old.Subject.CommonName)
			}
			_, err = fmt.Fprintln(w, "clients do not trust it yet: 'trace ca install'; a 'trace serve' that runs uses it when it is started again")
			return err
		},
	}
	key.flags(cmd.Flags())
	cmd.Flags().BoolVar(&encrypt, "encrypt", false, "put the new key under a passphrase")
	cmd.Flags().BoolVar(&plainKey, "no-passphrase", false, "keep the new key without a passphrase, whatever the old one had")
	return cmd
}

func newCAPassphraseCommand() *cobra.Command {
	var key caKey
	var next string
	var remove bool
	cmd := &cobra.Command{
		Use:   "passphrase [--new-passphrase-file FILE|--remove]",
		Short: "Put the lasting authority's key under a passphrase, or under another one",
		Args:  checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if remove && next != "" {
				return usageError{errors.New("--remove and --new-passphrase-file exclude each other")}
			}
			dir, info, err := theCA()
			if err != nil {
				return err
			}
			if info.Problem != nil {
				return info.Problem
			}
			// Asked in the order in which people think of them.
			word := ""
			if info.Encrypted {
				if word, err = key.current(); err != nil {
					return err
				}
				if _, err := dir.Load(func() (string, error) { return word, nil }); err != nil {
					return err
				}
			}
			fresh := ""
			switch {
			case remove:
			case next != "":
				fresh, err = passphraseIn(next)
			case !info.Encrypted:
				fresh, err = key.fresh(true)
			default:
				fresh, err = askTwice()
			}
			if err != nil {
				return err
			}
			if err := dir.SetPassphrase(func() (string, error) { return word, nil }, fresh); err != nil {
				return err
			}
			said := "the key is kept under the new passphrase"
			if fresh == "" {
				said = "the key is kept without a passphrase"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", dir.KeyFile(), said)
			return err
		},
	}
	key.flags(cmd.Flags())
	cmd.Flags().StringVar(&next, "new-passphrase-file", "", "read the new passphrase from the first line of `FILE`")
	cmd.Flags().BoolVar(&remove, "remove", false, "keep the key without a passphrase")
	return cmd
}
