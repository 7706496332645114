package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestExitCodes: the child's status is ours; 125 to 127 and 2 are as
// documented.
func TestExitCodes(t *testing.T) {
	for _, w := range both() {
		j := newJob(t, w)
		script := j.file("script", "#!/nowhere/interpreter\n")
		plain := j.file("plain.txt", "no program")
		if err := os.Chmod(script, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name string
			cmd  []string
			code int
		}{
			{"true", []string{"true"}, 0},
			{"false", []string{"false"}, 1},
			{"exit 42", []string{"sh", "-c", "exit 42"}, 42},
			{"SIGTERM", []string{"sh", "-c", "kill -TERM $$"}, 128 + 15},
			{"SIGKILL", []string{"sh", "-c", "kill -KILL $$"}, 128 + 9},
			{"not found", []string{"no-such-command-anywhere"}, 127},
			{"not found path", []string{"./no-such-file"}, 127},
			{"not executable", []string{plain}, 126},
			{"directory", []string{"/"}, 126},
			{"missing interpreter", []string{script}, 127},
		} {
			t.Run(w.String()+"/"+c.name, func(t *testing.T) {
				j := &job{t: t, w: w, home: j.home}
				r := j.must(j.inspect(nil, c.cmd...), c.code)
				if c.code == 127 || c.code == 126 {
					if !strings.Contains(r.stderr, c.cmd[0]) {
						t.Errorf("the error does not name the command: %s", r.stderr)
					}
				}
			})
		}
	}
}

// TestUsage: bad command lines are refused with exit 2 and say why.
func TestUsage(t *testing.T) {
	j := newJob(t, both()[0])
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"run", "--inspect", "--no-such-flag", "--", "true"}, 2, "no-such-flag"},
		{[]string{"run", "--inspect"}, 2, "--"},
		{[]string{"run", "--inspect", "true"}, 2, "--"},
		{[]string{"run", "--inspect", "--"}, 2, "command"},
		{[]string{"run", "--inspect", "--link", "carrier-pigeon", "--", "true"}, 2, "carrier-pigeon"},
		{[]string{"run", "--inspect", "--device", "modem", "--", "true"}, 2, "modem"},
		{[]string{"run", "--inspect", "--connect-to", "nonsense", "--", "true"}, 2, "nonsense"},
		{[]string{"run", "--inspect", "--max-body", "big", "--", "true"}, 2, "big"},
		{[]string{"run", "--inspect", "--upstream-ca", "/no/such/file", "--", "true"}, 2, "/no/such/file"},
		{[]string{"run", "--pcap", "x", "--keep-secrets", "--", "true"}, 2, "--inspect"},
		{[]string{"nonsense"}, 2, "nonsense"},
		{[]string{"flows", "list", "--session", "no-such-session"}, 1, "no-such-session"},
		{[]string{"flows", "show", "99"}, 1, ""},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			j := &job{t: t, w: j.w, home: j.home}
			r := j.must(j.trace(c.args...), c.code)
			if !strings.Contains(r.stderr, c.says) || strings.Contains(r.stderr, "goroutine ") || r.stderr == "" {
				t.Errorf("stderr: %s", r.stderr)
			}
		})
	}
}

// TestUnwritable: a state directory that cannot be written is one clear line,
// and the child is not started.
func TestUnwritable(t *testing.T) {
	j := newJob(t, world{false, "wireguard", "auto"})
	j.env = append(j.env, "XDG_STATE_HOME=/proc/nowhere")
	r := j.must(j.inspect(nil, "sh", "-c", "echo started"), 125)
	if strings.Contains(r.stdout, "started") || !strings.Contains(r.stderr, "/proc/nowhere") {
		t.Errorf("stdout %q stderr %q", r.stdout, r.stderr)
	}
}

// TestStdio: pipes pass through untouched and trace keeps to stderr.
func TestStdio(t *testing.T) {
	for _, w := range both() {
		j := newJob(t, w)
		j.stdin = strings.Repeat("line\n", 10000)
		r := j.must(j.inspect([]string{"--quiet"}, "sh", "-c", "cat; echo oops >&2"), 0)
		if r.stdout != j.stdin || r.stderr != "oops\n" {
			t.Errorf("%s: stdout of %d bytes, want %d; stderr %q", w, len(r.stdout), len(j.stdin), r.stderr)
		}
		j.stdin = ""
		r = j.must(j.inspect(nil, "true"), 0)
		if r.stdout != "" || !strings.Contains(r.stderr, "0 flows") {
			t.Errorf("%s: after a silent child: stdout %q, stderr %q", w, r.stdout, r.stderr)
		}
	}
}

