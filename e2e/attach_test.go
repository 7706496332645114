package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// attachScript is traffic of all kinds. $1 is the base URL, $2 that of WebSockets.
const attachScript = `set -e
curl -sSf "$1/text" "$1/gzip" -o /dev/null -o /dev/null
curl -sSf --http2 "$1/bytes/300000" "$1/sse/50" -o /dev/null -o /dev/null
head -c 400000 /dev/zero | curl -sSf --data-binary @- -H 'Content-Type: application/json' "$1/echo" -o /dev/null
curl -sS -H 'Authorization: Bearer sk-ant-api03-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA' -d '{"key":"ghp_0123456789abcdefghijklmnopqrstuvwxyz"}' "$1/echo" -o /dev/null
printf 'no \377 UTF-8 \000' | curl -sS --data-binary @- "$1/echo" -o /dev/null
curl -sS "$1/status/404" http://127.0.0.1:1/ || true
[ -z "$2" ] || node --experimental-websocket -e 'const w=new WebSocket(process.argv[1]);let n=0;w.onopen=()=>{w.send("hello");w.send(Buffer.from([0,255,1]));w.send("river ".repeat(50000))};w.onmessage=()=>{if(++n==3)w.close()};w.onclose=()=>process.exit(n==3?0:1)' "$2/ws"
`

// attachOrigin serves attachScript.
func attachOrigin(t *testing.T, j *job) (flags []string) {
	t.Helper()
	ca := newAuthority(t, "attach")
	o := &origin{handler: content}
	o.raw = o.modern
	o.start(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}, NextProtos: []string{"h2", "http/1.1"}})
	return []string{"--upstream-ca", j.file("ca.pem", ca.pem()), "--connect-to", host + ":443:127.0.0.1:" + o.port}
}

// attachable starts a serve that does nothing but take runs.
func (j *job) attachable() *serving {
	j.t.Helper()
	return j.serving("--listen", "127.0.0.1:0")
}

// keptAt returns the file in which serve keeps a run, by what that said.
func keptAt(t *testing.T, r result) string {
	t.Helper()
	m := regexp.MustCompile(`(?:; |in )(/\S+\.db)(?:, kept by trace serve)?\n`).FindAllStringSubmatch(r.stderr, -1)
	if m == nil || !strings.Contains(r.stderr, "kept by trace serve") {
		t.Fatalf("not kept by serve: %s", r.stderr)
	}
	return m[len(m)-1][1]
}

// sameRecord compares all that is told of two files.
func (j *job) sameRecord(a, b string, least int) {
	j.t.Helper()
	said := func(file string, args ...string) string {
		r := j.must(j.trace(append(args, "--session", file)...), 0)
		return strings.ReplaceAll(r.stdout, file, "FILE")
	}
	list := said(a, "flows", "list", "--json")
	if got := said(b, "flows", "list", "--json"); got != list {
		j.t.Fatalf("serve lists\n%.3000s\nwant\n%.3000s", got, list)
	}
	var rows []row
	if err := json.Unmarshal([]byte(list), &rows); err != nil || len(rows) < least {
		j.t.Fatalf("%d flows, want %d (%v)", len(rows), least, err)
	}
	for _, r := range rows {
		args := []string{"flows", "show", "--json", r.ID}
		if want, got := said(a, args...), said(b, args...); got != want {
			j.t.Errorf("serve shows of %s\n%.3000s\nwant\n%.3000s", r.ID, got, want)
		}
	}
	if want, got := said(a, "flows", "dump", "--format", "jsonl"), said(b, "flows", "dump", "--format", "jsonl"); got != want {
		j.t.Errorf("event logs differ:\n%.3000s\nwant\n%.3000s", got, want)
	}
}

// TestAttach has serve keep runs of all kinds, and compares its record with their
// own, which they keep because it was named.
func TestAttach(t *testing.T) {
	need(t, "curl", "node")
	j := newJob(t, both()[0])
	flags := attachOrigin(t, j)
	serve := j.attachable()
	for _, c := range []struct {
		name string
		run  []string
		args []string
	}{
		{"base", []string{"run", "--map", "own=https://" + host}, []string{"sh", "-c", `set -- "$TRACE_BASE_URL/own" "ws${TRACE_BASE_URL#http}/own"` + "\n" + attachScript}},
		{"inspect", []string{"run", "--inspect"}, []string{"sh", "-c", attachScript, "sh", "https://" + host, "wss://" + host}},
		{"proxy", []string{"run", "--proxy"}, []string{"sh", "-c", attachScript, "sh", "https://" + host, ""}},
	} {
		own := filepath.Join(j.home, c.name+".db")
		args := append(append(append(c.run, flags...), "--attach", "--output", own, "--"), c.args...)
		r := j.must(j.trace(args...), 0)
		j.sameRecord(own, keptAt(t, r), 8)
	}
	if code := serve.stop(); code != 0 {
		t.Errorf("serve exits %d: %s", code, serve.said())
	}
}

