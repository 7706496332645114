package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRandom runs thousands of exchanges of mixed protocols, sizes and codings
// in parallel, some of which break off, and holds the record of each against
// what both ends saw.
func TestRandom(t *testing.T) {
	runs := []randomRun{
		{w: world{false, "wireguard", "auto"}, count: 1000, large: 2},
		{w: world{os.Getuid() == 0, "direct", "auto"}, count: 1000, large: 1, keep: true},
		{w: world{false, "", ""}, count: 500, large: 2, base: true},
	}
	for _, r := range runs {
		name := r.w.String()
		if r.keep {
			name += ",keep-secrets"
		}
		if r.base {
			name += ",base"
		}
		t.Run(name, r.run)
	}
}

// A randomRun is one run of the randomised test.
type randomRun struct {
	w            world
	count, large int
	keep         bool
	base         bool // without a namespace, through the reverse proxy
}

func (r randomRun) run(t *testing.T) {
	p := newPeers(t)
	j := newJob(t, r.w)
	conf := clientConf{Host: host, Seed: seed(t), Count: exchanges(t, r.count), Large: r.large, Secrets: true, Workers: 8, Base: r.base, Log: filepath.Join(j.home, "client.json")}
	b, _ := json.Marshal(conf)
	file := j.file("conf.json", string(b))
	jsonl := filepath.Join(j.home, "live.jsonl")
	j.env = append(j.env, peerVar+"=client")
	flags := []string{"--upstream-ca", j.file("root.pem", p.ca.pem()), "--jsonl", jsonl,
		"--connect-to", host + ":443:127.0.0.1:" + p.tls, "--connect-to", host + ":80:127.0.0.1:" + p.clear,
		"--connect-to", "proxy." + host + ":3128:127.0.0.1:" + p.proxy}
	if r.keep {
		flags = append(flags, "--keep-secrets")
	}
	run := func() result { return j.inspect(flags, p.bin, file) }
	if r.base {
		args := append([]string{"run", "--map", "s=https://" + host, "--map", "c=http://" + host}, flags...)
		run = func() result { return j.trace(append(args, "--", p.bin, file)...) }
	}
	res := j.must(run(), 0)
	server, client := p.journals(conf.Log)
	k := &comparison{t: t, j: j, keep: r.keep, base: r.base, rows: map[string][]row{}, pieces: readPieces(t, jsonl)}
	for _, x := range j.flows() {
		switch {
		case x.Kind == "dns":
		case x.Conn.Opaque == "not_connected" && x.Error != nil && x.Error.Code == "reset" && x.Error.Where == "client":
			k.early++
		case x.Request != nil && x.Request.Method == "CONNECT" && !strings.HasPrefix(x.Request.Path, "/x/"):
			k.tunnels++
			if x.State != "complete" || x.Response == nil || x.Response.Status != 200 || x.Request.Host != host {
				k.failed("CONNECT: %s %+v %+v %+v", x.State, x.Error, x.Request, x.Response)
			}
		case x.Request == nil:
			k.failed("an opaque flow: %+v error %+v", x, x.Error)
		default:
			k.rows[x.Request.Path] = append(k.rows[x.Request.Path], x)
		}
	}
	n := 0
	for _, cp := range plans(conf) {
		if cp.Tunnel && !r.base {
			k.tunnels-- // one at least: an exchange may end its connection
		}
		for _, x := range cp.Exchanges {
			n++
			k.exchange(cp, x, server[x.ID], client[x.ID])
		}
	}
	if k.early != 0 {
		k.failed("%d connections more than planned were reset before they stood", k.early)
	}
	if k.unnamed > n/50 && !r.base { // on a busy machine nobody waits long to learn whose a socket is
		k.failed("%d of %d exchanges name no process", k.unnamed, n)
	}
	if k.tunnels < 0 {
		k.failed("%d tunnels are missing", -k.tunnels)
	}
	if !r.keep {
		k.secretless(j.home)
	}
	for path := range k.rows {
		k.failed("the record has %s, which nobody asked for", path)
	}
	t.Logf("%d exchanges in %v; %d differ", n, res.took.Round(1e6), k.failures)
}

// A piece is a line of the event log about one event or message.
type piece struct {
	Type       string
	FlowID     string `json:"flow_id"`
	Dir        string
	Event      string
	Data       json.RawMessage
	Encoding   string
	Raw        string
	Opcode     byte
	Size       int
	SHA256     string
	Compressed bool
	Complete   *bool
	Reason     string
}

// readPieces reads the event log: by flow, its events, messages and ends.
func readPieces(t *testing.T, path string) map[string][]piece {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := map[string][]piece{}
	for in := bufio.NewReaderSize(f, 1<<20); ; {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return m
		}
		var p piece
		if err := json.Unmarshal(line, &p); err != nil {
			t.Fatalf("jsonl: %v in %.300s", err, line)
		}
		switch p.Type {
		case "sse", "ws_message", "stream_end", "response":
			_, id, _ := strings.Cut(p.FlowID, "/")
			m[id] = append(m[id], p)
		}
	}
}
