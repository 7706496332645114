package main

import (
	"fmt"

	"trace/flow"
	"trace/store"
)

// agentsOf returns a func that names the agent which made the nth call of a
// flow of xs; "" if that is not known.
func agentsOf(r *store.Reader, xs []*flow.Exchange) func(x *flow.Exchange, n int) string {
	return nil
}

func idText(x *flow.Exchange) string { return fmt.Sprint(x.ID) }
