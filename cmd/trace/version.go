package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// What this program was built from, set by the linker (see Makefile and release).
// date is that of the commit, not of the build: the same source gives the same
// binary.
var version, commit, date string

// A build says what a binary was made of.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Date    string `json:"date,omitempty"`     // of the commit, RFC 3339
	Changed bool   `json:"modified,omitempty"` // the tree was not that of the commit
	Go      string `json:"go"`
	System  string `json:"system"`
}

func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "version [--json]", Short: "Print the version, its commit and the commit's date", Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(thisBuild())
			}
			_, err := io.WriteString(cmd.OutOrStdout(), thisBuild().text())
			return err
		}}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

// text is what `trace version` says: version, and commit and date as far as they
// are known.
func (b build) text() string {
	var known []string
	if b.Commit != "" {
		known = append(known, "commit "+b.Commit)
	}
	if b.Date != "" {
		known = append(known, b.Date)
	}
	if b.Changed {
		known = append(known, "modified")
	}
	if len(known) == 0 {
		return fmt.Sprintf("trace %s\n", b.Version)
	}
	return fmt.Sprintf("trace %s (%s)\n", b.Version, strings.Join(known, ", "))
}

// thisBuild is what the linker set, or what the go command recorded.
func thisBuild() build {
	var info *debug.BuildInfo
	if version == "" || commit == "" { // else it is not worth its time at every start
		info, _ = debug.ReadBuildInfo()
	}
	return buildOf(build{Version: version, Commit: commit, Date: date}, info)
}

// buildOf completes set, which is what the linker was told, by what the go command
// wrote into the binary.
func buildOf(set build, info *debug.BuildInfo) build {
	set.Go, set.System = runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH
	set.Changed = strings.HasSuffix(set.Version, "-dirty")
	if info != nil && set.Version == "" {
		set.Version = info.Main.Version
	}
	if info != nil && set.Commit == "" {
		set.record(info.Settings)
	}
	if set.Version == "" {
		set.Version = "unknown"
	}
	return set
}

// record takes what the go command knew of the repository.
func (b *build) record(settings []debug.BuildSetting) {
	for _, s := range settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		case "vcs.modified":
			b.Changed = s.Value == "true"
		}
	}
}

// programVersion is the version alone, for records and reports.
func programVersion() string { return thisBuild().Version }
