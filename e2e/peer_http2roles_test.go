package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A h2server is the server's end of one HTTP/2 connection.
type h2server struct {
	s      *peerServer
	h      *h2
	wg     sync.WaitGroup
	warned chan struct{} // closed once GOAWAY was sent
}

func (s *peerServer) serveH2(c *peerConn, br *bufio.Reader) {
	v := &h2server{s: s, warned: make(chan struct{})}
	var begun sync.WaitGroup
	begun.Add(1)
	h, err := newH2(c, br, false, rng(c.raw.RemoteAddr().(*net.TCPAddr).Port, "server conn"), func(st *h2stream) {
		v.wg.Go(func() {
			begun.Wait()
			v.stream(st)
		})
	})
	v.h = h
	begun.Done()
	if err != nil {
		s.log.odd("HTTP/2: %v", err)
		return
	}
	<-h.done
	v.wg.Wait()
	c.Close()
}

// stream serves one stream.
func (v *h2server) stream(st *h2stream) {
	e := &seen{Proto: "2", TLS: v.h.c.secure}
	head, err := st.head()
	if err != nil {
		v.s.log.odd("stream %d: %v", st.id, err)
		return
	}
	var p plan
	if err := json.Unmarshal([]byte(head.get(strings.ToLower(planHeader))), &p); err != nil {
		v.s.log.odd("stream %d: plan: %v", st.id, err)
		return
	}
	e.ID, e.Path, e.Fields = p.ID, head.get(":path"), head.regular()
	defer func() {
		v.h.mu.Lock()
		e.RawRecvd, e.RawSent = st.raw[0], st.raw[1]
		v.h.mu.Unlock()
		v.s.log.add(e)
	}()
	switch p.GoAway {
	case "refused":
		v.h.write(nil, func() error { return v.h.fr.WriteGoAway(st.id-2, http2.ErrCode(p.Abort.Code), []byte("go away")) })
		close(v.warned)
		e.Err = "refused by GOAWAY"
		return
	case "served":
		<-v.warned
	}
	if p.Kind == kindWS {
		v.websocket(st, &p, e)
		return
	}
	if a := p.Abort; a != nil && a.How == "early" {
		io.CopyN(&e.Received, st, int64(a.At))
		v.answer(st, &p, e)
		st.reset(http2.ErrCodeNo) // no more of the request is wanted
		return
	}
	if p.Kind != kindGRPC || p.ID%2 == 0 { // else both bodies pass at once
		if _, err := io.Copy(&e.Received, st); err != nil {
			e.Err = "request body: " + err.Error()
			return
		}
		v.answer(st, &p, e)
		return
	}
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(&e.Received, st)
		done <- err
	}()
	v.answer(st, &p, e)
	if err := <-done; err != nil && p.Abort == nil {
		v.s.log.odd("exchange %d: request body: %v", p.ID, err)
	}
}

func field(name, value string) hpack.HeaderField {
	return hpack.HeaderField{Name: name, Value: value}
}

// answer sends the answer of p, or as much of it as is planned.
func (v *h2server) answer(st *h2stream, p *plan, e *seen) {
	for range p.Hints {
		st.headers([]hpack.HeaderField{field(":status", "103"), field("link", "</style.css>; rel=preload")}, false)
	}
	a := p.Abort
	byUs := a != nil && a.By == "server" && a.In == "response"
	if byUs && a.At < 0 {
		st.reset(http2.ErrCode(a.Code))
		e.Err = "reset before the answer"
		return
	}
	made := p.body("server")
	if p.bodyless() {
		made = madeBody{}
	}
	trailers := p.trailers()
	body, stop := made.wire, p.stop("server", "response")
	if stop >= 0 {
		body = body[:stop]
	}
	fields := []hpack.HeaderField{field(":status", strconv.Itoa(p.Status)), field("content-type", contentType(p.Kind, p.Resp)), field("x-id", strconv.Itoa(p.ID))}
	fields = append(fields, p.coding(p.Resp)...)
	alone := len(made.wire) == 0 && len(trailers) == 0 && stop < 0
	if err := st.headers(fields, alone); err != nil {
		e.Err = "answer: " + err.Error()
		return
	}
	if err := sendPieces(st, p, "server pieces", body, &e.Sent); err != nil {
		e.Err = "answer: " + err.Error()
		return
	}
	var err error
	switch {
	case byUs:
		err = st.reset(http2.ErrCode(a.Code))
		e.Err = "reset"
	case a != nil && a.In == "response":
		e.Err = fmt.Sprint("client: ", st.gone())
	case len(trailers) > 0:
		err = st.headers(trailers, true)
	case !alone:
		err = st.close()
	}
	if err != nil {
		e.Err = "answer's end: " + err.Error()
	}
	e.Complete, e.Status = e.Err == "", p.Status
}

// coding returns the header fields that tell the coding of a body.
func (p *plan) coding(b bodyPlan) []hpack.HeaderField {
	c := codingName(b.Coding)
	switch {
	case c == "":
		return nil
	case p.Kind == kindGRPC:
		return []hpack.HeaderField{field("grpc-encoding", c)}
	}
	return []hpack.HeaderField{field("content-encoding", c)}
}

func (p *plan) trailers() []hpack.HeaderField {
	switch {
	case p.Kind == kindGRPC:
		return []hpack.HeaderField{field("grpc-status", "0"), field("grpc-message", "")}
	case p.Resp.Trailer && !p.bodyless():
		return []hpack.HeaderField{field("x-sum", "none")}
	}
	return nil
}

