package e2e

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// An internet is two network namespaces: see newInternet.
type internet struct {
	t    *testing.T
	name string
}

// The addresses of the internet's two ends.
const (
	publicAddr  = "203.0.113.7"
	publicAddr6 = "2001:db8:77::7"
	laptopAddr  = "203.0.113.1"
	laptopAddr6 = "2001:db8:77::1"
)

// newInternet makes two network namespaces that are joined by a veth pair: a
// laptop, on which trace runs, and a host with public addresses. Servers run
// in the latter. Only root can.
func newInternet(t *testing.T) *internet {
	t.Helper()
	needRoot(t)
	need(t, "ip")
	n := &internet{t, fmt.Sprintf("tr%d", os.Getpid()%100000)}
	t.Cleanup(func() {
		exec.Command("ip", "netns", "del", n.name+"l").Run()
		exec.Command("ip", "netns", "del", n.name+"p").Run()
	})
	for _, cmd := range []string{
		"netns add NAMEl", "netns add NAMEp",
		"link add veth0 netns NAMEl type veth peer name veth0 netns NAMEp",
		"-n NAMEl addr add " + laptopAddr + "/24 dev veth0", "-n NAMEp addr add " + publicAddr + "/24 dev veth0",
		"-n NAMEl addr add " + laptopAddr6 + "/64 dev veth0 nodad", "-n NAMEp addr add " + publicAddr6 + "/64 dev veth0 nodad",
		"-n NAMEl link set lo up", "-n NAMEp link set lo up", "-n NAMEl link set veth0 up", "-n NAMEp link set veth0 up",
		"-n NAMEl route add default via " + publicAddr, "-n NAMEl -6 route add default via " + publicAddr6,
	} {
		args := strings.Fields(strings.ReplaceAll(cmd, "NAME", n.name))
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", cmd, err, out)
		}
	}
	return n
}

// laptop puts argv on the laptop.
func (n *internet) laptop(argv []string) []string {
	return append([]string{"ip", "netns", "exec", n.name + "l"}, argv...)
}

// serve runs a TLS server on the public host and returns a function that
// reads its log.
func (n *internet) serve(cert tls.Certificate) func() []entry {
	n.t.Helper()
	l := n.listen("[::]:443")
	o := &origin{handler: content}
	srv := &http.Server{Handler: http.HandlerFunc(o.dispatch)}
	done := make(chan struct{})
	go func() {
		srv.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}))
		close(done)
	}()
	n.t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return o.entries
}

// listen makes a listener on the public host: a socket keeps the namespace
// it was made in.
func (n *internet) listen(addr string) net.Listener {
	n.t.Helper()
	var l net.Listener
	err := inNetns("/var/run/netns/"+n.name+"p", func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return l
}

// TestInternet carries connections to public addresses, by both IP versions,
// and keeps what the network says: refused, unreachable.
func TestInternet(t *testing.T) {
	need(t, "curl")
	n := newInternet(t)
	ca := newAuthority(t, "e2e authority")
	entries := n.serve(ca.leaf(t, []string{publicAddr, publicAddr6}, nil))
	for _, w := range worlds(t) {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			root := j.file("root.pem", ca.pem())
			before := len(entries())
			curl := func(code int, url string) result {
				t.Helper()
				return j.must(j.onLaptop(n, []string{"--upstream-ca", root}, "curl", "-sS", "--max-time", "20", "-o", "/dev/null", url), code)
			}
			curl(0, "https://"+publicAddr+"/bytes/300000")
			checkInternet(t, j, entries()[before:], publicAddr)
			before = len(entries())
			curl(0, "https://["+publicAddr6+"]/bytes/300000")
			checkInternet(t, j, entries()[before:], publicAddr6)
			for _, url := range []string{"http://" + publicAddr + ":81/", "http://[" + publicAddr6 + "]:81/"} {
				r := curl(7, url)
				if !strings.Contains(r.stderr, "Connection refused") && !strings.Contains(r.stderr, "Failed to connect") && !strings.Contains(r.stderr, "Couldn't connect") {
					t.Errorf("%s: %s", url, r.stderr)
				}
				checkError(t, j, "refused")
			}
			start := time.Now()
			curl(7, "http://203.0.113.99/") // no such neighbour
			if took := time.Since(start); took > 15*time.Second {
				t.Errorf("an unreachable host took %v", took)
			}
			checkError(t, j, "unreachable")
		})
	}
}

// onLaptop runs trace on the laptop.
func (j *job) onLaptop(n *internet, flags []string, cmd ...string) result {
	j.t.Helper()
	args := []string{traceBin, "run", "--inspect", "--link", j.w.link, "--device", j.w.device}
	args = append(append(append(args, flags...), "--"), cmd...)
	c := j.command(args...)
	wrapped := n.laptop(c.Args)
	return j.finish(wrapped)
}

