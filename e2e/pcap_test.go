package e2e

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tshark reads a capture in one pass, as Wireshark does when it follows one,
// and returns the lines that it prints. All checksums are looked at.
func (j *job) tshark(file string, args ...string) []string {
	j.t.Helper()
	argv := []string{"-n", "-r", file, "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"}
	c := exec.Command("tshark", append(argv, args...)...)
	c.Env = append(os.Environ(), "HOME="+j.home)
	var errb bytes.Buffer
	c.Stderr = &errb
	out, err := c.Output()
	if err != nil {
		j.t.Fatalf("tshark %q: %v: %s", args, err, errb.String())
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}

// counts returns how many packets each filter selects.
func (j *job) counts(file string, filters []string) (counts []int) {
	j.t.Helper()
	for _, line := range j.tshark(file, "-q", "-z", "io,stat,0,"+strings.Join(filters, ",")) {
		cells := strings.Split(strings.Trim(line, "| "), "|")
		if !strings.Contains(cells[0], "<>") || len(cells) != 1+2*len(filters) {
			continue
		}
		for i := range filters {
			n, err := strconv.Atoi(strings.TrimSpace(cells[1+2*i]))
			if err != nil {
				j.t.Fatal(err)
			}
			counts = append(counts, n)
		}
		return counts
	}
	j.t.Fatalf("%s: no counts", file)
	return nil
}

// fields returns one column of the packets that a filter selects.
func (j *job) fields(file, filter string, names ...string) []string {
	j.t.Helper()
	args := []string{"-Y", filter, "-T", "fields"}
	for _, n := range names {
		args = append(args, "-e", n)
	}
	return j.tshark(file, args...)
}

// wellFormed wants a capture without a single packet that tshark minds. What
// was sent again may be cut otherwise than the first time.
func (j *job) wellFormed(file string) {
	j.t.Helper()
	const bad = "(_ws.malformed || _ws.short || _ws.expert.severity==error || ip.checksum.status==0 || tcp.checksum.status==0 || udp.checksum.status==0 || " +
		"icmp.checksum.status==0 || icmpv6.checksum.status==0 || tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment) && " +
		"!(tcp.analysis.retransmission || tcp.analysis.out_of_order)"
	if lines := j.tshark(file, "-Y", bad); len(lines) > 0 {
		j.t.Errorf("%s: %d bad packets, the first: %q", j.w, len(lines), lines[:min(len(lines), 5)])
	}
}

// A dissection is what tshark finds in a capture.
type dissection struct {
	directions [3]int   // packets by epb_flags
	requests   []string // METHOD PATH
	values     []string // of forms that were sent
	bodies     []string // SHA-256 of those of answers, and of pieces of them
}

func (j *job) dissect(file string) (d dissection) {
	j.t.Helper()
	sum := func(b []byte, err error) {
		if err != nil {
			j.t.Fatal(err)
		}
		s := sha256.Sum256(b)
		d.bodies = append(d.bodies, hex.EncodeToString(s[:]))
	}
	dir := j.t.TempDir()
	args := []string{"--export-objects", "http," + dir, "-T", "fields", "-E", "separator=|"}
	for _, name := range []string{"frame.packet_flags_direction", "http.request.method", "http.request.uri", "http2.headers.method", "http2.headers.path",
		"urlencoded-form.value", "http2.body.reassembled.data", "http2.data.data"} {
		args = append(args, "-e", name)
	}
	for _, line := range j.tshark(file, args...) {
		f := strings.Split(line, "|")
		direction, err := strconv.ParseInt(f[0], 0, 8)
		if err != nil || len(f) != 8 || direction < 0 || direction > 2 {
			j.t.Fatalf("tshark: %.1000q", line)
		}
		d.directions[direction]++
		d.requests = append(d.requests, f[1]+" "+f[2], f[3]+" "+f[4])
		d.values = append(d.values, strings.Split(f[5], ",")...)
		for _, data := range strings.Split(f[6]+","+f[7], ",") { // those of HTTP/2 are not exported
			if direction == 1 && data != "" {
				sum(hex.DecodeString(data))
			}
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		j.t.Fatal(err)
	}
	for _, f := range files {
		sum(os.ReadFile(filepath.Join(dir, f.Name())))
	}
	return d
}

// pcapScript uses HTTP/1.1 and HTTP/2, TLS 1.2 and 1.3, side by side too.
const pcapScript = `set -e
curl -sS --http1.1 -o /dev/null "$1/bytes/300000?h1"
curl -sS --http1.1 --tls-max 1.2 -o /dev/null "$1/bytes/70001?tls12"
curl -sS --http1.1 --tls-max 1.2 -d secret=request-in-clear -o /dev/null "$1/echo?tls12"
curl -sS --http2 -o /dev/null "$1/bytes/400000?h2" --next -sS -d body=of-http2 -o /dev/null "$1/echo?h2"
curl -sS --http2 --tls-max 1.2 -o /dev/null "$1/bytes/80002?h2tls12"
for i in 1 2 3 4 5 6; do curl -sS -o /dev/null "$1/bytes/5000$i?parallel" & p="$p $!"; done
for i in $p; do wait $i; done
/usr/bin/python3 -c 'import sys,urllib.request as u; assert len(u.urlopen(sys.argv[1]+"/bytes/60000?python").read())==60000' "$1"
`

// TestPcap: tshark reads what was sent and received from the packets, in
// every world, as the server saw it.
func TestPcap(t *testing.T) {
	need(t, "tshark", "capinfos", "curl", "/usr/bin/python3")
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}, NextProtos: []string{"h2", "http/1.1"}}, nil)
	for _, w := range worlds(t) {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			root, file := j.file("root.pem", ca.pem()), filepath.Join(j.home, "run.pcapng")
			before := len(o.entries())
			r := j.must(j.inspect([]string{"--upstream-ca", root, "--connect-to", host + ":443:127.0.0.1:" + o.port, "--keep-secrets", "--pcap", file},
				"sh", "-c", pcapScript, "sh", "https://"+host), 0)
			log := o.entries()[before:]
			if len(log) != 13 || !strings.Contains(r.stderr, file) {
				t.Fatalf("%d requests; %s", len(log), r.stderr)
			}
			if st, err := os.Stat(file); err != nil || st.Mode() != 0o600 {
				t.Errorf("%v, %v", st, err)
			}
			j.wellFormed(file)
			d := j.dissect(file)
			if d.directions[0] != 0 || d.directions[1] == 0 || d.directions[2] == 0 {
				t.Errorf("packets by direction: %d", d.directions)
			}
			for _, e := range log {
				if !slices.Contains(d.requests, e.method+" "+e.path) {
					t.Errorf("%s %s is not in the capture: %q", e.method, e.path, d.requests)
				}
				if i := slices.Index(d.bodies, e.respHash); i < 0 {
					t.Errorf("%s %s: no body of %d bytes like the server's in the capture", e.method, e.path, e.respSize)
				} else {
					d.bodies = slices.Delete(d.bodies, i, i+1)
				}
			}
			for _, v := range []string{"request-in-clear", "of-http2"} {
				if !slices.Contains(d.values, v) {
					t.Errorf("no %q among the bodies of requests: %q", v, d.values)
				}
			}
			out, err := exec.Command("capinfos", "-M", file).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "Strict time order:   True") || !strings.Contains(string(out), "trace ") {
				t.Errorf("capinfos: %v: %s", err, out)
			}
		})
	}
}

