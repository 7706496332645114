package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// The patience of both ends.
const (
	headTime = 10 * time.Second // for the head of a request
	stopTime = time.Second      // that requests get to end when a serve stops
)

// A Server answers commands. What has no func is answered with 404.
type Server struct {
	// Status tells of the serve.
	Status func(ctx context.Context) (*Serve, error)
	// PeersChanged reads the list of WireGuard peers again.
	PeersChanged func(ctx context.Context) error
	// Attach keeps the sessions of runs; nil: this serve takes none.
	Attach Receiver
	// Log gets diagnostics; nil: silent.
	Log func(format string, args ...any)

	mu    sync.Mutex
	lines map[string]int // connections that send a session
}

// Serve answers on l until ctx is over, and closes it.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler:           s.mux(),
		ReadHeaderTimeout: headTime,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, c.(*caller))
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				s.gone(c.(*caller))
			}
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		patience, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		if h.Shutdown(patience) != nil {
			h.Close()
		}
	})
	err := h.Serve(listener{l})
	if !stop() {
		<-stopped
	}
	h.Close()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

func (s *Server) note(format string, args ...any) {
	if s.Log != nil {
		s.Log(format, args...)
	}
}

// listener asks the kernel who connects.
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	who := &caller{Conn: c}
	if u, ok := c.(*net.UnixConn); ok {
		who.uid, who.pid, who.err = credentials(u)
	} else {
		who.err = errors.New("not a unix socket")
	}
	return who, nil
}

// A caller is a connection and who made it.
type caller struct {
	net.Conn
	uid, pid int
	err      error

	attached map[string]bool // sessions that it sends; under Server.mu
}

type callerKey struct{}

// admit refuses whoever is not this user or root.
func (c *caller) admit() error {
	switch {
	case c.err != nil:
		return fmt.Errorf("control socket: who connects: %w", c.err)
	case !trusted(c.uid):
		return fmt.Errorf("control socket: uid %d may not talk to this serve", c.uid)
	}
	return nil
}

// mux routes the requests.
func (s *Server) mux() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /status", s.status)
	m.HandleFunc("POST /peers/changed", s.peersChanged)
	if s.Attach != nil {
		m.HandleFunc("POST /attach/{session}", s.said(maxHello, s.open))
		m.HandleFunc("POST /attach/{session}/batch", s.said(MaxBatch, s.batch))
		m.HandleFunc("POST /attach/{session}/end", s.said(maxHello, s.end))
	}
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, fmt.Errorf("%s %s: this serve does not answer that", r.Method, r.URL.Path))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := callerOf(r).admit(); err != nil {
			refuse(w, http.StatusForbidden, err)
			return
		}
		m.ServeHTTP(w, r)
	})
}

func callerOf(r *http.Request) *caller { return r.Context().Value(callerKey{}).(*caller) }

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	if s.Status == nil {
		refuse(w, http.StatusNotFound, errors.New("status: this serve does not tell"))
		return
	}
	st, err := s.Status(r.Context())
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	answer(w, st.whole())
}

// whole returns s with empty lists in place of none.
func (s *Serve) whole() *Serve {
	c := *s
	c.Listeners = append([]Listener{}, s.Listeners...)
	c.Peers = append([]Peer{}, s.Peers...)
	for i := range c.Peers {
		c.Peers[i].Addresses = append([]string{}, c.Peers[i].Addresses...)
	}
	c.Sessions = append([]Session{}, s.Sessions...)
	c.Attached = append([]Attached{}, s.Attached...)
	return &c
}

func (s *Server) peersChanged(w http.ResponseWriter, r *http.Request) {
	if s.PeersChanged == nil {
		refuse(w, http.StatusNotFound, errors.New("peers: this serve has no --wireguard"))
		return
	}
	if err := s.PeersChanged(r.Context()); err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	answer(w, struct{}{})
}

func answer(w http.ResponseWriter, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(text, '\n'))
}

// problem is the body of an answer that is none.
type problem struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	text, _ := json.Marshal(problem{err.Error()}) // a string
	io.WriteString(w, string(text)+"\n")
}
