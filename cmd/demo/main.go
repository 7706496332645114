// Demo shows trace on a server of its own: it starts a TLS server on loopback
// that streams an answer as a language model would, runs curl against it
// through `trace run --inspect`, and prints what was recorded. Nothing leaves
// the machine, and nothing is left on it.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"trace/testcert"
)

const host = "api.model.example"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: demo TRACE-BINARY")
		os.Exit(2)
	}
	if err := demo(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(trace string) error {
	if _, err := exec.LookPath("curl"); err != nil {
		return errors.New("this demo runs curl: install it first (apt install curl)")
	}
	dir, err := os.MkdirTemp("", "trace-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	roots, cert, err := testcert.New(host)
	if err != nil {
		return err
	}
	ca := filepath.Join(dir, "demo-ca.pem")
	if err := os.WriteFile(ca, roots, 0o600); err != nil {
		return err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: http.HandlerFunc(answer)}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	defer func() {
		srv.Shutdown(context.Background())
		<-done
	}()
	port := l.Addr().(*net.TCPAddr).Port
	env := append(os.Environ(), "XDG_STATE_HOME="+dir)
	steps := [][]string{
		{"run", "--inspect", "--upstream-ca", ca, "--connect-to", fmt.Sprintf("%s:443:127.0.0.1:%d", host, port), "--",
			"curl", "-sS", "-N", "https://" + host + "/v1/messages", "-H", "content-type: application/json",
			"-H", "x-api-key: sk-ant-" + "api03-not-a-real-key-0123456789",
			"-d", `{"model":"demo-1","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"Say hello."}]}`},
		{"flows", "list"},
		{"flows", "show", "last"},
	}
	for _, args := range steps {
		fmt.Printf("\n$ trace %s\n", quote(args))
		c := exec.Command(trace, args...)
		c.Env, c.Stdout, c.Stderr = env, os.Stdout, os.Stderr
		if err := c.Run(); err != nil {
			return fmt.Errorf("trace %s: %w", args[0], err)
		}
	}
	return nil
}

// answer streams a few words as server-sent events.
func answer(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(event, data string) {
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data)
		w.(http.Flusher).Flush()
	}
	send("message_start", `{"type":"message_start","message":{"id":"msg_demo","role":"assistant","model":"demo-1","usage":{"input_tokens":11,"output_tokens":1}}}`)
	for _, word := range []string{"Hello", " from", " your", " own", " loopback", "."} {
		send("content_block_delta", fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%q}}`, word))
		select {
		case <-time.After(40 * time.Millisecond): // as a model takes its time
		case <-r.Context().Done():
			return
		}
	}
	send("message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":6}}`)
	send("message_stop", `{"type":"message_stop"}`)
}

// quote writes args as a person would type them.
func quote(args []string) string {
	var q []string
	for _, a := range args {
		if strings.ContainsAny(a, " {}'\"") {
			a = "'" + a + "'"
		}
		q = append(q, a)
	}
	return strings.Join(q, " ")
}
