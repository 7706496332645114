package redact

import "strings"

// Argv returns a command line with its secrets replaced, and in how many
// places; argv itself if there are none.
func (r *Redactor) Argv(argv []string) (out []string, n int) {
	defer r.fail(func() { out, n = []string{Withheld}, 1 })
	out = make([]string, len(argv))
	for i, a := range argv {
		var before string
		if i > 0 {
			before = argv[i-1]
		}
		var m int
		out[i], m = r.arg(before, a)
		n += m
	}
	if n == 0 {
		return argv, 0
	}
	return out, n
}

// arg judges one argument by itself and by the flag before it.
func (r *Redactor) arg(before, a string) (string, int) {
	if before != "" && !strings.HasPrefix(a, "-") {
		switch name := strings.TrimLeft(before, "-"); {
		case name == before || strings.ContainsAny(name, "= "):
		case isSecretFlag(name):
			return r.flag(a)
		case name == "H" || name == "header" || name == "proxy-header":
			return r.header(a)
		case name == "u" || name == "user" || name == "proxy-user" || name == "U":
			if user, password, ok := strings.Cut(a, ":"); ok && !digit.all([]byte(password)) {
				out, n := r.secret(password, kindArgv)
				return user + ":" + out, n
			}
		case name == "b" || name == "cookie":
			if strings.Contains(a, "=") {
				return r.cookies(a)
			}
		case name == "d" || strings.HasPrefix(name, "data"):
			out, n := r.Body("", []byte(a))
			if n == 0 {
				return r.url(a, 0)
			}
			return string(out), n
		}
	}
	name, value, ok := strings.Cut(a, "=")
	flag := strings.TrimLeft(name, "-")
	switch {
	case strings.HasPrefix(a, "-H") && len(a) > 2:
		out, n := r.header(a[2:])
		return "-H" + out, n
	case !ok || value == "" || strings.ContainsAny(name, " /:?&\"'"):
	case flag == "header":
		out, n := r.header(value)
		return name + "=" + out, n
	case isSecretFlag(flag):
		out, n := r.flag(value)
		return name + "=" + out, n
	}
	if strings.ContainsAny(a, " \n\t") {
		return r.plain(a, 0)
	}
	return r.url(a, 0)
}

// flag replaces the value of a secret flag or variable, unless it only says
// where the value is found.
func (r *Redactor) flag(v string) (string, int) {
	if strings.HasPrefix(v, "$") || strings.HasPrefix(v, "@") {
		return r.plain(v, 0)
	}
	return r.auth2(v, kindArgv)
}

// auth2 is auth for values that need not be credentials with a scheme.
func (r *Redactor) auth2(v, kind string) (string, int) {
	k := schemeLen([]byte(v))
	out, n := r.secret(v[k:], kind)
	if n == 0 {
		return v, 0
	}
	return v[:k] + out, n
}

// header replaces the secrets of a "name: value" argument.
func (r *Redactor) header(a string) (string, int) {
	name, value, ok := strings.Cut(a, ":")
	if !ok {
		return r.plain(a, 0)
	}
	trimmed := strings.TrimLeft(value, " ")
	out, n := r.field(strings.TrimSpace(name), trimmed)
	if n == 0 {
		return a, 0
	}
	return name + ":" + value[:len(value)-len(trimmed)] + out, n
}

// isSecretFlag reports whether a flag or variable of that name has a secret
// for its value: its last word says so.
func isSecretFlag(name string) bool {
	if isSecretKey([]byte(name)) {
		return true
	}
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	if len(words) == 0 {
		return false
	}
	last := words[len(words)-1]
	if len(words) > 1 && last == "key" {
		switch words[len(words)-2] {
		case "api", "secret", "access", "private", "auth", "encryption", "signing", "master":
			return true
		}
	}
	switch last {
	case "token", "secret", "password", "passwd", "passphrase", "apikey", "credential", "jwt", "bearer":
		return true
	case "auth", "cookie", "credentials":
		return true
	}
	return false
}
