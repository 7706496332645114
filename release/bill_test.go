package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// TestBill: every module that the linker wrote into the binary is in its bill of
// materials, with a licence that is known, and in the notices.
func TestBill(t *testing.T) {
	m := made1(t)
	text, err := os.ReadFile(m.file(t, ".spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc spdxDocument
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	byName, ids := map[string]spdxPackage{}, map[string]bool{}
	for _, p := range doc.Packages {
		byName[p.Name] = p
		if ids[p.ID] {
			t.Errorf("%s twice", p.ID)
		}
		ids[p.ID] = true
		if p.Concluded == "NOASSERTION" {
			t.Errorf("%s: its licence is not known", p.Name)
		}
	}
	if doc.SPDXVersion != "SPDX-2.3" || doc.Creation.Created != "2026-03-04T05:06:07Z" || len(doc.Relationships) != len(doc.Packages) {
		t.Errorf("%s of %s: %d packages, %d relationships", doc.SPDXVersion, doc.Creation.Created, len(doc.Packages), len(doc.Relationships))
	}
	binary := filepath.Join(t.TempDir(), "trace")
	if out, err := exec.Command("sh", "-c", `tar -xzOf "$1" --wildcards '*/trace' >"$2"`, "sh", m.file(t, ".tar.gz"), binary).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := licencesOf(m.o)
	if err != nil {
		t.Fatal(err)
	}
	noticed := notices(parts)
	for _, dep := range append(info.Deps, &debug.Module{Path: standardLibrary}, &debug.Module{Path: "preact"}) {
		if dep.Path == "ahead" {
			continue
		}
		p, ok := byName[dep.Path]
		if !ok || (dep.Version != "" && p.Version != dep.Version) {
			t.Errorf("%s %s: %+v", dep.Path, dep.Version, p)
		}
		if dep.Path != standardLibrary && !bytes.Contains(noticed, []byte("\n  "+dep.Path+" ")) {
			t.Errorf("%s is not in the notices", dep.Path)
		}
	}
	if len(info.Deps) < 20 {
		t.Errorf("%d modules", len(info.Deps))
	}
}

// TestNotices: the committed notices are of what is linked now.
func TestNotices(t *testing.T) {
	parts, err := licencesOf(options{root: "..", gocmd: os.Getenv("GO")})
	if err != nil {
		t.Fatal(err)
	}
	there, err := os.ReadFile(filepath.Join("..", noticesFile))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(there, notices(parts)) {
		t.Errorf("%s is not of what is linked: make notices", noticesFile)
	}
	for name, l := range parts {
		if len(l.ids) == 0 {
			t.Errorf("%s: its licence is not known", name)
		}
	}
}

// TestIdentify: licences are known by their texts.
func TestIdentify(t *testing.T) {
	const bsd = "Redistribution and use in source and binary forms, with or without\n// modification, are permitted\nRedistributions in binary form must\n"
	for text, want := range map[string]string{
		"Apache License\n  Version 2.0, January 2004": "Apache-2.0",
		bsd: "BSD-2-Clause",
		bsd + "may be used to endorse or\npromote products":                                "BSD-3-Clause",
		"Additional IP Rights Grant (Patents)":                                             "",
		"Mozilla Public License Version 2.0\n====\n" + bsd + "endorse or promote products": "MPL-2.0 BSD-3-Clause",
	} {
		if got := strings.Join(identify(text), " "); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestLicenceFiles: which files hold licences.
func TestLicenceFiles(t *testing.T) {
	for name, want := range map[string]bool{"LICENSE": true, "LICENSE.txt": true, "COPYING": true, "LICENSE-3RD-PARTY.md": true, "LICENSE-SQLITE_VEC": true,
		"NOTICE": true, "PATENTS": true, "Licence.md": true, "strcopy.go": false, "README.md": false, "noticeable": false, "MIT-LICENSE": true} {
		if licenceFiles().MatchString(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// TestVersions: versions of packages are ordered as the commits were, by dpkg.
func TestVersions(t *testing.T) {
	needs(t, "dpkg")
	day := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for version, want := range map[string]string{
		"0123456789ab":               "0~20260102030405.0123456789ab",
		"v1.2.3-rc1":                 "1.2.3~rc1",
		"v1.2.3-rc1-4-g0123456789ab": "1.2.3~rc1+4.g0123456789ab",
		"v1.2.3":                     "1.2.3",
		"v1.2.3-5-g0123456789ab":     "1.2.3+5.g0123456789ab",
		"2.0":                        "2.0",
		"v2.0.1-dirty":               "2.0.1+dirty",
		"1234567":                    "0~20260102030405.1234567", // a hash, of digits by chance
	} {
		got := source{version: version, date: day}.packageVersion()
		if got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
	}
	order := []string{"0~20260102030405.0123456789ab", "1.2.3~rc1", "1.2.3~rc1+4.g0123456789ab", "1.2.3", "1.2.3+5.g0123456789ab", "2.0", "2.0.1+dirty"}
	for i := range len(order) - 1 {
		if err := exec.Command("dpkg", "--compare-versions", order[i], "lt", order[i+1]).Run(); err != nil {
			t.Errorf("%s is not before %s", order[i], order[i+1])
		}
	}
}

// TestBadInput: what cannot be released is refused before anything is built.
func TestBadInput(t *testing.T) {
	var o options
	for _, list := range []string{"", "linux", "linux/386", "windows/amd64", "linux/amd64,"} {
		if err := o.setTargets(list); err == nil {
			t.Errorf("-targets %q is taken", list)
		}
	}
	if err := o.setTargets("linux/arm64,linux/arm64"); err != nil || len(o.targets) != 1 {
		t.Errorf("%v, %v", o.targets, err)
	}
	for _, epoch := range []string{"soon", "-1", "4294967296"} {
		t.Setenv("SOURCE_DATE_EPOCH", epoch)
		if _, err := readSource("..", "v1"); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
			t.Errorf("%s: %v", epoch, err)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "86400")
	for _, version := range []string{"-X", "a b", "a'b", "a/b"} {
		if _, err := readSource("..", version); err == nil {
			t.Errorf("version %q is taken", version)
		}
	}
	dir := t.TempDir()
	if s, err := readSource(dir, "v1"); err != nil || s.day() != "1970-01-02T00:00:00Z" {
		t.Errorf("without git: %+v, %v", s, err)
	}
	if _, err := readSource(dir, ""); err == nil || !strings.Contains(err.Error(), "-version") {
		t.Errorf("without git and version: %v", err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "")
	if _, err := readSource(dir, "v1"); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
		t.Errorf("without git and date: %v", err)
	}
}
