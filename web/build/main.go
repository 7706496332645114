// Command build bundles the live page: web/ui/src and the libraries in
// web/ui/vendor become web/ui/dist, which is committed and embedded.
//
//	cd web/build && go run .           writes web/ui/dist
//	cd web/build && go run . -check    exits 1 if it is not what the sources make
//	cd web/build && go run . -tests D  bundles web/ui/test for node into D
//
// It needs neither node nor npm: esbuild is a Go library. The result depends on
// the sources and on the version of esbuild in go.mod alone.
package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

// maxGzip is the budget of what a browser loads, compressed.
const maxGzip = 150 << 10

func main() {
	ui := flag.String("ui", "../ui", "the page's `directory`")
	check := flag.Bool("check", false, "compare with what is there, write nothing")
	tests := flag.String("tests", "", "bundle the tests for node into this `directory`")
	flag.Parse()
	if err := run(*ui, *check, *tests); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(ui string, check bool, tests string) error {
	ui, err := filepath.Abs(ui)
	if err != nil {
		return err
	}
	if tests != "" {
		return bundleTests(ui, tests)
	}
	files, err := bundle(ui)
	if err != nil {
		return err
	}
	if err := weigh(files); err != nil {
		return err
	}
	if check {
		return compare(filepath.Join(ui, "dist"), files)
	}
	return write(filepath.Join(ui, "dist"), files)
}

// options are what page and tests have in common.
func options(ui string) api.BuildOptions {
	return api.BuildOptions{
		AbsWorkingDir: ui,
		Bundle:        true,
		Charset:       api.CharsetUTF8,
		JSX:           api.JSXAutomatic, JSXImportSource: "preact",
		NodePaths:   []string{filepath.Join(ui, "vendor")},
		TsconfigRaw: "{}",
		LogLevel:    api.LogLevelWarning,
	}
}

// bundle makes all files of dist, by their slash-separated names.
func bundle(ui string) (map[string][]byte, error) {
	o := options(ui)
	o.EntryPointsAdvanced = []api.EntryPoint{
		{InputPath: "src/main.tsx", OutputPath: "assets/app"},
		{InputPath: "src/style/app.css", OutputPath: "assets/app"},
		{InputPath: "src/doc/worker.ts", OutputPath: "assets/doc"},
	}
	o.Outdir = "dist"
	o.MinifyWhitespace, o.MinifyIdentifiers, o.MinifySyntax = true, true, true
	o.Target, o.Format = api.ES2022, api.FormatIIFE
	o.LegalComments = api.LegalCommentsNone
	o.Banner = map[string]string{"js": "/* The live page of trace. Licences of the libraries in it: licences.txt */"}
	result := api.Build(o)
	if len(result.Errors) > 0 {
		return nil, errors.New("bundle: the sources have errors")
	}
	files := map[string][]byte{}
	for _, f := range result.OutputFiles {
		name, err := filepath.Rel(filepath.Join(ui, "dist"), f.Path)
		if err != nil {
			return nil, err
		}
		files[filepath.ToSlash(name)] = f.Contents
	}
	for from, to := range map[string]string{"src/index.html": "index.html", "src/icon.svg": "assets/icon.svg"} {
		text, err := os.ReadFile(filepath.Join(ui, from))
		if err != nil {
			return nil, err
		}
		files[to] = text
	}
	var err error
	files["assets/licences.txt"], err = licences(filepath.Join(ui, "vendor"))
	return files, err
}

// licences joins the licence texts of the libraries.
func licences(vendor string) ([]byte, error) {
	var paths []string
	for _, pattern := range []string{"*/LICENSE", "@*/*/LICENSE"} {
		found, err := filepath.Glob(filepath.Join(vendor, pattern))
		if err != nil {
			return nil, err
		}
		paths = append(paths, found...)
	}
	slices.Sort(paths)
	var b bytes.Buffer
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		name, err := filepath.Rel(vendor, filepath.Dir(p))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s\n\n%s\n\n", filepath.ToSlash(name), bytes.TrimSpace(text))
	}
	return b.Bytes(), nil
}

// weigh prints the sizes and holds the budget.
func weigh(files map[string][]byte) error {
	sum := 0
	for name, text := range files {
		if strings.HasSuffix(name, ".txt") {
			continue // loaded by those who ask for it
		}
		var b bytes.Buffer
		z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
		z.Write(text)
		z.Close()
		sum += b.Len()
	}
	fmt.Fprintf(os.Stderr, "build: %.1f KB compressed, of %d\n", float64(sum)/1024, maxGzip>>10)
	if sum > maxGzip {
		return fmt.Errorf("weigh bundle: %d bytes compressed, the budget is %d", sum, maxGzip)
	}
	return nil
}

// compare wants dist to be what the sources make.
func compare(dist string, files map[string][]byte) error {
	for name, text := range files {
		if there, err := os.ReadFile(filepath.Join(dist, name)); err != nil || !bytes.Equal(there, text) {
			return fmt.Errorf("check %s: not what the sources make: make web", name)
		}
	}
	return nil
}

func write(dist string, files map[string][]byte) error {
	for name, text := range files {
		p := filepath.Join(dist, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// bundleTests makes a module for node of each test.
func bundleTests(ui, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	o := options(ui)
	if o.EntryPoints, err = filepath.Glob(filepath.Join(ui, "test", "*.test.ts")); err != nil || len(o.EntryPoints) == 0 {
		return fmt.Errorf("bundle tests: none found: %w", err)
	}
	o.Platform, o.Target, o.Format = api.PlatformNode, api.ES2022, api.FormatESModule
	o.Conditions = []string{"browser"} // the builds that the page has
	o.Outdir, o.OutExtension, o.Write = dir, map[string]string{".js": ".mjs"}, true
	if result := api.Build(o); len(result.Errors) > 0 {
		return errors.New("bundle tests: the sources have errors")
	}
	return nil
}