func checkInternet(t *testing.T, j *job, log []entry, host string) {
	t.Helper()
	rows := j.flows("--kind", "http")
	if len(rows) != 1 || len(log) != 1 {
		t.Fatalf("%d rows, %d requests", len(rows), len(log))
	}
	r, e := rows[0], log[0]
	if r.Request.Host != host || r.Response.SHA256 != e.respHash || r.Response.Size != e.respSize || !r.Conn.Decrypted {
		t.Errorf("recorded %+v %+v, served %+v", r.Request, r.Response, e)
	}
}

func checkError(t *testing.T, j *job, code string) {
	t.Helper()
	rows := slices.DeleteFunc(j.flows(), func(r row) bool { return r.Kind == "dns" })
	if len(rows) == 0 || rows[len(rows)-1].Error == nil || rows[len(rows)-1].Error.Code != code {
		t.Errorf("want a row with error %s, have %+v", code, rows)
	}
}

// TestResolver: the host's own resolver is asked, wherever it listens.
func TestResolver(t *testing.T) {
	need(t, "/usr/bin/python3", "unshare")
	needRoot(t)
	for _, server := range []string{"127.0.0.53", "127.0.0.1"} {
		dns := dnsServer(t, server+":53")
		for _, w := range both() {
			t.Run(w.String()+"/"+server, func(t *testing.T) {
				j := newJob(t, w)
				resolv := j.file("resolv.conf", "nameserver "+server+"\nsearch corp.example\noptions timeout:2\n")
				look := j.file("look.py", "import socket\nfor n in ('known','known.corp.example','large.corp.example'):\n print(n, sorted({a[4][0] for a in socket.getaddrinfo(n,443)})[0])\ntry:\n socket.getaddrinfo('missing.corp.example',443)\nexcept OSError as e: print('missing', e.errno)\n")
				argv := []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", `mount --bind "$1" /etc/resolv.conf; shift; exec "$@"`, "sh", resolv}
				plain := j.must(j.finish(append(slices.Clone(argv), j.command("/usr/bin/python3", look).Args...)), 0)
				traced := j.must(j.finish(append(slices.Clone(argv), j.command(traceBin, "run", "--inspect", "--quiet", "--", "/usr/bin/python3", look).Args...)), 0)
				if plain.stdout != traced.stdout || !strings.Contains(plain.stdout, "192.0.2.80") {
					t.Errorf("without trace:\n%s\nwith:\n%s", plain.stdout, traced.stdout)
				}
				if rows := j.flows("--kind", "dns"); len(rows) == 0 {
					t.Error("no name query is in the record")
				}
			})
		}
		dns()
	}
}

// TestNoResolver: where the host has none, names fail at once.
func TestNoResolver(t *testing.T) {
	need(t, "/usr/bin/python3", "unshare")
	needRoot(t)
	for _, w := range both() {
		j := newJob(t, w)
		resolv := j.file("resolv.conf", "# nobody\n")
		argv := []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", `mount --bind "$1" /etc/resolv.conf; shift; exec "$@"`, "sh", resolv}
		look := j.file("look.py", "import socket\ntry:\n socket.getaddrinfo('some.name.example',443)\nexcept OSError as e: print('failed', e.errno)\n")
		r := j.must(j.finish(append(argv, j.command(traceBin, "run", "--inspect", "--quiet", "--", "/usr/bin/python3", look).Args...)), 0)
		if !strings.HasPrefix(r.stdout, "failed") || r.took > 4*time.Second {
			t.Errorf("%s: %q after %v", w, r.stdout, r.took)
		}
	}
}

// TestSandbox: bubblewrap works inside, also with its own network.
func TestSandbox(t *testing.T) {
	need(t, "bwrap", "curl")
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, nil)
	for _, w := range both() {
		j := newJob(t, w)
		root := j.file("root.pem", ca.pem())
		flags := []string{"--upstream-ca", root, "--connect-to", host + ":443:127.0.0.1:" + o.port}
		r := j.must(j.inspect(flags, "bwrap", "--dev-bind", "/", "/", "--unshare-all", "--share-net", "curl", "-sS", "https://"+host+"/text"), 0)
		if r.stdout != "hello from /text\n" {
			t.Errorf("%s: %q", w, r.stdout)
		}
		if rows := j.flows("--kind", "http"); len(rows) != 1 || !rows[0].Conn.Decrypted {
			t.Errorf("%s: %+v", w, rows)
		}
		j.must(j.inspect(nil, "bwrap", "--dev-bind", "/", "/", "--unshare-all", "true"), 0)
	}
}

