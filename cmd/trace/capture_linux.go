package main

import (
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"trace/doctor"
	"trace/flow"
	"trace/pcap"
)

// openDescriptor matches what the shell makes of >(COMMAND).
var openDescriptor = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^/(?:dev|proc/self)/fd/([0-9]+)$`)
})

// openCapture makes the file of --pcap.
func (o *runOptions) openCapture() (*pcap.Writer, error) {
	if o.pcap == "" {
		return nil, nil
	}
	if m := openDescriptor().FindStringSubmatch(o.pcap); m != nil {
		// It was opened for us: the command must not hold it open after us.
		if fd, err := strconv.Atoi(m[1]); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return pcap.Create(o.pcap, pcap.Options{
		Hardware:    runtime.GOARCH,
		System:      "Linux " + doctor.Host{}.Kernel(),
		Application: "trace " + programVersion(),
		Comment:     "trace run, session " + o.session + ": holds the secrets of its TLS connections",
		Interface:   "child",
	})
}

// capture returns what looks at packets for --pcap; nil where nobody does.
func (r *road) capture() func(toChild bool, parts ...[]byte) {
	if r.packets == nil {
		return nil
	}
	return func(toChild bool, parts ...[]byte) {
		if toChild || !r.last.is(parts[0]) {
			r.packets.Packet(toChild, parts...)
		}
	}
}

// closeCapture ends the capture and keeps what is to be said about it.
func (r *road) closeCapture() {
	if r.packets == nil {
		return
	}
	sum, err := r.packets.Close()
	r.captured = captureText(r.pcap, sum, err)
	r.log("packets: %s", r.captured)
	if r.record != nil && (err != nil || sum.Dropped > 0) {
		r.record.Append(flow.Event{Kind: flow.Mark, At: time.Now(),
			Error: &flow.Error{Where: flow.AtCapture, Code: flow.CodeLimit, Message: "packet capture: " + r.captured}})
	}
}

// captureText says what became of a capture.
func captureText(file string, sum pcap.Summary, err error) string {
	missing := ""
	if sum.Dropped > 0 {
		missing = fmt.Sprintf(", %d are missing", sum.Dropped)
	}
	switch {
	case err != nil:
		return fmt.Sprintf("%v: the capture ended after %s%s", err, count(int64(sum.Written), "packet"), missing)
	case missing != "":
		missing += ": it was written too slowly"
	}
	return fmt.Sprintf("%s: %s%s", file, count(int64(sum.Written), "packet"), missing)
}
