package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A hostile is a conversation that is meant to hurt a reader. The record must
// say something of it: one of the codes, in an error or a mark.
type hostile struct {
	name     string
	request  func(w io.Writer) // nil: a plain GET
	response func(w io.Writer)
	codes    []string
}

// maxPeak bounds the memory that trace may take for any of them, in MB. Most
// take 30 to 80.
const maxPeak = 300

// hostileClient sends a file and prints what came back; then it makes an
// honest request and waits, so that trace can be looked at.
const hostileClient = `import socket,sys,hashlib,threading,urllib.request
s=socket.create_connection((sys.argv[1],80)); data=open(sys.argv[2],"rb").read()
def send():
  try: s.sendall(data)
  except OSError: pass
t=threading.Thread(target=send); t.start()
h=hashlib.sha256(); n=0
while True:
  try: p=s.recv(1<<18)
  except OSError: break
  if not p: break
  h.update(p); n+=len(p)
t.join(); s.close()
assert urllib.request.urlopen("http://%s/honest"%sys.argv[1]).read()==b"honest\n"
print(n,h.hexdigest(),flush=True); open("done","w").close(); sys.stdin.read()`

// TestHostile: whatever passes, the child and the server get the very bytes,
// trace stays alive and small, and the record says what happened.
func TestHostile(t *testing.T) {
	need(t, "/usr/bin/python3")
	for i, h := range slices.Concat(hostileHTTP1(), hostileHTTP2(), hostileWebSocket()) {
		w := both()[i%len(both())]
		t.Run(h.name+"/"+w.String(), func(t *testing.T) { h.run(t, w) })
	}
}

// A sink hashes what is written.
type sink struct {
	tally
	to io.Writer
}

func (s *sink) Write(p []byte) (int, error) {
	s.tally.Write(p)
	return s.to.Write(p)
}

func (h hostile) run(t *testing.T, w world) {
	var request bytes.Buffer
	request.WriteString("GET /hostile HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
	if h.request != nil {
		request.Reset()
		h.request(&request)
	}
	answered := make(chan tally, 1)
	port := listenRaw(t, func(c net.Conn) {
		first := make([]byte, 13)
		n, _ := io.ReadFull(c, first)
		if string(first[:n]) == "GET /honest H" {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nhonest\n")
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c)
			return
		}
		sum := sha256.New()
		sum.Write(first[:n])
		io.CopyN(sum, c, int64(request.Len()-n))
		out := &sink{to: c}
		h.response(out)
		if got, want := hex.EncodeToString(sum.Sum(nil)), sumOf(request.Bytes()); got != want {
			t.Errorf("the server did not get the client's bytes")
		}
		out.close()
		answered <- out.tally
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
	})
	j := newJob(t, w)
	file := j.file("request", request.String())
	// No limit of the user's hides ours.
	c := j.command(traceBin, "run", "--inspect", "--quiet", "--max-body", "0", "--connect-to", host+":80:127.0.0.1:"+port, "--", "/usr/bin/python3", "-c", hostileClient, host, file)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	eventuallyThere(t, filepath.Join(j.home, "done"), done)
	peak := peakRSS(t, c.Process.Pid)
	in.Close()
	if err := <-done; err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	sent := <-answered
	if got, want := strings.TrimSpace(stdout.String()), fmt.Sprintf("%d %s", sent.Size, sent.SHA); got != want {
		t.Errorf("the child got %s, the server sent %s", got, want)
	}
	if t.Logf("%d bytes, peak RSS %d MB", sent.Size, peak); peak > maxPeak {
		t.Errorf("trace took %d MB", peak)
	}
	h.judge(t, j)
}

// judge wants the honest exchange in the record, and of the other what it was.
func (h hostile) judge(t *testing.T, j *job) {
	t.Helper()
	honest := false
	var said []string
	for _, r := range j.flows() {
		if r.Request != nil && r.Request.Path == "/honest" {
			honest = r.State == "complete" && r.Response != nil && r.Response.Status == 200
			continue
		}
		if r.Error != nil {
			said = append(said, r.Error.Code)
		}
		for _, m := range r.Marks {
			said = append(said, m.Code)
		}
		if r.Response != nil && r.Response.Truncated {
			said = append(said, "limit") // --max-body was enough
		}
	}
	if !honest {
		t.Error("the honest exchange after it is not in the record")
	}
	if slices.Contains(said, "panic") {
		t.Error("a decoder panicked")
	}
	if len(h.codes) > 0 && !slices.ContainsFunc(h.codes, func(c string) bool { return slices.Contains(said, c) }) {
		t.Errorf("the record says %q, want one of %q", said, h.codes)
	}
}
