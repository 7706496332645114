package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"trace/flow"
	"trace/redact"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("TRACE_STORE_WRITER"); path != "" {
		writeForever(path)
		return
	}
	if path := os.Getenv("TRACE_STORE_PACED"); path != "" {
		writePaced(path)
		return
	}
	goleak.VerifyTestMain(m)
}

// crashStreams is how many event streams the killed writer has open. The flow
// after them is a websocket.
const crashStreams = 50

// writeForever records streams and bodies and prints a line for all that is
// committed, until it is killed or its stdin ends.
func writeForever(path string) {
	s, err := Create(path, testSession(), Options{Redact: redact.New([32]byte{})})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	stop := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	streams := make([]*script, crashStreams)
	for i := range streams {
		streams[i] = &script{s: s, conn: int64(i + 1)}
		streams[i].open()
		streams[i].request("GET", fmt.Sprint("/", i), "", nil)
		streams[i].response(200, "text/event-stream", true)
	}
	socket := &script{s: s, conn: crashStreams + 1}
	socket.open()
	socket.upgrade()
	bodies := &script{s: s, conn: crashStreams + 2}
	bodies.open()
	for n := 0; ; n++ {
		for _, c := range streams {
			c.event(fmt.Sprint(n))
		}
		socket.say(flow.Client, 1, fmt.Sprint("ask ", n))
		socket.say(flow.Server, 2, fmt.Sprint("\x00answer ", n))
		if n%20 == 19 {
			bodies.request("POST", "/big", "application/json", crashBody(n))
			bodies.end(nil)
		}
		if s.Flush() != nil {
			os.Exit(1)
		}
		fmt.Println(n) // acknowledged
		select {
		case <-stop:
			s.Finish(3, time.Now())
			return
		default:
		}
	}
}

func crashBody(n int) []byte {
	return fmt.Appendf(nil, `{"n":%d,"text":%q}`, n, prose(rand.New(rand.NewPCG(9, 9)), 100_000))
}

// startWriter runs writeForever, or what else the variable names, in another
// process.
func startWriter(t *testing.T, variable, path string) (*exec.Cmd, *bufio.Scanner, io.WriteCloser) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), variable+"="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out), in
}

// seen is what a follower was told of events.
type seen map[int64][]string

func (s seen) change(c Change) error {
	if c.Step == Streamed && !c.Piece.Partial {
		s[c.Flow.ID] = append(s[c.Flow.ID], string(c.Piece.Data))
	}
	return nil
}

func TestKillLosesNothingCommitted(t *testing.T) {
	for round := range 5 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			killOnce(t, time.Duration(20+rand.IntN(250))*time.Millisecond)
		})
	}
}

