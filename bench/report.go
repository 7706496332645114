package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// A figure is a row of the report: what is read off the samples of a measure.
type figure struct {
	title   string
	measure string
	unit    string
	of      func(s sample) float64
	added   bool // shown as what is added to the host's
	cpu     bool // of the engine: the host has none
}

func rate(s sample) float64    { return float64(s.N) / s.Secs }
func volume(s sample) float64  { return float64(s.Bytes) / s.Secs / 1e9 }
func p50(s sample) float64     { return s.P50 }
func p99(s sample) float64     { return s.P99 }
func cpuGB(s sample) float64   { return s.CPU / float64(s.Bytes) * 1e9 }
func cpuEach(s sample) float64 { return s.CPU / float64(s.N) * 1e6 }

var figures = []figure{
	{title: "raw TCP up", measure: "raw up", unit: "GB/s", of: volume},
	{title: "raw TCP down", measure: "raw down", unit: "GB/s", of: volume},
	{title: "HTTP/1.1 keep-alive ×1", measure: "h1 x1", unit: "requests/s", of: rate},
	{title: "HTTP/1.1 keep-alive ×16", measure: "h1 x16", unit: "requests/s", of: rate},
	{title: "HTTP/2 ×1", measure: "h2 x1", unit: "requests/s", of: rate},
	{title: "HTTP/2 ×16, one connection", measure: "h2 x16", unit: "requests/s", of: rate},
	{title: "new TLS connections ×1", measure: "handshakes x1", unit: "1/s", of: rate},
	{title: "new TLS connections ×16", measure: "handshakes x16", unit: "1/s", of: rate},
	{title: "HTTPS bulk down", measure: "bulk down", unit: "GB/s", of: volume},
	{title: "HTTPS bulk up", measure: "bulk up", unit: "GB/s", of: volume},
	{title: "added per request, p50", measure: "h1 x1", unit: "µs", of: p50, added: true},
	{title: "added per request, p99", measure: "h1 x1", unit: "µs", of: p99, added: true},
	{title: "added per event, p50", measure: "events", unit: "µs", of: p50, added: true},
	{title: "added per event, p99", measure: "events", unit: "µs", of: p99, added: true},
	{title: "CPU, raw TCP up", measure: "raw up", unit: "s/GB", of: cpuGB, cpu: true},
	{title: "CPU, raw TCP down", measure: "raw down", unit: "s/GB", of: cpuGB, cpu: true},
	{title: "CPU, HTTPS bulk down", measure: "bulk down", unit: "s/GB", of: cpuGB, cpu: true},
	{title: "CPU, HTTPS bulk up", measure: "bulk up", unit: "s/GB", of: cpuGB, cpu: true},
	{title: "CPU, HTTP/1.1 ×1", measure: "h1 x1", unit: "µs/request", of: cpuEach, cpu: true},
	{title: "CPU, HTTP/1.1 ×16", measure: "h1 x16", unit: "µs/request", of: cpuEach, cpu: true},
	{title: "CPU, HTTP/2 ×16", measure: "h2 x16", unit: "µs/request", of: cpuEach, cpu: true},
	{title: "CPU, new TLS connection", measure: "handshakes x1", unit: "µs", of: cpuEach, cpu: true},
}

// values returns what a figure is for a contender, sample by sample.
func (b *bench) values(f *figure, who string) []float64 {
	r := b.results[f.measure]
	if r == nil {
		return nil
	}
	var v []float64
	for _, s := range r.Samples[who] {
		v = append(v, f.of(s))
	}
	return v
}

// mid returns the median of a figure for a contender, less the host's where it
// is shown as added; ok is false where there is none.
func (b *bench) mid(f *figure, who string) (m float64, ok bool) {
	v := b.values(f, who)
	if len(v) == 0 {
		return 0, false
	}
	m, _, _ = median(v)
	if f.added {
		host, _, _ := median(b.values(f, "host"))
		m -= host
	}
	return m, true
}