// TestSignals: a signal to trace alone reaches the child as the child would
// have got it, and trace waits for it.
func TestSignals(t *testing.T) {
	for _, w := range both() {
		j := newJob(t, w)
		c := j.command(traceBin, "run", "--inspect", "--quiet", "--", "sh", "-c", `trap 'echo got; exit 7' TERM; echo ready; while :; do sleep 0.05; done`)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "ready" {
			t.Fatalf("%s: %q", w, lines.Text())
		}
		c.Process.Signal(syscall.SIGTERM)
		if !lines.Scan() || lines.Text() != "got" {
			t.Errorf("%s: the child did not get SIGTERM: %q", w, lines.Text())
		}
		c.Wait()
		if code := c.ProcessState.ExitCode(); code != 7 {
			t.Errorf("%s: exit %d, want the child's 7", w, code)
		}
	}
}

// TestSecrets plants secrets in every place that is recorded and greps the
// session file and the JSONL for them.
func TestSecrets(t *testing.T) {
	need(t, "curl")
	key := "sk-ant-" + "api03-" + strings.Repeat("Zx9", 30) + "AA"
	token := "ghp_" + strings.Repeat("k3Q", 12)
	password := "correct-horse-" + "battery-staple"
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, content)
	for _, w := range both() {
		j := newJob(t, w)
		jsonl := filepath.Join(j.home, "live.jsonl")
		root := j.file("root.pem", ca.pem())
		body := fmt.Sprintf(`{"password":%q,"text":"my key is %s and %s"}`, password, key, token)
		r := j.inspect([]string{"--upstream-ca", root, "--jsonl", jsonl, "--connect-to", host + ":443:127.0.0.1:" + o.port},
			"curl", "-sS", "-u", "me:"+password, "-H", "x-api-key: "+key, "-H", "content-type: application/json", "-b", "sid="+token,
			"-d", body, "https://"+host+"/echo?api_key="+key)
		j.must(r, 0)
		if r.stdout != body {
			t.Errorf("the child's own bytes changed: %s", r.stdout)
		}
		var files []string
		filepath.WalkDir(j.home, func(p string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files = append(files, p)
			}
			return err
		})
		if len(files) < 3 {
			t.Fatalf("files: %q", files)
		}
		show := j.must(j.trace("flows", "show", "last", "--json"), 0)
		list := j.must(j.trace("flows", "list", "--json"), 0)
		texts := map[string]string{"show": show.stdout, "list": list.stdout}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			texts[f] = string(b)
		}
		for name, text := range texts {
			for _, secret := range []string{key, token, password} {
				if strings.Contains(text, secret) {
					t.Errorf("%s: %s holds %q", w, name, secret)
				}
			}
		}
		rows := j.flows("--kind", "http")
		if len(rows) != 1 || rows[0].Redacted == 0 || rows[0].Request.SHA256 != "" {
			t.Errorf("%s: a redacted body keeps its hash, or nothing was redacted: %+v", w, rows)
		}
	}
}

// TestKilled kills trace with SIGKILL while streams run: whatever a reader
// saw before is in the file after, and the file opens.
func TestKilled(t *testing.T) {
	need(t, "curl")
	const streams = 50
	ca := newAuthority(t, "e2e authority")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, endless)
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			root := j.file("root.pem", ca.pem())
			c := j.command(traceBin, "run", "--inspect", "--quiet", "--upstream-ca", root, "--connect-to", host+":443:127.0.0.1:"+o.port, "--",
				"sh", "-c", fmt.Sprintf(`for i in $(seq %d); do curl -sS -N https://%s/endless/$i >/dev/null 2>&1 & done; wait`, streams, host))
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			killed := false
			defer func() {
				if !killed {
					c.Process.Kill()
					c.Wait()
				}
			}()
			seen := follow(t, j, streams*20)
			killed = true
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			c.Wait()
			noneLeft(t, "endless")
			checkKept(t, j, seen)
		})
	}
}

