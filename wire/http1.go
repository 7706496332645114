package wire

import (
	"bytes"
	"strconv"
	"time"

	"trace/flow"
)

// The bytes that a direction may hold back.
const (
	maxHead      = 1 << 20   // head of a message, or trailer section
	maxChunkLine = 16 << 10  // chunk-size with its extensions
	maxWait      = 256 << 10 // bytes that wait for the other direction
)

// hold keeps block as rest, when it is not already.
func (in *direction) hold(at time.Time, block []byte) {
	if len(in.rest) == 0 {
		in.since = at
		in.rest = append(in.rest, block...)
	}
}

// collect gathers a head or trailer section. The block is valid until the next
// byte is pushed; done leaves it in rest or in p.
func (in *direction) collect(at time.Time, p []byte, trailers bool) (block []byte, n int, o outcome) {
	if len(in.rest) == 0 {
		in.since, in.scan, in.lined = at, 0, false
		if end, _ := blockEnd(p, 0, trailers); end > 0 && end <= maxHead {
			return p[:end], end, done
		}
	}
	old := len(in.rest)
	if !trailers && blanks(in.rest) == old {
		in.since = at // empty lines begin nothing
	}
	take := min(len(p), maxHead-old)
	in.rest = append(in.rest, p[:take]...)
	end, scan := blockEnd(in.rest, in.scan, trailers)
	in.scan = scan
	switch {
	case end > 0:
		in.rest = in.rest[:end]
		return in.rest, end - old, done
	case len(in.rest) >= maxHead:
		return nil, take, full
	}
	return nil, take, more
}

// requestHead waits for a request.
func (in *direction) requestHead(at time.Time, p []byte) int {
	old := len(in.rest)
	block, n, o := in.collect(at, p, false)
	if o != done {
		look := done
		if lead := blanks(in.rest); !in.lined {
			look = sniff(in.rest[lead:], max(old-lead, 0))
			in.lined = look == done
		}
		switch {
		case look == invalid:
			n -= in.untilInvalid(old)
			in.noRequest(at, look)
		case look == http2:
			in.noRequest(at, look)
		case o == full:
			in.giveUp(at, in.fault(flow.CodeLimit, "the head of the request is longer than "+strconv.Itoa(maxHead)+" bytes"))
		}
		return n
	}
	h, odd, ok := parseRequest(string(block[blanks(block):]))
	if !ok || in.d.crowded() {
		in.hold(at, block)
		look := invalid
		if ok {
			look = full
		} else if sniff(in.rest[blanks(in.rest):], 0) == http2 {
			look = http2
		} else {
			n -= in.untilInvalid(old)
		}
		in.noRequest(at, look)
		return n
	}
	in.rest, in.scan = nil, 0
	in.request(at, h, odd, block)
	in.d.dirs[flow.Server].resume(at, (*direction).responseHead)
	return n
}

// untilInvalid gives back what follows the byte of rest that shows, as the first
// one, that it is no request, so that no split changes what is held. It returns
// how many bytes that are; the first old ones did not show it.
func (in *direction) untilInvalid(old int) int {
	lead := blanks(in.rest)
	for k := max(old, lead) + 1; k < len(in.rest); k++ {
		if k > lead+maxMethod+1 { // only the end of the line can tell
			i := bytes.IndexByte(in.rest[k-1:], '\n')
			if i < 0 {
				return 0
			}
			k += i
		}
		if sniff(in.rest[lead:k], max(old-lead, 0)) == invalid {
			n := len(in.rest) - k
			in.rest = in.rest[:k]
			return n
		}
	}
	return 0
}

// request acts on the complete head of a request.
func (in *direction) request(at time.Time, h *flow.Head, odd oddities, block []byte) {
	in.d.address(h)
	f := frameRequest(h)
	if f.kind != frameNone {
		setFraming(h, nil)
	}
	x := in.d.open(in.since, h, len(block))
	in.msg = x
	in.d.raw(x, in.side, in.since, block)
	(odd | f.odd).each(func(code, text string) { x.mark(in.side, at, flow.AtClient, code, text) })
	in.content(at, h, f)
}

// noRequest leaves HTTP because the rest is no request, or because there are
// too many of them (full).
func (in *direction) noRequest(at time.Time, look outcome) {
	d := in.d
	switch {
	case look == http2 && d.flows == d.stage:
		d.become(at, newHTTP2(d))
		return
	case look == full:
		in.leave(flow.CodeLimit, in.fault(flow.CodeLimit, "too many requests wait for their answers"))
	case d.flows == d.stage:
		d.switchTo(d.notHTTP())
	default:
		in.leave(flow.CodeMalformed, in.fault(flow.CodeMalformed, "what follows is no HTTP/1 request"))
	}
	if server := &d.dirs[flow.Server]; server.wait {
		server.leave("unsolicited", nil)
	}
}

