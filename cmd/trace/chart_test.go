package main

import (
	"slices"
	"strings"
	"testing"
)

func TestChart(t *testing.T) {
	if rows := chart(nil, 10); rows != nil {
		t.Errorf("%q", rows)
	}
	rows := chart([]float64{0, 1, 48}, 3)
	if want := []string{"  █", "  █", "  █", "  █", "  █", " ▁█"}; !slices.Equal(rows, want) {
		t.Errorf("%q", rows)
	}
	var many []float64
	for i := range 1000 {
		many = append(many, float64(i%500))
	}
	for _, row := range chart(many, 40) {
		if columns(row) > 40 {
			t.Errorf("%q", row)
		}
	}
	if got := bins(many, 4); !slices.Equal(got, []float64{249, 499, 249, 499}) {
		t.Errorf("%v", got)
	}
	if got := bins([]float64{1, 2, 3}, 2); !slices.Equal(got, []float64{1, 3}) {
		t.Errorf("%v", got)
	}
	if bar(0, 8) != "" || bar(1, 8) != strings.Repeat("█", 8) || bar(0.5, 1) != "▌" || bar(0.0001, 8) != "▏" {
		t.Errorf("%q %q %q", bar(1, 8), bar(0.5, 1), bar(0.0001, 8))
	}
}
