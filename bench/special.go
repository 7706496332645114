package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A single is a figure that is not measured round by round.
type single struct {
	Name  string    `json:"name"`
	Who   string    `json:"who"`
	Unit  string    `json:"unit"`
	Value float64   `json:"value"`
	All   []float64 `json:"all,omitempty"`
}

func (b *bench) note(name, who, unit string, values ...float64) {
	mid, _, _ := median(values)
	s := single{Name: name, Who: who, Unit: unit, Value: mid}
	if len(values) > 1 {
		s.All = values
	}
	b.singles = append(b.singles, s)
}

// specials are the measures with runs of trace of their own.
func (b *bench) specials(ctx context.Context) error {
	links := []string{"direct", "wireguard"}
	if b.pick.MatchString("start") {
		if err := b.startUp(ctx, links); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		name string
		run  func(link string) error
	}{{"memory", b.memory}, {"recorded", b.recorded}, {"conversation", b.conversation}} {
		for _, link := range links {
			if !b.pick.MatchString(part.name) || b.left(link) || part.name == "conversation" && link == "direct" {
				continue
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			fmt.Fprintf(os.Stderr, "bench: %s, %s\n", part.name, link)
			if err := part.run(link); err != nil {
				return fmt.Errorf("%s, %s: %w", part.name, link, err)
			}
		}
	}
	return nil
}

// stamp is the command whose start is timed: it says when it began.
func stamp([]string) error {
	_, err := fmt.Println(monotonic())
	return err
}

// startUps is how often a start is timed.
const startUps = 40

// startUp times how long trace takes to start a command, and to be done with
// one that does nothing. The time that the command itself takes, measured
// without trace, is taken off the former.
func (b *bench) startUp(ctx context.Context, links []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	begin, wall := map[string][]float64{}, map[string][]float64{}
	fmt.Fprintln(os.Stderr, "bench: start")
	for n := range startUps {
		for _, who := range append([]string{"host"}, links...) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var before []string
			if who != "host" {
				before = b.traceArgs(who, filepath.Join(b.dir, fmt.Sprintf("start-%s-%d.db", who, n)))
			}
			took, err := untilStamp(append(slices.Clone(before), self, "stamp"))
			if err != nil {
				return err
			}
			begin[who] = append(begin[who], took)
			if who != "host" {
				before = b.traceArgs(who, filepath.Join(b.dir, fmt.Sprintf("true-%s-%d.db", who, n)))
			}
			at := time.Now()
			argv := append(before, "true")
			if err := exec.Command(argv[0], argv[1:]...).Run(); err != nil {
				return err
			}
			wall[who] = append(wall[who], ms(time.Since(at)))
		}
	}
	host, _, _ := median(begin["host"])
	b.note("wall time of `true`", "host", "ms", wall["host"]...)
	for _, link := range links {
		for i := range begin[link] {
			begin[link][i] -= host
		}
		b.note("start to exec", link, "ms", begin[link]...)
		b.note("wall time of `true`", link, "ms", wall[link]...)
	}
	return nil
}

// untilStamp returns the milliseconds from before argv is started to what it
// prints.
func untilStamp(argv []string) (float64, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	at := monotonic()
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	then, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return ms(time.Duration(then - at)), err
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// alone starts trace by itself.
func (b *bench) alone(name, link string, flags ...string) (*running, error) {
	return b.startTraceWith(&contender{name: name + "-" + link, ours: true}, link, flags...)
}

// idleConns is how many connections are held.
const idleConns = 10000

// settle is how long memory is given to come to rest.
const settle = 3 * time.Second

// memory measures trace at rest, and with idle connections.
func (b *bench) memory(link string) error {
	for _, decrypted := range []bool{false, true} {
		r, err := b.alone(fmt.Sprintf("memory-%t", decrypted), link)
		if err != nil {
			return err
		}
		time.Sleep(settle)
		before := rssOf(r.pids())
		if !decrypted {
			b.note("RSS idle, trace and helper", link, "MB", float64(before)/1e6)
		}
		_, _, err = r.do(task{Do: "hold", N: idleConns, H2: decrypted})
		if err == nil {
			time.Sleep(settle)
			kind := "raw"
			if decrypted {
				kind = "decrypted"
			}
			b.note(fmt.Sprintf("RSS per idle %s connection, of %d", kind, idleConns), link, "kB", float64(rssOf(r.pids())-before)/idleConns/1e3)
			_, _, err = r.do(task{Do: "release"})
		}
		r.stop()
		if err != nil {
			return err
		}
	}
	return nil
}

// recordedFlows is how many flows a session has that is listed.
const recordedFlows = 100000

// recorded measures trace after many flows, and listing them.
func (b *bench) recorded(link string) error {
	r, err := b.alone("recorded", link)
	if err != nil {
		return err
	}
	_, cpu, err := r.do(task{Do: "requests", Conc: 16, N: recordedFlows})
	if err != nil {
		r.stop()
		return err
	}
	time.Sleep(settle)
	b.note(fmt.Sprintf("RSS after %d recorded flows", recordedFlows), link, "MB", float64(rssOf(r.pids()))/1e6)
	b.note("CPU per recorded request, x16", link, "µs", cpu/recordedFlows*1e6)
	r.stop()
	if info, err := os.Stat(r.session); err == nil {
		b.note("disk per recorded request", link, "bytes", float64(info.Size())/recordedFlows)
	}
	var list []float64
	for range 7 {
		at := time.Now()
		if err := exec.Command(b.trace, "flows", "list", "--session", r.session, "--limit", "200", "--json").Run(); err != nil {
			return err
		}
		list = append(list, ms(time.Since(at)))
	}
	b.note(fmt.Sprintf("`flows list --limit 200 --json` of %d flows", recordedFlows), link, "ms", list...)
	return nil
}

// Turns of the conversation, and after which of them the file is looked at.
const conversationTurns = 300

// conversation measures the disk that a growing conversation takes: while it
// runs, with the log that SQLite writes ahead, and once it has ended.
func (b *bench) conversation(link string) error {
	r, err := b.alone("conversation", link)
	if err != nil {
		return err
	}
	var logical int64
	for _, upTo := range []int{conversationTurns / 3, conversationTurns * 2 / 3, conversationTurns} {
		a, _, err := r.do(task{Do: "converse", Size: upTo - conversationTurns/3, N: upTo})
		if err != nil {
			r.stop()
			return err
		}
		logical += a.Bytes
		time.Sleep(settle)
		b.note(fmt.Sprintf("disk after %d turns, while it runs", upTo), link, "kB", float64(sizeOf(r.session)+sizeOf(r.session+"-wal"))/1e3)
	}
	r.stop()
	b.note("disk at the end", link, "kB", float64(sizeOf(r.session))/1e3)
	b.note(fmt.Sprintf("of the %d turns' logical size", conversationTurns), link, "%", 100*float64(sizeOf(r.session))/float64(logical))
	b.note("logical size of the conversation", link, "MB", float64(logical)/1e6)
	return nil
}

// sizeOf returns the size of a file in bytes, 0 if there is none.
func sizeOf(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Size()
}
