package e2e

import (
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// A h2target is a server of HTTP/2 that is tested with and without trace.
type h2target struct {
	name   string
	port   string
	secure bool
}

// h2targets starts nghttpd, which serves files of dir, and Go's server.
func h2targets(t *testing.T, ca *authority, dir string) []h2target {
	t.Helper()
	need(t, "nghttpd")
	_, clear := serveModern(t, ca, false)
	return []h2target{{"nghttpd", startNghttpd(t, ca, dir), true}, {"Go", clear, false}}
}

// startNghttpd runs nghttpd with TLS and further flags.
func startNghttpd(t *testing.T, ca *authority, dir string, flags ...string) (port string) {
	t.Helper()
	port = closedPort(t, nil, nil)
	argv := append([]string{"-a", "127.0.0.1", "-d", dir}, flags...)
	j := &job{t: t, w: world{root: true}, home: t.TempDir()}
	cert, key := ca.files(j, "nghttpd", host)
	start(t, exec.Command("nghttpd", append(argv, port, key, cert)...))
	awaitPort(t, port)
	return port
}

// h2spec builds the tool, whose version testdata/h2spec/go.mod fixes.
func h2spec(t *testing.T) string {
	t.Helper()
	out := filepath.Join(workDir, "h2spec")
	c := exec.Command("go", "build", "-o", out, "github.com/summerwind/h2spec/cmd/h2spec")
	c.Dir, c.Env = "testdata/h2spec", append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if msg, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build h2spec: %v\n%s", err, msg)
	}
	if err := os.Chmod(out, 0o755); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestH2spec runs the conformance suite against the same servers directly and
// through trace: what passes and what fails is the same.
func TestH2spec(t *testing.T) {
	tool := h2spec(t)
	ca := newAuthority(t, "e2e authority")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	targets := h2targets(t, ca, dir)
	var wg sync.WaitGroup
	diffs := make([]map[string]string, len(targets)) // by case
	jobs := make([]*job, len(targets))
	for i, target := range targets {
		jobs[i] = newJob(t, both()[i%len(both())])
		wg.Go(func() {
			diffs[i] = target.compareSpec(jobs[i], tool, ca, "1", nil)
			// A second is little on a busy machine, and some answers are a
			// matter of luck: a difference must show again, with patience.
			for range 5 {
				if len(diffs[i]) == 0 {
					return
				}
				t.Logf("%s, to be seen again: %q", target.name, diffs[i])
				diffs[i] = target.compareSpec(jobs[i], tool, ca, "4", diffs[i])
			}
		})
	}
	wg.Wait()
	for i, target := range targets {
		for name, d := range diffs[i] {
			t.Errorf("%s: %s: %s", target.name, name, d)
		}
		rows := jobs[i].flows()
		if len(rows) == 0 {
			t.Errorf("%s: nothing of the suite is in the record", target.name)
		}
		for _, r := range rows {
			if r.Error != nil && r.Error.Code == "panic" {
				t.Errorf("%s: %+v", target.name, r.Error)
			}
		}
	}
}

// compareSpec runs the suite, or the sections of the cases that are given, both
// ways at once and says what differs, by case.
func (h h2target) compareSpec(j *job, tool string, ca *authority, timeout string, again map[string]string) map[string]string {
	flags := []string{"-o", timeout, "-k"}
	for name := range again {
		section, _, _ := strings.Cut(name, ": ")
		flags = append(flags, section)
	}
	port := "80"
	if h.secure {
		flags, port = append(flags, "-t"), "443"
	}
	direct, traced := filepath.Join(j.home, "direct.xml"), filepath.Join(j.home, "traced.xml")
	var wg sync.WaitGroup
	wg.Go(func() {
		j.run(append([]string{tool, "-h", "127.0.0.1", "-p", h.port, "-j", direct}, flags...)...)
	})
	root := j.file("root.pem", ca.pem())
	wg.Go(func() {
		j.inspect([]string{"--quiet", "--upstream-ca", root, "--connect-to", host + ":" + port + ":127.0.0.1:" + h.port},
			append([]string{tool, "-h", host, "-p", port, "-j", traced}, flags...)...)
	})
	wg.Wait()
	a, errA := specResults(direct)
	b, errB := specResults(traced)
	if errA != nil || errB != nil || again == nil && len(a) < 100 {
		return map[string]string{"": fmt.Sprintf("no results: %v, %v, %d cases", errA, errB, len(a))}
	}
	diffs := map[string]string{}
	for name, result := range a {
		if _, asked := again[name]; b[name] != result && (again == nil || asked) {
			diffs[name] = fmt.Sprintf("directly %q, through trace %q", result, b[name])
		}
	}
	if len(a) != len(b) {
		diffs[""] = fmt.Sprintf("%d cases directly, %d through trace", len(a), len(b))
	}
	return diffs
}

// specResults reads h2spec's report: each case with what came of it.
func specResults(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var report struct {
		Suites []struct {
			ID    string `xml:"id,attr"`
			Pkg   string `xml:"package,attr"`
			Cases []struct {
				Name    string  `xml:"classname,attr"`
				Error   *string `xml:"error"`
				Skipped *string `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b, &report); err != nil {
		return nil, err
	}
	results := map[string]string{}
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			result := "passed"
			switch {
			case c.Error != nil:
				result = "failed" // with what, is a matter of luck: a GOAWAY or the end that follows it
			case c.Skipped != nil:
				result = "skipped"
			}
			results[s.Pkg+": "+c.Name] = result
		}
	}
	return results, nil
}

// TestH2load puts load on the same servers directly and through trace: the
// same is done, and all of it is in the record.
func TestH2load(t *testing.T) {
	need(t, "h2load")
	const n = 2000
	ca := newAuthority(t, "e2e authority")
	dir := t.TempDir()
	file := noise(rng(1, "file"), 12345)
	if err := os.WriteFile(filepath.Join(dir, "file"), file, 0o644); err != nil {
		t.Fatal(err)
	}
	for i, h := range h2targets(t, ca, dir) {
		w := both()[i%len(both())]
		t.Run(h.name+"/"+w.String(), func(t *testing.T) {
			j := newJob(t, w)
			path, sum := "/file", sumOf(file)
			if !h.secure {
				path, sum = "/bytes/12345", ""
			}
			port, scheme := "80", "http"
			if h.secure {
				port, scheme = "443", "https"
			}
			load := func(base string) []string {
				return []string{"h2load", fmt.Sprintf("-n%d", n), "-c8", "-m20", "-t1", scheme + "://" + base + path}
			}
			direct := j.must(j.run(load("127.0.0.1:"+h.port)...), 0)
			traced := j.must(j.inspect([]string{"--upstream-ca", j.file("root.pem", ca.pem()), "--connect-to", host + ":" + port + ":127.0.0.1:" + h.port}, load(host)...), 0)
			a, b := loadResults(direct.stdout), loadResults(traced.stdout)
			if a != b || !strings.Contains(a, fmt.Sprintf("%d succeeded", n)) {
				t.Errorf("directly %q, through trace %q", a, b)
			}
			found := 0
			for _, r := range j.flows("--kind", "http") {
				found++
				if sum == "" {
					sum = r.Response.SHA256 // of Go's server all must be one
				}
				if r.State != "complete" || r.Response.Size != int64(len(file)) || r.Response.SHA256 != sum || r.Request.Path != path || r.Request.Version != "2" {
					t.Errorf("%s %+v, error %+v", r.State, r.Response, r.Error)
					break
				}
			}
			if found != n {
				t.Errorf("%d rows of %d requests", found, n)
			}
		})
	}
}

var loadLines = regexp.MustCompile(`(?m)^(requests|status codes): .*|\(\d+\) data$`)

// loadResults keeps of h2load's report what was done, not how fast.
func loadResults(out string) string { return strings.Join(loadLines.FindAllString(out, -1), "; ") }
