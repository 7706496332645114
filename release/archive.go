package main

import (
	"archive/tar"
	"bytes"
	"path"
	"time"
)

// archive is the tar.gz of one system: everything below one directory.
func archive(src source, t target, base string, common *tree, binary, bill []byte) ([]byte, error) {
	files := []file{
		{"trace", 0o755, binary, plain},
		{"trace.spdx.json", 0o644, bill, document},
		{"completions/trace.bash", 0o644, common.completions["bash"], plain},
		{"completions/_trace", 0o644, common.completions["zsh"], plain},
		{"completions/trace.fish", 0o644, common.completions["fish"], plain},
	}
	for name, body := range common.texts {
		files = append(files, file{name, 0o644, body, document})
	}
	for name, body := range common.pages {
		files = append(files, file{"man/man1/" + name, 0o644, body, document})
	}
	for i := range files {
		files[i].name = path.Join(base, files[i].name)
	}
	packed, err := tarball(src.date, "", sorted(files))
	return gzipped(packed), err
}

// tarball packs files, which belong to root and are all of one time, below their
// directories.
func tarball(date time.Time, prefix string, files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	head := tar.Header{ModTime: date, Uname: "root", Gname: "root"}
	for _, d := range directories(files) {
		h := head
		h.Name, h.Typeflag, h.Mode = prefix+d+"/", tar.TypeDir, 0o755
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		h := head
		h.Name, h.Typeflag, h.Mode, h.Size = prefix+f.name, tar.TypeReg, f.mode, int64(len(f.body))
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.body); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
