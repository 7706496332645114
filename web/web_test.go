package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"trace/flow"
)

// A memory is a session without a file: flows of which each has a body.
type memory struct {
	mu     sync.Mutex
	flows  []Revised
	body   string
	live   chan Change // nil: it is over
	began  chan struct{}
	opened int
	closed int
}

func (m *memory) Newest(int) ([]flow.Session, error) {
	return []flow.Session{{ID: testID, Name: "test", State: "running"}}, nil
}

func (m *memory) First() (string, error) { return testID, nil }

func (m *memory) Open(id string) (Record, error) {
	if id != testID {
		return nil, &Problem{http.StatusNotFound, "session: there is none", ""}
	}
	m.opened++
	return m, nil
}

func (m *memory) Session() (flow.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return flow.Session{ID: testID, Name: "test", State: "running", Flows: int64(len(m.flows))}, nil
}

func (m *memory) Flow(id int64) (*flow.Exchange, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.flows {
		if x.ID == id {
			return x.Exchange, nil
		}
	}
	return nil, &Problem{http.StatusNotFound, "flow: there is none", ""}
}

func (m *memory) Changed(after int64, n int) (list []Revised, last int64, more bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.flows {
		switch {
		case x.Rev <= after:
		case len(list) == n:
			return list, list[n-1].Rev, true, nil
		default:
			list = append(list, x)
		}
		last = x.Rev
	}
	return list, last, false, nil
}

// put adds a flow, or changes one.
func (m *memory) put(x *flow.Exchange) Revised {
	m.mu.Lock()
	defer m.mu.Unlock()
	rev := int64(1)
	if n := len(m.flows); n > 0 {
		rev = m.flows[n-1].Rev + 1
	}
	for i := range m.flows {
		if x.ID > rev {
			break // a new one
		}
		if m.flows[i].ID == x.ID {
			m.flows = append(m.flows[:i], m.flows[i+1:]...)
			break
		}
	}
	m.flows = append(m.flows, Revised{x, rev})
	return Revised{x, rev}
}

func (m *memory) Follow(ctx context.Context, began func(int64), fn func(Change) error) error {
	_, last, _, _ := m.Changed(0, 1<<30)
	began(last)
	if m.live == nil {
		return nil
	}
	close(m.began)
	for {
		select {
		case c, ok := <-m.live:
			if !ok {
				return nil
			}
			if err := fn(c); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *memory) WriteBody(w io.Writer, _ int64, _ flow.Side) (int64, error) {
	for i := 0; i < len(m.body); i += 7 { // as segments come
		if _, err := io.WriteString(w, m.body[i:min(len(m.body), i+7)]); err != nil {
			return 0, err
		}
	}
	return int64(len(m.body)), nil
}

func (m *memory) PiecesFrom(_ int64, index int, fn func(flow.Piece) error) error {
	for i := index; i < 10; i++ {
		if err := fn(flow.Piece{Index: i, Side: flow.Server, Data: fmt.Appendf(nil, "event: e%d\ndata: {\"i\":%d}\n\n", i%3, i)}); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Calls([]*flow.Exchange, bool) map[int64]Call { return nil }

func (m *memory) Close() error {
	m.closed++
	return nil
}

const (
	testID    = "01M7ZZZZZZZZZZZZZZZZZZZZZZ"
	testToken = "the-token"
)

// exchange is a flow with an answer.
func exchange(id int64, host, path string) *flow.Exchange {
	at := time.UnixMilli(1_700_000_000_000 + id).UTC()
	return &flow.Exchange{ID: id, Kind: flow.KindHTTP, State: flow.StateComplete, Started: at, Ended: at.Add(time.Second), RequestEnded: at, Responded: at,
		Request:  &flow.Part{Head: &flow.Head{Method: "GET", Scheme: "https", Host: host, Port: 443, Path: path, Version: "1.1"}, Body: &flow.Ended{}},
		Response: &flow.Part{ContentType: "text/html", Head: &flow.Head{Status: 200}, Body: &flow.Ended{Size: 26, Kept: 26}}}
}

// start serves m until the test is over.
func start(t *testing.T, m *memory, v Views, change ...func(*Server)) (s *Server, base string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = &Server{Source: m, Views: v, Token: testToken, Version: "test", Log: t.Logf}
	for _, f := range change {
		f(s)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if m.opened != m.closed {
			t.Errorf("%d sessions opened, %d closed", m.opened, m.closed)
		}
	})
	return s, "http://" + l.Addr().String()
}

// A try is a request of a test.
type try struct {
	method, path string
	head         map[string]string
	host         string
	body         string
}

func (y try) do(t *testing.T, base string) (*http.Response, string) {
	t.Helper()
	if y.method == "" {
		y.method = "GET"
	}
	req, err := http.NewRequest(y.method, base, strings.NewReader(y.body))
	if err != nil {
		t.Fatal(err)
	}
	// As it stands: a path may be what no client would send.
	req.URL.Opaque = "//" + req.URL.Host + y.path
	if i := strings.IndexByte(y.path, '?'); i >= 0 {
		req.URL.Opaque, req.URL.RawQuery = "//"+req.URL.Host+y.path[:i], y.path[i+1:]
	}
	if req.Host = y.host; y.host == "" {
		req.Host = req.URL.Host
	}
	for k, v := range y.head {
		req.Header.Set(k, v)
	}
	client := http.Client{Transport: &rawPaths{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// rawPaths sends the path alone as target, however it is written.
type rawPaths struct{ http.Transport }

func (r *rawPaths) RoundTrip(req *http.Request) (*http.Response, error) {
	path := strings.TrimPrefix(req.URL.Opaque, "//"+req.URL.Host)
	r.DisableKeepAlives = true
	req.URL.Opaque = path
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		return nil, errors.New("a path begins with one slash")
	}
	return r.Transport.RoundTrip(req)
}

var withToken = map[string]string{"Authorization": "Bearer " + testToken}

func get(t *testing.T, base, path string) (*http.Response, string) {
	t.Helper()
	return try{path: path, head: withToken}.do(t, base)
}
