package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
)

// planHeader carries the plan of an exchange to the server.
const planHeader = "X-Plan"

// A h1 is one end of an HTTP/1 connection that counts what passes.
type h1 struct {
	c   *peerConn
	br  *bufio.Reader
	in  io.Writer   // takes the raw bytes read
	out io.Writer   // and those written
	all [][2]string // fields of the last head
}

func (h *h1) line() (string, error) {
	s, err := h.br.ReadString('\n')
	io.WriteString(h.in, s)
	return strings.TrimRight(s, "\r\n"), err
}

// head reads a head or a trailer section.
func (h *h1) head() (first string, fields map[string]string, err error) {
	if first, err = h.line(); err != nil {
		return first, nil, err
	}
	fields, err = h.fields()
	return first, fields, err
}

func (h *h1) fields() (map[string]string, error) {
	fields := map[string]string{}
	h.all = nil
	for {
		l, err := h.line()
		if err != nil || l == "" {
			return fields, err
		}
		name, value, _ := strings.Cut(l, ":")
		fields[strings.ToLower(name)] = strings.TrimSpace(value)
		h.all = append(h.all, [2]string{name, strings.TrimSpace(value)})
	}
}

// body reads a body into to; at most limit bytes, if that is not negative.
func (h *h1) body(fields map[string]string, none, untilClose bool, to io.Writer, limit int64) error {
	w := io.MultiWriter(to, h.in)
	switch n := fields["content-length"]; {
	case none:
		return nil
	case fields["transfer-encoding"] == "chunked":
		return h.chunks(to, limit)
	case n != "":
		size, err := strconv.ParseInt(n, 10, 64)
		if err != nil {
			return err
		}
		if limit >= 0 {
			size = min(size, limit)
		}
		_, err = io.CopyN(w, h.br, size)
		return err
	case untilClose && limit >= 0:
		_, err := io.CopyN(w, h.br, limit)
		return err
	case untilClose:
		_, err := io.Copy(w, h.br)
		return err
	}
	return nil
}

func (h *h1) chunks(to io.Writer, limit int64) error {
	for {
		l, err := h.line()
		if err != nil {
			return err
		}
		size, _, _ := strings.Cut(l, ";")
		n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 64)
		if err != nil {
			return err
		}
		if n == 0 {
			_, err := h.fields()
			return err
		}
		if limit >= 0 {
			if n > limit {
				n = limit
			}
			limit -= n
		}
		if _, err := io.CopyN(io.MultiWriter(to, h.in), h.br, n); err != nil {
			return err
		}
		if limit == 0 {
			return nil
		}
		if _, err := h.line(); err != nil {
			return err
		}
	}
}

func (h *h1) write(p []byte) error {
	n, err := h.c.Write(p)
	h.out.Write(p[:n])
	return err
}

