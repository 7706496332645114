package main

import (
	"bytes"
	"strings"

	"github.com/google/rpmpack"
)

// rpmArch is how rpm calls what Go calls so.
var rpmArch = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// rpmPackage is the package for rpm.
func rpmPackage(o options, src source, t target, files []file) ([]byte, error) {
	var recommends rpmpack.Relations
	if err := recommends.Set("ca-certificates"); err != nil {
		return nil, err
	}
	r, err := rpmpack.NewRPM(rpmpack.RPMMetaData{
		Name: "trace", Version: src.packageVersion(), Release: "1", Epoch: rpmpack.NoEpoch, Arch: rpmArch[t.arch], OS: "linux",
		Summary: summary, Description: description, Licence: "Apache-2.0", Packager: o.maintainer,
		BuildHost: "localhost", BuildTime: src.date, Compressor: "gzip:6", Recommends: recommends,
	})
	if err != nil {
		return nil, err
	}
	entry := rpmpack.RPMFile{Owner: "root", Group: "root", MTime: uint32(src.date.Unix())}
	// Its own directories, so that they go with it; the others are the system's.
	for _, d := range []string{docDir, docDir + "docs/", "usr/share/trace/", profileDir} {
		e := entry
		e.Name, e.Mode = "/"+strings.TrimSuffix(d, "/"), 0o40755
		r.AddFile(e)
	}
	kinds := map[fileKind]rpmpack.FileType{plain: rpmpack.GenericFile, document: rpmpack.DocFile, licence: rpmpack.LicenceFile}
	for _, f := range files {
		e := entry
		e.Name, e.Mode, e.Body, e.Type = "/"+f.name, uint(f.mode), f.body, kinds[f.kind]
		r.AddFile(e)
	}
	r.AddPostin(profileScript + postinst)
	r.AddPreun(profileScript + prerm)
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
