package anchor

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// An Entry says that a certificate was put into a place, or was about to be.
type Entry struct {
	Kind        string `json:"kind"`
	Path        string `json:"path"`           // as of the Place
	Certificate string `json:"certificate"`    // PEM
	Made        bool   `json:"made,omitempty"` // the database itself was made for it
}

// Cert returns the certificate of an entry, nil if it is damaged.
func (e Entry) Cert() *x509.Certificate {
	cert, err := parseCertificate([]byte(e.Certificate))
	if err != nil {
		return nil
	}
	return cert
}

func (e Entry) same(o Entry) bool {
	return e.Kind == o.Kind && e.Path == o.Path && e.Certificate == o.Certificate
}

// Installed returns what was noted.
func (d Dir) Installed() ([]Entry, error) {
	data, err := readFile(d.path(recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Entry
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("read %s: %w", d.path(recordFile), err)
	}
	return list, nil
}

// Note adds an entry, before anything is done, so that what is interrupted can
// be undone too.
func (d Dir) Note(e Entry) error {
	return d.change(func(list []Entry) []Entry {
		if slices.ContainsFunc(list, e.same) {
			return list
		}
		return append(list, e)
	})
}

// Strike takes an entry off.
func (d Dir) Strike(e Entry) error {
	return d.change(func(list []Entry) []Entry { return slices.DeleteFunc(list, e.same) })
}

func (d Dir) change(how func([]Entry) []Entry) error {
	return d.locked(func() error {
		list, err := d.Installed()
		if err != nil {
			return err
		}
		if list = how(list); len(list) == 0 {
			if err := os.Remove(d.path(recordFile)); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}
		data, err := json.MarshalIndent(list, "", " ")
		if err != nil {
			return err
		}
		return d.write(recordFile, 0o600, append(data, '\n'))
	})
}

// Place returns the place that an entry means.
func (h *Host) Place(e Entry) (Place, error) {
	switch e.Kind {
	case KindSystem:
		return h.System()
	case KindNSS:
		return h.Database(e.Path), nil
	case KindJava:
		return h.Keystore(e.Path), nil
	}
	return Place{}, fmt.Errorf("a place of unknown kind %q", e.Kind)
}

// New tells whether the place itself has to be made.
func (p Place) New() bool {
	n, ok := p.by.(*nss)
	return ok && !n.host.exists(filepath.Join(n.dir, nssFile))
}

// An Undoing is what takes certificates out of one place.
type Undoing struct {
	Place   Place
	Certs   []*x509.Certificate // those that are there
	Entries []Entry             // what is noted of them
	Problem error               // why it cannot be told what is there; nil: it can
	made    bool
}

// Undo returns what would undo every installation of the certificates for
// which want answers yes. The system's store is looked at also if nothing is
// noted. Entries of what somebody else removed meanwhile come without
// certificates.
func (d Dir) Undo(ctx context.Context, host *Host, want func(*x509.Certificate) bool) ([]Undoing, error) {
	entries, err := d.Installed()
	if err != nil {
		return nil, err
	}
	known, err := d.Old()
	if err != nil {
		return nil, err
	}
	if info, err := d.Info(); err == nil {
		known = append(known, info.Certificate)
	}
	if _, err := host.System(); err == nil {
		for _, c := range known {
			if e := (Entry{Kind: KindSystem, Certificate: string(PEM(c))}); !slices.ContainsFunc(entries, func(o Entry) bool {
				return o.Kind == e.Kind && o.Certificate == e.Certificate
			}) {
				entries = append(entries, e)
			}
		}
	}
	var list []Undoing
	for _, e := range entries {
		cert := e.Cert()
		if cert == nil {
			return nil, fmt.Errorf("read %s: damaged: %s has no certificate", d.path(recordFile), e.Path)
		}
		if !want(cert) {
			continue
		}
		place, err := host.Place(e)
		if err != nil {
			list = append(list, Undoing{Place: Place{Kind: e.Kind, Path: e.Path}, Problem: err})
			continue
		}
		there, problem := place.Has(ctx, cert)
		// What programs find, but we have not put there, stays.
		there = there && e.Path != "" || place.Left(cert)
		if !there && e.Path == "" {
			continue
		}
		i := slices.IndexFunc(list, func(u Undoing) bool { return u.Place.Kind == place.Kind && u.Place.Path == place.Path })
		if i < 0 {
			i = len(list)
			list = append(list, Undoing{Place: place})
		}
		u := &list[i]
		u.made = u.made || e.Made
		if e.Path != "" {
			u.Entries = append(u.Entries, e)
		}
		if problem != nil && e.Path != "" {
			u.Problem = problem
			continue
		}
		if there {
			u.Certs = append(u.Certs, cert)
			if err := d.keep(cert); err != nil { // some tools want the file
				return nil, err
			}
		}
	}
	return list, nil
}

// keep sees to it that a certificate lies where File says.
func (d Dir) keep(cert *x509.Certificate) error {
	name := d.File(cert)
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.locked(func() error { return d.write(filepath.Base(name), 0o644, PEM(cert)) })
}

// Done checks that the certificates are gone, and strikes them off the record.
func (d Dir) Done(ctx context.Context, u Undoing) error {
	for _, c := range u.Certs {
		there, err := u.Place.Has(ctx, c)
		if err != nil {
			return err
		}
		if there {
			return fmt.Errorf("%s still has %q", u.Place.Path, c.Subject.CommonName)
		}
	}
	if n, ok := u.Place.by.(*nss); ok && u.made {
		if err := n.discard(ctx); err != nil {
			return err
		}
	}
	for _, e := range u.Entries {
		if err := d.Strike(e); err != nil {
			return err
		}
	}
	return nil
}