// send writes a message: head, then body in pieces of random sizes; all of it
// or up to stop bytes of the body, if that is not negative.
func (h *h1) send(r *rand.Rand, head string, b bodyPlan, body []byte, stop int, to *tally) error {
	if b.Framing == "chunked" {
		head += "Transfer-Encoding: chunked\r\n"
		if b.Trailer {
			head += "Trailer: X-Sum\r\n"
		}
	}
	if b.Framing == "length" {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	if c := codingName(b.Coding); c != "" {
		head += "Content-Encoding: " + c + "\r\n"
	}
	buf := []byte(head + "\r\n")
	whole := stop < 0 || stop > len(body)
	if !whole {
		body = body[:stop]
	}
	if r.IntN(2) == 0 || len(body) == 0 {
		if err := h.write(buf); err != nil {
			return err
		}
		buf = nil
	}
	for len(body) > 0 {
		n := min(len(body), 1+r.IntN(1<<r.IntN(18)))
		piece := body[:n]
		body = body[n:]
		if b.Framing == "chunked" {
			ext := ""
			if r.IntN(8) == 0 {
				ext = ";a=b"
			}
			buf = fmt.Appendf(buf, "%x%s\r\n", n, ext)
			buf = append(append(buf, piece...), "\r\n"...)
		} else {
			buf = append(buf, piece...)
		}
		to.Write(piece)
		if len(buf) < 1<<16 && r.IntN(3) > 0 && len(body) > 0 {
			continue
		}
		if err := h.write(buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	return h.last(b, whole)
}

func (h *h1) last(b bodyPlan, whole bool) error {
	if b.Framing != "chunked" || !whole {
		return nil
	}
	end := "0\r\n\r\n"
	if b.Trailer {
		end = "0\r\nX-Sum: none\r\n\r\n"
	}
	return h.write([]byte(end))
}

// bodyless reports whether an answer has no body by its nature.
func (p *plan) bodyless() bool {
	return p.Method == "HEAD" || p.Status == 204 || p.Status == 304
}

// stop returns after how many bytes of a message side stops to send it; -1:
// it sends all.
func (p *plan) stop(side, message string) int {
	if p.Abort != nil && p.Abort.In == message && (p.Abort.By == side || side == "server" && message == "response") {
		return p.Abort.At
	}
	return -1
}

// serveH1 answers the exchanges of a connection in turn.
func (s *peerServer) serveH1(c *peerConn, br *bufio.Reader) {
	for s.exchangeH1(c, br) {
	}
}

// exchangeH1 serves one exchange and says whether another may follow.
func (s *peerServer) exchangeH1(c *peerConn, br *bufio.Reader) bool {
	e := &seen{Proto: "1.1", TLS: c.secure}
	h := &h1{c: c, br: br, in: &e.RawRecvd, out: &e.RawSent}
	if _, err := br.Peek(1); err != nil {
		return false
	}
	defer s.log.add(e)
	first, fields, err := h.head()
	if err != nil {
		e.Err = "request head: " + err.Error()
		return false
	}
	var p plan
	if err := json.Unmarshal([]byte(fields[strings.ToLower(planHeader)]), &p); err != nil {
		s.log.odd("request %q: plan: %v", first, err)
		return false
	}
	e.ID, e.Path, e.Fields = p.ID, strings.Fields(first)[1], h.all
	if p.Expect {
		h.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	}
	if p.Kind == kindWS {
		s.websocketH1(h, &p, e, fields)
		return false
	}
	if err := h.body(fields, false, false, &e.Received, -1); err != nil {
		e.Err = "request body: " + err.Error()
		return false
	}
	for range p.Hints {
		h.write([]byte("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"))
	}
	return s.answerH1(h, &p, e)
}

func (s *peerServer) answerH1(h *h1, p *plan, e *seen) bool {
	a := p.Abort
	byUs := a != nil && a.By == "server"
	if byUs && a.At < 0 {
		h.c.breakOff(a.How)
		e.Err = "broke off before the answer"
		return false
	}
	head := fmt.Sprintf("HTTP/1.1 %d Whatever\r\nContent-Type: %s\r\nX-Id: %d\r\n", p.Status, contentType(p.Kind, p.Resp), p.ID)
	if p.Resp.Framing == "close" {
		head += "Connection: close\r\n"
	}
	b, made := p.Resp, p.body("server")
	if p.bodyless() {
		made, b.Framing = madeBody{}, ""
	}
	stop := p.stop("server", "response")
	if err := h.send(rng(p.ID, "server pieces"), head, b, made.wire, stop, &e.Sent); err != nil {
		e.Err = "answer: " + err.Error()
		return false
	}
	switch {
	case byUs:
		h.c.breakOff(a.How)
		e.Err = "broke off"
		return false
	case a != nil:
		_, err := h.br.ReadByte() // until the client breaks off
		e.Err = fmt.Sprint("client: ", err)
		return false
	}
	e.Complete, e.Status = true, p.Status
	if b.Framing == "close" {
		h.c.closeGently()
		return false
	}
	return true
}

func contentType(kind string, b bodyPlan) string {
	switch kind {
	case kindSSE:
		return "text/event-stream"
	case kindNDJSON:
		return "application/x-ndjson"
	case kindArray:
		return "application/json; charset=UTF-8"
	case kindAWS:
		return "application/vnd.amazon.eventstream"
	case kindParts:
		return `multipart/mixed; boundary="` + boundary + `"`
	case kindGRPC:
		return "application/grpc"
	}
	if b.Noise {
		return "application/octet-stream"
	}
	return "text/plain; charset=utf-8"
}

// requestH1 is the head of the request of p, as far as its framing.
func requestH1(host string, p *plan) string {
	text, _ := json.Marshal(p)
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\n%s: %s\r\n", p.Method, p.Prefix+p.path(), host, planHeader, text)
	if p.Req.Framing != "" {
		head += "Content-Type: " + contentType(kindPlain, p.Req) + "\r\n"
	}
	if p.Expect {
		head += "Expect: 100-continue\r\n"
	}
	return head
}

// askH1 makes exchanges on one connection until one of them ends it, and
// returns how many.
func (k *peerClient) askH1(cp connPlan) int {
	c, err := k.dial(cp)
	if err != nil {
		k.log.odd("dial for %d: %v", cp.Exchanges[0].ID, err)
		return 0
	}
	defer c.closeGently()
	br := bufio.NewReader(c)
	if cp.Pipelined {
		return k.pipeline(c, br, cp.Exchanges)
	}
	for i, p := range cp.Exchanges {
		if !k.exchangeH1(c, br, p) {
			return i + 1
		}
	}
	return len(cp.Exchanges)
}

// pipeline sends all requests before it reads an answer.
func (k *peerClient) pipeline(c *peerConn, br *bufio.Reader, ps []*plan) int {
	var es []*seen
	for _, p := range ps {
		e := &seen{ID: p.ID, Proto: "1.1", TLS: c.secure}
		es = append(es, e)
		h := &h1{c: c, br: br, in: &e.RawRecvd, out: &e.RawSent}
		if err := h.send(rng(p.ID, "client pieces"), requestH1(k.conf.Host, p), p.Req, p.body("client").wire, -1, &e.Sent); err != nil {
			k.log.odd("exchange %d: request: %v", p.ID, err)
		}
	}
	for i, p := range ps {
		h := &h1{c: c, br: br, in: &es[i].RawRecvd, out: &es[i].RawSent}
		k.readAnswer(h, p, es[i])
		k.log.add(es[i])
	}
	return len(ps)
}

// exchangeH1 makes one exchange and says whether another may follow.
func (k *peerClient) exchangeH1(c *peerConn, br *bufio.Reader, p *plan) bool {
	e := &seen{ID: p.ID, Proto: "1.1", TLS: c.secure}
	h := &h1{c: c, br: br, in: &e.RawRecvd, out: &e.RawSent}
	defer k.log.add(e)
	if p.Kind == kindWS {
		k.websocketH1(h, p, e)
		return false
	}
	head, made, r := requestH1(k.conf.Host, p), p.body("client"), rng(p.ID, "client pieces")
	if p.Expect {
		if !k.awaitContinue(h, p, e, head) {
			return false
		}
		if err := h.rest(r, p.Req, made.wire, &e.Sent); err != nil {
			k.log.odd("exchange %d: request after 100: %v", p.ID, err)
			return false
		}
		return k.readAnswer(h, p, e)
	}
	if err := h.send(r, head, p.Req, made.wire, p.stop("client", "request"), &e.Sent); err != nil {
		k.log.odd("exchange %d: request: %v", p.ID, err)
		return false
	}
	if a := p.Abort; a != nil && a.By == "client" && a.In == "request" {
		c.breakOff(a.How)
		e.Err = "broke off"
		return false
	}
	if p.HalfClose {
		c.closeWrite()
		k.readAnswer(h, p, e)
		return false
	}
	return k.readAnswer(h, p, e)
}

// awaitContinue sends the head of a request and waits for 100 Continue.
func (k *peerClient) awaitContinue(h *h1, p *plan, e *seen, head string) bool {
	if p.Req.Framing == "chunked" {
		head += "Transfer-Encoding: chunked\r\n"
	} else {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(p.body("client").wire))
	}
	if c := codingName(p.Req.Coding); c != "" {
		head += "Content-Encoding: " + c + "\r\n"
	}
	if err := h.write([]byte(head + "\r\n")); err != nil {
		k.log.odd("exchange %d: request: %v", p.ID, err)
		return false
	}
	first, _, err := h.head()
	if err != nil || !strings.HasPrefix(first, "HTTP/1.1 100 ") {
		k.log.odd("exchange %d: no 100 but %q, %v", p.ID, first, err)
		return false
	}
	e.Hints++
	return true
}

// rest sends a body whose head has gone.
func (h *h1) rest(r *rand.Rand, b bodyPlan, body []byte, to *tally) error {
	for len(body) > 0 {
		n := min(len(body), 1+r.IntN(1<<16))
		piece := body[:n]
		if b.Framing == "chunked" {
			piece = fmt.Appendf(nil, "%x\r\n%s\r\n", n, piece)
		}
		if err := h.write(piece); err != nil {
			return err
		}
		to.Write(body[:n])
		body = body[n:]
	}
	b.Trailer = false
	return h.last(b, true)
}

// readAnswer reads the answers to p and says whether the connection goes on.
func (k *peerClient) readAnswer(h *h1, p *plan, e *seen) bool {
	var first string
	var fields map[string]string
	for e.Status < 200 {
		var err error
		if first, fields, err = h.head(); err != nil {
			e.Err = "answer: " + err.Error()
			if p.Abort == nil {
				k.log.odd("exchange %d: answer: %v", p.ID, err)
			}
			return false
		}
		if _, err := fmt.Sscanf(first, "HTTP/1.1 %d", &e.Status); err != nil {
			k.log.odd("exchange %d: answer %q", p.ID, first)
			return false
		}
		if e.Status < 200 {
			e.Hints++
		}
	}
	e.Fields = h.all
	limit := int64(-1)
	a := p.Abort
	byUs := a != nil && a.By == "client"
	if byUs {
		limit = int64(a.At) * int64(1+p.ID%2) / 2 // half of them leave some unread
	}
	if err := h.body(fields, p.bodyless(), fields["connection"] == "close", &e.Received, limit); err != nil {
		e.Err = "answer body: " + err.Error()
		if a == nil {
			k.log.odd("exchange %d: answer body: %v", p.ID, err)
		}
		return false
	}
	if byUs {
		h.c.breakOff(a.How)
		e.Err = "broke off"
		return false
	}
	e.Complete = a == nil
	return fields["connection"] != "close" && a == nil
}
