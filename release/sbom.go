package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// The parts of an SPDX 2.3 document that we write.
type (
	spdxDocument struct {
		SPDXVersion   string             `json:"spdxVersion"`
		DataLicense   string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Namespace     string             `json:"documentNamespace"`
		Creation      spdxCreation       `json:"creationInfo"`
		Packages      []spdxPackage      `json:"packages"`
		Relationships []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		ID            string         `json:"SPDXID"`
		Name          string         `json:"name"`
		Version       string         `json:"versionInfo,omitempty"`
		File          string         `json:"packageFileName,omitempty"`
		Supplier      string         `json:"supplier"`
		Download      string         `json:"downloadLocation"`
		FilesAnalyzed bool           `json:"filesAnalyzed"`
		Checksums     []spdxChecksum `json:"checksums,omitempty"`
		SourceInfo    string         `json:"sourceInfo,omitempty"`
		Concluded     string         `json:"licenseConcluded"`
		Declared      string         `json:"licenseDeclared"`
		Copyright     string         `json:"copyrightText"`
		Refs          []spdxRef      `json:"externalRefs,omitempty"`
		Purpose       string         `json:"primaryPackagePurpose"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxRelationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

// billOfMaterials says what is in binary: the modules that the linker wrote into it,
// the standard library, and what the page is bundled from.
func billOfMaterials(o options, src source, t target, binary []byte, licences map[string]licensed) ([]byte, error) {
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		return nil, err
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(binary))
	name := fmt.Sprintf("trace-%s-%s-%s", src.version, t.os, t.arch)
	doc := spdxDocument{SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: name,
		Namespace: "https://spdx.org/spdxdocs/" + name + "-" + sum,
		Creation:  spdxCreation{src.day(), []string{"Tool: trace-release-" + src.version}}}
	program := spdxPackage{ID: "SPDXRef-trace", Name: "trace", Version: src.version, File: "trace", Supplier: "NOASSERTION", Download: "NOASSERTION",
		Checksums: []spdxChecksum{{"SHA256", sum}}, SourceInfo: "commit " + src.commit, Concluded: "Apache-2.0", Declared: "Apache-2.0",
		Copyright: "The trace authors", Purpose: "APPLICATION"}
	doc.Packages = append(doc.Packages, program)
	doc.Relationships = append(doc.Relationships, spdxRelationship{doc.ID, "DESCRIBES", program.ID})
	parts := map[string]spdxPackage{}
	for _, m := range info.Deps {
		l, known := licences[m.Path]
		if !known {
			if m.Replace != nil && strings.HasPrefix(m.Replace.Path, "./") {
				continue // ours, under a path of its own
			}
			return nil, fmt.Errorf("bill of materials: %s is linked, but not among those whose licences were read", m.Path)
		}
		module := m
		if m.Replace != nil {
			module = m.Replace
		}
		p := l.part(module.Version, "pkg:golang/"+module.Path+"@"+module.Version)
		p.SourceInfo = "go.sum " + module.Sum
		p.Download = "https://proxy.golang.org/" + escaped(module.Path) + "/@v/" + escaped(module.Version) + ".zip"
		parts[m.Path] = p
	}
	for key, l := range licences {
		if library, ok := strings.CutPrefix(key, "npm:"); ok {
			parts[key] = l.part(l.version, "pkg:npm/"+strings.Replace(library, "@", "%40", 1)+"@"+l.version)
		}
	}
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	parts[standardLibrary] = licences[standardLibrary].part(goVersion, "pkg:golang/std@"+goVersion)
	for _, key := range slices.Sorted(maps.Keys(parts)) {
		doc.Packages = append(doc.Packages, parts[key])
		doc.Relationships = append(doc.Relationships, spdxRelationship{program.ID, "DEPENDS_ON", parts[key].ID})
	}
	out, err := json.MarshalIndent(doc, "", " ")
	return append(out, '\n'), err
}

// part is l as a package of a bill.
func (l licensed) part(version, purl string) spdxPackage {
	return spdxPackage{ID: "SPDXRef-" + regexp.MustCompile(`[^A-Za-z0-9.]+`).ReplaceAllString(l.name, "-"), Name: strings.TrimPrefix(l.name, "npm:"), Version: version,
		Supplier: "NOASSERTION", Download: "NOASSERTION", Concluded: l.expression(), Declared: l.expression(), Copyright: "NOASSERTION",
		Refs: []spdxRef{{"PACKAGE-MANAGER", "purl", purl}}, Purpose: "LIBRARY"}
}

// escaped writes a path as module proxies want it: an exclamation mark and the small
// letter for each capital one.
func escaped(path string) string {
	return regexp.MustCompile(`[A-Z]`).ReplaceAllStringFunc(path, func(s string) string { return "!" + strings.ToLower(s) })
}