// A pausing run calls a server, says so, waits for a line, and calls it again.
type pausing struct {
	t    *testing.T
	j    *job
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	errb string
}

func (j *job) pausing(base string, args ...string) *pausing {
	j.t.Helper()
	script := fmt.Sprintf("for n in 1 2 3; do curl -sSf %[1]s/$n -o /dev/null; done; echo half; read line; for n in 4 5 6; do curl -sSf %[1]s/$n -o /dev/null; done; echo over", base)
	p := &pausing{t: j.t, j: j, cmd: j.command(append(append([]string{traceBin, "run"}, args...), "--", "sh", "-c", script)...)}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		j.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		j.t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	f, err := os.Create(filepath.Join(j.t.TempDir(), "stderr"))
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() { f.Close() })
	p.cmd.Stderr = f
	if err := p.cmd.Start(); err != nil {
		j.t.Fatal(err)
	}
	p.errb = f.Name()
	p.hear("half")
	return p
}

// hear waits for a line of the command.
func (p *pausing) hear(want string) {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if strings.TrimSpace(line) != want {
		p.t.Fatalf("the command says %q (%v)\n%s", line, err, p.said())
	}
}

func (p *pausing) said() string {
	b, _ := os.ReadFile(p.errb)
	return string(b)
}

// goOn lets the command come to its end.
func (p *pausing) goOn() {
	p.t.Helper()
	io.WriteString(p.in, "\n")
	p.hear("over")
}

// end waits for trace's end.
func (p *pausing) end() result {
	p.t.Helper()
	err := p.cmd.Wait()
	if err != nil {
		p.t.Fatalf("%v\n%s", err, p.said())
	}
	return result{stderr: p.said()}
}

type statusJSON struct {
	Serve *struct {
		PID      int
		Attached []struct {
			ID, State string
			Flows     int
		}
	}
	Runs []struct {
		ID    string
		PID   int
		Flows int
		File  string
	}
}

// until waits for what status tells.
func (j *job) until(what string, ok func(s statusJSON) bool) {
	j.t.Helper()
	var r result
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		r = j.must(j.trace("status", "--json"), 0)
		var s statusJSON
		if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
			j.t.Fatalf("%v: %s", err, r.stdout)
		}
		if ok(s) {
			return
		}
	}
	j.t.Fatalf("%s: never; status is %s", what, r.stdout)
}

// TestAttachSurvivesServe kills serve while a run is attached, and starts another.
func TestAttachSurvivesServe(t *testing.T) {
	need(t, "curl")
	o := serve(t, nil, nil)
	j := newJob(t, both()[0])
	first := j.attachable()
	p := j.pausing("$TRACE_BASE_URL/o", "--attach", "--map", "o=http://"+o.addr)
	j.until("three flows with the first serve", func(s statusJSON) bool {
		return s.Serve != nil && len(s.Serve.Attached) == 1 && s.Serve.Attached[0].Flows == 3 && len(s.Runs) == 1 && s.Runs[0].Flows == 3 && s.Runs[0].PID == p.cmd.Process.Pid
	})
	first.cmd.Process.Kill()
	first.stop()
	j.until("a run without a serve", func(s statusJSON) bool { return s.Serve == nil && len(s.Runs) == 1 })
	p.goOn()
	second := j.attachable()
	r := p.end()
	kept := keptAt(t, r)
	if rows := j.sessions(); len(rows) != 1 || rows[0].State != "ended" || rows[0].Flows != 6 {
		t.Errorf("sessions %+v", rows)
	}
	for i, f := range j.flows("--session", kept) {
		if want := fmt.Sprint("/", i+1); f.Request.Path != want || f.State != "complete" {
			t.Errorf("flow %s: %s %s, want %s", f.ID, f.State, f.Request.Path, want)
		}
	}
	j.until("nobody is attached", func(s statusJSON) bool { return len(s.Serve.Attached) == 0 && len(s.Runs) == 0 })
	if files, _ := filepath.Glob(filepath.Join(j.home, "state/trace/sessions/*")); len(files) != 1 {
		t.Errorf("files %q, want serve's one", files)
	}
	second.stop()
}