// giveUp makes the best of a head of a request that will not be completed: it
// opens the exchange with the lines that came, if the first of them did.
func (in *direction) giveUp(at time.Time, err *flow.Error) {
	n := bytes.LastIndexByte(in.rest, '\n') + 1
	lead := min(blanks(in.rest), n)
	h, odd, ok := parseRequest(string(in.rest[lead:n]))
	if !ok {
		in.noRequest(at, invalid)
		return
	}
	block := in.rest[:n]
	in.rest, in.scan = in.rest[n:], 0
	in.d.address(h)
	x := in.d.open(in.since, h, n)
	in.msg = x
	in.d.raw(x, in.side, in.since, block)
	odd.each(func(code, text string) { x.mark(in.side, at, flow.AtClient, code, text) })
	in.d.mark(x.id, in.side, at, err)
	in.body = newBody(x, in.side, nil, nil)
	in.abandon(at, err)
	in.d.dirs[flow.Server].resume(at, (*direction).responseHead)
}

// responseHead waits for an answer.
func (in *direction) responseHead(at time.Time, p []byte) int {
	d := in.d
	if len(d.queue) == 0 {
		if n := blanks(p); n > 0 && d.flows > d.stage && !d.dirs[flow.Client].asking() {
			return n // stray line ends between answers
		}
		in.unasked(at)
		return 0
	}
	x := d.queue[0]
	in.msg = x
	block, n, o := in.collect(at, p, false)
	if o != done {
		switch {
		case sniffAnswer(in.rest[blanks(in.rest):]) == invalid:
			in.fail(at, flow.CodeMalformed, "what follows is no HTTP/1 answer")
		case o == full:
			in.partial(at, in.fault(flow.CodeLimit, "the head of the answer is longer than "+strconv.Itoa(maxHead)+" bytes"))
		}
		return n
	}
	h, odd, ok := parseResponse(string(block[blanks(block):]))
	if !ok {
		in.hold(at, block)
		in.fail(at, flow.CodeMalformed, "what follows is no HTTP/1 answer")
		return n
	}
	in.rest, in.scan = nil, 0
	in.response(at, h, odd, block)
	return n
}

// unasked takes bytes of the server when no answer is due.
func (in *direction) unasked(at time.Time) {
	switch {
	case in.d.dirs[flow.Client].asking(), in.d.flows == in.d.stage:
		in.wait, in.state = true, (*direction).waiting
	default:
		in.unsolicited(at)
	}
}

// unsolicited leaves HTTP because the server speaks for itself.
func (in *direction) unsolicited(at time.Time) {
	in.d.mute(at, &flow.Error{Where: flow.AtUpstream, Code: flow.CodeMalformed, Message: "the server had spoken unasked before"})
	in.leave("unsolicited", nil)
}

// partial makes the best of a head of an answer that will not be completed.
func (in *direction) partial(at time.Time, err *flow.Error) {
	x := in.msg
	n := bytes.LastIndexByte(in.rest, '\n') + 1
	lead := min(blanks(in.rest), n)
	if h, odd, ok := parseResponse(string(in.rest[lead:n])); ok && (h.Status >= 200 || h.Status == 101) {
		in.d.emit(flow.Event{Kind: flow.Response, At: in.since, Flow: x.id, Side: in.side, Head: h})
		in.d.raw(x, in.side, in.since, in.rest[:n])
		in.rest = in.rest[n:]
		x.decided = true
		odd.each(func(code, text string) { x.mark(in.side, at, flow.AtUpstream, code, text) })
		in.body = newBody(x, in.side, nil, nil)
	}
	in.d.mark(x.id, in.side, at, err)
	in.abandon(at, err)
}

// asking reports whether part of a head of a request is held.
func (in *direction) asking() bool {
	return in.body == nil && !in.wait && blanks(in.rest) < len(in.rest)
}

