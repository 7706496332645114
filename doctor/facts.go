package doctor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// LimitNames are the kernel settings that decide whether namespaces can be
// made, in the order in which they are shown.
var LimitNames = []string{
	"user.max_user_namespaces", "user.max_net_namespaces", "user.max_mnt_namespaces",
	"kernel.unprivileged_userns_clone", "kernel.apparmor_restrict_unprivileged_userns",
}

// Limits returns those of LimitNames that this kernel has.
func (h Host) Limits() map[string]int64 {
	m := map[string]int64{}
	for _, name := range LimitNames {
		if n, err := strconv.ParseInt(h.read("/proc/sys/"+strings.ReplaceAll(name, ".", "/")), 10, 64); err == nil {
			m[name] = n
		}
	}
	return m
}

// trustFiles are the bundles and directories that distributions keep root
// certificates in.
var trustFiles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem", "/var/lib/ca-certificates/ca-bundle.pem",
	"/etc/ca-certificates/extracted/tls-ca-bundle.pem", "/etc/ssl/certs", "/etc/ssl/certs/java/cacerts", "/etc/pki/java/cacerts",
}

// TrustFiles returns the stores of root certificates that are there.
func (h Host) TrustFiles() []string {
	found := []string{}
	for _, f := range trustFiles {
		if _, err := os.Stat(filepath.Join(h.Root, f)); err == nil {
			found = append(found, f)
		}
	}
	return found
}