func killOnce(t *testing.T, after time.Duration) {
	path := filepath.Join(t.TempDir(), "s.db")
	cmd, out, _ := startWriter(t, "TRACE_STORE_WRITER", path)
	acked := -1
	told := seen{}
	followed := make(chan error, 1)
	for out.Scan() {
		var n int
		if _, err := fmt.Sscan(out.Text(), &n); err != nil {
			t.Fatalf("writer: %s", out.Text())
		}
		acked = n
		if n == 0 { // now there is something to follow, and to kill
			r := open(t, path)
			go func() { followed <- r.Follow(context.Background(), true, told.change) }()
			time.AfterFunc(after, func() { cmd.Process.Kill() })
		}
	}
	cmd.Wait()
	if acked < 0 {
		t.Fatal("the writer acknowledged nothing")
	}
	if err := <-followed; err != nil { // it ends by itself when the run has crashed
		t.Fatal(err)
	}
	r := open(t, path)
	s, err := r.Session()
	if err != nil || s.State != "crashed" {
		t.Errorf("session %+v, %v", s, err)
	}
	total := verifyStreams(t, r, acked, told)
	verifySocket(t, r, acked)
	verifyBodies(t, r, acked)
	verifyFollow(t, r)
	err = r.with(func(d *db) error {
		row, err := d.one("PRAGMA integrity_check")
		if err == nil && row.text(0) != "ok" {
			t.Errorf("integrity: %s", row.text(0))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("killed after %v: %d acknowledged, %d in the file", after, (acked+1)*crashStreams, total)
}

func verifyStreams(t *testing.T, r *Reader, acked int, told seen) (total int) {
	for id := int64(1); id <= crashStreams; id++ {
		ps, err := r.Events(id)
		if err != nil || len(ps) <= acked {
			t.Fatalf("flow %d: %d events of %d, %v", id, len(ps), acked+1, err)
		}
		total += len(ps)
		for i, p := range ps {
			if want := fmt.Sprintf("event: delta\ndata: %d\n\n", i); p.Index != i || string(p.Data) != want {
				t.Fatalf("flow %d event %d: %q", id, i, p.Data)
			}
		}
		if len(told[id]) > len(ps) || len(told[id]) <= acked {
			t.Errorf("flow %d: a reader saw %d events, %d are in the file", id, len(told[id]), len(ps))
		}
	}
	return total
}

func verifySocket(t *testing.T, r *Reader, acked int) {
	ms, err := r.Messages(crashStreams + 1)
	if err != nil || len(ms) < 2*(acked+1) {
		t.Fatalf("%d messages of %d, %v", len(ms), 2*(acked+1), err)
	}
	for i, m := range ms {
		want, opcode := fmt.Sprint("ask ", i/2), uint8(1)
		if i%2 == 1 {
			want, opcode = fmt.Sprint("\x00answer ", i/2), 2
		}
		if m.Index != i || string(m.Data) != want || m.Opcode != opcode || m.Side != flow.Side(i%2) || !m.HasSum || m.SHA256 != sha256.Sum256([]byte(want)) {
			t.Fatalf("message %d: %+v", i, m)
		}
	}
}

func verifyBodies(t *testing.T, r *Reader, acked int) {
	xs, err := r.Flows(Query{Method: "POST"})
	if err != nil || len(xs) < (acked+1)/20 {
		t.Fatalf("%d bodies of %d, %v", len(xs), (acked+1)/20, err)
	}
	for i, x := range xs[:(acked+1)/20] {
		if b, err := r.Body(x.ID, flow.Client); err != nil || !bytes.Equal(b, crashBody(20*i+19)) || x.State != "complete" {
			t.Errorf("body %d: %d bytes, %s, %v", i, len(b), x.State, err)
		}
	}
}

// verifyFollow makes sure that every flow is opened and done once, in order.
func verifyFollow(t *testing.T, r *Reader) {
	t.Helper()
	steps := map[int64][]string{}
	err := r.Follow(context.Background(), true, func(c Change) error {
		if c.Flow != nil && c.Step != Streamed {
			steps[c.Flow.ID] = append(steps[c.Flow.ID], strings.TrimRight(name(c), "0123456789"))
			if c.Step == Done && (c.Flow.State == flow.StateOpen || c.Flow.State == flow.StateFailed && c.Flow.Error == nil) {
				t.Errorf("flow %d done as %s", c.Flow.ID, c.Flow.State)
			}
		}
		return nil
	})
	last, e := r.Last()
	if err != nil || e != nil || len(steps) != int(last) {
		t.Fatalf("%d flows followed of %d: %v %v", len(steps), last, err, e)
	}
	for id, got := range steps {
		want := []string{"opened", "request", "responded", "done"}
		if id > crashStreams+1 {
			want = []string{"opened", "request", "done"}
		}
		if !slices.Equal(got, want) {
			t.Errorf("flow %d: %v", id, got)
		}
	}
}

// TestSeenByAnotherProcess follows a run of another process to its orderly
// end.
func TestSeenByAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	cmd, out, in := startWriter(t, "TRACE_STORE_WRITER", path)
	if !out.Scan() {
		t.Fatal("no writer")
	}
	r := open(t, path)
	fs, err := r.Session()
	if err != nil || fs.State != "running" {
		t.Fatalf("session %+v, %v", fs, err)
	}
	if err := Remove(filepath.Dir(path), path); err == nil {
		t.Error("a running session was removed")
	}
	told := seen{}
	followed := make(chan error, 1)
	go func() { followed <- r.Follow(context.Background(), true, told.change) }()
	for i := 0; i < 30 && out.Scan(); i++ {
	}
	in.Close()
	for out.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := <-followed; err != nil {
		t.Fatal(err)
	}
	ps, err := r.Events(1)
	if err != nil || len(ps) < 30 {
		t.Fatalf("%d events, %v", len(ps), err)
	}
	for id := int64(1); id <= crashStreams; id++ {
		if len(told[id]) != len(ps) {
			t.Errorf("flow %d: told %d events of %d", id, len(told[id]), len(ps))
		}
	}
	if fs, err = r.Session(); err != nil || fs.State != "ended" || fs.Exit != 3 {
		t.Errorf("session %+v, %v", fs, err)
	}
}
