package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// goCommand is a go command whose result depends on nothing that a user may have set:
// what would change the code that is made is given here.
func goCommand(o options, t target, args ...string) *exec.Cmd {
	name := o.gocmd
	if name == "" {
		name = "go"
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = o.root
	cmd.Env = slices.Concat(os.Environ(), []string{
		"GOOS=" + t.os, "GOARCH=" + t.arch, "CGO_ENABLED=0", "GOAMD64=v1", "GOARM64=v8.0",
		"GOFLAGS=-mod=readonly", "GOEXPERIMENT=", "GOFIPS140=off", "GODEBUG=", "GOWORK=off"})
	if o.gocache != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+o.gocache)
	}
	return cmd
}

// run returns what cmd prints; what it complains of is the error.
func run(cmd *exec.Cmd) ([]byte, error) {
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", filepath.Base(cmd.Path), cmd.Args[1], err, strings.TrimSpace(complaint.String()))
	}
	return out.Bytes(), nil
}

// buildBinary links trace for t.
func buildBinary(o options, src source, t target) ([]byte, error) {
	dir, err := os.MkdirTemp("", "trace-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ldflags := "-s -w -buildid= -X main.version=" + src.version + " -X main.date=" + src.day()
	if src.commit != "" {
		ldflags += " -X main.commit=" + src.commit
	}
	binary := filepath.Join(dir, "trace")
	if _, err := run(goCommand(o, t, "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", binary, "./cmd/trace")); err != nil {
		return nil, err
	}
	return os.ReadFile(binary)
}

// A speaker runs trace itself for what it knows of itself.
type speaker struct{ binary, home string }

// newSpeaker builds trace for this machine, and keeps it in built.
func newSpeaker(o options, src source, dir string, built map[target][]byte) (speaker, error) {
	s := speaker{filepath.Join(dir, "trace"), dir}
	here := target{runtime.GOOS, runtime.GOARCH}
	binary, err := buildBinary(o, src, here)
	if err != nil {
		return s, err
	}
	built[here] = binary
	return s, os.WriteFile(s.binary, binary, 0o755)
}

// say returns what trace prints, whoever runs it.
func (s speaker) say(args ...string) ([]byte, error) {
	cmd := exec.Command(s.binary, args...)
	cmd.Dir, cmd.Env = s.home, []string{"HOME=" + s.home, "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	return run(cmd)
}
