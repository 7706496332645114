package e2e

import (
	"math/rand/v2"
	"slices"
)

// A connPlan says what is done on one connection.
type connPlan struct {
	Proto     string // "h1", "h2"
	TLS       bool
	Tunnel    bool // through a proxy, by CONNECT
	Pipelined bool // HTTP/1: all requests before the first answer
	Parallel  int  // HTTP/2: streams at once
	Exchanges []*plan
}

// plans makes the work of a client: conf.Count exchanges that follow from
// conf.Seed.
func plans(conf clientConf) []connPlan {
	g := &planner{r: rand.New(rand.NewPCG(conf.Seed, 1)), conf: conf}
	var all []connPlan
	for g.made < conf.Count {
		cp := connPlan{TLS: g.r.IntN(10) < 6, Tunnel: g.chance(8)}
		switch n := g.r.IntN(20); {
		case n < 11:
			g.http1(&cp)
		case n < 14:
			g.http2(&cp)
			cp.TLS = cp.TLS || conf.Base && !cp.downgradable()
		default:
			cp.Proto = "h1"
			cp.Exchanges = []*plan{g.websocket()}
		}
		all = append(all, cp)
	}
	for range conf.Large {
		p := g.exchange("h1")
		p.Kind, p.Method, p.Status, p.Abort, p.Expect = kindPlain, "POST", 200, nil, false
		p.Req, p.Resp = bodyPlan{Framing: "length"}, bodyPlan{Framing: "chunked", Noise: true}
		if to := &p.Resp; g.r.IntN(2) == 0 {
			to = &p.Req
			to.Size = (20 + g.r.IntN(31)) << 20
		} else {
			to.Size = (20 + g.r.IntN(31)) << 20
		}
		cp := connPlan{Proto: []string{"h1", "h2"}[g.r.IntN(2)], TLS: g.r.IntN(2) == 0, Exchanges: []*plan{p}}
		at := g.r.IntN(len(all))
		all = append(all[:at], append([]connPlan{cp}, all[at:]...)...)
	}
	return all
}

// downgradable tells whether the exchanges of a connection of HTTP/2 can be had
// from a server of HTTP/1.1, or are of gRPC, for which it speaks HTTP/2.
func (cp *connPlan) downgradable() bool {
	return !slices.ContainsFunc(cp.Exchanges, func(p *plan) bool {
		return !p.whole() || p.Kind != kindGRPC && p.Resp.Trailer && p.Resp.Framing != "chunked"
	})
}

// A planner makes plans.
type planner struct {
	r    *rand.Rand
	conf clientConf
	made int
}

func (g *planner) chance(n int) bool { return g.r.IntN(n) == 0 }

// size returns the size of a body: most are small.
func (g *planner) size() int {
	switch n := g.r.IntN(200); {
	case n < 20:
		return 0
	case n < 100:
		return g.r.IntN(1 << 10)
	case n < 170:
		return g.r.IntN(40 << 10)
	case n < 198:
		return g.r.IntN(300 << 10)
	}
	return g.r.IntN(3 << 20)
}

func (g *planner) http1(cp *connPlan) {
	cp.Proto, cp.Pipelined = "h1", g.chance(6)
	for range 1 + g.r.IntN(8) {
		p := g.exchange("h1")
		if p.HalfClose = p.Abort == nil && g.chance(12); p.HalfClose {
			p.Expect = false
		}
		if cp.Pipelined {
			p.Abort, p.Expect, p.HalfClose = nil, false, false
			if p.Resp.Framing == "close" {
				p.Resp.Framing = "chunked"
			}
			p.Req.Size, p.Req.Trailer = min(p.Req.Size, 1000), false
			p.Resp.Size = min(p.Resp.Size, 20000)
		}
		cp.Exchanges = append(cp.Exchanges, p)
	}
}

func (g *planner) http2(cp *connPlan) {
	cp.Proto, cp.Parallel = "h2", 1+g.r.IntN(12)
	for range 2 + g.r.IntN(30) {
		if g.chance(12) {
			cp.Exchanges = append(cp.Exchanges, g.websocket())
		} else {
			cp.Exchanges = append(cp.Exchanges, g.exchange("h2"))
		}
	}
	if !g.chance(5) {
		return
	}
	cp.Parallel = max(cp.Parallel, 2)
	code := []uint32{0, 2, 11}[g.r.IntN(3)]
	for _, fate := range []string{"served", "refused"} {
		p := g.exchange("h2")
		p.Kind, p.GoAway, p.Abort = kindPlain, fate, nil
		p.Req, p.Resp = bodyPlan{}, bodyPlan{Size: 1000}
		if p.Status, p.Method = 200, "GET"; fate == "refused" {
			p.Abort = &abortPlan{By: "server", In: "response", How: "goaway", At: -1, Code: code}
		} else {
			p.Abort = nil
		}
		cp.Exchanges = append(cp.Exchanges, p)
	}
}

var codings = []string{"gzip", "deflate", "br", "zstd", "rawdeflate"}

