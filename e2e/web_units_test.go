package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestWebUnits runs the tests of the page's own functions in node, and checks the
// types of its sources.
func TestWebUnits(t *testing.T) {
	need(t, "node")
	dir := t.TempDir()
	bundle := exec.Command("go", "run", ".", "-tests", dir)
	bundle.Dir = "../web/build"
	if out, err := bundle.CombinedOutput(); err != nil {
		t.Fatalf("bundle: %v\n%s", err, out)
	}
	tests, err := filepath.Glob(filepath.Join(dir, "*.mjs"))
	if err != nil || len(tests) < 3 {
		t.Fatalf("%d tests: %v", len(tests), err)
	}
	if out, err := exec.Command("node", append([]string{"--test"}, tests...)...).CombinedOutput(); err != nil {
		t.Errorf("node: %v\n%.6000s", err, out)
	}
}

// TestWebTypes has the compiler of TypeScript look at the page's sources.
func TestWebTypes(t *testing.T) {
	compiler, err := filepath.Abs("../bin/typescript/node_modules/.bin/tsc")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(compiler); err != nil {
		t.Skip("needs typescript in bin/typescript: npm install --no-save --prefix bin/typescript typescript@7.0.2")
	}
	if out, err := exec.Command(compiler, "--noEmit", "-p", "../web/ui").CombinedOutput(); err != nil {
		t.Errorf("tsc: %v\n%.6000s", err, out)
	}
}
