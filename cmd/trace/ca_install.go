package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trace/anchor"
)

// everyPlace is the value of --nss and --java without one.
const everyPlace = "found"

// caInstallation is what `ca install` was asked to do.
type caInstallation struct {
	caSteps
	key      caKey
	nss      []string
	java     []string
	noSystem bool
	encrypt  bool
}

func newCAInstallCommand() *cobra.Command {
	in := &caInstallation{}
	cmd := &cobra.Command{
		Use:   "install [--yes] [--nss[=DIR]] [--java[=FILE]]",
		Short: "Print how this machine is made to trust the lasting authority, and do it if you agree",
		Long: `Print the commands by which this machine's programs are made to trust the
lasting authority, ask, and run them: by sudo or doas what only root may. With
--yes nothing is asked; where there is nobody to ask, nothing is done. If there
is no authority yet, it is made first.

The system's trust store is what curl, Git, Go, Python's standard library, wget
and most others read. Firefox and Chromium have databases of their own (--nss),
JDKs sometimes too (--java). What is there already is left as it is.`,
		Args: checked(func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%q: no argument is wanted; a value of --nss or --java follows an equals sign", args[0])
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, _ []string) error {
			in.cmd = cmd
			return in.run()
		},
	}
	in.key.flags(cmd.Flags())
	f := cmd.Flags()
	f.BoolVar(&in.yes, "yes", false, "do it without asking")
	f.StringArrayVar(&in.nss, "nss", nil, "also into the NSS databases of this user's browsers, or into the one in `DIR`; repeatable")
	f.StringArrayVar(&in.java, "java", nil, "also into the keystores of JDKs, or into the one that `FILE` is; repeatable")
	f.Lookup("nss").NoOptDefVal, f.Lookup("java").NoOptDefVal = everyPlace, everyPlace
	f.BoolVar(&in.noSystem, "no-system", false, "leave the system's trust store alone")
	f.BoolVar(&in.encrypt, "encrypt", false, "if the authority has to be made, put its key under a passphrase")
	return cmd
}

// run prints, asks and does.
func (in *caInstallation) run() error {
	if err := in.make(); err != nil {
		return err
	}
	info, err := in.dir.Info()
	if err != nil {
		return err
	}
	if info.Problem != nil {
		return info.Problem
	}
	if time.Now().After(info.Certificate.NotAfter) {
		return fmt.Errorf("the authority has ended at %s: 'trace ca rotate' makes another", info.Certificate.NotAfter.Local().Format(time.DateTime))
	}
	in.host = caHost()
	cert, file := info.Certificate, in.dir.File(info.Certificate)
	in.print("%s, SHA-256 %s\n", cert.Subject.CommonName, anchor.Fingerprint(cert))
	for _, p := range in.places() {
		switch there, err := p.Has(in.cmd.Context(), cert); {
		case err != nil:
			in.fail("%s: %v", p.Path, err)
		case there:
			in.print("%s has it already\n", p.Path)
		default:
			e := anchor.Entry{Kind: p.Kind, Path: p.Path, Certificate: string(anchor.PEM(cert)), Made: p.New()}
			in.add(p, p.Add(cert, file), func() error {
				// Noted before it is done, so that what breaks off can be undone.
				return in.dir.Note(e)
			}, func() error {
				there, err := p.Has(in.cmd.Context(), cert)
				if err == nil && !there {
					err = errors.New("it does not have it after all")
				}
				if err != nil {
					return fmt.Errorf("%s: %w", p.Path, err)
				}
				in.print("%s has it now\n", p.Path)
				return nil
			})
		}
	}
	if err := in.perform("trust this authority"); err != nil {
		return err
	}
	in.others(file)
	return in.failed()
}

// make makes the authority if there is none.
func (in *caInstallation) make() (err error) {
	if in.dir, err = caDir(); err != nil {
		return err
	}
	if _, err := in.dir.Info(); !errors.Is(err, anchor.ErrNone) {
		return nil // what else is wrong is said later
	}
	word, err := in.key.fresh(in.encrypt)
	if err != nil {
		return err
	}
	if _, err := in.dir.Create(word, time.Now()); err != nil {
		return fmt.Errorf("make authority: %w", err)
	}
	if who := os.Getenv("SUDO_USER"); who != "" && os.Geteuid() == 0 {
		in.say("this is an authority of root, not of %s: without sudo, trace asks for what it needs", who)
	}
	return nil
}

