package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"trace/doctor"
	"trace/netns"
)

// systemCommands are those of `trace namespace` that other systems lack.
func systemCommands() []*cobra.Command {
	return []*cobra.Command{newProfileCommand(), newProbeCommand()}
}

// examineMachine builds the road around a child that looks around.
func examineMachine(ctx context.Context, link, device string) *doctor.Report {
	e := &examination{link: link, device: device}
	probe := func(ctx context.Context, step func(doctor.Step)) error {
		e.step = step
		return e.examine(ctx)
	}
	return doctor.Run(ctx, doctor.Options{Probe: probe, Version: programVersion(), Link: link})
}

func newProfileCommand() *cobra.Command {
	var binary string
	cmd := &cobra.Command{
		Use:   "apparmor-profile [--binary PATH]",
		Short: "Print an AppArmor profile that lets this binary make user namespaces",
		Long: `Print an AppArmor profile that lets this binary, and no other program, make
user namespaces where the system keeps them from programs without a profile
(Ubuntu 23.10 and later). To load it:

  trace namespace apparmor-profile | sudo tee /etc/apparmor.d/trace
  sudo apparmor_parser -r /etc/apparmor.d/trace`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := profiled(binary)
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), apparmorProfile(path))
			return err
		},
	}
	cmd.Flags().StringVar(&binary, "binary", "", "write the profile for the program at `PATH` (default: this binary)")
	return cmd
}

// profiled returns the path that a profile is for. A program that is named need
// not be there yet: packages carry the profile of what they will install.
func profiled(binary string) (string, error) {
	if binary == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		return filepath.EvalSymlinks(self)
	}
	if !filepath.IsAbs(binary) || strings.ContainsFunc(binary, unicode.IsControl) {
		return "", usageError{fmt.Errorf("--binary %q: want an absolute path", binary)}
	}
	return filepath.Clean(binary), nil
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

// namespaceStatus looks around.
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
