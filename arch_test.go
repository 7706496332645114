package trace_test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The budgets of docs/architecture.md.
const (
	maxFileLines = 500
	maxFuncLines = 100
)

// mayImport is the table of docs/architecture.md: which of our packages each
// package may import. A directory that is not named here does not belong.
var mayImport = map[string][]string{
	"flow":           {},
	"ahead":          {},
	"netns":          {},
	"nonblock":       {},
	"wg":             {"nonblock"},
	"peers":          {"wg"},
	"tcpstack":       {"nonblock"},
	"pcap":           {},
	"dns":            {},
	"trust":          {},
	"anchor":         {"mitm"},
	"egress":         {},
	"process":        {"flow"},
	"mirror":         {},
	"mitm":           {"flow", "nonblock"},
	"datagram":       {"flow"},
	"pipe":           {},
	"proxy":          {"flow", "mitm", "pipe", "rules"},
	"wire":           {"flow"},
	"redact":         {"flow"},
	"store":          {"flow", "redact"},
	"llm":            {"flow"},
	"export":         {"flow", "llm", "redact"},
	"importer":       {"flow", "wire"},
	"otel":           {"flow", "llm"},
	"replay":         {"flow", "pipe"},
	"rules":          {"flow", "replay"},
	"web":            {"flow", "llm", "shelf"},
	"mcp":            {"flow", "llm", "shelf"},
	"shelf":          {},
	"doctor":         {"netns"},
	"control":        {},
	"console":        {},
	"cmd/trace":      {"*"},
	"web/build":      {},
	"release":        {},
	"cmd/testreport": {},
	"cmd/demo":       {"testcert"},
	"bench":          {"testcert"},
	"soak":           {"testcert"},
	"e2e":            {},
	"testcert":       {},
	".":              {},
}

// only names the packages that may import a dependency.
var only = map[string][]string{
	"gvisor.dev/gvisor":                      {"tcpstack"},
	"golang.zx2c4.com/wireguard":             {"wg"},
	"github.com/spf13/cobra":                 {"cmd/trace"},
	"modernc.org/sqlite":                     {"store"},
	"ahead":                                  {"netns"},
	"filippo.io/age":                         {"anchor"},
	"github.com/modelcontextprotocol/go-sdk": {"mcp"},
	"github.com/google/jsonschema-go":        {"mcp"},
	"github.com/google/rpmpack":              {"release"},
	"go.opentelemetry.io":                    {"otel"},
}

// tunTypes is the one exception: the interface where link and stack meet.
const tunTypes = "golang.zx2c4.com/wireguard/tun"

// pure packages see no network, no file and no clock.
var pure = []string{"wire", "redact", "llm", "flow"}

type source struct {
	name string // slash-separated, from the root
	dir  string
	text []byte
	fset *token.FileSet
	file *ast.File
}

func (s source) test() bool { return strings.HasSuffix(s.name, "_test.go") }

// sources parses every Go file of the module.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, p, text, parser.ParseComments)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(p)
		all = append(all, source{name, path.Dir(name), text, fset, file})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d Go files found: is the test run from the root?", len(all))
	}
	return all
}

func TestFormat(t *testing.T) {
	for _, s := range sources(t) {
		if want, err := format.Source(s.text); err != nil || !bytes.Equal(want, s.text) {
			t.Errorf("%s: not formatted: gofmt -w %s", s.name, s.name)
		}
	}
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		allowed, known := mayImport[s.dir]
		if !known {
			t.Errorf("%s: package %s is not in the import table of arch_test.go and docs/architecture.md", s.name, s.dir)
			continue
		}
		for _, spec := range s.file.Imports {
			imp, _ := strconv.Unquote(spec.Path.Value)
			if ours, ok := strings.CutPrefix(imp, "trace/"); ok {
				if !s.test() && !slices.Contains(allowed, "*") && !slices.Contains(allowed, ours) {
					t.Errorf("%s: %s may not import %s", s.name, s.dir, ours)
				}
				continue
			}
			checkDependency(t, s, imp)
		}
	}
}

func checkDependency(t *testing.T, s source, imp string) {
	for dep, dirs := range only {
		if imp != dep && !strings.HasPrefix(imp, dep+"/") {
			continue
		}
		if slices.Contains(dirs, s.dir) || s.test() || imp == tunTypes && s.dir == "tcpstack" {
			continue
		}
		t.Errorf("%s: only %v may import %s", s.name, dirs, imp)
	}
	if slices.Contains(pure, s.dir) && !s.test() && (imp == "net" || imp == "os" || strings.HasPrefix(imp, "net/http")) {
		t.Errorf("%s: %s is pure: no %s", s.name, s.dir, imp)
	}
}

