package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// peakRSS returns the most memory that a process had, in MB.
func peakRSS(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kb, _ := strconv.Atoi(strings.Fields(rest)[0])
	return kb / 1024
}

// TestSYNFlood: 100,000 SYNs of a child that may forge packets leave trace
// standing and bounded, and an honest connection passes after them.
func TestSYNFlood(t *testing.T) {
	need(t, "/usr/bin/python3")
	n := newInternet(t)
	l := n.listen("[::]:7")
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("hello"))
			c.Close()
		}
	}()
	py := fmt.Sprintf(`import socket,struct,os,time
raw=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_RAW)
me=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); me.connect((%[1]q,9)); src=socket.inet_aton(me.getsockname()[0]); dst=socket.inet_aton(%[1]q)
def ck(b):
  s=sum(struct.unpack("!%%dH"%%(len(b)//2),b)); s=(s>>16)+(s&0xffff); return ~(s+(s>>16))&0xffff
for i in range(100000):
  h=struct.pack("!HHIIBBHHH",1024+i%%60000,1000+i//60000,i,0,0x50,2,65535,0,0)
  c=ck(src+dst+struct.pack("!BBH",0,6,20)+h)
  p=struct.pack("!BBHHHBBH4s4s",0x45,0,40,i&0xffff,0,64,6,0,src,dst)+h[:16]+struct.pack("!H",c)+h[18:]
  try: raw.sendto(p,(%[1]q,0))
  except OSError: pass
for i in range(30):
  try:
    s=socket.create_connection((%[1]q,7),2); assert s.recv(5)==b"hello"; break
  except OSError: time.sleep(0.2)
else: raise SystemExit("no honest connection")
open("ok","w").write("ok"); import sys; sys.stdin.read()
`, publicAddr)
	j := newJob(t, world{true, "wireguard", "auto"})
	c := j.command(n.laptop([]string{traceBin, "run", "--inspect", "--quiet", "--", "/usr/bin/python3", "-c", py})...)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	eventuallyThere(t, filepath.Join(j.home, "ok"), done)
	rss := peakRSS(t, c.Process.Pid)
	in.Close()
	if err := <-done; err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	t.Logf("peak RSS %d MB", rss)
	if rss > 600 {
		t.Errorf("trace took %d MB", rss)
	}
	if rows := j.flows("--kind", "tcp", "--limit", "200"); len(rows) == 0 {
		t.Error("nothing of the flood is in the record")
	}
}

// TestForkBomb: a child that forks until it may not, as a user with a limit
// of processes, ends as it would without trace.
func TestForkBomb(t *testing.T) {
	needRoot(t) // for a user who runs nothing else
	need(t, "/usr/bin/python3", "prlimit")
	j := newJob(t, world{false, "wireguard", "auto"})
	py := `import os,sys
n=0
for i in range(5000):
  try: pid=os.fork()
  except OSError: break
  if pid==0:
    import signal; signal.alarm(20); signal.pause()
  n+=1
os.write(1,str(n).encode())
import signal
for l in open("/proc/self/task/%d/children"%os.getpid()).read().split(): os.kill(int(l),9)
for i in range(n): os.wait()`
	r := j.must(j.run(traceBin, "run", "--inspect", "--quiet", "--", "prlimit", "--nproc=400", "/usr/bin/python3", "-c", py), 0)
	if n, _ := strconv.Atoi(r.stdout); n < 100 || n >= 400 {
		t.Errorf("%q forks, want as many as the limit leaves", r.stdout)
	}
}
