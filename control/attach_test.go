package control

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// keeper is a Receiver that remembers what it is told.
type keeper struct {
	mu    sync.Mutex
	said  []string
	fail  error
	lost  chan string
	batch []byte
}

func (k *keeper) say(words ...string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.said = append(k.said, strings.Join(words, " "))
	return k.fail
}

func (k *keeper) Open(id string, h Hello) (Position, error) {
	return "7", k.say("open", id, string(h.Session))
}

func (k *keeper) Take(id string, from Position, batch []byte) (Position, error) {
	k.batch = bytes.Clone(batch)
	return from + "+", k.say("take", id, string(from))
}

func (k *keeper) End(id string, e End) (Kept, error) {
	return Kept{File: "/f"}, k.say("end", id, e.Ended.Format(time.RFC3339))
}

func (k *keeper) Lost(id string) { k.lost <- id }

func keeping(t *testing.T) (*keeper, string) {
	t.Helper()
	k := &keeper{lost: make(chan string, 10)}
	path := filepath.Join(t.TempDir(), "s")
	serve(t, path, &Server{Attach: k})
	return k, path
}

func TestAttach(t *testing.T) {
	k, path := keeping(t)
	c := dial(t, path)
	at, err := c.Open(t.Context(), "ID1", Hello{Format: 3, Session: []byte("\xff who")})
	if err != nil || at != "7" {
		t.Fatalf("open: %q, %v", at, err)
	}
	batch := bytes.Repeat([]byte{0, 0xff, 'x'}, 1<<20)
	if at, err = c.Send(t.Context(), "ID1", at, batch); err != nil || at != "7+" || !bytes.Equal(k.batch, batch) {
		t.Fatalf("send: %q, %v, %d bytes", at, err, len(k.batch))
	}
	kept, err := c.End(t.Context(), "ID1", End{Ended: Time{time.Unix(1, 0)}})
	if err != nil || kept.File != "/f" {
		t.Fatalf("end: %+v, %v", kept, err)
	}
	want := []string{"open ID1 \xff who", "take ID1 7", "end ID1 1970-01-01T00:00:01Z"}
	if !slices.Equal(k.said, want) {
		t.Errorf("the receiver was told %q, want %q", k.said, want)
	}
	for _, id := range []string{"..", "a%2fb", strings.Repeat("x", 65), "a b"} {
		var refused *RefusedError
		if _, err := c.Open(t.Context(), id, Hello{}); !errors.As(err, &refused) {
			t.Errorf("id %q: %v", id, err)
		}
	}
	if !slices.Equal(k.said, want) {
		t.Errorf("the receiver was told of wrong ids: %q", k.said)
	}
}

// TestAttachErrors: what a receiver says reaches the run as what it is.
func TestAttachErrors(t *testing.T) {
	k, path := keeping(t)
	c := dial(t, path)
	send := func(fail error) error {
		k.mu.Lock()
		k.fail = fail
		k.mu.Unlock()
		_, err := c.Send(t.Context(), "ID1", "1", nil)
		return err
	}
	var refused *RefusedError
	if err := send(ErrPosition); !errors.Is(err, ErrPosition) {
		t.Errorf("position: %v", err)
	}
	if err := send(&RefusedError{"never"}); !errors.As(err, &refused) || refused.Reason != "never" {
		t.Errorf("refused: %v", err)
	}
	if err := send(errors.New("disk is full")); err == nil || err.Error() != "disk is full" || errors.As(err, &refused) {
		t.Errorf("other: %v", err)
	}
}

// TestLost: a receiver hears of a run that is gone, once no connection has it.
func TestLost(t *testing.T) {
	k, path := keeping(t)
	var cs [3]*Client
	for i := range cs {
		cs[i] = dial(t, path)
		for range 2 { // said twice, it is still one
			if _, err := cs[i].Open(t.Context(), "ID1", Hello{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := cs[2].Open(t.Context(), "ID2", Hello{}); err != nil {
		t.Fatal(err)
	}
	if _, err := cs[2].End(t.Context(), "ID1", End{}); err != nil {
		t.Fatal(err)
	}
	cs[0].Close()
	cs[2].Close()
	if id := <-k.lost; id != "ID2" {
		t.Errorf("lost %s, which another connection has", id)
	}
	cs[1].Close()
	if id := <-k.lost; id != "ID1" {
		t.Errorf("lost %s, want ID1", id)
	}
}

// TestGarbage: what does not speak HTTP, or asks for what is not there, disturbs nobody.
func TestGarbage(t *testing.T) {
	_, path := keeping(t)
	for _, p := range []string{"", "\x00\xff\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "POST /attach/X HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nnot json!"} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(p))
		c.Close()
	}
	c := dial(t, path)
	for _, r := range [][2]string{{http.MethodGet, "/attach/X"}, {http.MethodDelete, "/status"}, {http.MethodGet, "/nothing"}, {http.MethodPost, "/peers/changed"}} {
		if err := c.call(t.Context(), r[0], r[1], nil, nil, nil); err == nil || strings.Contains(err.Error(), "control socket") {
			t.Errorf("%v: %v", r, err)
		}
	}
}

// TestServeEnds: a client whose serve has ended is told so, and one that waits for
// an answer is let go.
func TestServeEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := NewListen(path)
	if err != nil {
		t.Fatal(err)
	}
	asked, ctx := make(chan struct{}), t.Context()
	ctx, stop := context.WithCancel(ctx)
	s := &Server{Status: func(ctx context.Context) (*Serve, error) {
		close(asked)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	c := dial(t, path)
	answered := make(chan error, 1)
	go func() {
		_, err := c.Status(t.Context())
		answered <- err
	}()
	<-asked
	stop()
	if err := <-answered; err == nil {
		t.Error("an answer came from a serve that was stopped")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoServe) {
		t.Errorf("after its end: %v", err)
	}
}
