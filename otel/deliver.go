package otel

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	neturl "net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	maxAnswer     = 64 << 10        // bytes of an answer that are read
	maxRetryAfter = 5 * time.Minute // that an endpoint may ask for
	lastAttempts  = 3               // without any answer, once the sender is closed; and of its last metrics
)

// A StatusError is an answer that refuses for good, or for now.
type StatusError struct {
	Code    int
	Message string // what the body says; untrusted
	after   time.Duration
}

// Error names the status and what was said.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("it answers %d %s", e.Code, http.StatusText(e.Code))
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// retryable are the answers after which OTLP wants the same sent again.
func (e *StatusError) retryable() bool {
	switch e.Code {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// PartialError says that an endpoint took a part only.
type PartialError struct {
	Rejected int64
	Message  string
}

// Error says how many, and why.
func (e *PartialError) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("it rejected %d: %s", e.Rejected, e.Message), ": ")
}

// givenUp is the error of what was not tried any longer.
type givenUp struct{ error }

// Unwrap returns the last cause.
func (g givenUp) Unwrap() error { return g.error }

// encode makes the body of a request.
func (s *Sender) encode(m proto.Message) ([]byte, error) {
	b, err := marshal(m, s.endpoint.JSON)
	if err != nil || !s.endpoint.Gzip {
		return b, err
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b) // to memory: never fails
	w.Close()
	return out.Bytes(), nil
}

// deliver sends spans until they are taken, refused for good, or given up. refused
// is how many were not taken although the rest was.
func (s *Sender) deliver(body []byte) (refused int64, err error) {
	pause, began := s.patience.First, time.Now()
	for ending := s.isEnding(); ; {
		refused, err = s.post(s.endpoint.Traces, body)
		status, final := verdict(err)
		if final {
			s.succeeded()
			return refused, err
		}
		if s.failed(status != nil, began) {
			return 0, givenUp{err}
		}
		if !s.sleep(pause, status) {
			s.giveUp()
			return 0, givenUp{err}
		}
		if pause = min(2*pause, s.patience.Most); !ending && s.isEnding() {
			pause, ending = s.patience.First, true
		}
	}
}

// deliverMetrics makes one attempt; when the sender is closed, some more.
func (s *Sender) deliverMetrics(body []byte) error {
	pause := s.patience.First
	for n := 1; ; n++ {
		_, err := s.post(s.endpoint.Metrics, body)
		status, final := verdict(err)
		if final || n == lastAttempts || !s.isClosing() || !s.sleep(pause, status) {
			return err
		}
		pause = min(2*pause, s.patience.Most)
	}
}

// verdict tells the answer, if there was one, and whether trying again is of no
// use.
func verdict(err error) (status *StatusError, final bool) {
	if errors.As(err, &status) {
		return status, !status.retryable()
	}
	return nil, err == nil || errors.As(err, new(*PartialError))
}

func (s *Sender) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func jitter(d time.Duration) time.Duration {
	return d - d/5 + time.Duration(rand.Int64N(int64(2*d/5)+1))
}

// sleep waits before the next attempt; false: there is no time for one. When the
// end comes near it returns early, for another attempt, unless the endpoint asked
// for the pause.
func (s *Sender) sleep(pause time.Duration, status *StatusError) bool {
	pause = jitter(pause)
	asked := status != nil && status.after > 0
	if asked {
		pause = status.after
	}
	until := time.Now().Add(pause)
	t := time.NewTimer(pause)
	defer t.Stop()
	ending := s.ending
	if s.isEnding() { // a pause between the last attempts, too
		if ending = nil; asked && s.tooLate(until) {
			return false
		}
	}
	for {
		select {
		case <-t.C:
			return true
		case <-s.ctx.Done():
			return false
		case <-ending:
			if !asked {
				return true
			}
			if ending = nil; s.tooLate(until) {
				return false
			}
		}
	}
}

func (s *Sender) isEnding() bool {
	select {
	case <-s.ending:
		return true
	default:
		return false
	}
}

// tooLate reports whether all will be over at that time.
func (s *Sender) tooLate(at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return at.After(s.deadline)
}

// succeeded notes that the endpoint answers.
func (s *Sender) succeeded() {
	s.failures = 0
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = false
}

// failed notes an attempt that failed, of those since began, and reports whether
// it was the last. answered: the endpoint is there, at least.
func (s *Sender) failed(answered bool, began time.Time) (last bool) {
	s.failures++
	if answered {
		s.failures = 0
	}
	s.mu.Lock()
	s.failing = true
	closing := s.closing
	s.room.Broadcast()
	s.mu.Unlock()
	whole := s.patience.Whole
	if s.ctx.Err() != nil || whole == 0 && closing && s.failures >= lastAttempts || whole > 0 && time.Since(began) > whole {
		s.giveUp()
		return true
	}
	return false
}

