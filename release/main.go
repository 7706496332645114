// Command release makes what people install: static binaries in archives,
// packages for dpkg and rpm, their SHA-256 sums, and an SPDX bill of materials of
// each binary.
//
//	cd release && go run .                              writes ../dist, as make dist
//	cd release && go run . -targets linux/amd64         of one system alone
//	cd release && go run . -verify                      makes it again elsewhere and compares
//	cd release && go run . -notices ../THIRD_PARTY_NOTICES
//
// What it writes depends on the commit, on the version of Go and on nothing else:
// not on the time, the place, the user or the order of a directory. The one time
// in it is SOURCE_DATE_EPOCH or, without it, the date of the commit. -verify makes
// everything once more, from a copy at another place and with an empty build
// cache.
//
// It runs on Linux (manual pages, completions and the AppArmor profile come from
// the program itself) and needs git, unless -version and SOURCE_DATE_EPOCH are
// given. It signs nothing: SHA256SUMS is what there is to sign.
package main

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	o := options{root: "..", gocmd: os.Getenv("GO"), log: os.Stderr}
	flag.StringVar(&o.root, "root", "..", "trace's source `directory`")
	flag.StringVar(&o.out, "o", "../dist", "`directory` to write")
	targets := flag.String("targets", "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64", "`systems` to build for")
	flag.StringVar(&o.version, "version", "", "`version` (default: as git describe says)")
	flag.StringVar(&o.maintainer, "maintainer", "The trace maintainers <maintainers@trace.invalid>", "who packages say to write to: `NAME <ADDRESS>`")
	verify := flag.Bool("verify", false, "make it once more from a copy of the commit, with an empty cache, and compare with what is there")
	notices := flag.String("notices", "", "write the licences of what is linked to this `file`, and nothing else")
	flag.Parse()
	err := o.setTargets(*targets)
	switch {
	case err != nil:
	case flag.NArg() > 0:
		err = fmt.Errorf("argument %q: want none", flag.Arg(0))
	case *notices != "":
		err = writeNotices(o, *notices)
	case *verify:
		err = verifyRelease(o)
	default:
		_, err = makeRelease(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// options say what to make of what.
type options struct {
	root, out  string
	gocmd      string // the go command; "" is go
	gocache    string // the build cache; "" is the user's
	version    string
	maintainer string
	targets    []target
	log        *os.File // nil is silent
}

// A target is a system that trace is built for.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "/" + t.arch }

func (o *options) setTargets(list string) error {
	o.targets = nil
	for name := range strings.SplitSeq(list, ",") {
		system, arch, ok := strings.Cut(name, "/")
		t := target{system, arch}
		if !ok || (system != "linux" && system != "darwin") || (arch != "amd64" && arch != "arm64") {
			return fmt.Errorf("-targets %q: want linux/amd64, linux/arm64, darwin/amd64 or darwin/arm64", name)
		}
		if !slices.Contains(o.targets, t) {
			o.targets = append(o.targets, t)
		}
	}
	return nil
}

func (o options) say(format string, args ...any) {
	if o.log != nil {
		fmt.Fprintf(o.log, format+"\n", args...)
	}
}

// makeRelease writes everything to o.out and returns the sums by file name.
func makeRelease(o options) (map[string]string, error) {
	src, err := readSource(o.root, o.version)
	if err != nil {
		return nil, err
	}
	sums, err := releaseOf(o, src)
	if err != nil {
		return nil, err
	}
	o.say("%s: %d files of %s", o.out, len(sums)+1, src.version)
	return sums, nil
}

// releaseOf makes the release of src. Files of earlier ones that SHA256SUMS would not
// name are left alone.
func releaseOf(o options, src source) (map[string]string, error) {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return nil, err
	}
	common, err := gather(o, src)
	if err != nil {
		return nil, err
	}
	made := map[string][]byte{}
	for _, t := range o.targets {
		o.say("%s", t)
		if err := makeTarget(o, src, t, common, made); err != nil {
			return nil, fmt.Errorf("%s: %w", t, err)
		}
	}
	return writeSummed(o.out, made)
}

// makeTarget makes the files of one system.
func makeTarget(o options, src source, t target, common *tree, made map[string][]byte) error {
	binary, err := common.built[t], error(nil)
	if binary == nil {
		binary, err = buildBinary(o, src, t)
	}
	if err != nil {
		return err
	}
	bill, err := billOfMaterials(o, src, t, binary, common.licences)
	if err != nil {
		return err
	}
	base := fmt.Sprintf("trace_%s_%s_%s", src.version, t.os, t.arch)
	made[base+".spdx.json"] = bill
	if made[base+".tar.gz"], err = archive(src, t, base, common, binary, bill); err != nil || t.os != "linux" {
		return err
	}
	deb := fmt.Sprintf("trace_%s_%s.deb", src.packageVersion(), t.arch)
	made[deb], err = debPackage(o, src, t, common.installed(binary, bill, "usr/share/zsh/vendor-completions/"))
	if err != nil {
		return fmt.Errorf("deb: %w", err)
	}
	rpm := fmt.Sprintf("trace-%s-1.%s.rpm", src.packageVersion(), rpmArch[t.arch])
	made[rpm], err = rpmPackage(o, src, t, common.installed(binary, bill, "usr/share/zsh/site-functions/"))
	if err != nil {
		return fmt.Errorf("rpm: %w", err)
	}
	return nil
}

// sumsFile is what sha256sum -c reads.
const sumsFile = "SHA256SUMS"

func writeSummed(dir string, made map[string][]byte) (map[string]string, error) {
	sums, list := map[string]string{}, ""
	for _, name := range slices.Sorted(maps.Keys(made)) {
		sums[name] = fmt.Sprintf("%x", sha256.Sum256(made[name]))
		list += sums[name] + "  " + name + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), made[name], 0o644); err != nil {
			return nil, err
		}
	}
	return sums, os.WriteFile(filepath.Join(dir, sumsFile), []byte(list), 0o644)
}

// verifyRelease makes the release of the commit once more, at another place and
// without what is cached, and compares it with the one in o.out.
func verifyRelease(o options) error {
	src, err := readSource(o.root, o.version)
	if err != nil {
		return err
	}
	there, err := os.ReadFile(filepath.Join(o.out, sumsFile))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "trace-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := exportCommit(o.root, filepath.Join(dir, "source")); err != nil {
		return err
	}
	o.root, o.out, o.gocache = filepath.Join(dir, "source"), filepath.Join(dir, "dist"), filepath.Join(dir, "cache")
	src.root = o.root
	if _, err := releaseOf(o, src); err != nil {
		return err
	}
	again, err := os.ReadFile(filepath.Join(o.out, sumsFile))
	if err != nil {
		return err
	}
	if string(there) != string(again) {
		return errors.New("it is not what the commit makes:\n" + differing(string(there), string(again)))
	}
	o.say("verified: the same %d files", strings.Count(string(again), "\n"))
	return nil
}

// differing lists the lines of two sums files that only one of them has.
func differing(there, again string) string {
	var b strings.Builder
	for line := range strings.Lines(there) {
		if !strings.Contains(again, line) {
			b.WriteString("there  " + line)
		}
	}
	for line := range strings.Lines(again) {
		if !strings.Contains(there, line) {
			b.WriteString("again  " + line)
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}
