package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// peerBin builds this test program once more, plainly: with the race detector
// the peers would take longer than what is tested.
var peerBin = sync.OnceValues(func() (string, error) {
	out := filepath.Join(workDir, "peer")
	c := exec.Command("go", "test", "-trimpath", "-c", "-o", out, ".")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the peers: %w\n%s", err, msg)
	}
	return out, os.Chmod(out, 0o755)
})

// A peers is a running server and what its client needs.
type peers struct {
	t          *testing.T
	bin        string
	ca         *authority
	tls, clear string // ports
	proxy      string
	server     *exec.Cmd
	stop       func()
	log        string
}

func newPeers(t *testing.T) *peers {
	t.Helper()
	bin, err := peerBin()
	if err != nil {
		t.Fatal(err)
	}
	p := &peers{t: t, bin: bin, ca: newAuthority(t, "e2e authority"), log: filepath.Join(t.TempDir(), "server.json")}
	leaf := p.ca.leaf(t, []string{host}, nil)
	conf, _ := json.Marshal(serverConf{Cert: leaf.Certificate[0], Key: pkcs8(t, leaf), Log: p.log})
	p.server = exec.Command(bin)
	p.server.Env = append(os.Environ(), peerVar+"=server")
	p.server.Stderr = os.Stderr
	in, err := p.server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.server.Start(); err != nil {
		t.Fatal(err)
	}
	p.stop = sync.OnceFunc(func() {
		in.Close()
		if err := p.server.Wait(); err != nil {
			t.Errorf("the server: %v", err)
		}
	})
	t.Cleanup(p.stop)
	if _, err := in.Write(append(conf, '\n')); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &p.tls, &p.clear, &p.proxy); err != nil {
		t.Fatal(err)
	}
	return p
}

// journals ends the server and reads both logs.
func (p *peers) journals(clientLog string) (server, client map[int]*seen) {
	p.t.Helper()
	p.stop()
	return readJournal(p.t, "server", p.log), readJournal(p.t, "client", clientLog)
}

func readJournal(t *testing.T, who, path string) map[int]*seen {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var f journalFile
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	for i, odd := range f.Odds {
		if i < 20 {
			t.Errorf("%s: %s", who, odd)
		}
	}
	m := map[int]*seen{}
	for _, s := range f.Seen {
		if m[s.ID] != nil && s.ID != 0 {
			t.Errorf("%s: exchange %d was seen twice", who, s.ID)
		}
		m[s.ID] = s
	}
	return m
}

// seed returns the seed of a randomised test: TRACE_E2E_SEED repeats a run.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := rand.Uint64() >> 16
	if s := os.Getenv("TRACE_E2E_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with TRACE_E2E_SEED=%d", n)
		}
	})
	return n
}

// exchanges is how many exchanges a randomised run makes, if not n:
// TRACE_E2E_EXCHANGES makes long runs.
func exchanges(t *testing.T, n int) int {
	t.Helper()
	if s := os.Getenv("TRACE_E2E_EXCHANGES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestPeers holds the peers of the randomised test against each other,
// without trace.
func TestPeers(t *testing.T) {
	p := newPeers(t)
	dir := t.TempDir()
	conf := clientConf{Host: host, Seed: seed(t), Count: exchanges(t, 300), Workers: 8, Log: filepath.Join(dir, "client.json"), Secrets: true,
		Direct: map[string]string{"443": "127.0.0.1:" + p.tls, "80": "127.0.0.1:" + p.clear, "3128": "127.0.0.1:" + p.proxy}, Roots: []byte(p.ca.pem())}
	b, _ := json.Marshal(conf)
	file := filepath.Join(dir, "conf.json")
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(p.bin, file)
	c.Env = append(os.Environ(), peerVar+"=client")
	if msg, err := c.CombinedOutput(); err != nil {
		t.Fatalf("the client: %v: %s", err, msg)
	}
	server, client := p.journals(conf.Log)
	n := 0
	for _, cp := range plans(conf) {
		for _, x := range cp.Exchanges {
			n++
			checkPeers(t, x, server[x.ID], client[x.ID])
		}
	}
	t.Logf("%d exchanges", n)
}

// checkPeers wants both ends of a whole exchange to have seen the same.
func checkPeers(t *testing.T, p *plan, s, c *seen) {
	t.Helper()
	if c == nil || s == nil && p.whole() {
		t.Errorf("exchange %d: server %+v, client %+v", p.ID, s, c)
		return
	}
	if !p.whole() {
		return
	}
	if s.Received.SHA != c.Sent.SHA || s.Sent.SHA != c.Received.SHA || s.RawRecvd.SHA != c.RawSent.SHA || s.RawSent.SHA != c.RawRecvd.SHA {
		t.Errorf("exchange %d: server %+v\nclient %+v\nplan %+v", p.ID, s, c, p)
	}
	if !s.Complete || !c.Complete || fmt.Sprint(s.MsgSent, s.MsgRecvd) != fmt.Sprint(c.MsgRecvd, c.MsgSent) {
		t.Errorf("exchange %d: server %+v\nclient %+v", p.ID, s, c)
	}
}

// whole reports whether p is planned to pass whole.
func (p *plan) whole() bool { return p.Abort == nil && (p.WS == nil || p.WS.Code != 0) }
