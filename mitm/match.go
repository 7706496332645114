package mitm

import (
	"path"
	"strings"
)

// anyMatches tells whether one of the globs matches a name.
func anyMatches(globs []string, name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for _, g := range globs {
		if ok, err := path.Match(strings.ToLower(g), name); err == nil && ok {
			return true
		}
	}
	return false
}

// Skips returns why a name is not to be decrypted, "" if it is.
func (p *Proxy) Skips(name string) string {
	switch {
	case anyMatches(p.Bypass, name):
		return ReasonBypass
	case len(p.Only) > 0 && !anyMatches(p.Only, name):
		return ReasonNotSelected
	}
	return ""
}