// sendPieces writes a body in pieces of random sizes.
func sendPieces(st *h2stream, p *plan, side string, body []byte, to *tally) error {
	r := rng(p.ID, side)
	for len(body) > 0 {
		n := min(len(body), 1+r.IntN(1<<(4+r.IntN(15))))
		k, err := st.Write(body[:n])
		to.Write(body[:k])
		if err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
}

// askH2 makes the exchanges of a connection, several at once.
func (k *peerClient) askH2(cp connPlan) {
	first := cp.Exchanges[0].ID
	c, err := k.dial(cp)
	if err != nil {
		k.log.odd("dial for %d: %v", first, err)
		return
	}
	h, err := newH2(c, bufio.NewReader(c), true, rng(first, "client conn"), nil)
	if err != nil {
		k.log.odd("HTTP/2 for %d: %v", first, err)
		c.Close()
		return
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, max(1, cp.Parallel))
	for _, p := range cp.Exchanges {
		if p.GoAway == "served" {
			wg.Wait() // the last two have the connection for themselves
		}
		slots <- struct{}{}
		st, err := h.open(k.requestH2(p, cp.TLS), p.endsWithHead())
		if err != nil {
			k.log.odd("exchange %d: %v", p.ID, err)
			<-slots
			continue
		}
		wg.Go(func() {
			k.exchangeH2(h, st, p)
			<-slots
		})
	}
	wg.Wait()
	h.finish()
}

// endsWithHead reports whether the request of p has no body at all.
func (p *plan) endsWithHead() bool {
	return p.Kind != kindWS && p.Kind != kindGRPC && len(p.body("client").wire) == 0 && p.ID%3 > 0 && p.stop("client", "request") < 0
}

func (k *peerClient) requestH2(p *plan, secure bool) []hpack.HeaderField {
	text, _ := json.Marshal(p)
	scheme := "http"
	if secure {
		scheme = "https"
	}
	method := p.Method
	if p.Kind == kindWS {
		method = "CONNECT"
	}
	fields := []hpack.HeaderField{field(":method", method), field(":scheme", scheme), field(":authority", k.conf.Host), field(":path", p.Prefix+p.path())}
	if p.Kind == kindWS {
		fields = append(fields, field(":protocol", "websocket"), field("sec-websocket-version", "13"))
		if ext := p.WS.offer(); ext != "" {
			fields = append(fields, field("sec-websocket-extensions", ext))
		}
	}
	if p.Kind == kindGRPC {
		fields = append(fields, field("te", "trailers"), field("content-type", "application/grpc"))
	} else if p.Req.Size > 0 {
		fields = append(fields, field("content-type", contentType(kindPlain, p.Req)))
	}
	fields = append(fields, p.coding(p.Req)...)
	return append(fields, field("user-agent", "peer/1"), field(strings.ToLower(planHeader), string(text)))
}

// exchangeH2 does the rest of an exchange whose head was sent.
func (k *peerClient) exchangeH2(h *h2, st *h2stream, p *plan) {
	e := &seen{ID: p.ID, Proto: "2", TLS: h.c.secure}
	defer func() {
		h.mu.Lock()
		e.RawRecvd, e.RawSent = st.raw[0], st.raw[1]
		h.mu.Unlock()
		k.log.add(e)
	}()
	if p.Kind == kindWS {
		k.websocketH2(st, p, e)
		return
	}
	if p.GoAway == "refused" {
		e.Err = fmt.Sprint("server: ", st.gone())
		return
	}
	sent := make(chan error, 1)
	go func() { sent <- k.sendH2(st, p, e) }()
	err := k.receiveH2(st, p, e)
	if err2 := <-sent; err2 != nil && p.Abort == nil {
		k.log.odd("exchange %d: request: %v", p.ID, err2)
	}
	if err != nil {
		e.Err = err.Error()
		if p.Abort == nil {
			k.log.odd("exchange %d: answer: %v", p.ID, err)
		}
	}
	e.Complete = e.Err == ""
}

// sendH2 sends the body of the request of p.
func (k *peerClient) sendH2(st *h2stream, p *plan, e *seen) error {
	if p.endsWithHead() {
		return nil
	}
	body, stop := p.body("client").wire, p.stop("client", "request")
	if stop >= 0 {
		body = body[:stop]
	}
	if err := sendPieces(st, p, "client pieces", body, &e.Sent); err != nil {
		return err
	}
	if stop >= 0 {
		return st.reset(http2.ErrCode(p.Abort.Code))
	}
	return st.close()
}

// receiveH2 reads the answers to p.
func (k *peerClient) receiveH2(st *h2stream, p *plan, e *seen) error {
	for e.Status < 200 {
		head, err := st.head()
		if err != nil {
			return err
		}
		if e.Status, err = strconv.Atoi(head.get(":status")); err != nil {
			return err
		}
		e.Fields = head.regular()
		if e.Status < 200 {
			e.Hints++
		}
	}
	if a := p.Abort; a != nil && a.By == "client" && a.In == "response" {
		if _, err := io.CopyN(&e.Received, st, int64(a.At)*int64(1+p.ID%2)/2); err != nil {
			return err
		}
		st.reset(http2.ErrCode(a.Code))
		return errors.New("reset by us")
	}
	_, err := io.Copy(&e.Received, st)
	return err
}
