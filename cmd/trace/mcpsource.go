package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"trace/mcp"
	"trace/redact"
	"trace/store"
	"trace/web"
)

// mcpSource finds sessions for agents as webSource does for the page, but by their
// names too.
type mcpSource struct{ webSource }

// Find returns the ID of the session that is meant. Files elsewhere than in the
// state directory are not to be had by naming them.
func (s *mcpSource) Find(ref string) (string, error) {
	if ref == "" || strings.EqualFold(ref, s.id) {
		id, err := s.First()
		return id, mcpProblem(err)
	}
	unknown := &mcp.Problem{Message: fmt.Sprintf("session %s: there is none", printable(shorten(ref, 80))), Hint: "list_sessions names them; leave session out for the newest"}
	if strings.ContainsRune(ref, filepath.Separator) {
		return "", unknown
	}
	dir, err := store.Dir()
	if err != nil {
		return "", err
	}
	path, err := store.Find(dir, ref)
	switch {
	case errors.Is(err, store.ErrNoSession):
		return "", unknown
	case err != nil:
		return "", err
	case filepath.Dir(path) != filepath.Clean(dir):
		return "", unknown
	}
	return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), nil
}

// Open opens a session by its ID.
func (s *mcpSource) Open(id string) (mcp.Record, error) {
	rec, err := s.webSource.Open(id)
	if err != nil {
		return nil, mcpProblem(err)
	}
	return rec.(*webRecord), nil
}

// redactReader has the secrets that a session holds stay in its file.
func redactReader(r *store.Reader) error {
	s, err := r.Run()
	if err == nil && s.Secrets {
		r.Redact(newGate())
	}
	return err
}

// newGate returns a redactor for one reading.
func newGate() *redact.Redactor {
	var key [32]byte
	rand.Read(key[:]) // never fails
	return redact.New(key)
}

// mcpProblem makes of the error of a view what agents can read.
func mcpProblem(err error) error {
	var known *web.Problem
	var usage usageError
	switch {
	case errors.As(err, &known):
		return &mcp.Problem{Message: known.Message, Hint: known.Hint}
	case errors.As(err, &usage):
		return &mcp.Problem{Message: strings.TrimPrefix(usage.Error(), "--")}
	}
	return err
}