// TestPcapPackets: datagrams, echo requests, refusals and name queries are in
// the capture, over both IP versions, and none of ours.
func TestPcapPackets(t *testing.T) {
	need(t, "tshark", "dig", "ping", "/usr/bin/python3")
	n := newInternet(t)
	n.answer("[::]:53", func(p []byte) []byte { return answerDNS(p, true) })
	n.answer("[::]:7", func(p []byte) []byte { return p })
	n.sysctl("l", "net.ipv4.ping_group_range", "0 2147483647")
	const script = `dig +tries=1 +time=5 @` + publicAddr + ` name.example >/dev/null
ping -c 2 -i 0.1 ` + publicAddr + ` >/dev/null; ping -c 2 -i 0.1 ` + publicAddr6 + ` >/dev/null
/usr/bin/python3 -c '
import socket
for f,host in ((socket.AF_INET,"` + publicAddr + `"),(socket.AF_INET6,"` + publicAddr6 + `")):
  s=socket.socket(f,socket.SOCK_DGRAM); s.settimeout(5); s.connect((host,7)); s.send(b"datagram"); s.recv(99)
  s=socket.socket(f,socket.SOCK_DGRAM); s.setsockopt(17,103,500); s.settimeout(5); s.connect((host,7)); s.send(b"x"*1300)
  for i in range(3): s.recv(999)
  s=socket.socket(f,socket.SOCK_DGRAM); s.settimeout(5); s.connect((host,443)); s.send(b"refused")
  try: s.recv(99)
  except ConnectionRefusedError: pass
  s=socket.socket(f); s.settimeout(5)
  try: s.connect((host,81))
  except ConnectionRefusedError: pass
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.sendto(b"multicast",("224.0.0.251",4242))
'`
	for _, w := range udpWorlds() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			file := filepath.Join(j.home, "run.pcapng")
			j.must(j.onLaptop(n, []string{"--keep-secrets", "--pcap", file}, "sh", "-c", script), 0)
			j.wellFormed(file)
			want := map[string]int{
				`dns.qry.name=="name.example" && dns.flags.response==0`: 1,
				`dns.qry.name=="name.example" && dns.flags.response==1`: 1,
				"icmp.type==8":                          2,
				"icmp.type==0":                          2,
				"icmpv6.type==128":                      2,
				"icmpv6.type==129":                      2,
				`udp.dstport==7 && udp.length==16`:      2,
				`udp.srcport==7 && udp.length==16`:      2,
				`udp.dstport==7 && udp.length==508`:     4,
				`udp.dstport==7 && udp.length==308`:     2,
				`udp.srcport==7 && udp.length==508`:     4,
				"icmp.type==3 && icmp.code==3":          1,
				"icmpv6.type==1 && icmpv6.code==4":      1,
				"tcp.dstport==81 && tcp.flags.syn==1":   2,
				"tcp.srcport==81 && tcp.flags.reset==1": 2,
				"ip.dst==224.0.0.251":                   1,
				"udp.dstport==9":                        0,
			}
			filters := slices.Sorted(maps.Keys(want))
			for i, got := range j.counts(file, filters) {
				if got != want[filters[i]] {
					t.Errorf("%s: %d packets, want %d", filters[i], got, want[filters[i]])
				}
			}
		})
	}
}