func TestNoClock(t *testing.T) {
	for _, s := range sources(t) {
		if !slices.Contains(pure, s.dir) || s.test() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "After", "NewTimer", "Sleep"}, sel.Sel.Name) {
				t.Errorf("%s: %s has no clock: time.%s", s.fset.Position(n.Pos()), s.dir, sel.Sel.Name)
			}
			return true
		})
	}
}

// TestPackageDocs wants one package doc per directory, in the file that is
// named as the package (doc.go or main.go where there is none).
func TestPackageDocs(t *testing.T) {
	docs := map[string][]string{}
	packages := map[string]bool{}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		packages[s.dir] = true
		if s.file.Doc == nil || strings.HasPrefix(s.file.Doc.Text(), "go:build") {
			continue
		}
		docs[s.dir] = append(docs[s.dir], path.Base(s.name))
		first := s.file.Doc.Text()
		name := s.file.Name.Name
		if name != "main" && !strings.HasPrefix(first, "Package "+name+" ") {
			t.Errorf("%s: the package doc begins %q", s.name, strings.SplitN(first, "\n", 2)[0])
		}
	}
	for dir := range packages {
		want := path.Base(dir) + ".go"
		switch {
		case len(docs[dir]) != 1:
			t.Errorf("%s: wants one package doc, has %v", dir, docs[dir])
		case docs[dir][0] != want && docs[dir][0] != "main.go" && docs[dir][0] != "doc.go":
			t.Errorf("%s: the package doc stands in %s, not in %s", dir, docs[dir][0], want)
		}
	}
}

func TestBudgets(t *testing.T) {
	for _, s := range sources(t) {
		if n := bytes.Count(s.text, []byte("\n")); n > maxFileLines {
			t.Errorf("%s: %d lines, the budget is %d", s.name, n, maxFileLines)
		}
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			from, to := s.fset.Position(f.Pos()).Line, s.fset.Position(f.End()).Line
			if n := to - from + 1; n > maxFuncLines {
				t.Errorf("%s:%d: func %s has %d lines, the budget is %d", s.name, from, f.Name.Name, n, maxFuncLines)
			}
		}
	}
}

// TestExportedNamesHaveDocs wants a comment on every exported name.
func TestExportedNamesHaveDocs(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() || s.file.Name.Name == "main" {
			continue
		}
		for _, decl := range s.file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && receiverExported(d) {
					t.Errorf("%s: %s has no comment", s.fset.Position(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				checkGenDecl(t, s, d)
			}
		}
	}
}

func checkGenDecl(t *testing.T, s source, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch sp := spec.(type) {
		case *ast.TypeSpec:
			if sp.Name.IsExported() && d.Doc == nil && sp.Doc == nil {
				t.Errorf("%s: type %s has no comment", s.fset.Position(sp.Pos()), sp.Name.Name)
			}
		case *ast.ValueSpec:
			for _, name := range sp.Names {
				if name.IsExported() && d.Doc == nil && sp.Doc == nil && sp.Comment == nil {
					t.Errorf("%s: %s has no comment", s.fset.Position(sp.Pos()), name.Name)
				}
			}
		}
	}
}

// TestNoEagerPatterns: a pattern that is compiled when the program starts costs
// every start, and most commands need none.
func TestNoEagerPatterns(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		for _, decl := range s.file.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok || d.Tok != token.VAR {
				continue
			}
			ast.Inspect(d, func(n ast.Node) bool {
				if _, later := n.(*ast.FuncLit); later {
					return false
				}
				if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "MustCompile" {
					t.Errorf("%s: compile it when it is used first: sync.OnceValue", s.fset.Position(n.Pos()))
				}
				return true
			})
		}
	}
}

func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	id, ok := t.(*ast.Ident)
	return !ok || id.IsExported()
}

// TestRecovers: the program has two, at the tap and at the redaction gate.
func TestRecovers(t *testing.T) {
	where := map[string]int{}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "recover" {
					where[s.dir]++
				}
			}
			return true
		})
	}
	for dir, n := range where {
		if dir != "mitm" && dir != "redact" || n > 1 {
			t.Errorf("%s: %d recover(s); one in mitm at the tap, one in redact at the gate", dir, n)
		}
	}
}