// giveUp ends the sending.
func (s *Sender) giveUp() {
	s.mu.Lock()
	s.dead = true
	s.room.Broadcast()
	s.mu.Unlock()
	s.wakeUp()
}

// post makes one attempt.
func (s *Sender) post(url string, body []byte) (refused int64, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.patience.Request)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("User-Agent", "trace")
	for name, values := range s.endpoint.Header {
		r.Header[name] = values
	}
	if host := s.endpoint.Header.Get("Host"); host != "" {
		r.Host = host
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	if s.endpoint.JSON {
		r.Header.Set("Content-Type", "application/json")
	}
	if s.endpoint.Gzip {
		r.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return 0, plainError(err, s.patience.Request)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode/100 == 2 { // taken, whatever became of the answer
		return partial(resp.Header.Get("Content-Type"), answer)
	}
	_ = err // of an answer that refuses, what came is enough
	return 0, &StatusError{Code: resp.StatusCode, Message: saidIn(resp.Header.Get("Content-Type"), answer), after: retryAfter(resp.Header, time.Now())}
}

// plainError takes the URL, which may be secret, out of an error of net/http.
func plainError(err error, limit time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v", limit)
	}
	if errors.Is(err, context.Canceled) {
		return errors.New("no answer in time")
	}
	var u *neturl.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return err
}

// retryAfter reads Retry-After (RFC 9110 section 10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.ParseInt(v, 10, 32); err == nil && n >= 0 {
		return min(max(time.Duration(n)*time.Second, time.Millisecond), maxRetryAfter)
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), time.Millisecond), maxRetryAfter)
	}
	return 0
}

// partial reads what an endpoint that answered with success rejected all the
// same: field 1 of its answer, in which 1 is a number and 2 a text.
func partial(contentType string, answer []byte) (int64, error) {
	p := PartialError{}
	if isJSON(contentType) {
		var a struct {
			PartialSuccess struct {
				RejectedSpans, RejectedDataPoints json.Number
				ErrorMessage                      string
			}
		}
		if json.Unmarshal(answer, &a) == nil {
			n, _ := a.PartialSuccess.RejectedSpans.Int64()
			m, _ := a.PartialSuccess.RejectedDataPoints.Int64()
			p = PartialError{n + m, a.PartialSuccess.ErrorMessage}
		}
	} else if in := fieldOf(answer, 1); in.bytes != nil {
		p = PartialError{int64(fieldOf(in.bytes, 1).number), clean(string(fieldOf(in.bytes, 2).bytes))}
	}
	if p.Rejected <= 0 { // a text alone is a warning
		return 0, nil
	}
	p.Message = shortText(p.Message)
	return p.Rejected, &p
}

// saidIn returns what the body of a refusal says: text, JSON, or the message of a
// google.rpc.Status.
func saidIn(contentType string, answer []byte) string {
	kind, _, _ := mime.ParseMediaType(contentType)
	switch {
	case isJSON(contentType):
		var a struct{ Message, Detail, Error any }
		json.Unmarshal(answer, &a)
		for _, v := range []any{a.Message, a.Detail, a.Error} {
			if text, ok := v.(string); ok && text != "" {
				return shortText(text)
			}
		}
		return shortText(string(answer))
	case kind == "application/x-protobuf":
		return shortText(string(fieldOf(answer, 2).bytes))
	case strings.HasPrefix(kind, "text/plain"):
		return shortText(string(answer))
	}
	return ""
}

func isJSON(contentType string) bool {
	kind, _, _ := mime.ParseMediaType(contentType)
	return kind == "application/json"
}

// shortText is one line of what an endpoint said.
func shortText(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(clean(s)), "\n")
	if len(s) > 200 {
		s = cutText(s, 200)
	}
	return s
}

// field is one of a protobuf message.
type field struct {
	number uint64
	bytes  []byte
}

// fieldOf finds the last field of that number; zero where there is none, or no
// message.
func fieldOf(b []byte, number protowire.Number) (f field) {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return f
		}
		b = b[n:]
		size := protowire.ConsumeFieldValue(num, kind, b)
		if size < 0 {
			return f
		}
		if num == number {
			switch kind {
			case protowire.VarintType:
				f.number, _ = protowire.ConsumeVarint(b)
			case protowire.BytesType:
				v, _ := protowire.ConsumeBytes(b)
				f.bytes = append([]byte{}, v...)
			}
		}
		b = b[size:]
	}
	return f
}
