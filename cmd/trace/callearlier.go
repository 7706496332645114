package main

import (
	"trace/flow"
	"trace/llm"
	"trace/store"
)

// findEarlier returns the turn that came before c in its conversation, nil if
// none is known.
func findEarlier(r *store.Reader, x *flow.Exchange, c *llm.Call) *earlier {
	return nil
}
