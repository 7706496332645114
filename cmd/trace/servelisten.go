package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"trace/control"
	"trace/flow"
	"trace/proxy"
	"trace/web"
)

// serveControl answers the commands that find this serve, unless it came to
// nothing.
func (s *server) serveControl(ctx context.Context, l *control.Listen, failed error) {
	if failed != nil {
		l.Close()
		return
	}
	c := &control.Server{Status: s.status, Attach: s.runs, Log: s.log}
	if s.peers != nil {
		c.PeersChanged = func(context.Context) error { return s.peers.reload() }
	}
	s.serving.Go(func() {
		if err := c.Serve(ctx, l); err != nil {
			s.log("control socket: %v", err)
		}
	})
}

// listens notes a listener.
func (s *server) listens(kind, addr string) {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.listeners = append(s.listeners, control.Listener{Kind: kind, Addr: addr})
}

// listen makes a listener, or takes the one that systemd made for it.
func (s *server) listen(kind, addr string) (net.Listener, error) {
	l := s.given.listener(kind)
	if l != nil {
		if err := s.o.exposed("the "+kind+" socket of systemd,", l.Addr().String()); err != nil {
			l.Close()
			return nil, err
		}
	} else {
		var err error
		if l, err = net.Listen("tcp", addr); err != nil {
			flag := "--" + kind
			if kind == "reverse" {
				flag = "--listen"
			}
			return nil, taken(flag, err, addr)
		}
	}
	s.listens(kind, l.Addr().String())
	return l, nil
}

// An inUseError says that a port is taken, and by whom.
type inUseError struct {
	flag   string // that says where to listen
	err    error
	holder string // "": nobody knows
}

func (e *inUseError) Error() string {
	if e.holder == "" {
		return e.err.Error()
	}
	return e.err.Error() + ": " + e.holder + " has it"
}

func (e *inUseError) Unwrap() error { return e.err }

// Hint says what to do about it.
func (e *inUseError) Hint() string {
	return "trace status tells whether it is a serve of yours; " + e.flag + " ADDR:PORT takes another, port 0 a free one"
}

// taken adds to the error of a listener who has the port.
func taken(flag string, err error, addr string) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	return &inUseError{flag, err, portHolder(addr)}
}

// openReverse makes the reverse proxy.
func (s *server) openReverse(accept, ctx context.Context, bases *baseURLs) error {
	l, err := s.listen("reverse", s.o.listen)
	if err != nil {
		return err
	}
	p := &proxy.Reverse{
		Routes: bases.routes, Dial: s.dialMapped, ConnectTo: s.rules.connectTo, Roots: s.clients.roots,
		NewTap: s.clients.tapInto, NextID: s.clients.nextID, Process: s.who.find,
		Enter: func(label, token string) (proxy.Lane, *flow.Error) {
			if denied := s.denied(token); denied != nil {
				return s.clients.lane(flow.SourceReverse, ""), denied
			}
			return s.clients.lane(flow.SourceReverse, label), nil
		},
	}
	context.AfterFunc(accept, func() { l.Close() })
	s.serving.Go(func() {
		if err := p.Serve(ctx, l); err != nil && accept.Err() == nil {
			s.fail(fmt.Errorf("reverse proxy: %w", err))
		}
	})
	base := "http://" + l.Addr().String()
	s.say("reverse proxy: %s (ANTHROPIC_BASE_URL=%s/anthropic, OPENAI_BASE_URL=%s/openai/v1, GOOGLE_GEMINI_BASE_URL=%s/gemini; /@NAME before that is a session NAME)", base, base, base, base)
	return nil
}

// denied says why a token is not the right one.
func (s *server) denied(token string) *flow.Error {
	if s.o.token == "" || subtle.ConstantTimeCompare([]byte(token), []byte(s.o.token)) == 1 {
		return nil
	}
	e := &flow.Error{Where: flow.AtClient, Code: "denied", Message: "this proxy wants a token", Hint: "call http://ADDR/@NAME:TOKEN/PREFIX/… with the token that trace serve was given"}
	if token != "" {
		e.Message = "wrong token"
	}
	return e
}

// needCA loads the authority that clients trust.
func (s *server) needCA() (err error) {
	if s.ca == nil {
		s.ca, err = s.o.key.lasting(s.say)
	}
	return err
}

// openProxy makes the explicit proxy.
func (s *server) openProxy(accept, ctx context.Context) error {
	if err := s.needCA(); err != nil {
		return err
	}
	l, err := s.listen("proxy", s.o.proxy)
	if err != nil {
		return err
	}
	p := &proxy.Explicit{
		Open: func(c proxy.Client) proxy.Lane { return s.clients.lane(flow.SourceProxy, c.Label) },
		Users: func(user, password string) (string, bool) {
			return user, s.denied(password) == nil
		},
	}
	context.AfterFunc(accept, func() { l.Close() })
	s.serving.Go(func() {
		if err := p.Serve(ctx, l); err != nil && accept.Err() == nil {
			s.fail(fmt.Errorf("proxy: %w", err))
		}
	})
	user := "NAME"
	if s.o.token != "" {
		user += ":TOKEN"
	}
	s.say("proxy: http://%s (HTTPS_PROXY=http://%s@%s records in session NAME; clients trust %s)", l.Addr(), user, l.Addr(), s.ca.dir.File(s.ca.Certificate))
	return nil
}

// listenLocal makes a listener that this machine alone reaches, or takes the one
// that systemd made for it.
func (s *server) listenLocal(kind, addr string) (net.Listener, error) {
	l := s.given.listener(kind)
	var err error
	if l != nil {
		if _, err = web.Address(l.Addr().String()); err != nil {
			l.Close()
		}
	} else {
		l, err = web.Listen(addr)
	}
	if err != nil {
		return nil, taken("--"+kind, fmt.Errorf("--%s: %w", kind, err), addr)
	}
	s.listens(kind, l.Addr().String())
	return l, nil
}

// openWeb makes the live page. Its URL is printed also with --quiet: nobody could
// know the token else.
func (s *server) openWeb() error {
	l, err := s.listenLocal("web", s.o.web)
	if err != nil {
		return err
	}
	s.page = serveWeb(l, &webSource{prices: s.rules.prices, resend: replayOptions{rules: s.rules.connectTo, upstreamCA: s.o.upstreamCA}}, s.log)
	fmt.Fprintf(os.Stderr, "trace: live page: %s\n", s.page.url)
	return nil
}

// openMCP answers coding agents. Here too the token is printed in any case.
func (s *server) openMCP() error {
	l, err := s.listenLocal("mcp", s.o.mcp)
	if err != nil {
		return err
	}
	s.mcp = serveMCP(l, &mcpSource{webSource{prices: s.rules.prices, redacted: true}}, s.log, s.fail)
	fmt.Fprintf(os.Stderr, "trace: mcp: %s (Authorization: Bearer %s)\n", s.mcp.url, s.mcp.token)
	return nil
}

// closeWeb ends the page, and what agents ask.
func (s *server) closeWeb() {
	if s.mcp != nil {
		if err := s.mcp.close(); err != nil {
			s.log("mcp: %v", err)
		}
	}
	if s.page != nil {
		if err := s.page.close(); err != nil {
			s.log("web: %v", err)
		}
	}
}