// places returns where the certificate is to be put.
func (in *caInstallation) places() []anchor.Place {
	var list []anchor.Place
	if !in.noSystem {
		p, err := in.host.System()
		if err != nil {
			in.fail("%v", err)
		} else {
			list = append(list, p)
		}
	}
	for _, dir := range in.nss {
		if dir != everyPlace {
			list = append(list, in.host.Database(absolute(strings.TrimPrefix(dir, "sql:"))))
			continue
		}
		found := in.host.NSS()
		if len(found) == 0 {
			in.say("no NSS database in %s: a browser makes one when it is started first", in.host.Home)
		}
		list = append(list, found...)
	}
	for _, file := range in.java {
		if file != everyPlace {
			if real, err := filepath.EvalSymlinks(file); err == nil {
				file = real
			}
			list = append(list, in.host.Keystore(absolute(file)))
			continue
		}
		own, following := in.host.Java()
		for _, file := range following {
			in.say("%s is made out of the system's certificates and follows them", file)
		}
		if len(own)+len(following) == 0 {
			in.say("no keystore of Java was found")
		}
		list = append(list, own...)
	}
	return slices.CompactFunc(list, func(a, b anchor.Place) bool { return a.Kind == b.Kind && a.Path == b.Path })
}

func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

// others says what was not told to trust the certificate.
func (in *caInstallation) others(file string) {
	var rest []string
	if len(in.nss) == 0 && len(in.host.NSS()) > 0 {
		rest = append(rest, "Firefox and Chromium (--nss)")
	}
	if own, _ := in.host.Java(); len(in.java) == 0 && len(own) > 0 {
		rest = append(rest, "Java (--java)")
	}
	rest = append(rest, "programs that bring their own list along (Node: NODE_EXTRA_CA_CERTS="+file+")")
	in.say("not told of it: %s", strings.Join(rest, ", "))
}

func newCAUninstallCommand() *cobra.Command {
	s := &caSteps{}
	var onlyOld bool
	cmd := &cobra.Command{
		Use:   "uninstall [--yes] [--old]",
		Short: "Print how what 'trace ca install' did is undone, and do it if you agree",
		Long: `Print the commands that undo what 'trace ca install' did, of the lasting
authority and of those that were rotated away, ask, and run them. Nothing else is
touched. The authority itself stays in its directory; to delete it too, delete
the directory.`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s.cmd = cmd
			return s.uninstall(onlyOld)
		},
	}
	cmd.Flags().BoolVar(&s.yes, "yes", false, "do it without asking")
	cmd.Flags().BoolVar(&onlyOld, "old", false, "only those that were rotated away")
	return cmd
}

func (s *caSteps) uninstall(onlyOld bool) (err error) {
	if s.dir, err = caDir(); err != nil {
		return err
	}
	s.host = caHost()
	current, err := s.dir.Info()
	if err != nil && !errors.Is(err, anchor.ErrNone) {
		return err
	}
	list, err := s.dir.Undo(s.cmd.Context(), s.host, caWanted(current, onlyOld))
	if err != nil {
		return err
	}
	for _, u := range list {
		switch {
		case u.Problem != nil:
			s.fail("%s: %v", u.Place.Path, u.Problem)
		case len(u.Certs) == 0: // somebody else has removed it
			if err := s.dir.Done(s.cmd.Context(), u); err != nil {
				return err
			}
		default:
			s.add(u.Place, u.Place.Remove(u.Certs, s.dir.File), nil, func() error {
				if err := s.dir.Done(s.cmd.Context(), u); err != nil {
					return err
				}
				s.print("%s has it no more\n", u.Place.Path)
				return nil
			})
		}
	}
	if len(s.steps) == 0 && s.wrong == 0 {
		s.print("nothing is installed\n")
	}
	if !onlyOld {
		s.strays(current)
	}
	if err := s.perform("stop trusting it"); err != nil {
		return err
	}
	if s.wrong > 0 || s.undone {
		return s.failed()
	}
	old, err := s.dir.Old()
	if err == nil && len(old) > 0 {
		err = s.dir.Forget(old)
	}
	if err != nil {
		return err
	}
	if current != nil && !onlyOld {
		s.say("the authority itself stays: rm -r %s deletes it", string(s.dir))
	}
	return nil
}

// strays says what looks like ours and is not known here.
func (s *caSteps) strays(current *anchor.Info) {
	known, err := s.dir.Old()
	if err != nil {
		return
	}
	if current != nil {
		known = append(known, current.Certificate)
	}
	files, commands := s.host.Strays(known)
	if len(files) == 0 {
		return
	}
	var words []string
	for _, c := range commands {
		words = append(words, c.String())
	}
	s.say("%s: of an authority that is not kept in %s, another user's or one that was deleted; if it was yours, as root: %s",
		strings.Join(files, ", "), string(s.dir), strings.Join(words, " && "))
}
