package web

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
)

// dist is the page as `make web` builds it.
//
//go:embed ui/dist
var dist embed.FS

// A file is one of the page's.
type file struct {
	text []byte
	kind string
	tag  string
}

// files are all files of the page by their paths. There is no other: no path of a
// request reaches a file system.
var files = sync.OnceValue(func() map[string]file {
	kinds := map[string]string{".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
		".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8", ".json": "application/json", ".map": "application/json", ".png": "image/png", ".ico": "image/x-icon"}
	all := map[string]file{}
	fs.WalkDir(dist, "ui/dist", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := dist.ReadFile(name)
		sum := sha256.Sum256(text)
		f := file{text: text, kind: kinds[path.Ext(name)], tag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
		if f.kind == "" {
			f.kind = "application/octet-stream"
		}
		all[strings.TrimPrefix(name, "ui/dist")] = f
		return err
	})
	all["/"] = all["/index.html"]
	return all
})

// static answers with a file of the page.
func static(w http.ResponseWriter, r *http.Request) {
	f, ok := files()[r.URL.Path]
	switch {
	case !ok || r.URL.RawPath != "":
		refuse(w, &Problem{http.StatusNotFound, "page: there is no such file", ""})
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, &Problem{http.StatusMethodNotAllowed, "method " + r.Method + ": a file is read only", ""})
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache") // ports are used again, by other versions
	h.Set("ETag", f.tag)
	h.Set("Content-Type", f.kind)
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if r.Method == http.MethodGet {
		w.Write(f.text) // who is gone has nothing to be told
	}
}
