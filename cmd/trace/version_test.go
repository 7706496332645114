package main

import (
	"bytes"
	"encoding/json"
	"runtime/debug"
	"testing"
)

// TestBuild: what the linker set comes first, then what the go command recorded;
// what nobody knows is not said.
func TestBuild(t *testing.T) {
	recorded := &debug.BuildInfo{Main: debug.Module{Version: "v0.3.0"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"}}}
	for _, c := range []struct {
		set  build
		info *debug.BuildInfo
		want string
	}{
		{build{}, nil, "trace unknown\n"},
		{build{}, &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "trace (devel)\n"},
		{build{}, recorded, "trace v0.3.0 (commit abc, 2026-01-02T03:04:05Z, modified)\n"},
		{build{Version: "v1.0.0", Commit: "def", Date: "2026-05-06T07:08:09Z"}, recorded, "trace v1.0.0 (commit def, 2026-05-06T07:08:09Z)\n"},
		{build{Version: "v1.0.0-3-gdef-dirty", Commit: "def"}, nil, "trace v1.0.0-3-gdef-dirty (commit def, modified)\n"},
	} {
		b := buildOf(c.set, c.info)
		if got := b.text(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.set, got, c.want)
		}
		if b.Go == "" || b.System == "" {
			t.Errorf("%+v", b)
		}
	}
}

// TestVersionCommand: `trace version`, `trace --version` and the JSON say the same.
func TestVersionCommand(t *testing.T) {
	run := func(args ...string) string {
		var out bytes.Buffer
		root := newRootCommand()
		root.SetOut(&out)
		root.SetArgs(args)
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	var b build
	if err := json.Unmarshal([]byte(run("version", "--json")), &b); err != nil || b != thisBuild() {
		t.Errorf("%+v: %v", b, err)
	}
	if text := run("version"); text != b.text() || run("--version") != text {
		t.Errorf("%q, --version %q, of JSON %q", text, run("--version"), b.text())
	}
}