// TestPcapLive: tshark follows the capture through a pipe and shows a request
// while its answer still streams; and the file grows while the child runs.
func TestPcapLive(t *testing.T) {
	need(t, "tshark", "curl")
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, endless)
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			root, pipe := j.file("root.pem", ca.pem()), filepath.Join(j.home, "pipe")
			if err := syscall.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			j.own(pipe)
			shark := j.command("tshark", "-n", "-l", "-i", pipe, "-Y", "http.request", "-T", "fields", "-e", "http.request.uri")
			var errb bytes.Buffer
			shark.Stderr = &errb
			out, err := shark.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := shark.Start(); err != nil {
				t.Fatal(err)
			}
			c := j.command(traceBin, "run", "--inspect", "--quiet", "--upstream-ca", root, "--connect-to", host+":443:127.0.0.1:"+o.port,
				"--keep-secrets", "--pcap", pipe, "--", "curl", "-sSN", "--tls-max", "1.2", "-o", "/dev/null", "https://"+host+"/live")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			line := make(chan string, 1)
			go func() {
				buf := make([]byte, 100)
				k, _ := out.Read(buf)
				line <- string(buf[:k])
			}()
			select {
			case got := <-line:
				if got != "/live\n" {
					t.Errorf("tshark shows %q: %s", got, errb.String())
				}
			case <-time.After(30 * time.Second):
				t.Errorf("tshark shows nothing: %s", errb.String())
			}
			c.Process.Signal(syscall.SIGTERM) // reaches curl
			c.Wait()
			if code := c.ProcessState.ExitCode(); code != 128+15 {
				t.Errorf("exit %d", code)
			}
			if err := shark.Wait(); err != nil {
				t.Errorf("tshark: %v: %s", err, errb.String())
			}
		})
	}
}

