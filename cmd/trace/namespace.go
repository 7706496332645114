package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"trace/doctor"
)

func newNamespaceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "namespace", Short: "Find out whether this machine can capture transparently",
		Args: checked(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newDoctorCommand(), newStatusCommand(), newWireguardConfigCommand())
	cmd.AddCommand(systemCommands()...)
	return cmd
}

func newDoctorCommand() *cobra.Command {
	var asJSON bool
	var link, device string
	cmd := &cobra.Command{
		Use:   "doctor [--json]",
		Short: "Build the real thing step by step and report what works and what would mend the rest",
		Args:  checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"wireguard", "direct"}, link) {
				return usageError{fmt.Errorf("--link %q: want wireguard or direct", link)}
			}
			if !slices.Contains([]string{"auto", "tun", "veth"}, device) {
				return usageError{fmt.Errorf("--device %q: want auto, tun or veth", device)}
			}
			report := examineMachine(cmd.Context(), link, device)
			if err := printReport(cmd.OutOrStdout(), report, asJSON); err != nil {
				return err
			}
			if !report.OK {
				return exitError{Code: 1}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.Flags().StringVar(&link, "link", "wireguard", "link between namespace and stack: wireguard or direct")
	cmd.Flags().StringVar(&device, "device", "auto", "device in the namespace: auto, tun or veth")
	return cmd
}

// printReport writes a report for scripts or for people.
func printReport(w io.Writer, r *doctor.Report, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", " ")
		return enc.Encode(r)
	}
	t := newTerminal(w, os.Getenv)
	styles := map[string]style{doctor.Pass: green, doctor.Warn: yellow, doctor.Fail: red, doctor.Skip: faint}
	fmt.Fprintf(t, "trace %s, kernel %s, uid %d, link %s\n\n", r.Version, r.Kernel, r.UID, r.Link)
	for _, c := range r.Checks {
		fmt.Fprintf(t, "%s  %-28s %s\n", t.paint(styles[c.Status], c.Status), c.Title, t.text(c.Found))
		for hint := range strings.Lines(c.Hint) {
			fmt.Fprintf(t, "      %s %s\n", t.paint(bold, "→"), t.text(strings.TrimSuffix(hint, "\n")))
		}
	}
	verdict := "This machine can run: trace run --inspect -- CMD"
	if !r.OK {
		verdict = "This machine cannot capture transparently yet; mend what failed above."
	}
	_, err := fmt.Fprintf(t, "\n%s\n", verdict)
	return err
}

func newStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [--json]",
		Short: "Show facts about this machine; test nothing",
		Args:  checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := namespaceStatus()
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", " ")
				return enc.Encode(s)
			}
			return s.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the facts as JSON")
	return cmd
}

// A machineStatus is what `namespace status` knows without trying anything.
type machineStatus struct {
	Mode    string           `json:"mode"` // permissive: it observes and restricts nothing
	Privacy bool             `json:"privacy_claim"`
	Version string           `json:"version"`
	Kernel  string           `json:"kernel"`
	UID     int              `json:"uid"`
	Rights  string           `json:"rights"`
	Device  string           `json:"device"` // that auto would take
	Link    string           `json:"link"`
	Limits  map[string]int64 `json:"limits"`
	Trust   []string         `json:"trust_files"`
}

func (s machineStatus) print(w io.Writer) error {
	fmt.Fprintf(w, "mode     %s: trace observes and restricts nothing (privacy_claim: false)\n", s.Mode)
	fmt.Fprintf(w, "version  %s\nkernel   %s\nuser     uid %d, %s\ndevice   %s\nlink     %s\n", s.Version, s.Kernel, s.UID, s.Rights, s.Device, s.Link)
	for _, name := range doctor.LimitNames {
		if v, ok := s.Limits[name]; ok {
			fmt.Fprintf(w, "limit    %s = %d\n", name, v)
		}
	}
	for _, f := range s.Trust {
		fmt.Fprintf(w, "trust    %s\n", f)
	}
	return nil
}
