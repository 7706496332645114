package proxy

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"trace/flow"
)

// overHTTP1 carries a stream to a server that does not speak HTTP/2. An error
// says that nothing was answered.
func (c *crossing) overHTTP1(q *asked, b *bridge) error {
	ctx, cancel := context.WithCancel(c.s.ctx)
	defer cancel()
	go q.whenBroken(ctx, cancel)
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) {
			if conn, ok := i.Conn.(*leavingConn); ok {
				conn.begin(q.ordinal)
			}
		},
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			return q.headers(answerFields(code, http.Header(h)), false)
		},
	})
	out, err := q.request()
	if err != nil {
		e := &flow.Error{Where: flow.AtClient, Code: flow.CodeMalformed, Message: err.Error()}
		c.answer(q, http.StatusBadRequest, e, e.Message)
		return nil
	}
	resp, err := b.http1.RoundTrip(out.WithContext(traced))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	c.p.spoken.Store(q.to.origin(), false)
	if err := q.respond(resp); err != nil {
		if q.problem() == nil {
			c.s.fail(q.ordinal, lostServer(q.to, err))
		}
		q.reset(http2.ErrCodeInternal)
		return nil
	}
	q.drain()
	return nil
}

// whenBroken calls f if the child breaks the stream off before ctx ends.
func (q *asked) whenBroken(ctx context.Context, f func()) {
	select {
	case <-q.broken:
		f()
	case <-ctx.Done():
	}
}

// drain takes what the child has still to say after its answer.
func (q *asked) drain() {
	for left := 64 << 20; left > 0; {
		it, err := q.next()
		if err != nil {
			break
		}
		q.took(len(it.data))
		left -= len(it.data)
	}
	q.reset(http2.ErrCodeNo)
}

// request makes the request that leaves over HTTP/1.1.
func (q *asked) request() (*http.Request, error) {
	u, err := url.Parse(q.to.scheme + "://" + q.to.authority + q.to.target)
	if err != nil {
		return nil, err
	}
	out := &http.Request{Method: q.method, URL: u, Host: q.to.authority, Header: http.Header{"User-Agent": nil}, ContentLength: -1}
	var crumbs []string
	for _, f := range q.fields {
		switch f.Name {
		case "host":
		case "cookie": // RFC 9113 section 8.2.3
			crumbs = append(crumbs, f.Value)
		case "content-length":
			if out.ContentLength, err = strconv.ParseInt(f.Value, 10, 64); err != nil || out.ContentLength < 0 {
				return nil, fmt.Errorf("content-length %q is no length", f.Value)
			}
		default:
			name := http.CanonicalHeaderKey(f.Name)
			out.Header[name] = append(out.Header[name], f.Value)
		}
	}
	if len(crumbs) > 0 {
		out.Header["Cookie"] = []string{strings.Join(crumbs, "; ")}
	}
	for _, list := range out.Header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			if out.Trailer == nil {
				out.Trailer = http.Header{}
			}
			out.Trailer[http.CanonicalHeaderKey(strings.TrimSpace(name))] = nil
		}
	}
	delete(out.Header, "Trailer") // net/http writes it
	if q.end {
		out.ContentLength = 0
	} else {
		out.Body = &streamBody{q: q, trailer: out.Trailer}
	}
	return out, nil
}

// A streamBody reads the data of a stream.
type streamBody struct {
	q       *asked
	left    []byte
	trailer http.Header
	err     error
}

func (b *streamBody) Read(p []byte) (int, error) {
	for len(b.left) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		it, err := b.q.next()
		b.left = it.data
		if it.end {
			err = io.EOF
		}
		b.err = err
		for _, f := range it.fields {
			if name := http.CanonicalHeaderKey(f.Name); b.trailer != nil {
				b.trailer[name] = append(b.trailer[name], f.Value)
			}
		}
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	b.q.took(n)
	return n, nil
}

// Close is called once no more is read.
func (b *streamBody) Close() error { return nil }

// respond sends an answer of HTTP/1.1 to the child.
func (q *asked) respond(resp *http.Response) error {
	fields := answerFields(resp.StatusCode, resp.Header)
	if len(resp.Trailer) > 0 {
		fields = append(fields, hpack.HeaderField{Name: "trailer", Value: strings.Join(slices.Sorted(maps.Keys(resp.Trailer)), ", ")})
	}
	left := resp.ContentLength
	if q.method == "HEAD" || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
		left = 0
	}
	if err := q.headers(fields, left == 0); err != nil || left == 0 {
		return err
	}
	buf := make([]byte, readSize)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			left -= int64(n)
			if err := q.write(buf[:n], left == 0); err != nil || left == 0 {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if trailers := lowerFields(resp.Trailer); len(trailers) > 0 {
		return q.headers(trailers, true)
	}
	return q.write(nil, true)
}

