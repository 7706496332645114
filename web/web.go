// Package web serves the local page that shows a run while it happens.
//
//	s := &web.Server{Source: sessions, Views: views, Token: web.NewToken()}
//	fmt.Println(s.URL(listener.Addr()))
//	go s.Serve(listener)
//	…
//	s.Close()
//
// # Theory of operation
//
// The page is static files, embedded, the same for everybody, and holds no data.
// All data comes from /api/, which answers nobody without the token. That is
// random, made for one server, and stands in the fragment of the URL that people
// are given: a fragment reaches no server and no log. The page sends it in the
// Authorization header; there are no cookies, because those ignore ports and would
// reach the programs of other ports.
//
// Who might come to the port without being asked: pages of strangers in the same
// browser (guard.go refuses a foreign Origin, and a foreign Host, which is what DNS
// rebinding looks like; nothing here ever allows CORS), other users of the machine,
// and the command of the run itself, which sees the host's localhost as its own.
// None of them has the token.
//
// What was recorded is read through a [Record]; package store's reader is one, but
// for small things that [Source] adds. The server reads like every other reader: it
// is never on the road. Views of what a flow means (calls to language models,
// comparisons, exports) are the command line's own, and handed in as funcs.
//
// A live session is followed once, by a hub, however many pages look at it (hub.go).
// What is new is written to JSON once, and queued for each page up to a limit; a
// page that falls behind loses its queue, is made good from the record, and is told.
package web

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"trace/flow"
	"trace/shelf"
)

// A Source finds the sessions that are shown. Its methods are called by many
// goroutines.
type Source interface {
	// Newest lists the n newest of what is recorded, newest first.
	Newest(n int) ([]flow.Session, error)
	// First names the session that is shown first, by its ID.
	First() (string, error)
	// Open opens a session by its ID. The server closes it.
	Open(id string) (Record, error)
}

// A Record is one session that is read, also while it is written. Its methods are
// called by many goroutines.
type Record interface {
	Session() (flow.Session, error)
	// Flow returns a flow with its heads, or an error with Status 404.
	Flow(id int64) (*flow.Exchange, error)
	// Changed returns about n flows that are new or have changed since after, in
	// that order, what to ask with next time, and whether there are more.
	Changed(after int64, n int) (list []Revised, last int64, more bool, err error)
	// Follow tells what happens from now on, until the session has ended (nil) or
	// ctx is done. It calls began first, once, with the change up to which all is
	// there and is not told.
	Follow(ctx context.Context, began func(rev int64), fn func(Change) error) error
	// WriteBody writes a decoded body as far as it was kept.
	WriteBody(w io.Writer, id int64, side flow.Side) (int64, error)
	// PiecesFrom calls fn for the events, or the messages, from that index on.
	PiecesFrom(id int64, index int, fn func(flow.Piece) error) error
	// Calls finds out what there is to say of those of xs that are calls to
	// language models. With now it reads those of which nothing is kept.
	Calls(xs []*flow.Exchange, now bool) map[int64]Call
	Close() error
}

// A Revised is a flow and the change that touched it last: those are counted.
type Revised struct {
	*flow.Exchange
	Rev int64
}

// A Call is what a row tells of a call to a language model.
type Call struct {
	Model  string
	Tokens *Tokens // nil: not told (yet)
}

// Tokens are what a call consumed.
type Tokens struct {
	Input      int64 `json:"input"`
	CacheRead  int64 `json:"cache_read"`
	CacheWrite int64 `json:"cache_write"`
	Output     int64 `json:"output"`
	Reasoning  int64 `json:"reasoning"`
}

// Step says what a Change tells.
type Step uint8

// The steps.
const (
	Opened Step = iota + 1
	RequestDone
	Responded
	Streamed // an event or a message
	Noted
	Done
)

// A Change is something new in a session.
type Change struct {
	Step  Step
	Flow  *flow.Exchange
	Piece *flow.Piece // Streamed
	Rev   int64       // of a change that this tells of, or of a later one
}

// A Problem is an error that has a status of HTTP.
type Problem struct {
	Status  int
	Message string
	Hint    string
}

// Error returns the message.
func (p *Problem) Error() string { return p.Message }

// maxConns bounds the connections that are served at once.
const maxConns = 256