// write writes the report and the JSON.
func (b *bench) write() error {
	var out bytes.Buffer
	b.markdown(&out)
	if b.report == "" {
		os.Stdout.Write(out.Bytes())
	} else if err := os.WriteFile(b.report, out.Bytes(), 0o644); err != nil {
		return err
	}
	if b.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(map[string]any{
		"date": b.began.UTC().Format("2006-01-02T15:04:05Z"), "machine": machine(), "versions": b.versions(),
		"rounds": b.options.rounds, "seconds": b.length.Seconds(), "measures": b.results, "singles": b.singles, "absent": b.absent,
	}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(b.json, append(text, '\n'), 0o644)
}

func (b *bench) markdown(out *bytes.Buffer) {
	fmt.Fprintf(out, "# Benchmarks\n\nWritten by `make bench` on %s. %s. %d interleaved rounds of %v each; all contenders, the origin and the clients share the processors, so that a figure is one of cost, not of the width of a wire. Recording is on in all runs of trace, with the default `--max-body` unless it says *whole* (`--max-body 0`).\n\n",
		b.began.UTC().Format("2006-01-02"), machine(), b.options.rounds, b.length)
	for _, v := range b.versions() {
		fmt.Fprintf(out, "- %s\n", v)
	}
	for _, why := range b.absent {
		fmt.Fprintf(out, "- not measured: %s\n", why)
	}
	out.WriteString("\n")
	b.goals(out)
	b.table(out, "## Medians\n\nIn brackets: the ratio to *host*, and how far the rounds lie apart.\n", func(f *figure) bool { return !f.added && !f.cpu })
	b.table(out, "## What is added\n\nThe contender's median less the host's.\n", func(f *figure) bool { return f.added })
	b.table(out, "## CPU\n\nOf the contender's own processes.\n", func(f *figure) bool { return f.cpu })
	b.peers(out)
	b.variants(out)
	b.tableOfSingles(out)
}

// variants shows what a flag costs: a contender beside the one that it is a variant
// of.
func (b *bench) variants(out *bytes.Buffer) {
	var rows []string
	for i := range figures {
		f := &figures[i]
		for _, c := range contenders {
			with, ok := b.mid(f, c.name)
			without, also := b.mid(f, c.than)
			if c.than == "" || !ok || !also || without == 0 || f.added {
				continue
			}
			rows = append(rows, fmt.Sprintf("| %s | %s | %.2f× | %s |", f.title, c.name, with/without, c.than))
		}
	}
	if len(rows) > 0 {
		fmt.Fprintf(out, "## What a flag costs\n\n| | with | times | without |\n|---|---|---:|---|\n%s\n\n", strings.Join(rows, "\n"))
	}
}

// who returns the contenders that a figure has samples of, in order.
func (b *bench) who(keep func(*figure) bool) []string {
	var all []string
	for _, c := range b.contestants() {
		for i := range figures {
			if f := &figures[i]; keep(f) && len(b.values(f, c.name)) > 0 && !(f.cpu && c.name == "host") {
				all = append(all, c.name)
				break
			}
		}
	}
	return all
}

func (b *bench) table(out *bytes.Buffer, title string, keep func(*figure) bool) {
	who := b.who(keep)
	if len(who) == 0 {
		return
	}
	fmt.Fprintf(out, "%s\n| | %s |\n|---|%s\n", title, strings.Join(who, " | "), strings.Repeat("---:|", len(who)))
	for i := range figures {
		f := &figures[i]
		if !keep(f) {
			continue
		}
		row := []string{f.title + ", " + f.unit}
		for _, name := range who {
			row = append(row, b.cell(f, name))
		}
		fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | "))
	}
	out.WriteString("\n")
}

func (b *bench) cell(f *figure, name string) string {
	m, ok := b.mid(f, name)
	if !ok {
		return "–"
	}
	if f.added || f.cpu {
		return number(m)
	}
	_, low, high := median(b.values(f, name))
	spread := fmt.Sprintf("±%.0f %%", 50*(high-low)/m)
	if host, ok := b.mid(f, "host"); ok && name != "host" {
		return fmt.Sprintf("%s (%.2f, %s)", number(m), m/host, spread)
	}
	return fmt.Sprintf("%s (%s)", number(m), spread)
}

// number shows three significant digits.
func number(v float64) string {
	switch a := max(v, -v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// peers shows trace as a multiple of each other contender.
func (b *bench) peers(out *bytes.Buffer) {
	var rows []string
	for i := range figures {
		f := &figures[i]
		if f.added || f.cpu {
			continue
		}
		for _, c := range contenders {
			theirs, ok := b.mid(f, c.name)
			if c.ours || c.name == "host" || !ok || theirs == 0 {
				continue
			}
			row := []string{f.title, c.name}
			for _, link := range []string{"direct", "wireguard"} {
				ours, _ := b.mid(f, link)
				row = append(row, fmt.Sprintf("%.2f×", ours/theirs))
			}
			rows = append(rows, "| "+strings.Join(row, " | ")+" |")
		}
	}
	if len(rows) > 0 {
		fmt.Fprintf(out, "## Beside each peer\n\n| | peer | direct | wireguard |\n|---|---|---:|---:|\n%s\n\n", strings.Join(rows, "\n"))
	}
}

func (b *bench) tableOfSingles(out *bytes.Buffer) {
	if len(b.singles) == 0 {
		return
	}
	var names []string
	for _, s := range b.singles {
		if !slices.Contains(names, s.Name+", "+s.Unit) {
			names = append(names, s.Name+", "+s.Unit)
		}
	}
	who := []string{"host", "direct", "wireguard"}
	fmt.Fprintf(out, "## Start, memory and disk\n\nMedians where a figure was measured more than once, with the lowest and highest.\n\n| | %s |\n|---|---:|---:|---:|\n", strings.Join(who, " | "))
	for _, name := range names {
		row := []string{name}
		for _, w := range who {
			cell := "–"
			for _, s := range b.singles {
				if s.Who == w && s.Name+", "+s.Unit == name {
					cell = number(s.Value)
					if len(s.All) > 1 {
						_, low, high := median(s.All)
						cell += fmt.Sprintf(" (%s–%s)", number(low), number(high))
					}
				}
			}
			row = append(row, cell)
		}
		fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | "))
	}
	out.WriteString("\n")
}

// machine describes this one.
func machine() string {
	model := "unknown processor"
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(v)
			break
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d processors (%s), Linux %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)))
}

// versions says what was measured.
func (b *bench) versions() []string {
	all := []string{firstLine(b.trace, "version"), runtime.Version()}
	for _, c := range contenders {
		if c.need != "" {
			if v := firstLine(c.need, "--version"); v != "" {
				all = append(all, v)
			}
		}
	}
	return all
}

func firstLine(argv ...string) string {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
