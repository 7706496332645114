package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"trace/doctor"
	"trace/netns"
)

func newNamespaceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "namespace", Short: "Find out whether this machine can capture transparently",
		Args: checked(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newDoctorCommand(), newStatusCommand(), newProfileCommand(), newProbeCommand())
	return cmd
}

func newDoctorCommand() *cobra.Command {
	var asJSON bool
	e := &examination{}
	cmd := &cobra.Command{
		Use:   "doctor [--json]",
		Short: "Build the real thing step by step and report what works and what would mend the rest",
		Args:  checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"wireguard", "direct"}, e.link) {
				return usageError{fmt.Errorf("--link %q: want wireguard or direct", e.link)}
			}
			if !slices.Contains([]string{"auto", "tun", "veth"}, e.device) {
				return usageError{fmt.Errorf("--device %q: want auto, tun or veth", e.device)}
			}
			report := doctor.Run(cmd.Context(), doctor.Options{Probe: e.probe, Version: programVersion(), Link: e.link})
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
	cmd.Flags().StringVar(&e.link, "link", "wireguard", "link between namespace and stack: wireguard or direct")
	cmd.Flags().StringVar(&e.device, "device", "auto", "device in the namespace: auto, tun or veth")
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
		if c.Hint != "" {
			fmt.Fprintf(t, "      %s %s\n", t.paint(bold, "→"), t.text(c.Hint))
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

func newProfileCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "apparmor-profile",
		Short: "Print an AppArmor profile that lets this binary make user namespaces",
		Long: `Print an AppArmor profile that lets this binary, and no other program, make
user namespaces where the system keeps them from programs without a profile
(Ubuntu 23.10 and later). To load it:

  trace namespace apparmor-profile | sudo tee /etc/apparmor.d/trace
  sudo apparmor_parser -r /etc/apparmor.d/trace`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err == nil {
				self, err = filepath.EvalSymlinks(self)
			}
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), apparmorProfile(self))
			return err
		},
	}
}

// apparmorProfile returns a profile in which the program at path may do what
// it could without, and make user namespaces. What it starts inherits that, so
// that sandboxes inside a run work as well.
func apparmorProfile(path string) string {
	return fmt.Sprintf(`# Lets trace make user namespaces, and no other program. Keep the binary where
# only root can replace it: whoever can write it can do the same.
abi <abi/4.0>,
include <tunables/global>

profile trace %s flags=(unconfined) {
  userns,

  include if exists <local/trace>
}
`, apparmorPath(path))
}

// apparmorPath quotes a path as apparmor.d(5) wants it: what would be a
// pattern or a variable stands behind a backslash.
func apparmorPath(path string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range path {
		if strings.ContainsRune("\\\"*?[]{}^@", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	b.WriteByte('"')
	return b.String()
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

func namespaceStatus() machineStatus {
	h := doctor.Host{}
	device := "veth"
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err == nil {
		f.Close()
		device = "tun"
	}
	return machineStatus{
		Mode: "permissive", Version: programVersion(), Kernel: h.Kernel(), UID: os.Getuid(),
		Rights: netns.CurrentRights().String(), Device: device, Link: "wireguard", Limits: h.Limits(), Trust: h.TrustFiles(),
	}
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

// probe builds the road around a child that looks around.
func (e *examination) probe(ctx context.Context, step func(doctor.Step)) error {
	e.step = step
	return e.examine(ctx)
}
