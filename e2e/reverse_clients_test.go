package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// baseClients are clients of the reverse proxy: $TRACE_BASE_URL leads by /s to
// a server with TLS, by /c to one without.
func baseClients() []modernClient {
	shell := func(script func(j *job) string) func(*job, string, string) []string {
		return func(j *job, _, _ string) []string {
			return []string{"sh", "-c", "set -e; cd " + j.home + "; s=$TRACE_BASE_URL/s c=$TRACE_BASE_URL/c; " + script(j)}
		}
	}
	python := "/usr/bin/python3"
	return []modernClient{
		{"curl", []string{"curl"}, shell(func(*job) string {
			return `head -c 3000000 /dev/urandom > up; curl -sS --fail --data-binary @up $s/echo | cmp - up; curl -sS --fail -T up -H 'Transfer-Encoding: chunked' $s/echo | cmp - up
				curl -sSI $s/text; curl -sS --compressed $s/gzip -o out; curl -sS -N $s/sse/20 -o out; curl -sS $s/status/304; curl -sS -X OPTIONS $s/text
				curl -sS --fail --proxy $TRACE_BASE_URL --noproxy '' $TRACE_BASE_URL/s/text; curl -sS --fail -H 'Upgrade: websocket' -H 'Connection: Upgrade' $s/text`
		}), "HTTP/1.1", 9},
		{"curl --http1.0", []string{"curl"}, shell(func(*job) string { return "exec curl -sS --fail --http1.0 -d a=b $s/echo" }), "HTTP/1.0", 1},
		{"curl h2c", []string{"curl"}, shell(func(*job) string {
			return `head -c 3000000 /dev/urandom > up; curl -sS --fail --http2-prior-knowledge --data-binary @up $s/echo | cmp - up; curl -sSI --http2-prior-knowledge $s/text
				curl -sS --http2-prior-knowledge $s/status/304; curl -sS --http2-prior-knowledge -N $s/sse/20 -o out`
		}), "HTTP/2.0", 4},
		{"curl h2c to HTTP/1.1", []string{"curl"}, shell(func(*job) string {
			return `head -c 3000000 /dev/urandom > up; curl -sS --fail --http2-prior-knowledge --data-binary @up $c/echo | cmp - up; curl -sSI --http2-prior-knowledge $c/text
				curl -sS --http2-prior-knowledge $c/status/304; curl -sS --http2-prior-knowledge -N $c/sse/20 -o out`
		}), "HTTP/1.1", 4},
		{"curl upgrade", []string{"curl"}, shell(func(*job) string {
			return "curl -sS --fail --http2 $c/text $c/text; curl -sS --fail --http2 -d a=b $c/echo"
		}), "HTTP/1.1", 3},
		{"nghttp h2c", []string{"nghttp"}, shell(func(*job) string {
			return "exec nghttp -n -m5 --expect-continue --no-dep $s/text $s/bytes/70000"
		}), "HTTP/2.0", 10},
		{"h2load h2c", []string{"h2load"}, shell(func(*job) string { return "exec h2load -n2000 -c50 -m10 $s/bytes/3000" }), "HTTP/2.0", 2000},
		{"h2load", []string{"h2load"}, shell(func(*job) string { return "exec h2load --h1 -n1000 -c100 $s/bytes/3000" }), "HTTP/1.1", 1000},
		{"node http2", []string{"node"}, shell(func(j *job) string { return "exec node " + j.script("http2.js") + " $TRACE_BASE_URL /s" }), "HTTP/2.0", 14},
		{"python grpc", []string{python}, shell(func(j *job) string {
			return "exec " + python + " " + j.script("grpc_client.py") + " ${TRACE_BASE_URL#http://} plain"
		}), "HTTP/2.0", 8},
		{"python websockets", []string{python}, shell(func(j *job) string {
			return "exec " + python + " " + j.script("websocket.py") + " ws${s#http}"
		}), "HTTP/1.1", 3},
		{"node ws", []string{"node"}, shell(func(j *job) string {
			j.env = append(j.env, "NODE_PATH=/usr/share/nodejs")
			return "exec node " + j.script("websocket.js") + " ws${c#http}"
		}), "HTTP/1.1", 3},
		{"node websocket over HTTP/2", []string{"node"}, shell(func(j *job) string {
			return "node " + j.script("connect.js") + " $TRACE_BASE_URL /s; node " + j.script("connect.js") + " $TRACE_BASE_URL /c"
		}), "HTTP/1.1", 2},
		{"node fetch", []string{"node"}, shell(func(j *job) string { return "exec node " + j.script("sdk.mjs") }), "HTTP/1.1", 43},
	}
}

// TestReverseClients runs real clients through the reverse proxy, and holds the
// record against the server's log.
func TestReverseClients(t *testing.T) {
	ca := newAuthority(t, "e2e authority")
	for i, c := range baseClients() {
		w := both()[i%len(both())]
		t.Run(c.name+"/"+w.String(), func(t *testing.T) {
			need(t, c.needs...)
			if m := modules[c.name]; m != nil && exec.Command(m[0], m[1:]...).Run() != nil {
				t.Skipf("needs what %s asks for", m[len(m)-1])
			}
			o, clear := serveModern(t, ca, strings.HasSuffix(c.name, " upgrade"))
			j := newJob(t, w)
			j.env = append(j.env, "ANTHROPIC_BASE_URL=https://"+host, "OPENAI_BASE_URL=https://"+host+"/v1")
			args := []string{"run", "--keep-secrets", "--upstream-ca", j.file("root.pem", ca.pem()), "--connect-to", host + ":443:127.0.0.1:" + o.port, "--connect-to", host + ":80:127.0.0.1:" + clear,
				"--map", "s=https://" + host, "--map", "c=http://" + host, "--map", "test.Echo=https://" + host + "/test.Echo", "--"}
			r := j.must(j.trace(append(args, c.argv(j, "", "")...)...), 0)
			checkModern(t, j, c, o)
			for _, x := range j.flows() {
				if strings.HasPrefix(x.Request.Path, "/ws") && x.Request.Version == "1.1" || x.ID == "1" && !o.upgrade && x.Kind != "websocket" {
					checkDifferences(t, j, x.ID)
				}
			}
			if t.Failed() {
				t.Logf("stdout: %.1000s\nstderr: %.1000s", r.stdout, r.stderr)
			}
		})
	}
}