// noneLeft wants every curl of a killed run to end by itself, because its
// connection broke.
func noneLeft(t *testing.T, arg string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left := 0
		dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, d := range dirs {
			if b, err := os.ReadFile(d); err == nil && strings.HasPrefix(string(b), "curl\x00") && strings.Contains(string(b), "/"+arg+"/") {
				left++
			}
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%d processes of the killed run still wait", left)
			return
		}
	}
}

// follow reads `flows tail --json` until it has seen n events, and returns
// the data of all of them by flow.
func follow(t *testing.T, j *job, n int) map[string][]string {
	t.Helper()
	seen := map[string][]string{}
	waitRunning(t, j)
	tail := j.command(traceBin, "flows", "tail", "--json")
	out, err := tail.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReaderSize(out, 1<<20)
	for total := 0; total < n; {
		line, err := in.ReadBytes('\n')
		if err != nil {
			t.Fatalf("tail ended after %d events: %v", total, err)
		}
		var e struct {
			Type   string
			FlowID string `json:"flow_id"`
			Data   json.RawMessage
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("tail: %v in %s", err, line)
		}
		if e.Type == "sse" {
			seen[e.FlowID] = append(seen[e.FlowID], string(e.Data))
			total++
		}
	}
	tail.Process.Kill()
	tail.Wait()
	return seen
}

func checkKept(t *testing.T, j *job, seen map[string][]string) {
	t.Helper()
	for id, events := range seen {
		r := j.must(j.trace("flows", "show", id, "--json"), 0)
		var d struct {
			Events []struct{ Data json.RawMessage }
		}
		if err := json.Unmarshal([]byte(r.stdout), &d); err != nil {
			t.Fatal(err)
		}
		if len(d.Events) < len(events) {
			t.Errorf("flow %s: a reader saw %d events, the file has %d", id, len(events), len(d.Events))
			continue
		}
		for i, e := range events {
			if string(d.Events[i].Data) != e {
				t.Errorf("flow %s event %d: seen %s, kept %s", id, i, e, d.Events[i].Data)
				break
			}
		}
	}
}

// TestWaitAll: with --wait-all a run lasts as long as the last process of its
// namespace; without, the line after it names who was left.
func TestWaitAll(t *testing.T) {
	for _, w := range both() {
		j := newJob(t, w)
		mark := filepath.Join(j.home, "mark")
		j.must(j.inspect([]string{"--wait-all"}, "sh", "-c", "setsid sh -c 'sleep 0.5; echo done > "+mark+"' >/dev/null 2>&1 & exit 3"), 3)
		if _, err := os.Stat(mark); err != nil {
			t.Errorf("%s: --wait-all did not wait: %v", w, err)
		}
		r := j.must(j.inspect(nil, "sh", "-c", "setsid sleep 2 >/dev/null 2>&1 & exit 3"), 3)
		if !strings.Contains(r.stderr, "left behind") {
			t.Errorf("%s: %s", w, r.stderr)
		}
	}
}

// TestAnyBytes: arguments and environment that are no UTF-8 reach the command
// as they are. A secret of ours does not.
func TestAnyBytes(t *testing.T) {
	for _, w := range both() {
		j := newJob(t, w)
		j.env = append(j.env, "ODD=caf\xe9", "TRACE_CA_PASSPHRASE=ours")
		command := []string{"sh", "-c", `printf '%s,%s%s' "$1" "$ODD" "$TRACE_CA_PASSPHRASE"`, "sh", "\xff\xfe"}
		for _, r := range []result{j.inspect([]string{"--quiet"}, command...), j.behind([]string{"--quiet"}, command...),
			j.trace(append([]string{"run", "--quiet", "--"}, command...)...)} {
			if j.must(r, 0); r.stdout != "\xff\xfe,caf\xe9" {
				t.Errorf("%s: %q", w, r.stdout)
			}
		}
	}
}

// TestSignalsPassed: signals for programs, not for terminals, reach the
// command too.
func TestSignalsPassed(t *testing.T) {
	for _, w := range both() {
		j := newJob(t, w)
		c := j.command(traceBin, "run", "--inspect", "--quiet", "--", "sh", "-c", `trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done`)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if lines := bufio.NewScanner(out); !lines.Scan() {
			t.Fatal("the command did not start")
		}
		c.Process.Signal(syscall.SIGUSR1)
		c.Wait()
		if code := c.ProcessState.ExitCode(); code != 9 {
			t.Errorf("%s: exit %d, want 9", w, code)
		}
	}
}
