package main

import (
	"math"
	"slices"
	"strings"
)

// chartRows is the height of a chart.
const chartRows = 6

// eighths are blocks of one to eight eighths of a row.
var eighths = []rune("▁▂▃▄▅▆▇█")

// maxBar is the width of a column where there is room.
const maxBar = 3

// chart draws values as columns, at most width wide in all: where there are more
// values, each column is the highest of its share. The rows come from the top.
func chart(values []float64, width int) []string {
	values = bins(values, width)
	if len(values) == 0 {
		return nil
	}
	highest, wide := slices.Max(values), min(maxBar, max(1, width/len(values)))
	rows := make([]string, chartRows)
	for r := range rows {
		var b strings.Builder
		for _, v := range values {
			filled := 0
			if highest > 0 && v > 0 {
				filled = max(1, int(math.Round(v/highest*chartRows*8)))
			}
			mark := " "
			if n := filled - (chartRows-1-r)*8; n > 0 {
				mark = string(eighths[min(n, 8)-1])
			}
			b.WriteString(strings.Repeat(mark, wide))
		}
		rows[r] = strings.TrimRight(b.String(), " ")
	}
	return rows
}

// bins returns the highest values of n shares, or all if there are not more.
func bins(values []float64, n int) []float64 {
	if n < 1 {
		return nil
	}
	if len(values) <= n {
		return values
	}
	out := make([]float64, n)
	for i := range out {
		out[i] = slices.Max(values[i*len(values)/n : max(i*len(values)/n+1, (i+1)*len(values)/n)])
	}
	return out
}

// bar draws a share of 1 as a line of at most width columns.
func bar(share float64, width int) string {
	n := int(math.Round(share * float64(width) * 8))
	if share > 0 {
		n = max(n, 1)
	}
	full, rest := n/8, n%8
	s := strings.Repeat("█", full)
	if rest > 0 {
		s += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return s
}
