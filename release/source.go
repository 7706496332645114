package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A source is what a release is made of.
type source struct {
	root    string
	version string // as the program says it
	commit  string
	date    time.Time // the one time in a release
}

// readSource asks git, and the environment first.
func readSource(root, version string) (source, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return source{}, err
	}
	s := source{root: root, version: version}
	// The length of an abbreviated hash depends on what else is in the repository,
	// so it is given.
	if s.version == "" {
		if s.version, err = git(root, "describe", "--tags", "--always", "--abbrev=12", "--dirty"); err != nil {
			return s, fmt.Errorf("version: %w: give -version", err)
		}
	}
	if !versionChars().MatchString(s.version) {
		return s, fmt.Errorf("version %q: want letters, digits and . _ + - ~, a letter or digit first", s.version)
	}
	s.commit, err = git(root, "rev-parse", "HEAD")
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		if err != nil {
			return s, fmt.Errorf("date: %w: give SOURCE_DATE_EPOCH", err)
		}
		if epoch, err = git(root, "log", "-1", "--format=%ct"); err != nil {
			return s, err
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<32-1 { // what an rpm can say
		return s, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", epoch)
	}
	s.date = time.Unix(seconds, 0).UTC()
	return s, nil
}

func versionChars() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]*$`) }

func (s source) day() string   { return s.date.Format(time.RFC3339) }
func (s source) epoch() string { return strconv.FormatInt(s.date.Unix(), 10) }

// packageVersion is the version as dpkg and rpm order it: v1.2.3-rc1 before v1.2.3
// before five commits later; without a tag, by time and below every version. A
// hyphen has a meaning of its own in both.
func (s source) packageVersion() string {
	v, dirty := strings.CutSuffix(s.version, "-dirty")
	tagged := regexp.MustCompile(`^v?([0-9]+(?:\.[0-9]+)*)((?:-[A-Za-z0-9.]+)*?)(?:-([0-9]+)-g([0-9a-f]+))?$`).FindStringSubmatch(v)
	out := ""
	switch {
	case tagged != nil && (strings.Contains(tagged[1], ".") || strings.HasPrefix(v, "v")):
		out = tagged[1]
		if tagged[2] != "" {
			out += "~" + strings.ReplaceAll(tagged[2][1:], "-", ".")
		}
		if tagged[3] != "" {
			out += "+" + tagged[3] + ".g" + tagged[4]
		}
	default:
		out = "0~" + s.date.Format("20060102150405") + "." + strings.NewReplacer("-", ".", "~", ".").Replace(v)
	}
	if dirty {
		out += "+dirty"
	}
	return out
}

func git(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", fmt.Errorf("git %s: %s", args[0], strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// exportCommit writes the files of the commit at root to dir.
func exportCommit(root, dir string) error {
	if state, err := git(root, "status", "--porcelain", "--untracked-files=no"); err != nil || state != "" {
		return errors.Join(err, fmt.Errorf("%s: not as committed:\n%s", root, state))
	}
	top, err := git(root, "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	packed, err := exec.Command("git", "-C", top, "archive", "--format=tar", "HEAD").Output()
	if err != nil {
		return fmt.Errorf("git archive: %w", err)
	}
	return unpack(bytes.NewReader(packed), dir)
}

// unpack writes the files of a tar archive below dir.
func unpack(r io.Reader, dir string) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("archive: %q: leaves the directory", h.Name)
		}
		name := filepath.Join(dir, h.Name)
		body, err := io.ReadAll(t)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(name), 0o755)
		}
		if err == nil {
			err = os.WriteFile(name, body, h.FileInfo().Mode().Perm())
		}
		if err != nil {
			return err
		}
	}
}
