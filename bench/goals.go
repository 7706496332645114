package main

import (
	"bytes"
	"fmt"
	"strings"
)

// A goal is what a figure is to reach, with the default link and with direct.
// What it is compared with is a contender, or nobody.
type goal struct {
	figure            string // title of a figure, or name of a single
	than              string // ratio to this contender; "": the value itself
	wireguard, direct float64
	most              bool // at most; else at least
}

var goals = []goal{
	{figure: "HTTP/1.1 keep-alive ×1", than: "host", wireguard: 0.42, direct: 0.52},
	{figure: "HTTP/1.1 keep-alive ×16", than: "host", wireguard: 0.38, direct: 0.46},
	{figure: "HTTPS bulk down", than: "host", wireguard: 0.28, direct: 0.40},
	{figure: "HTTPS bulk up", than: "host", wireguard: 0.28, direct: 0.40},
	{figure: "raw TCP up", than: "host", wireguard: 0.20, direct: 0.55},
	{figure: "raw TCP down", than: "host", wireguard: 0.20, direct: 0.55},
	{figure: "new TLS connections ×1", than: "host", wireguard: 0.44, direct: 0.48},
	{figure: "new TLS connections ×16", than: "host", wireguard: 0.44, direct: 0.48},
	{figure: "added per request, p50", wireguard: 100, direct: 70, most: true},
	{figure: "added per event, p50", wireguard: 80, direct: 80, most: true},
	{figure: "added per event, p99", wireguard: 1000, direct: 1000, most: true},
	{figure: "HTTP/1.1 keep-alive ×1", than: "mitmproxy", wireguard: 6, direct: 8},
	{figure: "start to exec", wireguard: 15, direct: 10, most: true},
	{figure: "wall time of `true`", wireguard: 25, direct: 25, most: true},
	{figure: "RSS idle, trace and helper", wireguard: 30, direct: 30, most: true},
	{figure: "RSS per idle raw connection, of 10000", wireguard: 60, direct: 60, most: true},
	{figure: "RSS per idle decrypted connection, of 10000", wireguard: 120, direct: 120, most: true},
	{figure: "of the 300 turns' logical size", wireguard: 2, most: true},
	{figure: "`flows list --limit 200 --json` of 100000 flows", wireguard: 40, direct: 40, most: true},
}

// goals shows which are reached.
func (b *bench) goals(out *bytes.Buffer) {
	var rows []string
	for _, g := range goals {
		row := []string{g.figure}
		if g.than != "" {
			row[0] += ", times " + g.than
		}
		any := false
		for _, link := range []struct {
			name string
			want float64
		}{{"wireguard", g.wireguard}, {"direct", g.direct}} {
			have, ok := b.reached(&g, link.name)
			if !ok || link.want == 0 {
				row = append(row, "–", "–")
				continue
			}
			any = true
			want, met := "≥ "+number(link.want), have >= link.want
			if g.most {
				want, met = "≤ "+number(link.want), have <= link.want
			}
			if met {
				row = append(row, want, number(have))
			} else {
				row = append(row, want, "**"+number(have)+"**")
			}
		}
		if any {
			rows = append(rows, "| "+strings.Join(row, " | ")+" |")
		}
	}
	if len(rows) > 0 {
		fmt.Fprintf(out, "## Goals\n\nMissed ones stand in bold.\n\n| | goal, wireguard | seen | goal, direct | seen |\n|---|---:|---:|---:|---:|\n%s\n\n", strings.Join(rows, "\n"))
	}
}

// reached returns what a goal is compared with.
func (b *bench) reached(g *goal, link string) (float64, bool) {
	for i := range figures {
		f := &figures[i]
		if f.title != g.figure {
			continue
		}
		have, ok := b.mid(f, link)
		if g.than == "" || !ok {
			return have, ok
		}
		base, ok := b.mid(f, g.than)
		return have / base, ok && base != 0
	}
	for _, s := range b.singles {
		if s.Name == g.figure && s.Who == link {
			return s.Value, true
		}
	}
	return 0, false
}