// TestAttachSlowServe has a serve that stands still: the command does not wait, trace
// waits until a signal comes, and the record is delivered later.
func TestAttachSlowServe(t *testing.T) {
	need(t, "curl")
	o := serve(t, nil, nil)
	j := newJob(t, both()[0])
	s := j.attachable()
	p := j.pausing("$TRACE_BASE_URL/o", "--attach", "--map", "o=http://"+o.addr)
	s.cmd.Process.Signal(syscall.SIGSTOP)
	p.goOn()
	for end := time.Now().Add(10 * time.Second); j.sessions()[0].State == "running"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the session never ends")
		}
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	r := p.end()
	id := j.sessions()[0].ID
	if !strings.Contains(r.stderr, "not delivered") || !strings.Contains(r.stderr, "'trace attach "+id+"'") {
		t.Errorf("after a signal it says %s", r.stderr)
	}
	before := j.must(j.trace("flows", "list", "--json"), 0).stdout
	s.cmd.Process.Signal(syscall.SIGCONT)
	file := strings.TrimSpace(j.must(j.trace("attach", id), 0).stdout)
	if after := j.must(j.trace("flows", "list", "--json"), 0).stdout; after != before || strings.Count(after, `"complete"`) != 6 {
		t.Errorf("delivered later:\n%s\nwant\n%s", after, before)
	}
	if files, _ := filepath.Glob(filepath.Join(j.home, "state/trace/sessions/*")); len(files) != 1 || files[0] != file {
		t.Errorf("files %q, want %s", files, file)
	}
}

// TestAttachNobody attaches to nothing: it is said before and after, and costs
// nothing else.
func TestAttachNobody(t *testing.T) {
	need(t, "curl")
	o := serve(t, nil, nil)
	j := newJob(t, both()[0])
	run := func(args ...string) result {
		return j.must(j.trace(append(append([]string{"run", "--map", "o=http://" + o.addr}, args...), "--", "sh", "-c", "curl -sSf $TRACE_BASE_URL/o/text; exit 7")...), 7)
	}
	if r := run("--attach"); r.took > 10*time.Second || strings.Count(r.stderr, "no trace serve runs") != 2 || !strings.Contains(r.stderr, "trace attach ") {
		t.Errorf("without a serve (%v): %s", r.took, r.stderr)
	}
	if r := run("--attach="+filepath.Join(j.home, "none"), "--no-save"); !strings.Contains(r.stderr, "1 flow is lost") {
		t.Errorf("without a serve or a file: %s", r.stderr)
	}
	if r := j.trace("attach", j.sessions()[0].ID); r.code != 1 || !strings.Contains(r.stderr, "no trace serve runs") {
		t.Errorf("attach: exit %d, %s", r.code, r.stderr)
	}
	if r := j.must(j.trace("status"), 0); !strings.Contains(r.stdout, "no trace serve runs") {
		t.Errorf("status: %s", r.stdout)
	}
	s := j.attachable()
	r := run("--attach", "--no-save")
	if rows := j.flows("--session", keptAt(t, r)); len(rows) != 1 || rows[0].State != "complete" {
		t.Errorf("kept of a run without a file: %+v", rows)
	}
	if r := j.must(j.trace("status"), 0); !strings.Contains(r.stdout, fmt.Sprintf("process %d", s.pid())) || !strings.Contains(r.stdout, "reverse") {
		t.Errorf("status: %s", r.stdout)
	}
	if r := j.trace("attach", "nothing-like-it", j.sessions()[0].ID); r.code != 1 || !strings.Contains(r.stderr, "no such session") || !strings.Contains(r.stdout, ".db") {
		t.Errorf("attach of one that is there and one that is not: %d, %s%s", r.code, r.stdout, r.stderr)
	}
}

// TestAttachMany has twenty runs at once send to one serve, which is killed midway.
func TestAttachMany(t *testing.T) {
	need(t, "curl")
	const runs = 20
	o := serve(t, nil, nil)
	j := newJob(t, both()[0])
	first := j.attachable()
	var all [runs]*pausing
	for i := range all {
		all[i] = j.pausing("$TRACE_BASE_URL/o", "--attach", "--session", fmt.Sprint("r", i), "--map", "o=http://"+o.addr)
	}
	j.until("all runs with three flows", func(s statusJSON) bool {
		n := 0
		for _, a := range s.Serve.Attached {
			if a.State == "attached" && a.Flows == 3 {
				n++
			}
		}
		return n == runs
	})
	first.cmd.Process.Kill()
	first.stop()
	second := j.attachable()
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() {
			p.goOn()
			keptAt(t, p.end())
		})
	}
	wg.Wait()
	second.stop()
	names := map[string]bool{}
	for _, s := range j.sessions() {
		names[s.Name] = true
		if s.Flows != 6 || s.State != "ended" {
			t.Errorf("session %s: %s with %d flows", s.Name, s.State, s.Flows)
		}
	}
	if len(names) != runs {
		t.Errorf("%d sessions, want %d", len(names), runs)
	}
	if files, _ := filepath.Glob(filepath.Join(j.home, "state/trace/sessions/*")); len(files) != runs {
		t.Errorf("%d files: %q", len(files), files)
	}
}
