package main

import (
	"fmt"
	"strings"
	"time"

	"trace/flow"
	"trace/tcpstack"
)

// tellLosses says what the link's end could not take. What a rule or a limit
// refused has its row; packets between addresses that no conversation has,
// such as multicast, are everyday and only told in the log.
func (r *road) tellLosses(s tcpstack.Stats) {
	if s.Ignored > 0 {
		r.log("stack: %d packets from or to addresses that are not carried", s.Ignored)
	}
	text := losses(s)
	if text == "" {
		return
	}
	r.log("stack: %s", text)
	if r.record != nil {
		r.record.Append(flow.Event{Kind: flow.Mark, At: time.Now(),
			Error: &flow.Error{Where: flow.AtCapture, Code: flow.CodeLimit, Message: "not carried: " + text}})
	}
}

func losses(s tcpstack.Stats) string {
	var all []string
	for _, l := range []struct {
		n    uint64
		what string
	}{
		{s.SYNsDropped, "connection attempts beyond the limit of undecided ones (sent again by the child)"},
		{s.DatagramsDropped, "name queries beyond the limit of those in progress"},
		{s.Malformed, "malformed packets"},
		{s.WriteErrors, "packets that the device did not take"},
	} {
		if l.n > 0 {
			all = append(all, fmt.Sprintf("%d %s", l.n, l.what))
		}
	}
	return strings.Join(all, ", ")
}
