package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { // the test binary is the client, too
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		main()
		return
	}
	os.Exit(m.Run())
}

// smokeActs are those that need no rights and little time.
const smokeActs = "^(slow|killed)$"

// TestSoak plays the cheap acts for a moment.
func TestSoak(t *testing.T) {
	dir := t.TempDir()
	o := &options{trace: filepath.Join(dir, "trace"), dir: filepath.Join(dir, "soak"), time: 4 * time.Second, act: time.Minute, seed: 1, only: smokeActs}
	build := exec.Command("go", "build", "-o", o.trace, "../cmd/trace")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build trace: %v\n%s", err, msg)
	}
	var out bytes.Buffer
	o.out = &out
	if err := o.run(context.Background()); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "nothing is wrong") && !t.Failed() {
		t.Errorf("the report does not say how it ended:\n%s", out.String())
	}
}

// sample is a play of three exchanges whose logs and record agree.
func sample() (*play, map[int64]*seen) {
	at := time.Now()
	tallyFor := func(id int64, dir string, n int) tally { return *tallyOf(body(id, dir, n)) }
	p := &play{act: &act{}, o: &options{}, origin: &origin{log: map[int64][]*seen{}}, outcomes: map[string]int{}}
	control := map[int64]*seen{}
	for id := range int64(3) {
		up, down := tallyFor(id, "up", 100), tallyFor(id, "down", 1000)
		c := seen{ID: id, Kind: kindPlain, Outcome: "ok", Status: 200, Sent: up, Received: down, Start: at, End: at.Add(time.Second)}
		same := c
		p.client, control[id] = append(p.client, &c), &same
		p.origin.log[id] = []*seen{{ID: id, Kind: kindPlain, Status: 200, Sent: down, Received: up}}
		p.rows = append(p.rows, row{ID: "x", Kind: "http", State: "complete", Request: &part{Path: "/" + string(rune('0'+id)), Size: 100, SHA: up.SHA},
			Response: &part{Status: 200, Size: 1000, SHA: down.SHA}})
	}
	return p, control
}

// TestCheckSees: the judge finds what is wrong, and nothing where nothing is.
func TestCheckSees(t *testing.T) {
	lost := func(p *play) { p.rows = p.rows[1:] }
	during := func(p *play, w window) {
		w.from, w.to = p.client[0].Start, p.client[0].End
		p.windows = append(p.windows, w)
	}
	for name, c := range map[string]struct {
		spoil func(p *play)
		wrong bool
	}{
		"nothing":              {func(*play) {}, false},
		"a lost row":           {lost, true},
		"a lost row in a gap":  {func(p *play) { lost(p); during(p, window{loses: true, reaches: false}) }, false},
		"another hash":         {func(p *play) { p.rows[0].Response.SHA = p.rows[1].Response.SHA }, true},
		"another size":         {func(p *play) { p.rows[0].Request.Size++ }, true},
		"another status":       {func(p *play) { p.rows[0].Response.Status = 500 }, true},
		"a row twice":          {func(p *play) { p.rows = append(p.rows, p.rows[0]) }, true},
		"failed, and was not":  {func(p *play) { p.rows[0].State = "failed" }, true},
		"complete, and is not": {func(p *play) { p.client[0].Outcome = "reset" }, true},
		"a fault of ours":      {func(p *play) { p.rows, p.client[0].Outcome = p.rows[1:], "refused" }, true},
		"a limit of ours": {func(p *play) {
			p.rows, p.client[0].Outcome = p.rows[1:], "refused"
			during(p, window{loses: false, reaches: true})
		}, false},
		"other bytes":   {func(p *play) { p.client[0].Received.SHA = "" }, true},
		"memory":        {func(p *play) { p.end.rss = 1 << 30 }, true},
		"descriptors":   {func(p *play) { p.end.fds = 100 }, true},
		"a gap":         {func(p *play) { p.act.judge, p.drops = judgeWhole, []string{"full"} }, true},
		"no gap at all": {func(p *play) { p.act.judge = judgeFull }, true},
	} {
		p, control := sample()
		c.spoil(p)
		p.check()
		p.compare(control)
		if (p.violations > 0) != c.wrong {
			t.Errorf("%s: %q", name, p.first)
		}
	}
}

// TestNoAct: what cannot be played is an error.
func TestNoAct(t *testing.T) {
	o := &options{trace: os.Args[0], dir: t.TempDir(), only: "opera"}
	if err := o.run(context.Background()); err == nil || errors.Is(err, errViolated) {
		t.Error(err)
	}
}
