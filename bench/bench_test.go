package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTasks gives a client on the host every task of the rounds, small.
func TestTasks(t *testing.T) {
	o, err := startOrigin(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer o.stop()
	b := &bench{options: &options{dir: t.TempDir(), length: 20 * time.Millisecond, rounds: 1}, origin: o, results: map[string]*result{}}
	if err := b.match(); err != nil {
		t.Fatal(err)
	}
	r, err := startHost(b, contenders[0])
	if err != nil {
		t.Fatal(err)
	}
	defer r.stop()
	for _, m := range measures {
		if m.task.Size > 0 {
			m.task.Size = 1 << 20
		}
		b.take(r, m)
		res := b.results[m.name]
		if len(res.Errors) > 0 || len(res.Samples["host"]) != 1 {
			t.Errorf("%s: %v", m.name, res.Errors)
		}
	}
	for _, task := range []task{{Do: "hold", N: 3}, {Do: "hold", N: 3, H2: true}, {Do: "release"}, {Do: "converse", N: 3}} {
		if _, _, err := r.do(task); err != nil {
			t.Errorf("%+v: %v", task, err)
		}
	}
	if _, _, err := r.do(task{Do: "sing"}); err == nil {
		t.Error("a task that nobody knows was done")
	}
	var out bytes.Buffer
	b.markdown(&out)
	for _, want := range []string{"## Medians", "HTTP/2 ×16", "requests/s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
}

func TestMain(m *testing.M) { // the test binary is origin and client, too
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		main()
		return
	}
	m.Run()
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v              []float64
		mid, low, high float64
	}{{nil, 0, 0, 0}, {[]float64{3}, 3, 3, 3}, {[]float64{9, 1, 2}, 2, 1, 9}, {[]float64{4, 1, 2, 9}, 3, 1, 9}} {
		if mid, low, high := median(c.v); mid != c.mid || low != c.low || high != c.high {
			t.Errorf("median(%v) = %v, %v, %v", c.v, mid, low, high)
		}
	}
}

// TestGoalsName: each goal is of a figure or single that exists.
func TestGoalsName(t *testing.T) {
	for _, f := range figures {
		if !slices.ContainsFunc(measures, func(m measure) bool { return m.name == f.measure }) {
			t.Errorf("figure %q is of %q, which is not measured", f.title, f.measure)
		}
	}
	singles := []string{"start to exec", "wall time of `true`", "RSS idle, trace and helper", "RSS per idle raw connection, of 10000",
		"RSS per idle decrypted connection, of 10000", "of the 300 turns' logical size", "`flows list --limit 200 --json` of 100000 flows"}
	for _, g := range goals {
		if !slices.ContainsFunc(figures, func(f figure) bool { return f.title == g.figure }) && !slices.Contains(singles, g.figure) {
			t.Errorf("goal %q is of nothing", g.figure)
		}
	}
}
