package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"trace/anchor"
	"trace/mitm"
)

// passphraseVar names the variable with the passphrase of the lasting
// authority's key, for services that have nobody to ask.
const passphraseVar = "TRACE_CA_PASSPHRASE"

// commandEnviron is the environment for programs that we start: ours, without the
// passphrase.
func commandEnviron() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, passphraseVar+"=") })
}

// maxPassphrase bounds a file of which the first line is a passphrase.
const maxPassphrase = 4 << 10

// caDir returns where the lasting authority of this user is kept.
func caDir() (anchor.Dir, error) {
	sessions, err := sessionsDir()
	if err != nil {
		return "", err
	}
	return anchor.Dir(filepath.Join(filepath.Dir(sessions), "ca")), nil
}

// caKey knows how to get at the passphrase of the lasting authority's key.
type caKey struct {
	file string // --passphrase-file
}

func (k *caKey) flags(f *pflag.FlagSet) {
	f.StringVar(&k.file, "passphrase-file", "", "read the passphrase of the authority's key from the first line of `FILE` (else: "+passphraseVar+", or the terminal)")
}

// given returns the passphrase that was given without anybody being asked, ""
// if none was.
func (k *caKey) given() (string, error) {
	if k.file == "" {
		return os.Getenv(passphraseVar), nil
	}
	return passphraseIn(k.file)
}

// passphraseIn reads a file, which may be a pipe.
func passphraseIn(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("read passphrase: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPassphrase+1))
	if err != nil {
		return "", fmt.Errorf("read passphrase: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	line = strings.TrimSuffix(line, "\r")
	switch {
	case len(line) > maxPassphrase:
		return "", fmt.Errorf("read passphrase %s: its first line is longer than %d bytes", name, maxPassphrase)
	case line == "":
		return "", fmt.Errorf("read passphrase %s: its first line is empty", name)
	}
	return line, nil
}

// current returns the passphrase of a key that is kept under one.
func (k *caKey) current() (string, error) {
	word, err := k.given()
	if word != "" || err != nil {
		return word, err
	}
	word, err = askSecret("Passphrase of the authority's key: ")
	if errors.Is(err, errNobody) {
		err = fmt.Errorf("it is kept under a passphrase: --passphrase-file FILE or %s gives it (%w)", passphraseVar, err)
	}
	return word, err
}

// fresh returns the passphrase of a key that is to be made: the one that is
// given, or, if one is wanted, what is typed twice.
func (k *caKey) fresh(wanted bool) (string, error) {
	word, err := k.given()
	if word != "" || err != nil || !wanted {
		return word, err
	}
	return askTwice()
}

func askTwice() (string, error) {
	word, err := askSecret("New passphrase for the authority's key: ")
	if errors.Is(err, errNobody) {
		err = fmt.Errorf("a passphrase is wanted: --passphrase-file FILE or %s gives it (%w)", passphraseVar, err)
	}
	if err != nil {
		return "", err
	}
	if word == "" {
		return "", errors.New("an empty passphrase protects nothing")
	}
	again, err := askSecret("The same again: ")
	if err == nil && again != word {
		err = errors.New("these are two different passphrases: nothing was changed")
	}
	return word, err
}

// errNobody says that there is no terminal to ask on.
var errNobody = errors.New("there is no terminal to ask on")

// askSecret asks on the terminal, whatever standard input is, and does not show
// what is typed. An interrupt leaves the terminal as it was.
func askSecret(prompt string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", errNobody
	}
	defer tty.Close()
	fd := int(tty.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", errNobody
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	fmt.Fprint(tty, prompt)
	type answer struct {
		word []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() { word, err := term.ReadPassword(fd); answers <- answer{word, err} }()
	select {
	case a := <-answers:
		fmt.Fprintln(tty)
		if a.err != nil {
			return "", fmt.Errorf("read passphrase: %w", a.err)
		}
		return string(a.word), nil
	case s := <-signals: // the reader is stuck until the program ends, which is now
		term.Restore(fd, state)
		fmt.Fprintln(tty)
		number, _ := s.(syscall.Signal)
		return "", exitError{Code: 128 + int(number)}
	}
}

// A lastingCA is the authority of `trace serve`.
type lastingCA struct {
	*anchor.CA
	authority *mitm.Authority
	dir       anchor.Dir
}

// soon is how long before the end of an authority people are told.
const soon = 30 * 24 * time.Hour

// lasting loads this user's lasting authority; if there is none it is made,
// under the passphrase if one is given. What is to be said about it goes to
// say.
func (k *caKey) lasting(say func(format string, args ...any)) (*lastingCA, error) {
	dir, err := caDir()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if _, err := dir.Info(); errors.Is(err, anchor.ErrNone) {
		word, err := k.given()
		if err != nil {
			return nil, err
		}
		made, err := dir.Create(word, now)
		if err != nil {
			return nil, fmt.Errorf("make authority: %w", err)
		}
		if made {
			say("made an authority for clients to trust, in %s: 'trace ca install' makes this machine's programs do so", string(dir))
		}
	}
	ca, err := dir.Load(k.current)
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	authority, err := mitm.AuthorityFrom(ca.Certificate, ca.Key, now)
	if err != nil {
		return nil, fmt.Errorf("%w: 'trace ca rotate' makes another", err)
	}
	if left := ca.Certificate.NotAfter.Sub(now); left < soon {
		say("the authority ends at %s: 'trace ca rotate' makes another, which clients have to be told of", ca.Certificate.NotAfter.Local().Format(time.DateTime))
	}
	return &lastingCA{ca, authority, dir}, nil
}
