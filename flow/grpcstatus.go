package flow

import (
	"net/url"
	"strconv"
	"strings"
)

// A GRPCStatus is how a gRPC call ended, which HTTP does not tell: its status
// is 200 all the same.
type GRPCStatus struct {
	Code    int
	Message string // percent-decoded
}

// GRPC returns the grpc-status of an answer: from its trailers, or from its
// head where it is nothing but trailers. nil if there is none (yet).
func (p *Part) GRPC() *GRPCStatus {
	if p == nil {
		return nil
	}
	if p.Body != nil {
		if s := grpcStatus(p.Body.Trailers); s != nil {
			return s
		}
	}
	if p.Head != nil {
		return grpcStatus(p.Head.Fields)
	}
	return nil
}

func grpcStatus(fields []Field) *GRPCStatus {
	h := &Head{Fields: fields}
	code, err := strconv.Atoi(h.Get("grpc-status"))
	if err != nil || code < 0 {
		return nil
	}
	message := h.Get("grpc-message")
	if text, err := url.PathUnescape(message); err == nil {
		message = text
	}
	return &GRPCStatus{code, strings.ToValidUTF8(message, "\ufffd")}
}

var grpcNames = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
	"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// Name returns the name of the code in the gRPC specification, "" of others.
func (s *GRPCStatus) Name() string {
	if s.Code < len(grpcNames) {
		return grpcNames[s.Code]
	}
	return ""
}
