package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// A Client talks to the serve that runs. It is safe for concurrent use; each of
// its requests waits for the one before, over one connection.
type Client struct {
	Path string // of the socket
	PID  int    // of the serve

	http *http.Client
}

// maxAnswer bounds an answer.
const maxAnswer = 64 << 20

// Dial finds the serve that listens at path, or where one does by default if path
// is "". ErrNoServe says that there is none.
func Dial(ctx context.Context, path string) (*Client, error) {
	return first(path, func(p string) (*Client, error) { return dialAt(ctx, p) })
}

func dialAt(ctx context.Context, path string) (*Client, error) {
	conn, pid, err := connect(ctx, path)
	if err != nil {
		return nil, err
	}
	return newClient(path, pid, conn), nil
}

// first tries path, or where a serve listens by default if that is "", until try succeeds.
func first[T any](path string, try func(path string) (T, error)) (v T, err error) {
	list := []string{path}
	if path == "" {
		if list, err = paths(); err != nil {
			return v, err
		}
	}
	for _, p := range list {
		got, failed := try(p)
		if failed == nil {
			return got, nil
		}
		if err == nil || errors.Is(err, ErrNoServe) && !errors.Is(failed, ErrNoServe) {
			err = failed
		}
	}
	return v, err
}

// Ask asks the serve that Dial finds about itself, for as long as patience, and the
// next where that does not answer. Who did not is told in any case.
func Ask(ctx context.Context, path string, patience time.Duration) (*Serve, error) {
	var mute error
	s, err := first(path, func(p string) (*Serve, error) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		s, err := statusAt(ctx, p)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			mute = err
		}
		return s, err
	})
	if err == nil {
		err = mute
	}
	return s, err
}

// statusAt asks the serve at path.
func statusAt(ctx context.Context, path string) (*Serve, error) {
	c, err := dialAt(ctx, path)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	s, err := c.Status(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("trace serve, process %d, at %s does not answer: %w", c.PID, path, os.ErrDeadlineExceeded)
	}
	return s, err
}

// newClient makes a client that begins with a connection it has.
func newClient(path string, pid int, conn *net.UnixConn) *Client {
	first := make(chan net.Conn, 1)
	first <- conn
	t := &http.Transport{
		DisableCompression: true, MaxConnsPerHost: 1,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			select {
			case c := <-first:
				return c, nil
			default:
			}
			c, _, err := connect(ctx, path)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
	}
	c := &Client{Path: path, PID: pid, http: &http.Client{Transport: &closer{t, first}}}
	return c
}

// closer closes the first connection too, where it was never used.
type closer struct {
	*http.Transport
	first chan net.Conn
}

// CloseIdleConnections implements what http.Client asks for.
func (c *closer) CloseIdleConnections() {
	select {
	case conn := <-c.first:
		conn.Close()
	default:
	}
	c.Transport.CloseIdleConnections()
}

// Close closes the connection.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks the serve about itself.
func (c *Client) Status(ctx context.Context) (*Serve, error) {
	s := &Serve{}
	return s, c.call(ctx, http.MethodGet, "/status", nil, nil, s)
}

// PeersChanged tells that the list of WireGuard peers is to be read again, and
// returns when that was done.
func (c *Client) PeersChanged(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/peers/changed", nil, nil, nil)
}

// Open begins or resumes a session, as Receiver does.
func (c *Client) Open(ctx context.Context, id string, h Hello) (Position, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return "", err
	}
	var p positioned
	err = c.call(ctx, http.MethodPost, "/attach/"+id, nil, text, &p)
	return p.Position, err
}

// Send sends what happened from a position on, as Receiver.Take does.
func (c *Client) Send(ctx context.Context, id string, from Position, batch []byte) (Position, error) {
	var p positioned
	err := c.call(ctx, http.MethodPost, "/attach/"+id+"/batch", http.Header{positionHeader: {string(from)}}, batch, &p)
	return p.Position, err
}

// End ends a session, as Receiver does.
func (c *Client) End(ctx context.Context, id string, e End) (Kept, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return Kept{}, err
	}
	var k Kept
	err = c.call(ctx, http.MethodPost, "/attach/"+id+"/end", nil, text, &k)
	return k, err
}

// call makes one request.
func (c *Client) call(ctx context.Context, method, path string, h http.Header, body []byte, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://serve"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, values := range h {
		req.Header[name] = values
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("control socket %s: %w", c.Path, plain(err))
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("control socket %s: %w", c.Path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return problemOf(resp.StatusCode, text)
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("control socket %s: answer: %w", c.Path, err)
	}
	return nil
}

// plain takes off what net/http puts before an error.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// problemOf makes an error of an answer.
func problemOf(status int, text []byte) error {
	p := problem{}
	if json.Unmarshal(text, &p) != nil || p.Error == "" {
		p.Error = http.StatusText(status)
	}
	switch status {
	case http.StatusConflict:
		return fmt.Errorf("%w: %s", ErrPosition, p.Error)
	case http.StatusUnprocessableEntity, http.StatusNotFound, http.StatusForbidden:
		return &RefusedError{p.Error}
	}
	return errors.New(p.Error)
}