// response acts on the complete head of an answer.
func (in *direction) response(at time.Time, h *flow.Head, odd oddities, block []byte) {
	x := in.msg
	f := frameResponse(h, x.req.Method)
	e := flow.Event{Kind: flow.Response, At: in.since, Flow: x.id, Side: in.side, Head: h}
	h2c := h.Status == 101 && in.d.upgradesHTTP2(x, h)
	if h.Status < 200 && h.Status != 101 || h2c {
		if x.informational(at, e) {
			in.d.raw(x, in.side, in.since, block)
			odd.each(func(code, text string) { x.mark(in.side, at, flow.AtUpstream, code, text) })
		}
		if h2c {
			in.d.upgradeHTTP2(at, x)
		}
		return
	}
	if f.kind != frameNone {
		setFraming(x.req, h)
	}
	switched := h.Status == 101 || x.upgrade == "connect" && h.Status < 300
	if h.Status == 101 && (x.upgrade == "" || count(h, "Upgrade") > 0 && x.upgrade != "connect") {
		x.upgrade = upgradeReason(h)
	}
	if switched && in.d.opensWebSocket(x) {
		h.Protocol, h.Streaming = protocolWebSocket, true
	}
	x.decided = true
	in.d.emit(e)
	in.d.raw(x, in.side, in.since, block)
	(odd | f.odd).each(func(code, text string) { x.mark(in.side, at, flow.AtUpstream, code, text) })
	x.suspect(at, h)
	if !switched {
		in.content(at, h, f)
		return
	}
	in.d.upgrade(at, x, h)
}

// upgrade ends x, which the answer h made switch protocols, and lets both
// directions go on as what it switched to. A WebSocket goes on as part of x.
func (d *Decoder) upgrade(at time.Time, x *exchange, h *flow.Head) {
	client, server := &d.dirs[flow.Client], &d.dirs[flow.Server]
	client.wait = false
	server.body = newBody(x, flow.Server, nil, nil)
	server.endBody(at, false, nil)
	if client.body != nil {
		y := client.msg
		client.endBody(at, true, nil)
		y.over(flow.Client, at, &flow.Error{Where: flow.AtUpstream, Code: flow.CodeTruncated, Message: "the server switched protocols before the request was complete"})
	}
	if h.Protocol == protocolWebSocket {
		d.dequeue(x)
	} else {
		x.over(flow.Server, at, nil)
	}
	d.mute(at, &flow.Error{Where: flow.AtUpstream, Code: flow.CodeMalformed, Message: "the server had switched protocols"})
	switch {
	case x.upgrade == "connect":
		d.enter(x.req)
	case h.Protocol == protocolWebSocket:
		d.become(at, newWebSocketConn(x, h))
	default:
		d.switchTo(x.upgrade)
	}
}

// enter begins anew inside the tunnel that the request h made.
func (d *Decoder) enter(h *flow.Head) {
	client, server := &d.dirs[flow.Client], &d.dirs[flow.Server]
	d.inner, d.stage, d.silent = true, d.flows, nil
	d.host, d.port = h.Host, h.Port
	server.msg, server.rest, server.scan, server.state = nil, nil, 0, (*direction).responseHead
	rest := client.rest
	client.msg, client.rest, client.scan, client.state = nil, nil, 0, (*direction).requestHead
	client.push(client.since, rest)
	if client.ended {
		client.over(client.since)
	}
}

// content begins what follows the head h of in.msg.
func (in *direction) content(at time.Time, h *flow.Head, f framing) {
	if f.kind == frameNone {
		h = nil
	}
	in.body = newBody(in.msg, in.side, h, f.codings)
	in.untilClose = false
	switch {
	case f.kind == frameUnknown:
		in.fail(at, flow.CodeMalformed, "the end of the body cannot be known: Content-Length or Transfer-Encoding is not valid")
	case f.kind == frameChunked:
		in.state = (*direction).chunkSize
	case f.kind == frameClose:
		in.untilClose = true
		in.state = (*direction).contentUntilClose
	case f.length > 0:
		in.left = f.length
		in.state = (*direction).contentLength
	default:
		in.endMessage(at, nil)
	}
}

func (in *direction) contentLength(at time.Time, p []byte) int {
	n := in.passContent(at, p)
	if in.left == 0 {
		in.endMessage(at, nil)
	}
	return n
}

func (in *direction) passContent(at time.Time, p []byte) int {
	n := int(min(int64(len(p)), in.left))
	in.left -= int64(n)
	in.rawBody(at, p[:n])
	in.body.write(at, p[:n])
	return n
}

func (in *direction) contentUntilClose(at time.Time, p []byte) int {
	in.rawBody(at, p)
	in.body.write(at, p)
	return len(p)
}

// rawBody hands over bytes of the body that passes as they are on the wire.
func (in *direction) rawBody(at time.Time, p []byte) {
	in.d.raw(in.msg, in.side, at, in.body.clip(p))
}