// TestPcapRefused: what cannot be captured does not start the command, and a
// capture that ends early does not disturb it.
func TestPcapRefused(t *testing.T) {
	need(t, "curl")
	o := serve(t, nil, nil)
	for i, w := range both() {
		j := newJob(t, w)
		old, lonely := j.file("old.pcapng", "mine"), filepath.Join(j.home, "lonely")
		link := filepath.Join(j.home, "link")
		if err := os.Symlink(filepath.Join(j.home, "elsewhere"), link); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(lonely, 0o600); err != nil {
			t.Fatal(err)
		}
		j.own(lonely)
		for _, c := range []struct {
			flags []string
			code  int
			says  string
		}{
			{[]string{"--pcap", "new.pcapng"}, 2, "--keep-secrets"},
			{[]string{"--keep-secrets", "--pcap", "-"}, 2, "standard output"},
			{[]string{"--keep-secrets", "--pcap", "/dev/stdout"}, 2, "standard output"},
			{[]string{"--keep-secrets", "--pcap", old}, 125, old},
			{[]string{"--keep-secrets", "--pcap", link}, 125, link},
			{[]string{"--keep-secrets", "--pcap", "/no/such/dir/file"}, 125, "/no/such/dir/file"},
			{[]string{"--keep-secrets", "--pcap", lonely}, 125, "nobody reads"},
		} {
			if i > 0 && c.flags[len(c.flags)-1] == lonely {
				continue // it takes long
			}
			r := j.must(j.inspect(c.flags, "echo", "started"), c.code)
			if strings.Contains(r.stdout, "started") || !strings.Contains(r.stderr, c.says) {
				t.Errorf("%s %q: stdout %q, stderr %q", w, c.flags, r.stdout, r.stderr)
			}
		}
		if b, err := os.ReadFile(old); err != nil || string(b) != "mine" {
			t.Errorf("%s: the old file: %q, %v", w, b, err)
		}
		if _, err := os.Stat(filepath.Join(j.home, "elsewhere")); err == nil {
			t.Errorf("%s: a link was followed", w)
		}

		// The reader goes after one packet.
		script := fmt.Sprintf(`head -c 100 %s >/dev/null & exec %s run --inspect --link %s --keep-secrets --pcap %s --connect-to %s:80:127.0.0.1:%s -- sh -c 'for i in 1 2 3; do curl -sS http://%s/text || exit 9; sleep 0.4; done'`,
			lonely, traceBin, j.w.link, lonely, host, o.port, host)
		r := j.must(j.run("sh", "-c", script), 0)
		if strings.Count(r.stdout, "hello") != 3 || strings.Count(r.stderr, "broken pipe") != 1 || !strings.Contains(r.stderr, "are missing") {
			t.Errorf("%s: stdout %q, stderr %q", w, r.stdout, r.stderr)
		}
	}
}

// TestPcapFull: a full disk ends the capture, which can be read up to there,
// and nothing else.
func TestPcapFull(t *testing.T) {
	need(t, "tshark", "curl")
	needRoot(t)
	o := serve(t, nil, nil)
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			small := filepath.Join(j.home, "small")
			if err := os.Mkdir(small, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mount("none", small, "tmpfs", 0, "size=256k"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { syscall.Unmount(small, 0) })
			j.own(small)
			file := filepath.Join(small, "run.pcapng")
			r := j.must(j.inspect([]string{"--keep-secrets", "--pcap", file, "--jsonl", filepath.Join(j.home, "live.jsonl"), "--connect-to", host + ":80:127.0.0.1:" + o.port},
				"sh", "-c", `for i in 1 2; do curl -sS --fail http://`+host+`/bytes/400000 | wc -c; done`), 0)
			if r.stdout != "400000\n400000\n" || strings.Count(r.stderr, "no space left on device") != 1 || !strings.Contains(r.stderr, "are missing") {
				t.Errorf("stdout %q, stderr %q", r.stdout, r.stderr)
			}
			if got := j.fields(file, "http.request", "http.request.uri"); len(got) != 1 {
				t.Errorf("requests: %q", got)
			}
			if text := j.text("live.jsonl"); !strings.Contains(text, "packet capture: ") {
				t.Errorf("the record has no mark: %s", text)
			}
		})
	}
}