// exchange makes the plan of one exchange over proto.
func (g *planner) exchange(proto string) *plan {
	g.made++
	p := &plan{ID: g.made, Kind: kindPlain, Status: []int{200, 200, 200, 200, 201, 204, 304, 404, 500}[g.r.IntN(9)]}
	p.Method = []string{"GET", "GET", "POST", "POST", "PUT", "HEAD", "DELETE"}[g.r.IntN(7)]
	kinds := []string{kindSSE, kindSSE, kindNDJSON, kindArray, kindAWS, kindParts, kindGRPC, kindGRPC}
	if k := kinds[g.r.IntN(len(kinds))]; g.chance(3) && (k != kindGRPC || proto == "h2") {
		p.Kind, p.Status, p.Method = k, 200, "POST"
	}
	if g.chance(15) {
		p.Hints = 1 + g.r.IntN(2)
	}
	if p.Kind == kindGRPC {
		p.Req.Events, p.Resp.Events = 1+g.r.IntN(6), 1+g.r.IntN(12)
		if g.chance(2) {
			p.Req.Coding, p.Resp.Coding = "gzip", "gzip"
		}
		p.Req.Secret, p.Resp.Secret = g.conf.Secrets && g.chance(6), g.conf.Secrets && g.chance(6)
	} else {
		g.bodies(p, proto)
	}
	g.abort(p, proto)
	return p
}

func (g *planner) bodies(p *plan, proto string) {
	if p.Method == "POST" || p.Method == "PUT" {
		p.Req = bodyPlan{Size: g.size(), Noise: g.chance(3), Framing: []string{"length", "chunked"}[g.r.IntN(2)]}
		if g.chance(5) && p.Req.Size > 0 {
			p.Req.Coding = codings[g.r.IntN(len(codings))]
		}
		p.Req.Trailer = p.Req.Framing == "chunked" && g.chance(4)
		if p.Expect = proto == "h1" && g.chance(10); p.Expect {
			p.Req.Trailer = false
		}
	}
	p.Resp = bodyPlan{Size: g.size(), Noise: g.chance(3), Framing: []string{"length", "chunked", "chunked", "length", "close"}[g.r.IntN(5)]}
	if g.chance(2) && p.Resp.Size > 0 {
		p.Resp.Coding = codings[g.r.IntN(len(codings))]
	}
	p.Resp.Trailer = (p.Resp.Framing == "chunked" || proto == "h2") && g.chance(4)
	if p.Kind != kindPlain {
		p.Resp.Size, p.Resp.Events = 0, 1+g.r.IntN(60)
		if p.Resp.Coding = ""; g.chance(2) {
			p.Resp.Coding = codings[g.r.IntN(len(codings))]
		}
	}
	if g.conf.Secrets {
		p.Req.Secret = p.Req.Size > 0 && !p.Req.Noise && g.chance(10)
		p.Resp.Secret = p.Resp.Size > 0 && !p.Resp.Noise && g.chance(10) || p.Resp.Events > 0 && g.chance(5)
	}
}

// abort makes one exchange in eight break off.
func (g *planner) abort(p *plan, proto string) {
	if !g.chance(8) || p.Expect || p.Resp.Framing == "close" || p.Resp.Secret || p.Req.Secret {
		return
	}
	if n := len(p.body("client").wire); proto == "h2" && n > 1 && p.Kind != kindGRPC && g.chance(4) {
		p.Abort = &abortPlan{By: "server", In: "request", How: "early", At: g.r.IntN(n)}
		return
	}
	a := &abortPlan{By: []string{"client", "server"}[g.r.IntN(2)], In: "response", How: []string{"fin", "rst"}[g.r.IntN(2)]}
	a.Code = []uint32{1, 2, 5, 7, 8, 11}[g.r.IntN(6)]
	of := p.body("server").wire
	if a.By == "client" && g.chance(2) {
		a.In, of = "request", p.body("client").wire
	}
	if a.In == "response" && p.bodyless() {
		of = nil
	}
	switch {
	case a.By == "server" && g.chance(4):
		a.At = -1
	case len(of) == 0:
		return
	default:
		a.At = g.r.IntN(len(of))
	}
	p.Abort = a
}

// websocket makes the plan of a WebSocket.
func (g *planner) websocket() *plan {
	g.made++
	w := &wsPlan{Deflate: g.chance(2), Closer: []string{"client", "server"}[g.r.IntN(2)], Code: []int{1000, 1001, 1011, 3000}[g.r.IntN(4)]}
	if g.chance(6) {
		w.Code, w.How = 0, []string{"fin", "rst"}[g.r.IntN(2)]
	}
	if w.Deflate {
		w.NoTakeover = [2]bool{g.chance(3), g.chance(3)}
		for i := range w.Bits {
			if g.chance(3) {
				w.Bits[i] = 9 + g.r.IntN(7)
			}
		}
	}
	sizes := func() (all []int) {
		for range g.r.IntN(12) {
			all = append(all, min(g.size(), 300<<10))
		}
		return all
	}
	w.Client, w.Server = sizes(), sizes()
	w.Secret = [2]bool{g.conf.Secrets && g.chance(8) && len(w.Client) > 0, g.conf.Secrets && g.chance(8) && len(w.Server) > 0}
	return &plan{ID: g.made, Method: "GET", Status: 101, Kind: kindWS, WS: w}
}
