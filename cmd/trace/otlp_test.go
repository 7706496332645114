package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"trace/flow"
	"trace/otel"
)

// TestOTLPText: the line after a run says what became of spans, how to send them again,
// and nothing that is secret.
func TestOTLPText(t *testing.T) {
	e, err := otel.ParseEndpoint("https://ann:secret@h:1/in?key=secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := flow.Session{ID: "01X"}
	for _, c := range []struct {
		r           otel.Report
		late        int64
		again, want string
	}{
		{otel.Report{Sent: 1}, 0, againBy(s, "http://h"), "otlp: 1 span sent to https://h:1/in/v1/traces"},
		{otel.Report{Sent: 3, Err: errors.New("metrics: x\x1b[2J")}, 0, "", `otlp: 3 spans sent to https://h:1/in/v1/traces: metrics: x\x1b[2J`},
		{otel.Report{Sent: 3, Dropped: 1, Rejected: 1, Err: errors.New("gone")}, 0, againBy(s, "http://h:1"),
			"otlp: 2 of 5 spans not taken by https://h:1/in/v1/traces: gone; to send all again: trace flows dump --session 01X --format otlp --to http://h:1"},
		{otel.Report{Sent: 3}, 1, againBy(s, "https://ann:secret@h:1/in"),
			"otlp: 3 spans sent to https://h:1/in/v1/traces; there was no time to tell all of 1 session; to send all again: trace flows dump --session 01X --format otlp --to URL"},
	} {
		if got := otlpText(c.r, e, c.late, c.again); got != c.want {
			t.Errorf("%q\nwant %q", got, c.want)
		}
	}
}

// TestOTLPEndsInTime: a session that nobody finishes, at an endpoint that hangs, keeps
// nobody for longer than there is time, and leaves nothing running.
func TestOTLPEndsInTime(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	defer func(d time.Duration) { otlpCloseWait = d }(otlpCloseWait)
	otlpCloseWait = 200 * time.Millisecond
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	e, err := otel.ParseEndpoint(server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var said []string
	log := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, format)
	}
	sink, err := (&rules{otlp: e}).openOTLP(log)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := record(recordingOptions{dir: t.TempDir(), log: log, otlp: sink, session: flow.Session{Name: "open"}})
	if err != nil {
		t.Fatal(err)
	}
	text := sink.close("")
	if !strings.Contains(text, "no time to tell all of 1 session") {
		t.Errorf("it says %s", text)
	}
	if s, err := rec.end(0); err != nil || s.State != "ended" {
		t.Errorf("%+v, %v", s, err)
	}
}
