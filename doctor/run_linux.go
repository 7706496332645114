package doctor

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"

	"trace/netns"
)

// titles holds the checks in the order of the report. Steps of other ids are
// folded into these or left out.
var titles = []struct{ id, title string }{
	{"processes", "room for processes"},
	{"userns", "user namespace"},
	{"netns", "network namespace"},
	{"mntns", "mount namespace"},
	{"device", "network device"},
	{"offload", "device offloads"},
	{"route", "addresses and routes"},
	{"ipv6", "IPv6 in the namespace"},
	{"sysctl", "network settings"},
	{"mounts", "trust files in the namespace"},
	{"helper", "helper process"},
	{"dns-sockets", "name server sockets"},
	{"ca", "authority and leaf"},
	{"roots", "host's root certificates"},
	{"store", "record can be written"},
	{"link", "link to the stack"},
	{"loopback", "loopback port"},
	{"exec", "command executed"},
	{"dns", "name resolution"},
	{"ipv4", "public IPv4"},
	{"ipv6-public", "public IPv6"},
	{"trust-go", "TLS decrypted (Go)"},
	{"trust-curl", "TLS decrypted (curl)"},
	{"trust-python", "TLS decrypted (python3)"},
	{"trust-node", "TLS decrypted (node)"},
	{"claude", "claude"},
}

// Run examines the machine. It always returns a whole report.
func Run(ctx context.Context, o Options) *Report {
	r := &Report{Version: o.Version, Kernel: o.Host.Kernel(), UID: os.Getuid(), Link: o.Link}
	var mu sync.Mutex
	seen := map[string]Step{} // guarded by mu while the Probe runs
	err := o.Probe(ctx, func(s Step) {
		mu.Lock()
		defer mu.Unlock()
		note(seen, s)
	})
	if err != nil {
		blame(seen, err)
	}
	reason := "not reached"
	for _, t := range titles {
		s, ok := seen[t.id]
		if !ok {
			s = Step{Skip: true, Found: reason}
		}
		s.ID = t.id
		r.Checks = append(r.Checks, o.Host.check(s, t.title))
		if t.id == "device" {
			r.Device = deviceOf(s)
		}
	}
	r.OK = err == nil
	for _, c := range r.Checks {
		r.OK = r.OK && c.Status != Fail
	}
	return r
}

// deviceOf returns the kind of device that was made, "" if none was: where the
// first choice did not open, another may have served.
func deviceOf(s Step) string {
	if s.Skip || s.Err != nil && !s.Warn {
		return ""
	}
	kind, _, _ := strings.Cut(s.Found, " ")
	return kind
}

// folded names the check that a step of the namespace belongs to.
var folded = map[string]string{"lo": "netns", "address": "route"}

// listed tells whether a step belongs to a check of the report.
func listed(id string) bool {
	_, ok := folded[id]
	for _, t := range titles {
		ok = ok || t.id == id
	}
	return ok
}

// note keeps s; an error is never overwritten by a later success of the same
// check.
func note(seen map[string]Step, s Step) {
	if to, ok := folded[s.ID]; ok {
		s.ID = to
	}
	if old, ok := seen[s.ID]; ok {
		s.Took += old.Took
		if old.Err != nil {
			old.Took = s.Took
			s = old
		} else if s.Found == "" {
			s.Found = old.Found
		}
	}
	seen[s.ID] = s
}

// blame makes sure that the error that ended the probe is some check's.
func blame(seen map[string]Step, err error) {
	for _, s := range seen {
		if s.Err != nil && !s.Warn {
			return
		}
	}
	id := "exec"
	var step *netns.StepError
	if errors.As(err, &step) && listed(step.Step) {
		id = step.Step
	}
	note(seen, Step{ID: id, Err: err})
}

// check turns a step into a line of the report.
func (h Host) check(s Step, title string) Check {
	c := Check{ID: s.ID, Title: title, Status: Pass, Found: s.Found, Hint: s.Hint, MS: float64(s.Took.Microseconds()) / 1000}
	switch {
	case s.Skip:
		c.Status = Skip
	case s.Err == nil:
	case s.Warn || s.ID == "ipv6" || s.ID == "ipv6-public":
		c.Status = Warn
	default:
		c.Status = Fail
	}
	if s.Err == nil {
		if c.Found == "" {
			c.Found = "works"
		}
		return c
	}
	c.Errno = errnoName(s.Err)
	if c.Found == "" {
		c.Found = s.Err.Error()
	} else {
		c.Found += ": " + s.Err.Error()
	}
	switch {
	case c.Hint != "":
	case s.ID == "device" && s.Warn:
		c.Hint = "nothing needs to be done, veth serves as well; for TUN: " + h.explainTUN(s.Err)
	case s.ID == "mounts" && s.Warn:
		c.Hint = "nothing needs to be done: the command finds what the host has at this path, or nothing"
	default:
		c.Hint = h.Explain(&netns.StepError{Step: s.ID, Err: s.Err})
	}
	return c
}