// TestPcapSubstitution: a shell's >(COMMAND) gets the capture, and its end
// although a process of the run stays.
func TestPcapSubstitution(t *testing.T) {
	need(t, "bash", "tshark", "curl")
	o := serve(t, nil, nil)
	for _, w := range both() {
		j := newJob(t, w)
		file := filepath.Join(j.home, "copy.pcapng")
		script := fmt.Sprintf(`%s run --inspect --keep-secrets --quiet --pcap >(exec >%s; cat; touch %s.done) --jsonl >(exec >live; cat; touch live.done) --connect-to %s:80:127.0.0.1:%s -- sh -c 'setsid sleep 600 >/dev/null 2>&1 & echo $! >pid; exec curl -sS http://%s/text'`,
			traceBin, file, file, host, o.port, host)
		j.must(j.run("bash", "-c", script), 0)
		pid, err := strconv.Atoi(strings.TrimSpace(j.text("pid")))
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Kill(pid, syscall.SIGKILL)
		eventuallyThere(t, file+".done", nil)
		eventuallyThere(t, filepath.Join(j.home, "live.done"), nil)
		if got := j.fields(file, "http.request", "http.request.uri"); !slices.Equal(got, []string{"/text"}) {
			t.Errorf("%s: %q", w, got)
		}
		if text := j.text("live"); !strings.Contains(text, "\"connection_close\"") {
			t.Errorf("%s: the event log has no end: %s", w, text)
		}
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("%s: the process that stays: %v", w, err)
		}
	}
}

// TestPcapSizes: the bytes of a transfer are all in the capture: what TCP
// carried is what the server and the client had.
func TestPcapSizes(t *testing.T) {
	need(t, "tshark", "/usr/bin/python3")
	const up, down = 10_000_000, 15_000_000
	port := listenRaw(t, func(c net.Conn) {
		buf := make([]byte, 1<<16)
		for n := 0; n < up; {
			k, err := c.Read(buf)
			if err != nil {
				return
			}
			n += k
		}
		for n := 0; n < down; n += len(buf) {
			c.Write(buf[:min(len(buf), down-n)])
		}
	})
	const py = `import socket,sys
s=socket.create_connection((sys.argv[1],4242)); s.sendall(b"u"*int(sys.argv[2])); n=0
while n<int(sys.argv[3]): n+=len(s.recv(1<<16))`
	for _, w := range udpWorlds() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			file := filepath.Join(j.home, "run.pcapng")
			r := j.must(j.inspect([]string{"--keep-secrets", "--no-save", "--pcap", file, "--connect-to", host + ":4242:127.0.0.1:" + port},
				"/usr/bin/python3", "-c", py, host, fmt.Sprint(up), fmt.Sprint(down)), 0)
			if strings.Contains(r.stderr, "are missing") {
				t.Fatalf("packets were dropped: %s", r.stderr)
			}
			for direction, want := range map[string]int{"tcp.dstport==4242": up, "tcp.srcport==4242": down} {
				if got := covered(t, j.fields(file, direction+" && tcp.len>0", "tcp.seq", "tcp.len")); got != want {
					t.Errorf("%s: %d bytes, want %d", direction, got, want)
				}
			}
			j.wellFormed(file)
		})
	}
}

// covered returns how many bytes of a stream the segments have, each once, and
// wants no hole between them.
func covered(t *testing.T, segments []string) int {
	t.Helper()
	type span struct{ from, to int }
	var spans []span
	for _, s := range segments {
		var seq, n int
		if _, err := fmt.Sscanf(s, "%d\t%d", &seq, &n); err != nil {
			t.Fatal(err)
		}
		spans = append(spans, span{seq, seq + n})
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	end := 1
	for _, s := range spans {
		if s.from > end {
			t.Errorf("%d bytes are missing behind %d", s.from-end, end)
		}
		end = max(end, s.to)
	}
	return end - 1
}
