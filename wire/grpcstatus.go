package wire

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"trace/flow"
)

// readable reports whether block, which ends the stream of messages, can be read:
// it was decompressed, is no longer than a head may be, and the first.
func (c *grpcCutter) readable(block []byte) bool {
	first := !c.ended
	c.ended = true
	return first && block[0]&grpcCompressed == 0 && len(block) <= maxHead
}

// readTrailers reads the trailers of gRPC-Web: the lines of a header section.
func (c *grpcCutter) readTrailers(block []byte) {
	if c.readable(block) {
		c.trailers, _ = parseFields(string(block[grpcPrefix:]))
	}
}

// readEnd reads the last message of Connect: JSON with trailers and an error.
func (c *grpcCutter) readEnd(block []byte) {
	var end struct {
		Error    *struct{ Code, Message string }
		Metadata map[string][]string
	}
	if !c.readable(block) || json.Unmarshal(block[grpcPrefix:], &end) != nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(end.Metadata)) {
		for _, value := range end.Metadata[name] {
			c.trailers = append(c.trailers, flow.Field{Name: name, Value: value})
		}
	}
	if end.Error != nil {
		c.status = &flow.GRPCStatus{Code: connectCode(end.Error.Code), Message: end.Error.Message}
	}
}

// connectCode returns the number of a code of Connect, which are those of gRPC
// in another spelling; UNKNOWN for others.
func connectCode(name string) int {
	if name == "canceled" {
		name = "cancelled"
	}
	for code := 1; ; code++ {
		switch s := (&flow.GRPCStatus{Code: code}).Name(); {
		case s == "":
			return 2
		case fold(s, name):
			return code
		}
	}
}

// conclude returns the trailers with those that stood in the body, and marks an
// answer whose status is not OK: the exchange is complete all the same.
func (c *grpcCutter) conclude(trailers []flow.Field) []flow.Field {
	trailers = append(slices.Clip(trailers), c.trailers...)
	if c.b.side == flow.Client {
		return trailers
	}
	s := c.status
	if s == nil {
		s = (&flow.Part{Head: c.head, Body: &flow.Ended{Trailers: trailers}}).GRPC()
	}
	if s == nil || s.Code == 0 {
		return trailers
	}
	number := strconv.Itoa(s.Code)
	err := &flow.Error{Where: flow.AtUpstream, Code: flow.CodeGRPCStatus, Message: "gRPC status " + number, Detail: s.Name()}
	if err.Detail == "" {
		err.Detail = number
	} else {
		err.Message += " " + err.Detail
	}
	if s.Message != "" {
		err.Message += ": " + strings.ToValidUTF8(s.Message, "\ufffd")
	}
	c.b.x.d.mark(c.b.x.id, c.b.side, c.b.at, err)
	return trailers
}
