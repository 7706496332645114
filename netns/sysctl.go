package netns

import (
	"fmt"
	"os"
	"sort"
	"strings"
)

// copiedSysctls have the kernel's defaults in a new namespace, where the child shall find the host's values.
var copiedSysctls = []string{
	"net/ipv4/ip_unprivileged_port_start",
	"net/ipv4/ip_local_port_range",
	"net/ipv4/tcp_keepalive_time",
	"net/ipv4/tcp_keepalive_intvl",
	"net/ipv4/tcp_keepalive_probes",
	"net/ipv6/bindv6only",
}

// plannedSysctls is what init is told to write, in order. It is read outside, where the host's values are.
func plannedSysctls(r Rights, more map[string]string) (list [][2]string) {
	for _, name := range copiedSysctls {
		if v, err := os.ReadFile("/proc/sys/" + name); err == nil {
			list = append(list, [2]string{name, strings.TrimSpace(string(v))})
		}
	}
	const ping = "net/ipv4/ping_group_range"
	if gid := os.Getegid(); r == OrdinaryUser {
		// Only this gid exists inside. With it ping works under no_new_privs too, where file capabilities do not.
		list = append(list, [2]string{ping, fmt.Sprintf("%d %d", gid, gid)})
	} else if v, err := os.ReadFile("/proc/sys/" + ping); err == nil {
		list = append(list, [2]string{ping, strings.TrimSpace(string(v))})
	}
	// The link loses nothing, so what matters is how fast a window opens, and the simplest control costs least.
	list = append(list, [2]string{"net/ipv4/tcp_congestion_control", "reno"})
	names := make([]string, 0, len(more))
	for name := range more {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		list = append(list, [2]string{strings.ReplaceAll(name, ".", "/"), more[name]})
	}
	return list
}