// answerFields makes the header section of an answer.
func answerFields(status int, h http.Header) []hpack.HeaderField {
	return append([]hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(status)}}, lowerFields(h)...)
}

// lowerFields makes fields of HTTP/2, without those that speak of a connection of
// HTTP/1.1 (RFC 9113 section 8.2.2).
func lowerFields(h http.Header) (all []hpack.HeaderField) {
	drop := []string{"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(strings.ToLower(list), ",") {
			drop = append(drop, strings.TrimSpace(name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		lower := strings.ToLower(name)
		if slices.Contains(drop, lower) {
			continue
		}
		for _, v := range h[name] {
			all = append(all, hpack.HeaderField{Name: lower, Value: v})
		}
	}
	return all
}

// codeUnsupported is the code of what a server does not take.
const codeUnsupported = "unsupported"

// socket carries an extended CONNECT (RFC 8441) to a server that takes a WebSocket
// over HTTP/1.1 only. An error says that nothing was answered.
func (c *crossing) socket(q *asked) error {
	if q.protocol != "websocket" {
		e := &flow.Error{Where: flow.AtUpstream, Code: codeUnsupported, Message: fmt.Sprintf("%s takes no extended CONNECT for %q", q.to.addr(), q.protocol)}
		c.answer(q, http.StatusNotImplemented, e, e.Message)
		return nil
	}
	raw, _, err := c.s.dialServer(c.s.ctx, q.to, "http/1.1")
	if err != nil {
		return err
	}
	conn := c.s.leaving(raw, q.to)
	defer conn.Close()
	ctx, cancel := context.WithCancel(c.s.ctx)
	defer cancel()
	go q.whenBroken(ctx, func() { reset(raw) })
	conn.begin(q.ordinal)
	var head strings.Builder
	fmt.Fprintf(&head, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\n", q.to.target, q.to.authority, socketKey())
	for _, f := range q.fields {
		if f.Name != "host" {
			fmt.Fprintf(&head, "%s: %s\r\n", http.CanonicalHeaderKey(f.Name), f.Value)
		}
	}
	if _, err := io.WriteString(conn, head.String()+"\r\n"); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodGet})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 { // it would mean that the WebSocket stands
		e := &flow.Error{Where: flow.AtUpstream, Code: codeUnsupported, Message: fmt.Sprintf("%s answers %d and does not switch to a WebSocket", q.to.addr(), resp.StatusCode)}
		c.answer(q, http.StatusBadGateway, e, e.Message)
		return nil
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		if err := q.respond(resp); err != nil {
			q.reset(http2.ErrCodeInternal)
			return nil
		}
		q.drain()
		return nil
	}
	resp.Header.Del("Sec-Websocket-Accept")
	if err := q.headers(answerFields(http.StatusOK, resp.Header), false); err != nil {
		return nil
	}
	c.frames(q, conn, in)
	return nil
}

// socketKey makes a Sec-WebSocket-Key (RFC 6455 section 4.1).
func socketKey() string {
	key := make([]byte, 16)
	rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}

// frames carries what follows on a WebSocket.
func (c *crossing) frames(q *asked, conn *leavingConn, in io.Reader) {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for {
			it, err := q.next()
			if err != nil {
				return // the stream's end has broken the connection
			}
			_, err = conn.Write(it.data)
			q.took(len(it.data))
			if err != nil {
				return
			}
			if it.end {
				if w, ok := conn.Conn.(interface{ CloseWrite() error }); ok {
					w.CloseWrite()
				}
				return
			}
		}
	}()
	buf := make([]byte, readSize)
	for {
		n, err := in.Read(buf)
		if n > 0 && q.write(buf[:n], false) != nil {
			break
		}
		if errors.Is(err, io.EOF) {
			q.write(nil, true)
			break
		}
		if err != nil {
			q.reset(http2.ErrCodeCancel)
			break
		}
	}
	conn.Close()
	q.reset(http2.ErrCodeNo)
	<-sent
}
