package main

import (
	"cmp"
	"fmt"

	"trace/llm"
)

// mediaText says what a block is that is no text: image/png 12 kB.
func mediaText(b *llm.Block) string {
	what := cmp.Or(b.Media, b.Type, b.Kind)
	switch {
	case b.Size > 0:
		return fmt.Sprintf("%s %s", what, kiloText(b.Size))
	case b.URL != "":
		return what + " " + b.URL
	}
	return what
}

// kiloText writes a size as people write those of pictures.
func kiloText(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d bytes", n)
	}
	f, unit := float64(n)/1000, "kB"
	if f >= 999.5 {
		f, unit = f/1000, "MB"
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f %s", f, unit)
	}
	return fmt.Sprintf("%.0f %s", f, unit)
}
