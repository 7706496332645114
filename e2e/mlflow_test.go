package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mlflow starts a server of MLflow, which keeps traces, and returns what waits for
// its URL.
func mlflow(t *testing.T) (ready func() string) {
	t.Helper()
	need(t, "mlflow")
	own, err := exec.LookPath("mlflow")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// As `mlflow server` does it, but without the process above, which takes as long again
	// to start.
	c := exec.Command(filepath.Join(filepath.Dir(own), "python"), "-m", "uvicorn", "mlflow.server.fastapi_app:app", "--host", "127.0.0.1", "--port", "0")
	c.Dir = dir
	c.Env = append(os.Environ(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", "_MLFLOW_SERVER_FILE_STORE=sqlite:///"+filepath.Join(dir, "m.db"),
		"_MLFLOW_SERVER_ARTIFACT_ROOT="+filepath.Join(dir, "artifacts"))
	said, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	at := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		var all strings.Builder
		for lines := bufio.NewScanner(said); lines.Scan(); {
			fmt.Fprintln(&all, lines.Text())
			if m := regexp.MustCompile(`running on (http://[0-9.:]+)`).FindStringSubmatch(lines.Text()); m != nil {
				at <- m[1]
			}
		}
		select {
		case at <- "it ended: " + all.String():
		default:
		}
	}()
	late := time.AfterFunc(2*time.Minute, func() { c.Process.Kill() })
	t.Cleanup(func() {
		late.Stop()
		c.Process.Signal(syscall.SIGKILL)
		<-read
		c.Wait()
	})
	return func() string {
		url := <-at
		if !strings.HasPrefix(url, "http") {
			t.Fatalf("mlflow: %s", url)
		}
		return url
	}
}

// TestMLflow: a store of traces takes a recorded agent, and tells what it did:
// which spans are calls, tools and agents, and how many tokens they took.
func TestMLflow(t *testing.T) {
	ready := mlflow(t)
	j, _ := recordAgent(t)
	url := ready()
	j.env = append(j.env, "OTEL_EXPORTER_OTLP_HEADERS=x-mlflow-experiment-id=0")
	j.must(j.trace("flows", "dump", "--session", "agent", "--format", "otlp", "--otlp-content", "--to", url), 0)
	var found struct {
		Traces []struct {
			ID       string            `json:"trace_id"`
			State    string            `json:"state"`
			Metadata map[string]string `json:"trace_metadata"`
		}
	}
	ask := func(into any, args ...string) {
		t.Helper()
		out := j.must(j.run(append([]string{"curl", "-sSf", "-H", "Content-Type: application/json"}, args...)...), 0).stdout
		if err := json.Unmarshal([]byte(out), into); err != nil {
			t.Fatalf("%v: %.2000s", err, out)
		}
	}
	ask(&found, "-d", `{"locations":[{"type":"MLFLOW_EXPERIMENT","mlflow_experiment":{"experiment_id":"0"}}]}`, url+"/api/3.0/mlflow/traces/search")
	if len(found.Traces) != 1 || found.Traces[0].State != "OK" {
		t.Fatalf("it holds %+v", found)
	}
	var tokens map[string]int
	if err := json.Unmarshal([]byte(found.Traces[0].Metadata["mlflow.trace.tokenUsage"]), &tokens); err != nil || tokens["input_tokens"] != 1396 || tokens["output_tokens"] != 63 ||
		tokens["cache_read_input_tokens"] != 400 || tokens["cache_creation_input_tokens"] != 960 {
		t.Errorf("tokens: %v, %v", err, found.Traces[0].Metadata)
	}
	var held struct {
		Trace struct {
			Spans []struct {
				Name       string
				Attributes []struct {
					Key   string
					Value json.RawMessage
				}
			}
		}
	}
	ask(&held, url+"/api/3.0/mlflow/traces/get?trace_id="+found.Traces[0].ID)
	kinds := map[string]int{}
	for _, s := range held.Trace.Spans {
		kind, text := "", ""
		for _, a := range s.Attributes {
			switch a.Key {
			case "mlflow.spanType":
				kind = strings.Trim(strings.TrimPrefix(string(a.Value), `{"string_value":`), `"} `)
			case "mlflow.spanInputs", "mlflow.spanOutputs":
				text += string(a.Value)
			}
		}
		kinds[strings.TrimSpace(s.Name[:strings.IndexAny(s.Name+" ", " ")]+" "+kind)]++
		if strings.HasPrefix(s.Name, "execute_tool") && !strings.Contains(text, "12:00 in Oslo") {
			t.Errorf("what the tool did: %s", text)
		}
	}
	if want := "map[POST:3 agent:1 chat CHAT_MODEL:3 execute_tool TOOL:1 invoke_agent AGENT:1]"; fmt.Sprint(kinds) != want {
		t.Errorf("it holds %v, want %s", kinds, want)
	}
}
