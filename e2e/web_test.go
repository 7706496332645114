package e2e

import (
	"bufio"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pageScript drives the live page as a person would.
const pageScript = "../web/test/page.mjs"

// TestWebPage runs an agent with `run --web` and looks at it in a browser while it
// runs: rows that appear, an answer that comes word by word, filter, detail,
// comparing, sending again, exports, keys, and what hostile servers say.
// TRACE_WEB_SHOTS names the folder of the screenshots.
func TestWebPage(t *testing.T) {
	need(t, "/usr/bin/python3", "node", "chromium")
	playwright, err := filepath.Abs("../bin/playwright/node_modules/playwright-core/index.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(playwright); err != nil {
		t.Skip("needs playwright-core in bin/playwright: npm install --no-save --prefix bin/playwright playwright-core@1.65.1")
	}
	shots := os.Getenv("TRACE_WEB_SHOTS")
	if shots == "" {
		shots = filepath.Join(workDir, "web-shots")
	}
	if err := os.MkdirAll(shots, 0o755); err != nil {
		t.Fatal(err)
	}
	s := newStage()
	j, run := startAgent(t, s)
	control := httptest.NewServer(http.HandlerFunc(s.release))
	t.Cleanup(control.Close)
	t.Logf("screenshots: %s", shots)

	c := exec.Command("node", pageScript)
	c.Env = append(os.Environ(), "TRACE_URL="+run.url, "TRACE_CONTROL="+control.URL, "TRACE_SHOTS="+shots, "TRACE_PLAYWRIGHT="+playwright, "TRACE_DOWNLOADS="+t.TempDir())
	out, err := c.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("the page: %v", err)
		for _, g := range []string{"live", "end", "hold", "last"} {
			if r, err := http.Post(control.URL+"/"+g, "", nil); err == nil {
				r.Body.Close()
			}
		}
	}
	if r := run.wait(); r.code != 0 || !strings.Contains(r.stdout, "The clock is right again") {
		t.Errorf("the run: exit %d\n%s\n%s", r.code, r.stdout, r.stderr)
	}
	if d := os.Getenv("TRACE_WEB_KEEP"); d != "" {
		exec.Command("cp", "-r", j.home+"/state", d).Run()
	}
}

// A webRun is a run that goes on, and where its page is.
type webRun struct {
	url  string
	wait func() result
}

// prices are made up.
const prices = `{"source": "a test", "date": "2026-01-01", "models": {"*": {"input": 5, "cache_read": 0.5, "cache_write": 6.25, "output": 25}}}`

// startAgent starts the agent under `run --web` and returns when the page is there.
func startAgent(t *testing.T, s *stage) (*job, *webRun) {
	t.Helper()
	script, err := os.ReadFile("testdata/web/agent.py")
	if err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t, "web")
	secure := func(h http.HandlerFunc, a *authority, name string) string {
		o := &origin{handler: h}
		o.raw = o.modern // for the WebSocket
		o.start(t, &tls.Config{Certificates: []tls.Certificate{a.leaf(t, []string{name}, nil)}})
		return o.port
	}
	j := newJob(t, both()[0])
	args := []string{traceBin, "run", "--inspect", "--web", "--session", "mend the clock", "--prices", j.file("prices.json", prices), "--upstream-ca", j.file("ca.pem", ca.pem()),
		"--connect-to", modelHost + ":443:127.0.0.1:" + secure(s.model, ca, modelHost),
		"--connect-to", filesHost + ":443:127.0.0.1:" + secure(s.files, ca, filesHost),
		"--connect-to", strangeHost + ":443:127.0.0.1:" + secure(strange, ca, strangeHost),
		"--connect-to", internalHost + ":443:127.0.0.1:" + secure(s.files, nil, internalHost),
		"--", "/usr/bin/python3", j.file("agent.py", string(script)), modelHost, filesHost, strangeHost, internalHost}
	c := j.command(args...)
	errs, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	c.Stdout = &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(errs)
	r := &webRun{}
	var said strings.Builder
	for r.url == "" && lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if _, url, found := strings.Cut(lines.Text(), "live page: "); found {
			r.url = url
		}
	}
	if r.url == "" {
		c.Wait()
		t.Fatalf("run --web printed no URL:\n%s", said.String())
	}
	r.wait = func() result {
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
		}
		c.Wait()
		return result{code: c.ProcessState.ExitCode(), stdout: out.String(), stderr: said.String()}
	}
	return j, r
}