// The limits of time. Those of requests without the token are strict.
const (
	headTime  = 5 * time.Second
	idleTime  = 2 * time.Minute
	readTime  = 15 * time.Second
	bodyTime  = time.Minute
	writeTime = 30 * time.Second // of one write: who does not read loses the connection
)

// A Server serves the page and its API. The fields are set before first use.
type Server struct {
	Source  Source
	Views   Views
	Token   string
	Version string
	Log     func(format string, args ...any) // nil: nobody wants it

	hosts   []string // that the Host of a request may be
	room    int      // bytes that may wait for one page; 0: maxQueued
	records *shelf.Shelf[*opened]
	hubs    sync.Mutex // guards that of every session
	once    sync.Once
	srv     *http.Server
	ctx     context.Context
	cancel  context.CancelFunc
}

// NewToken returns a token of 256 random bits.
func NewToken() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Listen opens a port for a server. addr is HOST:PORT, HOST or :PORT; what is left
// out is 127.0.0.1 and a free port. The error is a [*NotLoopback] where other
// machines could reach it.
func Listen(addr string) (net.Listener, error) {
	at, err := Address(addr)
	if err != nil {
		return nil, err
	}
	return net.Listen("tcp", at.String())
}

// A NotLoopback says that an address is none of loopback, or none at all.
type NotLoopback struct{ Addr, Why string }

// Error says what is wanted.
func (e *NotLoopback) Error() string {
	return fmt.Sprintf("address %q: %s: want one of loopback, such as 127.0.0.1:8080", e.Addr, e.Why)
}

// Address reads an address for Listen.
func Address(addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = addr, "0"
		if ip, e := netip.ParseAddr(addr); e != nil && addr != "" && addr != "localhost" || ip.Zone() != "" {
			return netip.AddrPort{}, &NotLoopback{addr, "no address"}
		}
	}
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "0"
	}
	at, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	switch {
	case err != nil:
		return at, &NotLoopback{addr, "no address"}
	case !at.Addr().IsLoopback():
		return at, &NotLoopback{addr, "other machines could reach it"}
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

// URL is what people are given: whoever has it sees everything.
func (s *Server) URL(addr net.Addr) string { return "http://" + addr.String() + "/#token=" + s.Token }

// begin prepares a server for the address that it is reached at.
func (s *Server) begin(addr net.Addr) {
	s.once.Do(func() {
		s.hosts = hostsOf(addr)
		s.ctx, s.cancel = context.WithCancel(context.Background())
		s.records = shelf.New(maxOpen, func(id string) (*opened, error) {
			rec, err := s.Source.Open(id)
			return &opened{Record: rec}, err
		})
		s.srv = &http.Server{
			Handler: s.handler(), ReadHeaderTimeout: headTime, ReadTimeout: readTime, IdleTimeout: idleTime, MaxHeaderBytes: 32 << 10,
			BaseContext: func(net.Listener) context.Context { return s.ctx },
			ErrorLog:    log.New(logged{s}, "", 0),
		}
	})
}

// Serve answers until Close. It is called once.
func (s *Server) Serve(l net.Listener) error {
	s.begin(l.Addr())
	if s.srv == nil { // closed before
		return l.Close()
	}
	err := s.srv.Serve(netutil.LimitListener(l, maxConns))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Bye tells the pages that the run is over and how, and gives them a moment to
// take what is left. Nothing follows; Close is still to be called.
func (s *Server) Bye(exit int, hint string, wait time.Duration) {
	s.once.Do(func() {}) // one that was never begun will not be
	if s.srv != nil {
		s.bye(map[string]any{"exit": exit, "hint": hint}, wait)
	}
}

// Close ends all that the server does, and waits for it.
func (s *Server) Close() error {
	s.once.Do(func() {}) // one that was never begun will not be
	if s.srv == nil {
		return nil
	}
	s.records.Shut()
	s.cancel()
	err := s.srv.Close()
	s.records.Wait()
	return errors.Join(err, s.records.Close())
}

func (s *Server) log(format string, args ...any) {
	if s.Log != nil {
		s.Log(format, args...)
	}
}

// logged takes what net/http has to say.
type logged struct{ s *Server }

// Write logs one line.
func (l logged) Write(p []byte) (int, error) {
	l.s.log("web: %s", p)
	return len(p), nil
}