// TestLive: a reader in another process sees each event of a stream while it
// runs, soon after it happened.
func TestLive(t *testing.T) {
	need(t, "curl")
	ca := newAuthority(t, "e2e authority")
	sent := make(chan time.Time)
	next := make(chan bool)
	h := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for <-next {
			fmt.Fprint(w, "data: tick\n\n")
			w.(http.Flusher).Flush()
			sent <- time.Now()
		}
	}
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, h)
	j := newJob(t, both()[0])
	root := j.file("root.pem", ca.pem())
	c := j.command(traceBin, "run", "--inspect", "--quiet", "--upstream-ca", root, "--connect-to", host+":443:127.0.0.1:"+o.port, "--", "curl", "-sSN", "https://"+host+"/live")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	events := make(chan time.Time)
	go tailEvents(t, j, events)
	var delays []time.Duration
	for range 40 {
		next <- true
		at := <-sent
		delays = append(delays, (<-events).Sub(at))
	}
	close(next)
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	slices.Sort(delays)
	t.Logf("event to reader in another process: p50 %v, worst %v", delays[20], delays[39])
	// The promise is 50 ms, and the figure above says how it is kept. On a
	// machine that is busy with other tests only this is certain:
	if delays[20] > 2*time.Second {
		t.Errorf("half of the events took longer than %v", delays[20])
	}
}

// tailEvents sends the time of arrival of each event that `flows tail` prints.
func tailEvents(t *testing.T, j *job, events chan<- time.Time) {
	waitRunning(t, j)
	tail := j.command(traceBin, "flows", "tail", "--json")
	out, err := tail.StdoutPipe()
	if err != nil {
		t.Error(err)
		return
	}
	if err := tail.Start(); err != nil {
		t.Error(err)
		return
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), `"type":"sse"`) {
			events <- time.Now()
		}
	}
	tail.Wait()
}

// TestOpaque: what is not HTTP is carried and counted.
func TestOpaque(t *testing.T) {
	need(t, "/usr/bin/python3")
	var got string
	port := listenRaw(t, func(c net.Conn) {
		io.WriteString(c, "220 ready\r\n") // the server speaks first
		h := sha256.New()
		io.Copy(h, c)
		got = hex.EncodeToString(h.Sum(nil))
		io.WriteString(c, got)
	})
	for _, w := range both() {
		j := newJob(t, w)
		py := fmt.Sprintf(`import socket,hashlib
s=socket.create_connection(("%s",2525)); assert s.recv(100)==b"220 ready\r\n"
d=bytes(range(256))*4000; s.sendall(d); s.shutdown(socket.SHUT_WR)
h=b""
while True:
  p=s.recv(1000)
  if not p: break
  h+=p
assert h.decode()==hashlib.sha256(d).hexdigest(), h`, host)
		j.must(j.inspect([]string{"--connect-to", host + ":2525:127.0.0.1:" + port}, "/usr/bin/python3", "-c", py), 0)
		rows := j.flows("--kind", "tcp")
		if len(rows) != 1 || rows[0].Bytes == nil || rows[0].Bytes.Sent != 1024000 || rows[0].Bytes.Received != 11+64 || rows[0].State != "complete" {
			t.Errorf("%s: %+v", w, rows)
		}
	}
}

// TestOutput: the record goes where the flags say, and nowhere else.
func TestOutput(t *testing.T) {
	for _, w := range both() {
		j := newJob(t, w)
		out := filepath.Join(j.home, "run.db")
		j.must(j.inspect([]string{"--output", out}, "true"), 0)
		j.must(j.trace("flows", "list", "--session", out), 0)
		r := j.must(j.inspect([]string{"--output", out}, "sh", "-c", "echo started"), 125)
		if strings.Contains(r.stdout, "started") || !strings.Contains(r.stderr, out) {
			t.Errorf("%s: an existing file: stdout %q, stderr %q", w, r.stdout, r.stderr)
		}
		r = j.must(j.inspect([]string{"--no-save"}, "true"), 0)
		if strings.Contains(r.stderr, "error") {
			t.Errorf("%s: --no-save: %s", w, r.stderr)
		}
		if r := j.must(j.trace("sessions", "list", "--json"), 0); strings.TrimSpace(r.stdout) != "[]" {
			t.Errorf("%s: sessions: %s", w, r.stdout)
		}
	}
}

// dnsServer answers on addr until it is closed: known names have 192.0.2.80,
// large ones too many addresses for a UDP answer.
func dnsServer(t *testing.T, addr string) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := serveDNS(t, ctx, addr)
	return func() {
		cancel()
		<-done
	}
}
