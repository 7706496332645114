package main

import "trace/flow"

type parsedEvent struct {
	flow.SSE
	Headers []flow.Field
	Binary  bool
}

func parseEvent(_ string, block []byte) parsedEvent { return parsedEvent{SSE: flow.ParseSSE(block)} }
